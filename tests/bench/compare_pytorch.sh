#!/usr/bin/env bash
# Our training step beside PyTorch's, in one run: compare_pytorch.sh [rounds, default 3] [shape ...].
#
# Random weights, the same shapes, batch and rank; both sides take turns, medians of the rounds count. PyTorch is the
# fastest of every combination of OpenMP and OpenBLAS threads, and of the kernels that OpenBLAS chooses by itself and
# those for AVX-512, where the machine has it (older OpenBLAS takes new processors for very old ones).
# Needs python3-torch, python3-numpy, libopenblas0-pthread, jq, and the peer script (COVEY_PEERS_DIR).
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
peer=${COVEY_PEERS_DIR:-$here/../shared/peers}/torch_lora_step.py
bench=${COVEY_BIN_DIR:-$here/build/release/bin}/covey-model
python=${COVEY_PYTHON:-/usr/bin/python3}
rounds=${1:-3}
shift || true
shapes=("${@:-stories15m smollm135m}")
read -r -a shapes <<<"${shapes[*]}"
steps=4
cores=$(nproc)
for needed in "$peer" "$bench" "$python"; do
  [ -e "$needed" ] || { echo "compare_pytorch.sh: $needed is not there" >&2; exit 1; }
done
declare -A batch=([stories15m]=8 [smollm135m]=4 [qwen05b]=1)

torch() { # kernels omp blas shape
  local -a set=(-u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE)
  [ "$1" = own ] || set+=("OPENBLAS_CORETYPE=$1")
  env "${set[@]}" OMP_NUM_THREADS="$2" OPENBLAS_NUM_THREADS="$3" "$python" "$peer" --shape "$4" --batch "${batch[$4]}" \
    --seq 128 --steps "$steps" --threads "$2"
}
ours() { # shape, flags
  local shape=$1
  shift
  "$bench" bench --shape "$shape" --batch "${batch[$shape]}" --seq 128 --steps "$steps" "$@"
}
median() { jq -s "map(.$1) | sort | .[length / 2 | floor]"; }

kernels=(own)
grep -qw avx512f /proc/cpuinfo && kernels+=(SkylakeX)
for shape in "${shapes[@]}"; do
  best="" fastest=0
  for kernel in "${kernels[@]}"; do
    for omp in $(printf '%s\n' 1 "$cores" | sort -un); do
      for blas in $(printf '%s\n' 1 "$cores" | sort -un); do
        speed=$(torch "$kernel" "$omp" "$blas" "$shape" | jq .tokens_per_s)
        if jq -en "$speed > $fastest" >/dev/null; then fastest=$speed best="$kernel $omp $blas"; fi
      done
    done
  done
  read -r -a best <<<"$best"
  results=$(mktemp -d)
  for _ in $(seq "$rounds"); do
    torch "${best[@]}" "$shape" >>"$results/torch"
    for threads in 1 "$cores"; do
      ours "$shape" --threads "$threads" >>"$results/f32 $threads"
      ours "$shape" --threads "$threads" --dtype w8a8 >>"$results/w8a8 $threads"
    done
    ours "$shape" --threads "$cores" --dtype w8a8 --checkpoint >>"$results/w8a8 checkpointed $cores"
  done
  speed=$(median tokens_per_s <"$results/torch")
  memory=$(median peak_rss_mib <"$results/torch")
  echo "$shape, batch ${batch[$shape]} x 128, LoRA r8 on all linear layers; medians of $rounds rounds in turns"
  printf '  %-28s %10s %8s %10s %8s %9s %9s\n' "" tokens/s ratio "peak MiB" ratio loss "stop, ms"
  printf '  %-28s %10.0f %8s %10.0f\n' "PyTorch (${best[*]})" "$speed" "" "$memory"
  for result in "$results"/f32* "$results"/w8a8*; do
    own=$(median tokens_per_s <"$result")
    peak=$(median peak_rss_mib <"$result")
    printf '  %-28s %10.0f %7.2fx %10.0f %7.2fx %9.4f %9.1f\n' "$(basename "$result") thread(s)" "$own" \
      "$(jq -n "$own / $speed")" "$peak" "$(jq -n "$peak / $memory")" "$(median loss <"$result")" \
      "$(jq -s 'map(.abandon_ms) | max' "$result")"
  done
  rm -r "$results"
done
