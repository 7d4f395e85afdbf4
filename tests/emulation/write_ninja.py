#!/usr/bin/python3
"""Writes BUILD/build.ninja for the GPU tests over what patch_sources.py wrote to BUILD.

The lists of sources are those of the CMakeLists.txt files. Prints the programs that the wanted test files are in, one a line.

usage: write_ninja.py CHECKOUT BUILD CUDA_INCLUDE_DIR [TEST_FILE,TEST_FILE...]    (all files without a list)
"""
import pathlib
import re
import shutil
import sys

CUDA = "src/backend/cuda"
# What runs whole models stands on layers that kernels do not need.
WHOLE_MODELS = {"cuda_executor.cc", "cuda_weights.cc", "cuda_peaks.cu", "forward.cc", "memory_plan.cc", "step_graphs.cc",
                "weight_upload.cc", "workspace.cc"}
# A program needs the kernels of products or the others, and compiles no more than it needs: templates take minutes.
PRODUCTS = ("cluster_room", "emulated_", "fp8", "gemm", "matmul", "scale_range", "swiglu", "tensor_map")
SUPPORT = ("random_weights.cc", "test_data.cc", "gguf_builder.cc")

HEAD = """ninja_required_version = 1.3
emulation = {emulation}
flags = -std=c++20 -w -ffp-contract=off -fno-strict-aliasing -mavx2 -mf16c -DSPATE_CUDA_ARCHITECTURES=\\"90a-real\\" $
  -DSPATE_CUBLASLT_MAJOR=\\"0\\" -DSPATE_SOURCE_DIR=\\"{checkout}\\" -Isrc -Itests -I$emulation/include -I$emulation $
  -isystem {cuda_include}
rule cc
  command = {ccache}g++ $flags $opt -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule kernels
  command = {ccache}g++ $flags $opt -DSPATE_EMULATED -include $emulation/device_code.h -MMD -MF $out.d -x c++ -c $in $
    -o $out
  depfile = $out.d
  deps = gcc
rule machine
  command = {ccache}g++ -std=c++20 -O2 -mf16c -Wall -Wextra -Wshadow -Werror -I$emulation/include -I$emulation $
    -isystem {cuda_include} -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule archive
  command = rm -f $out && ar rcs $out $in
rule program
  command = g++ -rdynamic $in -lgmock -lgtest -lgtest_main -lspdlog -lfmt -lpthread -ldl -o $out
"""


def sources(cmake, pattern):
    return [word for word in re.search(pattern, cmake.read_text(), re.S).group(1).split() if word.endswith((".cc", ".cu"))]


class Ninja:
    def __init__(self, head):
        self.text, self.objects = head, set()

    def build(self, output, rule, inputs, opt=None):
        self.text += f"build {output}: {rule} {' '.join(inputs)}\n" + (f"  opt = {opt}\n" if opt else "")
        return output

    def compile(self, path, opt="-O1"):
        output = f"o/{path}.o"
        if output not in self.objects:
            self.objects.add(output)
            self.build(output, "kernels" if path.endswith(".cu") else "cc", [path], opt)
        return output


def libraries(ninja, build):
    """Writes what compiles the layers; the archive of each group of kernels, and that of the rest."""
    cuda = [f for f in sources(build / CUDA / "CMakeLists.txt", r"SOURCES(.*?)DEPS") if f not in WHOLE_MODELS]
    # Those that held nothing but kernels of single types are empty now.
    cuda = [f for f in cuda if not re.search(r"namespace spate::cuda \{\s*\}", (build / CUDA / f).read_text())]
    cuda += sorted(path.name for path in (build / CUDA).glob("emulated_*.cu"))
    groups = {"products": [], "others": []}
    for f in cuda:
        output = ninja.compile(f"{CUDA}/{f}")
        if f.startswith(PRODUCTS) or f.endswith(".cc"):
            groups["products"].append(output)
        if not f.startswith(PRODUCTS):
            groups["others"].append(output)
    host = [f"src/base/{f}" for f in sources(build / "src/base/CMakeLists.txt", r"SOURCES(.*?)LIBS")]
    host += [f"src/quant/{f}" for f in sources(build / "src/quant/CMakeLists.txt", r"SOURCES(.*?)\)")]
    host += ["src/backend/sampler.cc"] + [f"tests/support/{f}" for f in SUPPORT]
    machine = sorted(path.name for path in pathlib.Path(__file__).resolve().parent.glob("*.cc"))
    ninja.build("libhost.a", "archive", [ninja.compile(f) for f in host] +
                [ninja.build(f"o/machine/{f}.o", "machine", [f"$emulation/{f}"]) for f in machine])
    for group, objects in groups.items():
        ninja.build(f"lib{group}.a", "archive", objects)


def programs(ninja, build, wanted):
    """Writes what links the tests' programs; the names of those that hold a wanted file."""
    found, known = [], set()
    cmake = (build / "tests/backend/cuda/CMakeLists.txt").read_text()
    for name, listed in re.findall(r"spate_test\((\w+)\s+SOURCES(.*?)DEPS", cmake, re.S):
        if name == "cuda_executor":
            continue
        files = [f for f in listed.split() if not wanted or f in wanted or not f.endswith("_test.cc")]
        known |= set(listed.split())
        if any(f.endswith("_test.cc") for f in files):
            objects = [ninja.compile(f"tests/backend/cuda/{f}") for f in files]
            kernels = "libproducts.a" if name == "cuda_kernels" else "libothers.a"
            found.append(ninja.build(f"{name}_test", "program", objects + [kernels, "libhost.a"]))
    if wanted - known:
        sys.exit("write_ninja.py: not among the kernels' tests in tests/backend/cuda: %s" % ", ".join(sorted(wanted - known)))
    return found


def main():
    checkout, build, cuda_include = map(pathlib.Path, sys.argv[1:4])
    wanted = set(sys.argv[4].split(",")) if len(sys.argv) > 4 and sys.argv[4] else set()
    ninja = Ninja(HEAD.format(emulation=pathlib.Path(__file__).resolve().parent, checkout=checkout.resolve(),
                              cuda_include=cuda_include, ccache="ccache " if shutil.which("ccache") else ""))
    libraries(ninja, build)
    print("\n".join(programs(ninja, build, wanted)))
    (build / "build.ninja").write_text(ninja.text)


if __name__ == "__main__":
    main()
