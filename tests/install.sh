#!/usr/bin/env bash
# Installs from Debian 12 what Covey is built, run and tested with. Idempotent; asks apt only for what is missing.
#   tests/install.sh            to build and run the programs
#   tests/install.sh --tests    and what the tests need beside that (OpenMPI among it: covey-sim on many machines)
#   tests/install.sh --arm64    and the Arm64 cross compiler, libraries and qemu-user
#   tests/install.sh --interop  and the implementations from npm that ours is compared with (Node.js 20 or newer)
#   tests/install.sh --browser  and headless Chromium, which looks at the reports
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config libzmq3-dev cppzmq-dev libcereal-dev libsodium-dev libsqlite3-dev
  libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libspdlog-dev libcpp-httplib-dev libjs-chart.js libutf8proc-dev doctest-dev jq iproute2)
arm64=no
interop=no
for argument in "$@"; do
  case "$argument" in
    --tests) packages+=(binutils procps sqlite3 curl openmpi-bin libopenmpi-dev) ;;
    --browser) packages+=(chromium) ;;
    --arm64) arm64=yes ;;
    --interop)
      interop=yes
      command -v npm >/dev/null || packages+=(nodejs npm)
      ;;
    *) echo "install.sh: unknown argument '$argument'; it takes --tests, --arm64, --interop, --browser" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if [ ${#missing[@]} -gt 0 ]; then
  echo "install.sh: installing ${missing[*]}"
  as_root apt-get update -qq
  log=$(mktemp)
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "install.sh: apt-get could not install them; its last lines are above" >&2
    exit 1
  fi
  rm -f "$log"
else
  echo "install.sh: all ${#packages[@]} packages are there"
fi
if [ "$arm64" = yes ]; then
  "$(dirname "$0")/install_arm64.sh"
fi

# Optional packages are llama.cpp for every other machine and GPU: half a gigabyte that no test uses.
fetch_from_npm() {
  local options=(--prefix "$folder" --omit=optional --ignore-scripts --no-package-lock --no-audit --no-fund --silent) version
  npm install "${options[@]}" || return 1
  version=$(node -p "require('$(cd "$folder" && pwd)/package.json').dependencies['node-llama-cpp']")
  npm install "${options[@]}" --no-save "@node-llama-cpp/$platform@$version"
}

if [ "$interop" = yes ]; then
  node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)' ||
    { echo "install.sh: Node.js $(node --version) is too old for node-llama-cpp; install 20 or newer" >&2; exit 1; }
  folder=$(dirname "$0")/interop
  case "$(uname -m)" in x86_64) platform=linux-x64 ;; *) platform=linux-arm64 ;; esac
  if [ ! -d "$folder/node_modules/@node-llama-cpp/$platform" ] || [ "$folder/package.json" -nt "$folder/node_modules" ]; then
    echo "install.sh: fetching $folder/node_modules from npm"
    if fetch_from_npm; then
      touch "$folder/node_modules"
    elif [ -d "$folder/node_modules/@node-llama-cpp/$platform" ]; then
      echo "install.sh: npm cannot be reached; what $folder/node_modules holds is used"
    elif [ "${COVEY_REQUIRE_DATA:-0}" = 1 ]; then
      echo "install.sh: npm cannot be reached and $folder/node_modules is not there" >&2
      exit 1
    else
      echo "install.sh: npm cannot be reached; comparisons that need it will say SKIPPED"
    fi
  fi
fi
