#!/bin/bash
# Installs what `cmake --preset arm64` needs on Debian 12 (amd64): cross-compiler, :arm64 libraries, qemu-user.
# Idempotent and quiet. Called by tests/install.sh --arm64.
set -euo pipefail
[ "$(id -u)" = 0 ] || exec sudo -E "$0" "$@"

# These are Multi-Arch: same, so they stand beside the amd64 packages and remove none of them.
packages=(g++-aarch64-linux-gnu qemu-user-static
  libsodium-dev:arm64 libzmq3-dev:arm64 libsqlite3-dev:arm64 libspdlog-dev:arm64 libfmt-dev:arm64
  libutf8proc-dev:arm64 libcpp-httplib-dev:arm64 cppzmq-dev:arm64 libyaml-cpp0.7:arm64)
# This one is not: its amd64 twin would be removed. Its files go into a folder of their own instead.
unpacked=(libyaml-cpp-dev:arm64)
sysroot=/opt/covey-arm64

apt_quiet() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null; }

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Abbrev}\n' "$p" 2>/dev/null | grep -q '^ii' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ] || [ ! -e "$sysroot/.done" ]; then
  dpkg --add-architecture arm64
  apt_quiet update
fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "install_arm64: installing ${missing[*]}"
  if apt-get -s install --no-install-recommends "${missing[@]}" | grep -q '^Remv'; then
    echo "install_arm64: apt would remove packages; nothing was changed. Run apt-get upgrade and try again" >&2
    exit 1
  fi
  apt_quiet install -y --no-install-recommends "${missing[@]}"
fi
if [ ! -e "$sysroot/.done" ]; then
  echo "install_arm64: unpacking ${unpacked[*]} into $sysroot"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$sysroot"
  (cd "$work" && chmod 755 . && apt-get -qq -o APT::Sandbox::User=root download "${unpacked[@]}" >/dev/null)
  for deb in "$work"/*.deb; do dpkg -x "$deb" "$sysroot"; done
  # What pkg-config and the linker read there must name that folder and the library where apt put it.
  find "$sysroot" -name '*.pc' -exec sed -i "s|^prefix=/usr$|prefix=$sysroot/usr|; s|=/usr/|=$sysroot/usr/|" {} +
  for link in "$sysroot"/usr/lib/aarch64-linux-gnu/lib*.so; do
    ln -sf "/usr/lib/aarch64-linux-gnu/$(readlink "$link")" "$link"
  done
  touch "$sysroot/.done"
fi
