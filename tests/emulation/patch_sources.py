#!/usr/bin/python3
"""Copies src/ and tests/ of a checkout and makes its CUDA sources plain C++, to be compiled with device_code.h.

In src/backend/cuda:
- asm statements become calls of instructions.h, by their template; one that is not known here does not compile;
- __shared__ variables get their places from the machine;
- conditions on the device that code is compiled for are decided: capability 9.0a;
- each weight type's kernels get a file of their own, so that some can be left out.
Only files whose text changed are written, so that a build takes up no more than that.

usage: patch_sources.py CHECKOUT BUILD [TYPE,TYPE...]    (all types without a list)
"""
import pathlib
import re
import sys

CUDA = pathlib.PurePath("src/backend/cuda")
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".inc", ".def", ".txt", ".json"}
MAX_BYTES = 1 << 20  # larger ones are data, which tests read from the checkout
TYPE_FILE = "emulated_type_%s.cu"
LEFT_OUT_FILE = "emulated_types_left_out.cu"

INSTANTIATION = re.compile(r"template TypeKernels make_type_kernels<QuantType::(\w+)>\(\);\n?")

# Templates of asm statements, spaces collapsed, and what takes their place; {n} is operand n.
INSTRUCTIONS = [(re.compile(pattern), code) for pattern, code in (
    (r"^$", "static_cast<void>(0)"),  # a fence for the compiler
    (r"^fence\.", "static_cast<void>(0)"),
    (r"^prefetch\.tensormap", "static_cast<void>(0)"),
    (r"elect\.sync", "{0} = emu::elect()"),
    (r"^mbarrier\.init\.", "emu::mbarrier_init({0}, {1})"),
    (r"^mbarrier\.arrive\.shared::cta\.b64", "emu::mbarrier_arrive({0})"),
    (r"^mbarrier\.arrive\.expect_tx\.", "emu::mbarrier_expect({0}, {1})"),
    (r"mbarrier\.try_wait\.parity", "emu::mbarrier_wait({0}, {1})"),
    (r"^st\.release\.cta\.shared::cta\.u32", "emu::store_release({0}, {1})"),
    (r"^ld\.acquire\.cta\.shared::cta\.u32", "{0} = emu::load_acquire({1})"),
    (r"^st\.release\.cluster\.shared::cta\.u32", "emu::store_release({0}, {1})"),
    (r"^ld\.acquire\.cluster\.shared::cluster\.u32", "{0} = emu::load_acquire({1})"),
    (r"^st\.async\.weak\.shared::cluster\.mbarrier::complete_tx::bytes\.f32", "emu::store_async({0}, {1}, {2})"),
    (r"^bar\.sync 1, %0;", "emu::bar_sync(1, {0})"),
    (r"^bar\.sync %0, %1;", "emu::bar_sync({0}, {1})"),
    (r"^cp\.async\.bulk\.shared::cluster\.global\.mbarrier", "emu::bulk_copy({0}, {1}, {2}, {3})"),
    (r"^cp\.async\.bulk\.tensor\.2d\.shared::cluster\.global", "emu::tensor_copy({0}, {1}, {2}, {3}, {4})"),
    (r"^cp\.async\.cg\.shared\.global \[%0\], \[%1\], 16;", "emu::copy_async_16({0}, {1})"),
    (r"^cp\.async\.commit_group", "emu::copy_async_commit()"),
    (r"^cp\.async\.wait_group", "emu::copy_async_wait({0})"),
    (r"^ldmatrix\.sync\.aligned\.m8n8\.x4\.shared\.b16 ", "emu::ldmatrix_x4({0}, {1}, {2}, {3}, {4}, false)"),
    (r"^ldmatrix\.sync\.aligned\.m8n8\.x4\.trans\.shared\.b16 ", "emu::ldmatrix_x4({0}, {1}, {2}, {3}, {4}, true)"),
    (r"^setmaxnreg\.", "emu::setmaxnreg({0})"),
    (r"^wgmma\.fence", "emu::wgmma_fence()"),
    (r"^wgmma\.commit_group", "emu::wgmma_commit()"),
    (r"^wgmma\.wait_group", "emu::wgmma_wait({0})"),
    (r"^mov\.u32 %0, %cluster_ctarank", "{0} = emu::cluster_ctarank()"),
    (r"^barrier\.cluster\.arrive\.release", "emu::cluster_arrive()"),
    (r"^barrier\.cluster\.wait\.acquire", "emu::cluster_wait()"),
    (r"^mapa\.shared::cluster\.u32", "{0} = emu::mapa({1}, {2})"),
    (r"^ld\.shared::cluster\.f32", "{0} = emu::load<float>({1})"),
    (r"^ld\.shared::cluster\.v4\.f32",
     "{{ const auto emu_v = emu::load<float4>({4}); {0} = emu_v.x; {1} = emu_v.y; {2} = emu_v.z; {3} = emu_v.w; }}"),
    (r"^st\.shared::cluster\.f32", "emu::store<float>({0}, {1})"),
    (r"^st\.shared::cluster\.[bu]32", "emu::store<uint32_t>({0}, {1})"),
    (r"^ld\.shared\.b32", "{0} = emu::load<uint32_t>({1})"),
    (r"^ld\.shared\.b16", "{0} = emu::load<uint16_t>({1})"),
    (r"setp\.ne\.u32 wanted, %4, 0; @wanted ld\.shared\.v4\.u32",
     "{{ if ({4}) {{ const auto emu_v = emu::load<uint4>({5}); "
     "{0} = emu_v.x; {1} = emu_v.y; {2} = emu_v.z; {3} = emu_v.w; }} }}"),
    (r"^ex2\.approx", "{0} = std::exp2({1})"),
    (r"^cvt\.rn\.f16x2\.f32", "{0} = emu::pack_f16x2({1}, {2})"),
    (r"^cvt\.rn\.satfinite\.e4m3x2\.f16x2", "{0} = emu::to_e4m3x2({1})"),
    (r"^griddepcontrol\.wait", "emu::griddepcontrol_wait()"),
    (r"^griddepcontrol\.launch_dependents", "emu::griddepcontrol_launch()"),
)]
MMA = re.compile(r"mma\.sync\.aligned\.(?:m16n8k16\.row\.col\.f32\.f16\.f16\.f32|m16n8k32\.row\.col\.s32\.([us])8\.s8\.s32)"
                 r" (.*);")


def closing(text, at):
    """Where the parenthesis that was opened before `at` is closed."""
    depth = 1
    while depth:
        if text[at] == '"':
            at = re.compile(r'"(?:[^"\\]|\\.)*"').match(text, at).end()
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return at - 1


def split_top(text, separator):
    """The parts of text between separators outside of brackets and string literals."""
    parts, depth, start = [], 0, 0
    for m in re.finditer(r'"(?:[^"\\]|\\.)*"|.', text, re.S):
        token = m.group()
        depth += (token in "([{") - (token in ")]}") if len(token) == 1 else 0
        if token == separator and depth == 0:
            parts.append(text[start:m.start()])
            start = m.end()
    return parts + [text[start:]]


def operands(section):
    """The C++ expressions of a list of operands; an item that is no operand is a macro that makes several."""
    found = []
    for item in split_top(section, ","):
        m = re.match(r'\s*"[^"]*"\s*\((.*)\)\s*$', item, re.S)
        if m or item.strip():
            found.append((m.group(1) if m else item).strip())
    return found


def translate(statement):
    """C++ for what stands between the parentheses of an asm statement."""
    sections = split_top(statement, ":")
    template = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', sections[0]))
    template = " ".join(template.replace("\\n", " ").replace("%%", "%").split())
    ops = [operand for section in sections[1:3] for operand in operands(section)]
    if "wgmma.mma_async" in template:
        if "setp.ne" in template:  # a0 to a3, the lower word of the descriptor of B, whether to add
            return "emu::wgmma(sums, %s, %s, %s, %s, uint64_t{0x40000040} << 32 | (%s), (%s) != 0)" % tuple(ops[-6:])
        return "emu::wgmma(sums, %s, %s, %s, %s, %s)" % tuple(ops[-5:])
    m = MMA.match(template)
    if m:
        args = ["(%s)" % ops[int(n)] for n in re.findall(r"%(\d+)", m.group(2))]
        if m.group(1) is None:
            return "emu::mma_f16(%s)" % ", ".join(args)
        return "emu::mma_s8(%s, %s)" % ("true" if m.group(1) == "u" else "false", ", ".join(args))
    for pattern, code in INSTRUCTIONS:
        if pattern.search(template):
            return code.format(*ops)
    return 'instruction_unknown_to_the_emulation("%s")' % template.replace('"', "'")


def replace_asm(text):
    out, at = [], 0
    for m in re.finditer(r"\basm\b\s*(?:volatile\s*)?\(", text):
        if m.start() < at or "//" in text[text.rfind("\n", 0, m.start()) + 1:m.start()]:
            continue
        end = closing(text, m.end())
        comments_out = re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda k: k.group(1) or "", text[m.end():end])
        out += [text[at:m.start()], translate(comments_out)]
        at = end + 1
    return "".join(out) + text[at:]


def replace_shared(text):
    text = re.sub(r"extern\s+__shared__\s+(?:__align__\(\w+\)\s+)?([\w: ]+?)\s+(\w+)\[\];",
                  r"auto* \2 = static_cast<\1*>(emu::shared_dynamic());", text)

    def places(m):
        out = []
        for declared in split_top(m.group(2), ","):
            name, dims = re.match(r"\s*(\w+)((?:\[[^\]]*\])*)\s*$", declared, re.S).groups()
            out.append(f"static emu::Static<{m.group(1)}{dims}> emu_of_{name}; auto& {name} = emu_of_{name}.get();")
        return " ".join(out)

    return re.sub(r"__shared__\s+(?:__align__\(\w+\)\s+)?([\w:]+)\s+([^;]+);", places, text)


def keep_types(text, types):
    """Leaves out the kernels of pairs and rings of types that are not wanted, and moves those of single types away."""
    text = INSTANTIATION.sub("", text)
    if types is None:
        return text
    text = re.sub(r"SPATE_(?:ONE|TWO)_TYPES?\((k\w+)(?:, (k\w+))?\)\n",
                  lambda m: m.group() if types >= set(m.groups()) - {None} else "", text)
    return re.sub(r"return launch_stream\w*<QuantType::(k\w+)>;",
                  lambda m: m.group() if m.group(1) in types else "return nullptr;", text)


def to_cpp(text, types):
    text = replace_shared(replace_asm(keep_types(text, types)))
    text = re.sub(r"defined\(__CUDA_ARCH__\)\s*&&\s*__CUDA_ARCH__\s*>=\s*\d+", "1", text)
    return text.replace("defined(__CUDA_ARCH_FEAT_SM90_ALL)", "1").replace("__CUDACC__", "SPATE_EMULATED")


def type_files(checkout, types):
    """Names and texts of the files that hold the kernels of each type, and those of types that are left out."""
    head, tail = '#include "backend/cuda/matmul_types.cuh"\n\nnamespace spate::cuda {\n', "}  // namespace spate::cuda\n"
    files, left_out, known = {}, head, set()
    for path in sorted((checkout / CUDA).glob("*.cu")):
        for name in INSTANTIATION.findall(path.read_text(encoding="utf-8")):
            known.add(name)
            if types is None or name in types:
                files[TYPE_FILE % name] = f"{head}template TypeKernels make_type_kernels<QuantType::{name}>();\n{tail}"
                continue
            tile = "kF16" if name in ("kF32", "kBF16") else name
            left_out += (f"template <>\nTypeKernels make_type_kernels<QuantType::{name}>() {{\n  TypeKernels k{{}};\n"
                         f"  k.tile_bytes = TileFormat<QuantType::{tile}>::kBytes;\n  return k;\n}}\n")
    if types is not None and not types <= known:
        sys.exit("patch_sources.py: no such type: %s (there are %s)" %
                 (", ".join(t[1:] for t in sorted(types - known)), ", ".join(t[1:] for t in sorted(known))))
    files[LEFT_OUT_FILE] = left_out + tail
    return files


def write_if_new(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main():
    checkout, build = map(pathlib.Path, sys.argv[1:3])
    types = {"k" + name for name in sys.argv[3].split(",")} if len(sys.argv) > 3 else None
    made = type_files(checkout, types)
    for top in ("src", "tests"):
        for path in (checkout / top).rglob("*"):
            if path.suffix not in SUFFIXES or not path.is_file() or path.stat().st_size > MAX_BYTES:
                continue
            relative = path.relative_to(checkout)
            text = path.read_text(encoding="utf-8")
            if relative.parent == pathlib.Path(CUDA) and path.suffix in (".h", ".cu", ".cuh", ".def"):
                text = to_cpp(text, types)
            write_if_new(build / relative, text)
    for name, text in made.items():
        write_if_new(build / CUDA / name, text)
    for stale in (build / CUDA).glob(TYPE_FILE % "*"):
        if stale.name not in made:
            stale.unlink()


if __name__ == "__main__":
    main()
