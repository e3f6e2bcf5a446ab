/// Files that hold one secret key. Two lines of text: `covey-key 1 KIND`, then the key in hexadecimal. Mode 0600.
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/curve.h"
#include "core/crypto/identity.h"

namespace covey::crypto {

/// Kinds in use: `identity`, `roster`, `curve`, `device` (the key of sealed files).
/// @errors already_exists: a key is never overwritten; invalid_argument: a kind that is no lower-case word; io_error.
Status write_key_file(const std::string& path, std::string_view kind, const SecretBytes& key);
/// @errors not_found; permission_denied: others than the owner may read it (the message says chmod 600), or another
/// user owns it; corrupt_data: another kind, another length, or no key file.
Result<SecretBytes> read_key_file(const std::string& path, std::string_view kind, std::size_t key_bytes = 32);

Status save_identity(const std::string& path, const IdentityKey& key, std::string_view kind = "identity");
Result<IdentityKey> load_identity(const std::string& path, std::string_view kind = "identity");
Status save_curve(const std::string& path, const CurveKeyPair& pair);
Result<CurveKeyPair> load_curve(const std::string& path);
/// Reads the 32-byte key at `path`, or makes and stores a random one where there is none.
Result<SecretBytes> load_or_create_key(const std::string& path, std::string_view kind);

}  // namespace covey::crypto
