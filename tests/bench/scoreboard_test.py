"""bench/scoreboard: what it makes of figures, recorded ones and those of a program that plays spate."""
import copy
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench"))
from board import cases, charts, figures, readme, table  # noqa: E402

# Of an H200, as ./gpu-check wrote them down.
RECORDED = os.path.join(ROOT, "bench", "results", "gpu-check-20261122T225536Z.json")
with open(os.path.join(ROOT, "bench", "peers.json"), encoding="utf-8") as file:
    PEERS = json.load(file)


def recorded():
    """[(model, object of `spate bench`)]"""
    with open(RECORDED, encoding="utf-8") as file:
        results = json.load(file)["bench"]
    names = {model.replace(":", "-"): model for model in cases.GPU_MODELS}
    return [(names[os.path.basename(result["model"]).removesuffix(".gguf")], result) for result in results]


def slower(result, factor):
    """The same result of a run that took `factor` times as long."""
    result = copy.deepcopy(result)
    for row in result["rows"]:
        for name in ("tok_s", "tok_s_min", "tok_s_max", "read_share", "math_share"):
            row[name] /= factor
        row["ms_per_step"] *= factor
    return result


def board_of(rows, device="NVIDIA H200", **more):
    new = {"kind": "gpu", "device": device, "processor": "Xeon", "version": "0", "commit": "abc", "read_gb_s": 4343.1,
           "date": "2026-11-22T22:55:36Z", "peak_gmac_s": {}, "rows": rows}
    return figures.merge(None, {**new, **more})


def recorded_rows(passes=(1,)):
    collector = figures.Collector(lambda fields: fields["test"])
    for factor in passes:
        for model, result in recorded():
            collector.add(figures.bench_samples(slower(result, factor), model))
    return collector.rows()


LEVEL = {"clients": 64, "out_tok_s": 4000.0, "requests": 256, "failed": 0,
         "ttft_ms": {"n": 256, "mean": 1, "p50": 300, "p90": 400, "p95": 450, "p99": 500, "max": 600},
         "gap_ms": {"n": 256, "mean": 1, "p50": 11, "p90": 13, "p95": 14, "p99": 20, "max": 60}}


def serving_rows(*rates):
    collector = figures.Collector(lambda fields: "serving")
    for clients in (1, 64):
        for rate in rates:
            level = dict(LEVEL, clients=clients, out_tok_s=rate * clients)
            collector.add(figures.load_samples({"levels": [level]}, cases.MAIN))
    return collector.rows()


def find(rows, test, model=cases.MAIN, **fields):
    found = [r for r in rows if r["test"] == test and r["model"] == model and all(r.get(k) == v for k, v in fields.items())]
    assert len(found) == 1, (test, fields, found)
    return found[0]


class Rows(unittest.TestCase):
    def test_recorded_run_has_its_rates_floors_and_least_spread(self):
        rows = recorded_rows()
        for model, result in recorded():
            for measured in result["rows"]:
                fields = {"prompt": measured["n_prompt"]} if measured["test"] == "prefill" else {"batch": measured["batch"]}
                row = find(rows, measured["test"], model, **fields)
                self.assertEqual(row["tok_s"], measured["tok_s"])
                self.assertAlmostEqual(row["floor_share"], max(measured["read_share"], measured["math_share"]))
                self.assertGreaterEqual(row["spread"], cases.LEAST_SPREAD[measured["test"]])
        self.assertEqual(find(rows, "decode", batch=1)["bound"], "read")
        self.assertEqual(find(rows, "prefill", prompt=2048)["bound"], "math")

    def test_several_passes_give_their_median_and_the_farthest_as_spread(self):
        once, thrice = recorded_rows(), recorded_rows((1, 1.1, 1.02))
        self.assertEqual(len(once), len(thrice))
        one, three = find(once, "decode", batch=8), find(thrice, "decode", batch=8)
        self.assertEqual(three["runs"], 3)
        self.assertAlmostEqual(three["tok_s"], one["tok_s"] / 1.02)
        self.assertAlmostEqual(three["floor_tok_s"], one["floor_tok_s"], delta=1e-6 * one["floor_tok_s"])
        self.assertGreaterEqual(three["spread"], 1 - 1.02 / 1.1 - 1e-9)
        self.assertLess(three["spread"], 0.08)

    def test_serving_keeps_percentiles_and_failures(self):
        row = find(serving_rows(60, 62), "serving", clients=64)
        self.assertEqual(row["out_tok_s"], 61 * 64)
        self.assertEqual((row["ttft_ms"]["p50"], row["gap_ms"]["p99"]), (300, 20))
        self.assertEqual((row["requests"], row["failed"]), (512, 0))


class Merging(unittest.TestCase):
    def test_slice_takes_the_place_of_its_rows_alone(self):
        board = board_of(recorded_rows())
        rows = [dict(row, tok_s=1.0) for row in recorded_rows() if row["test"] == "prefill"]
        after = figures.merge(board, {**board, "rows": rows, "commit": "def", "date": "2026-11-23T00:00:00Z"})
        self.assertEqual(len(after["rows"]), len(board["rows"]))
        for row in after["rows"]:
            self.assertEqual(row["commit"], "def" if row["test"] == "prefill" else "abc")
            self.assertEqual(row["tok_s"] == 1.0, row["test"] == "prefill")
        self.assertEqual(table.dates(after), "2026-11-22 to 2026-11-23")

    def test_rows_stand_in_the_order_of_the_cases(self):
        rows = recorded_rows() + serving_rows(60)
        board = board_of(list(reversed(rows)))
        self.assertEqual([row["test"] for row in board["rows"]], sorted((r["test"] for r in rows), key=cases.PARTS.index))
        of_main = [row["batch"] for row in board["rows"] if row["test"] == "decode" and row["model"] == cases.MAIN]
        self.assertEqual(of_main, [1, 8, 32, 64])

    def test_figures_of_another_machine_are_refused(self):
        board = board_of(recorded_rows())
        with self.assertRaisesRegex(figures.Conflict, "NVIDIA H200, and this is NVIDIA L4"):
            figures.merge(board, {**board, "device": "NVIDIA L4"})

    def test_comparison_names_rows_beyond_both_spreads(self):
        board = board_of(recorded_rows())
        within = board_of([dict(row, tok_s=row["tok_s"] * 1.03) for row in recorded_rows()])
        self.assertEqual(figures.outside_spread(board, within), [])
        beyond = copy.deepcopy(board)
        find(beyond["rows"], "decode", batch=8)["tok_s"] *= 1.2
        outside = figures.outside_spread(board, beyond)
        self.assertEqual([(row["model"], row["batch"]) for row, *_ in outside], [(cases.MAIN, 8)])


class Showing(unittest.TestCase):
    def setUp(self):
        self.board = board_of(recorded_rows() + serving_rows(60))

    def line(self, name):
        lines = table.lines_of(self.board, PEERS, cases.PROMPT, cases.GENERATE)
        return next(line for line in lines if line[0] == name)

    def test_line_has_ours_floor_share_and_peer(self):
        row = find(self.board["rows"], "decode", batch=8)
        _, ours, spread, floor, share, peer, ratio = self.line("llama-3.1-8b q4_k_m, decode B=8")
        self.assertEqual((ours, spread), ("3,185", "2%"))
        self.assertEqual(floor, f"{row['floor_tok_s']:,.0f}")
        self.assertEqual(share, "48%")
        self.assertEqual((peer, ratio), ("757", "4.2"))

    def test_serving_is_beside_the_peers_and_its_floor_is_that_of_prompts_and_answers(self):
        line = self.line("llama-3.1-8b q4_k_m, serving 64 clients")
        self.assertEqual(line[1], "3,840 (300 ms, 11.0 ms)")
        self.assertEqual(line[5:], ("442 (558 ms, 116.4 ms)", "8.7"))
        self.assertEqual(line[3], "", "no prefill of 512 tokens was recorded, so there is no floor")
        prefill = dict(find(self.board["rows"], "prefill", prompt=2048), prompt=cases.PROMPT, floor_tok_s=51200)
        find(self.board["rows"], "decode", batch=64)["floor_tok_s"] = 12800
        self.board["rows"].append(prefill)
        # 10 ms for a prompt, 10 ms for an answer
        self.assertEqual(self.line("llama-3.1-8b q4_k_m, serving 64 clients")[3:5], ("6,400", "60%"))

    def test_every_row_is_printed_once(self):
        text = table.as_text(self.board, PEERS, cases.PROMPT, cases.GENERATE)
        for row in self.board["rows"]:
            self.assertEqual(text.count(table.name_of(row) + " "), 1, table.name_of(row))

    def test_charts_are_well_formed_labelled_and_follow_the_scheme(self):
        svg = charts.chart(self.board, PEERS)
        xml.dom.minidom.parseString(svg)
        self.assertNotIn("nan", svg)
        self.assertIn("prefers-color-scheme: dark", svg)
        for label in ("sequences in the batch", "tokens a second", "clients", "99th", "NVIDIA H200", "llama-3.1-8b q8_0"):
            self.assertIn(label, svg)
        without_serving = charts.chart(board_of(recorded_rows()), PEERS)
        self.assertNotIn("clients", without_serving)

    def test_readme_block_is_replaced_and_nothing_else(self):
        text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
        once = readme.replaced(text, [self.board], PEERS)
        self.assertTrue(once.startswith(f"before\n{readme.BEGIN}\n![On a GPU") and once.endswith(f"{readme.END}\nafter\n"))
        self.assertIn("| llama-3.1-8b q4_k_m, decode B=8 | 3,185 |", once)
        self.assertNotIn("old", once)
        self.assertEqual(readme.replaced(once, [self.board], PEERS), once)
        for broken in ("nothing", text + text, f"{readme.END}\n{readme.BEGIN}"):
            with self.assertRaises(ValueError):
                readme.replaced(broken, [self.board], PEERS)


class Committed(unittest.TestCase):
    """What stands in the repository is what its figures give."""

    def test_readme_is_that_of_the_files(self):
        results = os.path.join(ROOT, "bench", "results")
        boards = [figures.read(os.path.join(results, f"scoreboard-{kind}.json")) for kind in ("gpu", "cpu")]
        boards = [board for board in boards if board]
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(readme.replaced(text, boards, PEERS), text, "run bench/scoreboard --readme")
        for board in boards:
            with open(os.path.join(ROOT, "docs", f"scoreboard-{board['kind']}.svg"), encoding="utf-8") as file:
                self.assertEqual(file.read(), charts.chart(board, PEERS), "run bench/scoreboard --show")

    def test_peers_are_of_models_that_are_measured(self):
        for test in ("decode", "prefill", "serving"):
            self.assertLessEqual(set(PEERS["gpu"][test]), set(cases.GPU_MODELS), test)
        self.assertEqual(set(PEERS["cpu"]["decode"]), {cases.CPU_MODEL})


# Plays spate: answers what bench/scoreboard asks, one number of tokens a second for everything, and notes what was asked.
PLAYER = """#!%(python)s
import json, os, signal, sys
arguments = sys.argv[1:]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "asked"), "a") as file:
    file.write(" ".join(arguments) + "\\n")
def option(name, default=None):
    return arguments[arguments.index(name) + 1] if name in arguments else default
if option("--device") == "cuda" and not os.path.exists(os.path.join(here, "gpu")):
    sys.exit("spate: there is no GPU")
if option("--isa") in ("avx512", "amx"):
    sys.exit("spate: no such instructions")
if os.path.exists(os.path.join(here, "broken")) and option("--test") == "prefill":
    print("loading")
    sys.exit("spate: the device failed")
if arguments[0] == "synth":
    open(arguments[3], "w").close()
elif arguments[0] == "bench":
    rows = []
    for batch in map(int, option("--batch").split(",")):
        for prompt in map(int, option("--prompt", "0").split(",")):
            rows.append({"test": option("--test"), "n_prompt": prompt, "batch": batch, "depth": int(option("--depth", "0")),
                         "tok_s": 100.0 * batch, "tok_s_min": 99.0 * batch, "tok_s_max": 101.0 * batch, "ms_per_step": 10.0,
                         "read_share": 0.5, "math_share": 0.25})
    device = "Played GPU, KV cache of 64 tokens" if option("--device") == "cuda" else "CPU, 2 threads, avx2"
    print(json.dumps({"rows": rows, "device": device, "processor": "Played CPU", "version": "0", "commit": "abc",
                      "read_gb_s": 10.0, "peak_gmac_s": {"measured": {}}}))
elif arguments[0] == "serve":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("serving it at http://127.0.0.1:1234 (played)", flush=True)
    signal.pause()
elif arguments[0] == "load":
    percentiles = {"p50": 2.0, "p90": 3.0, "p99": 4.0}
    print(json.dumps({"levels": [{"clients": int(n), "out_tok_s": 50.0 * int(n), "requests": 4, "failed": 0,
                                  "ttft_ms": percentiles, "gap_ms": percentiles} for n in option("--clients").split(",")]}))
"""


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.player = self.path("spate")
        with open(self.player, "w", encoding="utf-8") as file:
            file.write(PLAYER % {"python": sys.executable})
        os.chmod(self.player, os.stat(self.player).st_mode | stat.S_IXUSR)

    def path(self, name):
        return os.path.join(self.folder, name)

    def touch(self, name):
        open(self.path(name), "w", encoding="utf-8").close()

    def scoreboard(self, *arguments):
        command = [sys.executable, os.path.join(ROOT, "bench", "scoreboard"), "--spate", self.player]
        command += ["--results", self.folder, "--docs", self.folder, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def board(self, kind):
        return figures.read(self.path(f"scoreboard-{kind}.json"))

    def asked(self):
        with open(self.path("asked"), encoding="utf-8") as file:
            return file.read().splitlines()

    def test_without_a_gpu_the_cpu_alone_is_measured(self):
        done = self.scoreboard()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no GPU", done.stderr)
        self.assertIsNone(self.board("gpu"))
        rows = self.board("cpu")["rows"]
        self.assertEqual(len(rows), len(cases.CPU_BATCHES) + len(cases.CPU_PROMPTS))
        self.assertEqual({row["isa"] for row in rows}, {"avx2"}, "the others were refused")
        self.assertEqual(self.board("cpu")["device"], "Played CPU, 2 threads")
        self.assertIn("qwen2.5-1.5b q4_k_m, avx2, decode B=8", done.stdout)
        xml.dom.minidom.parse(self.path("scoreboard-cpu.svg"))
        self.assertEqual(self.scoreboard("--only", "decode").returncode, 1)

    def test_slices_on_a_gpu_add_up_to_the_table(self):
        self.touch("gpu")
        for part in ("decode,prefill", "serving", "start"):
            done = self.scoreboard("--only", part, "--models", cases.MAIN, "--passes", "2")
            self.assertEqual(done.returncode, 0, done.stderr)
        done = self.scoreboard("--only", "decode", "--models", "llama-3.1-8b:f16")
        self.assertEqual(done.returncode, 0, done.stderr)
        board = self.board("gpu")
        self.assertEqual(board["device"], "Played GPU")
        n_of_main = len(cases.GPU_MODELS[cases.MAIN][0]) + len(cases.GPU_MODELS[cases.MAIN][1]) + len(cases.DEEP[cases.MAIN])
        self.assertEqual(len(board["rows"]), n_of_main + len(cases.CLIENTS) + 1 + 3)
        row = find(board["rows"], "decode", batch=32, depth=4096)
        self.assertEqual((row["tok_s"], row["floor_share"], row["runs"]), (3200.0, 0.5, 2))
        self.assertEqual(find(board["rows"], "serving", clients=16)["out_tok_s"], 800.0)
        self.assertGreater(find(board["rows"], "start")["ms"], 0)
        seeds = [line.split("--seed ")[1].split()[0] for line in self.asked() if line.startswith("load")]
        self.assertEqual(seeds, ["1", "2"], "no load may find another's prompts in a cache")
        self.assertEqual(sum(line.startswith("synth") for line in self.asked()), 4, "a model a slice")

    def test_second_run_is_compared_with_the_first(self):
        self.assertEqual(self.scoreboard("--only", "cpu").returncode, 0)
        one = self.board("cpu")
        figures.write_board(self.path("other.json"), one)
        done = self.scoreboard("--compare", self.path("other.json"))
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, f"0 of {len(one['rows'])} rows outside the spread that both state\n")
        one["rows"][0]["tok_s"] *= 2
        figures.write_board(self.path("other.json"), one)
        done = self.scoreboard("--compare", self.path("other.json"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("decode B=1", done.stdout)

    def test_failing_program_is_one_line_and_what_was_measured_stays(self):
        self.touch("broken")
        done = self.scoreboard("--only", "cpu")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.splitlines()[-1], "^scoreboard: spate bench .*: spate: the device failed$")
        self.assertEqual([row["test"] for row in self.board("cpu")["rows"]], ["decode"] * len(cases.CPU_BATCHES))

    def test_nothing_measured_yet_is_said(self):
        done = self.scoreboard("--show")
        self.assertEqual(done.returncode, 1)
        self.assertIn("there are no figures", done.stderr)


if __name__ == "__main__":
    unittest.main()
