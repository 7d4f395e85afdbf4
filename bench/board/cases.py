"""What the scoreboard measures: the rows of its tables and the runs of `spate bench` and `spate load` that give them."""
from dataclasses import dataclass

PARTS = ("decode", "prefill", "serving", "start", "cpu")

GENERATE = 128  # tokens of an answer, in decode and serving
PROMPT = 512  # tokens of context before decode, and of a request's prompt
STEP_TOKENS = 4096  # of a step of prefill at most, as `spate serve` has them on a GPU
CPU_GENERATE = 32
CPU_THREADS = 2  # as the peers had
SLOTS = 64

MAIN = "llama-3.1-8b:q4_k_m"
# By model: the batches of decode after PROMPT tokens, and prompts of prefill.
GPU_MODELS = {
    MAIN: ((1, 2, 4, 8, 16, 32, 64, 256), (512, 2048, 8192)),
    "qwen2.5-7b:q4_k_m": ((1, 8, 32, 64), (2048,)),
    "qwen2.5-1.5b:q4_k_m": ((1, 8, 32, 64), (2048,)),
    "llama-3.1-8b:q8_0": ((1, 8, 32), (2048,)),
    "llama-3.1-8b:f16": ((1, 8, 32), (2048,)),
}
DEEP = {MAIN: ((65536, 1), (4096, 32))}  # (context, batch)
SERVED = (MAIN,)
CLIENTS = (1, 4, 8, 16, 32, 64)
STARTED = (MAIN,)

CPU_MODEL = "qwen2.5-1.5b:q4_k_m"
CPU_BATCHES = (1, 2, 4, 8, 16)
CPU_PROMPTS = (128, 512)
ISAS = ("avx2", "avx512", "amx")

# Two runs of one program differ by more than the repetitions within a run do: clocks, neighbours, where memory came to
# lie. No row states less than this, which is an estimate: `bench/scoreboard --compare` shows where it is too narrow.
LEAST_SPREAD = {"decode": 0.02, "prefill": 0.03, "serving": 0.10, "start": 0.15, "cpu": 0.10}


@dataclass(frozen=True)
class BenchRun:
    """One process of `spate bench` on a model."""

    test: str  # decode or prefill
    numbers: tuple  # batches of decode, prompts of prefill
    depth: int = 0
    generate: int = GENERATE

    def arguments(self):
        numbers = ",".join(str(n) for n in self.numbers)
        if self.test == "decode":
            return ["--test", "decode", "--generate", str(self.generate), "--depth", str(self.depth), "--batch", numbers]
        return ["--test", "prefill", "--prompt", numbers, "--batch", "1"]


ABOUT = BenchRun("decode", (1,), 0, 1)  # for what it says about the machine


def gpu_runs(model, parts):
    """What to run of `spate bench` for a model, parts: those of PARTS that were asked for."""
    batches, prompts = GPU_MODELS[model]
    runs = []
    if "decode" in parts:
        runs.append(BenchRun("decode", batches, PROMPT))
        runs += [BenchRun("decode", (batch,), depth) for depth, batch in DEEP.get(model, ())]
    if "prefill" in parts:
        runs.append(BenchRun("prefill", prompts))
    return runs


def cpu_runs():
    return [BenchRun("decode", CPU_BATCHES, 0, CPU_GENERATE), BenchRun("prefill", CPU_PROMPTS)]


def key_of(row):
    """What makes a row the same row in another run."""
    return tuple(row.get(name) for name in ("test", "model", "isa", "depth", "batch", "prompt", "clients"))


def order_of(row):
    """Rows of one file stand in this order."""
    models = list(GPU_MODELS)
    return (
        PARTS.index(row["test"]),
        models.index(row["model"]) if row["model"] in models else len(models),
        ISAS.index(row["isa"]) if row.get("isa") in ISAS else -1,
        row.get("depth") or 0,
        row.get("batch") or row.get("prompt") or row.get("clients") or 0,
    )
