#!/usr/bin/env bash
# The quickstart's own check over three seeds, and that it can fail: with learning rate 0 it must.
#   tests/quickstart/check.sh [DIR]     some 15 minutes on 2 cores
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$root/build/quickstart}
mkdir -p "$dir"
failed=0
for seed in 1 2 3; do
  if "$root/examples/quickstart.sh" --skip-install --dir "$dir" --seed "$seed" >"$dir/seed-$seed.log" 2>&1; then
    outcome=passed
  else
    outcome=failed failed=$((failed + 1))
  fi
  echo "seed $seed $outcome: $(grep -E '^check ' "$dir/seed-$seed.log" || tail -1 "$dir/seed-$seed.log")"
done
if "$root/examples/quickstart.sh" --skip-install --dir "$dir" --rounds 2 --learning-rate 0 >"$dir/rate-0.log" 2>&1; then
  echo "learning rate 0 passed the check: it cannot fail"
  failed=$((failed + 1))
elif ! grep -E '^check FAILED' "$dir/rate-0.log"; then
  echo "learning rate 0: ended without the check's verdict: $(tail -1 "$dir/rate-0.log")"
  failed=$((failed + 1))
fi
exit $((failed > 0))
