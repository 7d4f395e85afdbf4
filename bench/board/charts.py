"""Which curves the scoreboard draws of its rows."""
from . import cases, table
from .svg import Line, Panel, page

MODEL_COLOURS = {model: i for i, model in enumerate(cases.GPU_MODELS)}


def rows_of(board, test, **fields):
    rows = [row for row in board["rows"] if row["test"] == test]
    return [row for row in rows if all(row.get(name) == value for name, value in fields.items())]


def in_order(points):
    return sorted(points, key=lambda point: point[0])


def with_spread(x, row, name):
    value = row[name]
    return (x, value, value * (1 - row["spread"]), value * (1 + row["spread"]))


def short(model):
    return model.replace(":", " ")


def decode_panel(board, peers, model, depth, title):
    rows = rows_of(board, "decode", model=model, depth=depth)
    rows = [row for row in rows if "isa" not in row]
    ours = [with_spread(row["batch"], row, "tok_s") for row in rows]
    floor = [(row["batch"], row["floor_tok_s"]) for row in rows]
    peer = [(row["batch"], table.peer_of(row, peers)) for row in rows if table.peer_of(row, peers)]
    lines = [
        Line("spate", in_order(ours)),
        Line("peer", in_order(peer), 1, "dashed"),
        Line("at the measured peak", in_order(floor), 0, "dotted"),
    ]
    return Panel(title, "sequences in the batch", "tokens a second", lines if ours else [])


def share_panel(board, depth):
    lines = []
    for model, colour in MODEL_COLOURS.items():
        rows = rows_of(board, "decode", model=model, depth=depth)
        points = in_order((row["batch"], row["floor_share"]) for row in rows if "isa" not in row)
        lines.append(Line(short(model), points, colour))
    return Panel("Decode, share of the floor", "sequences in the batch", "share", lines, percent=True)


def gap_panel(board, peers, model):
    rows = rows_of(board, "serving", model=model)
    lines = [
        Line(f"spate, {name}", in_order((row["clients"], row["gap_ms"][p]) for row in rows), colour)
        for p, name, colour in (("p50", "median", 0), ("p90", "90th percentile", 2), ("p99", "99th", 3))
    ]
    peer = [(row["clients"], table.peer_of(row, peers)["gap_ms"]["p50"]) for row in rows if table.peer_of(row, peers)]
    lines.append(Line("peer, median", in_order(peer), 1, "dashed"))
    return Panel(f"Serving {short(model)}: gap between tokens", "clients", "ms", lines, log_y=True)


def output_panel(board, peers, model):
    rows = rows_of(board, "serving", model=model)
    ours = [with_spread(row["clients"], row, "out_tok_s") for row in rows]
    peer = [(row["clients"], table.peer_of(row, peers)["out_tok_s"]) for row in rows if table.peer_of(row, peers)]
    lines = [Line("spate", in_order(ours)), Line("peer", in_order(peer), 1, "dashed")]
    return Panel(f"Serving {short(model)}: output", "clients", "tokens a second", lines)


def cpu_panels(board, peers):
    rates, shares = [], []
    peer = []
    for colour, isa in enumerate(cases.ISAS):
        rows = rows_of(board, "decode", isa=isa)
        rates.append(Line(isa, in_order(with_spread(row["batch"], row, "tok_s") for row in rows), colour))
        shares.append(Line(isa, in_order((row["batch"], row["floor_share"]) for row in rows), colour))
        peer = peer or [(row["batch"], table.peer_of(row, peers)) for row in rows if table.peer_of(row, peers)]
    rates.append(Line("best peer, on its machine", in_order(peer), 4, "dashed"))
    title = f"{short(cases.CPU_MODEL)}, decode"
    return [
        Panel(title, "sequences in the batch", "tokens a second", rates),
        Panel(f"{title}, share of the floor", "sequences in the batch", "share", shares, percent=True),
    ]


def chart(board, all_peers):
    """The SVG of a scoreboard."""
    peers = all_peers[board["kind"]]
    subtitle = f"{board['device']}, {table.dates(board)}; reads {board['read_gb_s']:,.1f} GB/s; bars: the stated spread"
    if board["kind"] == "cpu":
        return page("spate on a CPU", subtitle, cpu_panels(board, peers))
    model = cases.MAIN
    panels = [
        decode_panel(board, peers, model, cases.PROMPT, f"{short(model)}, decode after {cases.PROMPT} tokens"),
        share_panel(board, cases.PROMPT),
        output_panel(board, peers, model),
        gap_panel(board, peers, model),
    ]
    return page("spate on a GPU", f"{subtitle}; peer: {peers['engine'].split(',')[0]}", panels)
