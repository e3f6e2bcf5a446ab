/// XChaCha20-Poly1305 boxes: 24-byte nonce, ciphertext, 16-byte tag. Thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"

namespace covey::crypto {

inline constexpr std::size_t kBoxOverheadBytes = 24 + 16;

/// Encrypts under a 32-byte key with a random nonce. `associated` is authenticated, not stored: open() must get the
/// same.
/// @errors invalid_argument: key of another length.
Result<Bytes> seal(ByteSpan key, ByteSpan plain, ByteSpan associated = {});
/// The same with a nonce of the caller's, 24 bytes, never used twice with one key (state machines, simulation).
Result<Bytes> seal_with_nonce(ByteSpan key, ByteSpan nonce, ByteSpan plain, ByteSpan associated = {});
/// @errors permission_denied: another key, other associated data, or changed bytes; corrupt_data: too short for a box.
Result<SecretBytes> open(ByteSpan key, ByteSpan box, ByteSpan associated = {});

/// Files only this device can read, such as local training checkpoints. `purpose` names what it holds and must be equal
/// at reading, so that one file cannot be put in another's place. Written durably, mode 0600.
/// @errors as seal() and write_file_durably(): the old content stands.
Status write_sealed_file(const std::string& path, ByteSpan device_key, std::string_view purpose, ByteSpan plain);
/// @errors not_found, io_error; corrupt_data: not such a file; permission_denied: another key or purpose, or changed.
Result<SecretBytes> read_sealed_file(const std::string& path, ByteSpan device_key, std::string_view purpose,
                                     std::uint64_t max_bytes = std::uint64_t{1} << 32);

}  // namespace covey::crypto
