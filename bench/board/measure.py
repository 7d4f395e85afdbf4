"""Runs the program: models are made by `spate synth`, measured by `spate bench`, and by `spate load` against `spate serve`.
Nothing here takes a time but that from starting a program to its first token."""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from . import cases

START_RUNS = 3


class Failed(Exception):
    """What was run, and the last line that it wrote."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Program:
    """An executable of spate, and what it needs to run."""

    def __init__(self, path, libraries=None):
        self.path = path
        self.environment = dict(os.environ)
        if libraries and os.path.isdir(libraries):
            before = os.environ.get("LD_LIBRARY_PATH")
            self.environment["LD_LIBRARY_PATH"] = libraries + (f":{before}" if before else "")

    def start(self, *arguments, **how):
        return subprocess.Popen([self.path, *arguments], env=self.environment, text=True, **how)

    def run(self, *arguments):
        """Its standard output. Raises Failed."""
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate()
        except BaseException:  # an interrupt too: nothing is left running
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            last = err.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise Failed(f"spate {' '.join(arguments)}: {last[0]}")
        return out

    def succeeds(self, *arguments):
        try:
            self.run(*arguments)
        except Failed:
            return False
        return True


def newest(paths):
    there = [path for path in paths if os.path.exists(path)]
    return max(there, key=os.path.getmtime) if there else None


def unpack(archive, folder):
    if subprocess.run(["tar", "-C", folder, "-xJf", archive]).returncode != 0:
        raise Failed(f"{archive} cannot be unpacked")
    return os.path.join(folder, "gpu-bundle")


def find_program(spate, bundle, root, work):
    """What the options name, or else a bundle (scripts/build-gpu-bundle) or what was built last. Raises Failed."""
    if spate:
        return Program(spate)
    bundle = bundle or newest([f"{root}/build/gpu-bundle.tar.xz", f"{root}/build/gpu-bundle"])
    built = newest([f"{root}/build/{preset}/spate" for preset in ("cuda", "release")])
    if bundle and not (built and os.path.getmtime(built) > os.path.getmtime(bundle)):
        folder = unpack(bundle, work) if os.path.isfile(bundle) else bundle
        return Program(os.path.join(folder, "spate"), os.path.join(folder, "lib"))
    if built:
        return Program(built)
    raise Failed("no program: build with ./check or scripts/build-gpu-bundle, or name one with --spate or --bundle")


def has_gpu(program, bundled_model):
    return program.succeeds("run", bundled_model, "-p", "a", "-n", "0", "--device", "cuda")


def isas(program, bundled_model):
    """The instruction sets that this processor has; one that it lacks is refused."""
    return [
        isa
        for isa in cases.ISAS
        if program.succeeds("run", bundled_model, "-p", "a", "-n", "0", "--device", "cpu", "--isa", isa)
    ]


class Models:
    """Synthetic models in a folder, made when they are first asked for."""

    def __init__(self, program, scratch):
        self.program = program
        self.scratch = scratch
        self.own = scratch is None  # and then removed as soon as they are done with

    @contextlib.contextmanager
    def model(self, name):
        shape, type_name = name.split(":")
        with contextlib.ExitStack() as stack:
            folder = self.scratch or stack.enter_context(tempfile.TemporaryDirectory(prefix="scoreboard-"))
            path = os.path.join(folder, f"{shape}-{type_name}.gguf")
            if not os.path.exists(path):
                say(f"making {name}")
                self.program.run("synth", shape, type_name, path)
            yield path


def bench(program, model_path, run, device, repeat, more=()):
    """The JSON object of one process of `spate bench`."""
    say(f"bench {run.test} {','.join(map(str, run.numbers))}, depth {run.depth}")
    arguments = run.arguments() + ["--device", device, "--repeat", str(repeat), "--json", *more]
    return json.loads(program.run("bench", model_path, *arguments))


@contextlib.contextmanager
def server(program, model_path, device, slots):
    """The URL of a `spate serve` that ends with the block."""
    process = program.start(
        "serve", model_path, "--device", device, "--port", "0", "--max-seqs", str(slots), stdout=subprocess.PIPE
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"https?://[\w.:\[\]-]+", line)
        if not found:
            raise Failed(f"spate serve did not start: {line.strip() or 'it ended without a word'}")
        yield found[0]
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=120)
        if code != 0:
            raise Failed(f"spate serve ended with {code}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def load(program, url, seed):
    """The JSON object of `spate load`. seed: prompts differ by it, so that no load finds another's in a cache."""
    say(f"load of {','.join(map(str, cases.CLIENTS))} clients")
    clients = ",".join(map(str, cases.CLIENTS))
    lengths = ["--prompt", str(cases.PROMPT), "--output", str(cases.GENERATE)]
    return json.loads(program.run("load", url, "--clients", clients, *lengths, "--seed", str(seed), "--json"))


def start_ms(program, model_path, device):
    """From starting the program, the model's file in the page cache, to the first token, some times."""
    with open(model_path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass
    times = []
    for _ in range(START_RUNS):
        begin = time.monotonic()
        program.run("run", model_path, "--device", device, "-p", "Once", "-n", "1", "--json")
        times.append((time.monotonic() - begin) * 1e3)
    return times
