/// Entropy of the operating system, and the library's one initialization. Thread-safe.
/// Never used inside a state machine: those get their randomness as an event, so that a seed replays a whole world.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"

namespace covey::crypto {

/// Prepares libsodium. Every function of this module does it on first use; a program calls it early to get the error as
/// a value. @errors internal: the system gives no entropy.
Status init();

void random_fill(std::span<std::uint8_t> out);
Bytes random_bytes(std::size_t size);
SecretBytes random_secret(std::size_t size);
std::uint64_t random_u64();

/// Compares in a time that depends on the lengths only. False where the lengths differ.
bool equal_constant_time(ByteSpan a, ByteSpan b);

}  // namespace covey::crypto
