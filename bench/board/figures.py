"""From what `spate bench` and `spate load` wrote to rows of the scoreboard, and rows to a file and back."""
import json
import os
import statistics

from . import cases


def spread_of(values, kind):
    """How far another run may be off, as a share of the median: the farthest of these values, or the least."""
    middle = statistics.median(values)
    farthest = max(abs(value - middle) for value in values) / middle
    return max(farthest, cases.LEAST_SPREAD[kind])


def bench_samples(result, model, isa=None):
    """[(key fields, sample)] of one JSON object of `spate bench`."""
    samples = []
    for row in result["rows"]:
        fields = {"test": row["test"], "model": model}
        if isa:
            fields["isa"] = isa
        if row["test"] == "decode":
            fields.update(depth=row["depth"], batch=row["batch"])
        else:
            fields.update(prompt=row["n_prompt"])
        share = max(row["read_share"], row["math_share"])
        samples.append(
            (
                fields,
                {
                    "tok_s": row["tok_s"],
                    "within": [row["tok_s_min"], row["tok_s_max"]],
                    "ms_per_step": row["ms_per_step"],
                    "floor_tok_s": row["tok_s"] / share,
                    "bound": "read" if row["read_share"] >= row["math_share"] else "math",
                },
            )
        )
    return samples


def load_samples(result, model):
    """The same of `spate load`."""
    samples = []
    for level in result["levels"]:
        percentiles = {name: {p: level[name][p] for p in ("p50", "p90", "p99")} for name in ("ttft_ms", "gap_ms")}
        samples.append(
            (
                {"test": "serving", "model": model, "clients": level["clients"]},
                {"out_tok_s": level["out_tok_s"], "requests": level["requests"], "failed": level["failed"], **percentiles},
            )
        )
    return samples


def median_of(samples, *path):
    def value(sample):
        for name in path:
            sample = sample[name]
        return sample

    return statistics.median(value(sample) for sample in samples)


def row_of(fields, samples, kind):
    """One row of all samples of one case. kind: of LEAST_SPREAD."""
    row = dict(fields, runs=len(samples))
    if fields["test"] == "serving":
        rates = [sample["out_tok_s"] for sample in samples]
        row.update(out_tok_s=statistics.median(rates), spread=spread_of(rates, kind))
        row.update(failed=sum(sample["failed"] for sample in samples), requests=sum(s["requests"] for s in samples))
        for name in ("ttft_ms", "gap_ms"):
            row[name] = {p: median_of(samples, name, p) for p in ("p50", "p90", "p99")}
    elif fields["test"] == "start":
        times = [sample["ms"] for sample in samples]
        row.update(ms=statistics.median(times), spread=spread_of(times, kind))
    else:
        rates = [sample["tok_s"] for sample in samples]
        all_rates = rates + [rate for sample in samples for rate in sample["within"]]
        floor = median_of(samples, "floor_tok_s")
        row.update(tok_s=statistics.median(rates), spread=spread_of(all_rates, kind))
        row.update(ms_per_step=median_of(samples, "ms_per_step"))
        row.update(floor_tok_s=floor, floor_share=row["tok_s"] / floor, bound=samples[0]["bound"])
    return row


class Collector:
    """Samples as they come, and the rows that they make."""

    def __init__(self, kind_of):
        self.kind_of = kind_of  # of a row's fields
        self.samples = {}  # by key: (fields, [sample])

    def add(self, samples):
        for fields, sample in samples:
            self.samples.setdefault(cases.key_of(fields), (fields, []))[1].append(sample)

    def rows(self):
        return [row_of(fields, samples, self.kind_of(fields)) for fields, samples in self.samples.values()]


def merged(old_rows, new_rows):
    """New rows take the places of old ones of the same case."""
    rows = {cases.key_of(row): row for row in old_rows}
    rows.update((cases.key_of(row), row) for row in new_rows)
    return sorted(rows.values(), key=cases.order_of)


class Conflict(Exception):
    """A file's figures are of another machine."""


def merge(board, new):
    """The scoreboard of a file, which may be None, with that of a run. Raises Conflict."""
    if board is None:
        board = {"kind": new["kind"], "device": new["device"], "rows": []}
    if board["device"] != new["device"]:
        raise Conflict(f"has figures of {board['device']}, and this is {new['device']}")
    rows = [dict(row, commit=new["commit"], date=new["date"]) for row in new["rows"]]
    return {**board, **new, "rows": merged(board["rows"], rows)}


def read(path):
    """The scoreboard in a file, or None where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write(path, text):
    """Replaces a file as a whole or not at all."""
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, path)


def write_board(path, board):
    write(path, json.dumps(board, indent=1) + "\n")


def outside_spread(one, other):
    """[(row, its value, the other's, the share by which they differ, what both spreads allow)] of rows that differ more."""
    names = {"serving": "out_tok_s", "start": "ms"}
    by_key = {cases.key_of(row): row for row in other["rows"]}
    outside = []
    for row in one["rows"]:
        twin = by_key.get(cases.key_of(row))
        if twin is None:
            continue
        name = names.get(row["test"], "tok_s")
        difference = abs(row[name] - twin[name]) / row[name]
        allowed = row["spread"] + twin["spread"]
        if difference > allowed:
            outside.append((row, row[name], twin[name], difference, allowed))
    return outside
