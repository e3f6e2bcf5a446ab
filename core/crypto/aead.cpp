#include "core/crypto/aead.h"

#include <sodium.h>

#include <algorithm>

#include "core/base/file.h"
#include "core/crypto/random.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {
namespace {

constexpr std::size_t kKeyBytes = crypto_aead_xchacha20poly1305_ietf_KEYBYTES;
constexpr std::size_t kNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTagBytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;
static_assert(kNonceBytes + kTagBytes == kBoxOverheadBytes);

constexpr std::string_view kSealedMagic = "covey-sealed-1\n";

Status check_key(ByteSpan key) {
  if (key.size() == kKeyBytes) return {};
  return Error{ErrorCode::invalid_argument, "box key has " + std::to_string(key.size()) + " bytes instead of 32"};
}

}  // namespace

Result<Bytes> seal(ByteSpan key, ByteSpan plain, ByteSpan associated) {
  return seal_with_nonce(key, random_bytes(kNonceBytes), plain, associated);
}

Result<Bytes> seal_with_nonce(ByteSpan key, ByteSpan nonce, ByteSpan plain, ByteSpan associated) {
  internal::ready();
  COVEY_TRY(check_key(key));
  if (nonce.size() != kNonceBytes) {
    return Error{ErrorCode::invalid_argument, "box nonce has " + std::to_string(nonce.size()) + " bytes instead of 24"};
  }
  Bytes out(kNonceBytes + plain.size() + kTagBytes);
  std::copy(nonce.begin(), nonce.end(), out.begin());
  crypto_aead_xchacha20poly1305_ietf_encrypt(out.data() + kNonceBytes, nullptr, plain.data(), plain.size(),
                                             associated.data(), associated.size(), nullptr, out.data(), key.data());
  return out;
}

Result<SecretBytes> open(ByteSpan key, ByteSpan box, ByteSpan associated) {
  internal::ready();
  COVEY_TRY(check_key(key));
  if (box.size() < kBoxOverheadBytes) {
    return Error{ErrorCode::corrupt_data,
                 "box has " + std::to_string(box.size()) + " bytes, fewer than the 40 that every box has"};
  }
  SecretBytes out(box.size() - kBoxOverheadBytes);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(out.data(), nullptr, nullptr, box.data() + kNonceBytes,
                                                 box.size() - kNonceBytes, associated.data(), associated.size(),
                                                 box.data(), key.data()) != 0) {
    return Error{ErrorCode::permission_denied, "box does not open: other key, other context, or changed bytes"};
  }
  return out;
}

Status write_sealed_file(const std::string& path, ByteSpan device_key, std::string_view purpose, ByteSpan plain) {
  auto box = seal(device_key, plain, as_byte_span(purpose));
  if (!box.ok()) return box.error().in(path);
  Bytes content(kSealedMagic.begin(), kSealedMagic.end());
  content.insert(content.end(), box->begin(), box->end());
  return write_file_durably(path, ByteSpan(content), 0600);
}

Result<SecretBytes> read_sealed_file(const std::string& path, ByteSpan device_key, std::string_view purpose,
                                     std::uint64_t max_bytes) {
  COVEY_ASSIGN(const Bytes content, read_file(path, max_bytes));
  if (content.size() < kSealedMagic.size() || !std::equal(kSealedMagic.begin(), kSealedMagic.end(), content.begin())) {
    return Error{ErrorCode::corrupt_data, path + ": is no sealed file of Covey (its first line differs)"};
  }
  auto plain = open(device_key, ByteSpan(content).subspan(kSealedMagic.size()), as_byte_span(purpose));
  if (!plain.ok()) return plain.error().in(path);
  return plain;
}

}  // namespace covey::crypto
