#!/usr/bin/env bash
# Installs what is needed, builds, and runs the tests; on a bare Debian 12 as well as in a working copy. Ends with
# ctest's summary and its exit status.
#   tests/run.sh             everything within 25 minutes on 2 cores
#   tests/run.sh --full      and the heavier suites (label `full`)
#   tests/run.sh --arm64     cross-builds for Arm64 and runs the label `arm64` under qemu-user, nothing else
#   tests/run.sh --interop   compares with other implementations from npm (label `interop`), nothing else
#   tests/run.sh --browser   looks at report and dashboard in headless Chromium (label `browser`), nothing else
# COVEY_REQUIRE_DATA=1 turns missing data (COVEY_DATA_DIR, COVEY_GOLDEN_DIR) from a skip into a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

what=default
for argument in "$@"; do
  case "$argument" in
    --full | --arm64 | --browser | --interop) what=${argument#--} ;;
    *) echo "run.sh: unknown argument '$argument'; it takes --full, --arm64, --interop, --browser" >&2; exit 2 ;;
  esac
done

build() {  # build PRESET [TARGET...]: configures and builds, prints what it took
  local preset=$1; shift
  local started=$SECONDS
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" ${1:+--target "$@"} | { grep -E 'error|warning|FAILED' || true; }
  echo "run.sh: built $preset${1:+ ($*)} in $((SECONDS - started)) s"
}

case "$what" in
  arm64)
    tests/install.sh --tests --arm64
    build arm64
    ctest --preset arm64 -L arm64 -j "$(nproc)"
    ;;
  interop)
    tests/install.sh --tests --interop
    build release interop_tests
    ctest --preset release -L interop -j "$(nproc)"
    ;;
  browser)
    tests/install.sh --tests --browser
    build release
    ctest --preset release -L browser
    ;;
  *)
    tests/install.sh --tests
    build release
    # Decoders and parsers, where hostile bytes arrive, run under AddressSanitizer and UBSan.
    build asan parser_tests
    ctest --preset asan -L parser -j "$(nproc)"
    if [ "$what" = full ]; then
      ctest --preset release -LE 'interop|browser|arm64_only'
    else
      ctest --preset release -LE 'interop|browser|full|arm64_only'
    fi
    ;;
esac
