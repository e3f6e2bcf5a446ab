#include "core/crypto/curve.h"

#include <sodium.h>

#include <array>

#include "core/crypto/random.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {
namespace {

constexpr std::string_view kAlphabet =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
static_assert(kAlphabet.size() == 85);

constexpr std::array<std::int8_t, 128> kDigits = [] {
  std::array<std::int8_t, 128> out{};
  for (auto& d : out) d = -1;
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    out[static_cast<std::size_t>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  }
  return out;
}();

Error bad_z85(const std::string& why) {
  return {ErrorCode::corrupt_data, "not Z85 text: " + why};
}

}  // namespace

CurveKeyPair CurveKeyPair::generate() {
  return *from_secret(random_secret(crypto_box_SECRETKEYBYTES).span());
}

Result<CurveKeyPair> CurveKeyPair::from_secret(ByteSpan secret) {
  internal::ready();
  if (secret.size() != crypto_box_SECRETKEYBYTES) {
    return Error{ErrorCode::invalid_argument,
                 "CURVE secret key has " + std::to_string(secret.size()) + " bytes instead of 32"};
  }
  CurveKeyPair out;
  out.secret_ = SecretBytes(secret);
  crypto_scalarmult_base(out.public_.bytes.data(), out.secret_.data());
  return out;
}

Result<CurveKeyPair> CurveKeyPair::derive(ByteSpan secret, std::string_view purpose) {
  internal::ready();
  if (secret.size() != 32) {
    return Error{ErrorCode::invalid_argument, "secret has " + std::to_string(secret.size()) + " bytes instead of 32"};
  }
  const std::string message = "covey curve pair 1: " + std::string(purpose);
  SecretBytes key(crypto_box_SECRETKEYBYTES);
  crypto_generichash(key.data(), key.size(), reinterpret_cast<const unsigned char*>(message.data()), message.size(),
                     secret.data(), secret.size());
  return from_secret(key.span());
}

Result<std::string> z85_encode(ByteSpan bytes) {
  if (bytes.size() % 4 != 0) {
    return Error{ErrorCode::invalid_argument, "Z85 holds multiples of 4 bytes, not " + std::to_string(bytes.size())};
  }
  std::string out;
  out.reserve(bytes.size() / 4 * 5);
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    std::uint32_t value = 0;
    for (std::size_t j = 0; j < 4; ++j) value = value << 8 | bytes[i + j];
    std::array<char, 5> group{};
    for (std::size_t j = 5; j-- > 0; value /= 85) group[j] = kAlphabet[value % 85];
    out.append(group.data(), group.size());
  }
  return out;
}

Result<Bytes> z85_decode(std::string_view text) {
  if (text.size() % 5 != 0) return bad_z85("has " + std::to_string(text.size()) + " characters, no multiple of 5");
  Bytes out;
  out.reserve(text.size() / 5 * 4);
  for (std::size_t i = 0; i < text.size(); i += 5) {
    std::uint64_t value = 0;
    for (std::size_t j = 0; j < 5; ++j) {
      const auto c = static_cast<unsigned char>(text[i + j]);
      if (c >= kDigits.size() || kDigits[c] < 0) return bad_z85("character " + std::to_string(i + j + 1) + " is alien");
      value = value * 85 + static_cast<std::uint64_t>(kDigits[c]);
    }
    if (value > 0xffffffffU) return bad_z85("group at character " + std::to_string(i + 1) + " is too large");
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
  }
  return out;
}

std::string to_z85(const CurvePublicKey& key) {
  return *z85_encode(key.span());
}

Result<CurvePublicKey> curve_key_from_z85(std::string_view text) {
  COVEY_ASSIGN(const Bytes raw, z85_decode(text));
  const auto key = CurvePublicKey::from(raw);
  if (!key) return bad_z85("a CURVE key has 40 characters, not " + std::to_string(text.size()));
  return *key;
}

}  // namespace covey::crypto
