# Helpers of ./demo and ./check; sourced by them from the repository's root.
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Puts a CUDA toolkit in its usual place on PATH; true if there is an nvcc.
find_nvcc() {
  if ! command -v nvcc >/dev/null && [[ -x /usr/local/cuda/bin/nvcc ]]; then
    PATH=$PATH:/usr/local/cuda/bin
  fi
  command -v nvcc >/dev/null
}

# True if the tree has a CUDA backend to compile.
has_cuda_backend() { [[ -f src/backend/cuda/CMakeLists.txt ]]; }

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; }

# show_progress LABEL: reads a build's or ctest's output and keeps one line of a terminal up to date.
show_progress() {
  local label=$1 line
  while IFS= read -r line; do
    if [[ -t 1 && $line =~ ^\ *\[?([0-9]+/[0-9]+)[\]\ ] ]]; then
      printf '\r%s %s  ' "$label" "${BASH_REMATCH[1]}"
    fi
  done
  if [[ -t 1 ]]; then printf '\r\033[K'; fi
}

# logged LABEL LOG COMMAND...: runs a command with its output in LOG; prints LABEL and how long it took. False if it failed.
logged() {
  local label=$1 log=$2 start=$SECONDS
  shift 2
  if "$@" 2>&1 </dev/null | tee -a "$log" | show_progress "$label"; then
    say "$label: $((SECONDS - start)) s"
  else
    say "$label: FAILED after $((SECONDS - start)) s"
    return 1
  fi
}

# build PRESET TARGET... [-- CMAKE_OPTION...]: configures and builds in build/PRESET, the full output in build/PRESET/log,
# its end shown on failure. The files of a layer are compiled by the dozen: most of a file's time goes into headers and
# templates that its neighbours use too.
build() {
  local preset=$1 targets=() log=build/$1/log
  shift
  while (($# > 0)) && [[ $1 != -- ]]; do
    targets+=("$1")
    shift
  done
  (($# == 0)) || shift
  mkdir -p "build/$preset"
  : >"$log"
  if ! logged "configure ($preset)" "$log" \
    cmake --preset "$preset" -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 "$@" ||
    ! logged "build ($preset)" "$log" cmake --build "build/$preset" --parallel "$(nproc)" --target "${targets[@]}"; then
    { grep -A 25 -E 'FAILED:|CMake Error|^ninja: error' "$log" || tail -n 60 "$log"; } | head -n 120 >&2
    say "the whole log: $PWD/$log" >&2
    return 1
  fi
}
