#include "core/crypto/random.h"

#include <sodium.h>

#include <cstdio>
#include <cstdlib>

#include "core/crypto/sodium.h"

namespace covey::crypto {

namespace internal {

void ready() {
  static const int result = sodium_init();
  if (result < 0) {
    std::fputs("covey: libsodium cannot start: the system gives no entropy\n", stderr);
    std::abort();
  }
}

}  // namespace internal

Status init() {
  if (sodium_init() < 0) {
    return Error{ErrorCode::internal, "libsodium cannot start: the system gives no entropy; check /dev/urandom"};
  }
  return {};
}

void random_fill(std::span<std::uint8_t> out) {
  internal::ready();
  randombytes_buf(out.data(), out.size());
}

Bytes random_bytes(std::size_t size) {
  Bytes out(size);
  random_fill(out);
  return out;
}

SecretBytes random_secret(std::size_t size) {
  SecretBytes out(size);
  random_fill({out.data(), out.size()});
  return out;
}

std::uint64_t random_u64() {
  std::uint64_t out = 0;
  internal::ready();
  randombytes_buf(&out, sizeof out);
  return out;
}

bool equal_constant_time(ByteSpan a, ByteSpan b) {
  return a.size() == b.size() && (a.empty() || sodium_memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace covey::crypto
