"""The scoreboard as text: columns for a terminal, Markdown for the README."""


def amount(value):
    """Three or four digits, with a comma between thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def name_of(row):
    test, model = row["test"], row["model"].replace(":", " ")
    if "isa" in row:
        model = f"{model}, {row['isa']}"
    if test == "decode":
        return f"{model}, decode B={row['batch']}" + (f" at {row['depth']:,} tokens" if row["depth"] > 512 else "")
    if test == "prefill":
        return f"{model}, prefill {row['prompt']}"
    if test == "serving":
        return f"{model}, serving {row['clients']} client" + ("s" if row["clients"] > 1 else "")
    return f"{model}, start to first token"


def peer_of(row, peers):
    """The peers' figure of a row, or None. peers: of the row's kind of device."""
    by_model = peers.get(row["test"], {}).get(row["model"], {})
    if row["test"] == "decode":
        return by_model.get(str(row["depth"]), {}).get(str(row["batch"]))
    if row["test"] == "prefill":
        return by_model.get(str(row["prompt"]))
    if row["test"] == "serving":
        return by_model.get(str(row["clients"]))
    return None


def serving_floor(row, rows, prompt, generate):
    """Output tokens a second at most, if prompts and answers were computed at the floors of their own rows; None where
    those were not measured."""

    def floor(test, name, value):
        for other in rows:
            if other["test"] == test and other["model"] == row["model"] and other.get(name) == value:
                if other.get("depth", prompt) == prompt:
                    return other["floor_tok_s"]
        return None

    prefill, decode = floor("prefill", "prompt", prompt), floor("decode", "batch", row["clients"])
    if prefill is None or decode is None:
        return None
    return generate / (prompt / prefill + generate / decode)


def latencies(serving):
    return f"{serving['ttft_ms']['p50']:,.0f} ms, {serving['gap_ms']['p50']:.1f} ms"


def line_of(row, board, peers, prompt, generate):
    """(name, ours, spread, floor, share of the floor, peer, ours over the peer's), as texts, empty where there is none."""
    peer = peer_of(row, peers)
    if row["test"] == "start":
        return (name_of(row), f"{row['ms']:,.0f} ms", f"{row['spread']:.0%}", "", "", "", "")
    if row["test"] == "serving":
        times = f" ({latencies(row)})"
        ours, floor = row["out_tok_s"], serving_floor(row, board["rows"], prompt, generate)
        share = None if floor is None else ours / floor
        peer_text = peer_ratio = ""
        if peer:
            peer_text = f"{amount(peer['out_tok_s'])} ({latencies(peer)})"
            peer_ratio = f"{ours / peer['out_tok_s']:.1f}"
        failed = f", {row['failed']} failed" if row["failed"] else ""
    else:
        times, failed = "", ""
        ours, floor, share = row["tok_s"], row["floor_tok_s"], row["floor_share"]
        peer_text = amount(peer) if peer else ""
        peer_ratio = f"{ours / peer:.1f}" if peer else ""
    return (
        name_of(row),
        amount(ours) + times + failed,
        f"{row['spread']:.0%}",
        "" if floor is None else amount(floor),
        "" if share is None else f"{share:.0%}",
        peer_text,
        peer_ratio,
    )


HEADER = ("", "ours", "+-", "floor", "of floor", "peer", "ours / peer")


LEGEND = (
    "Tokens a second; of serving those of answers, with the medians of the time to the first token and of the gaps. "
    "+-: what another run on the same machine stays within. Floor: what the bandwidth or the multiply-adds that were "
    "measured in the same process allow, whichever is less"
)


def lines_of(board, all_peers, prompt, generate):
    peers = all_peers[board["kind"]]
    return [line_of(row, board, peers, prompt, generate) for row in board["rows"]]


def as_text(board, all_peers, prompt, generate):
    lines = [HEADER, *lines_of(board, all_peers, prompt, generate)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    text = [f"{board['device']}; reads {board['read_gb_s']:,.1f} GB/s"]
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        text.append("  ".join(cells).rstrip())
    peers = all_peers[board["kind"]]
    text += [LEGEND + ".", f"Peer: {peers['engine']}; {peers['device']}."]
    return "\n".join(text) + "\n"


def commits(board):
    return sorted({row["commit"] for row in board["rows"]})


def dates(board):
    days = sorted({row["date"][:10] for row in board["rows"]})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def as_markdown(board, all_peers, prompt, generate):
    peers = all_peers[board["kind"]]
    text = ["| " + " | ".join(HEADER) + " |", "| --- |" + " ---: |" * (len(HEADER) - 1)]
    text += ["| " + " | ".join(line) + " |" for line in lines_of(board, all_peers, prompt, generate)]
    text += [
        "",
        f"{board['device']}, {dates(board)}, commit {', '.join(commits(board))}; it read at {board['read_gb_s']:,.1f} GB/s. "
        f"{LEGEND}. Peer: {peers['engine']}; {peers['device']}.",
    ]
    return "\n".join(text) + "\n"
