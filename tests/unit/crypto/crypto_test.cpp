// Expected values: RFC 8032 section 7.1, RFC 7748 section 6.1, ZeroMQ's Z85 specification, and Python's hashlib. They
// hold on every machine: the same test runs for Arm64 under qemu.
#include <doctest/doctest.h>

#include "core/crypto/aead.h"
#include "core/crypto/curve.h"
#include "core/crypto/exchange.h"
#include "core/crypto/hash.h"
#include "core/crypto/identity.h"
#include "core/crypto/random.h"
#include "support/support.h"

using namespace covey;
using namespace covey::crypto;

namespace {

Bytes hex(const char* text) {
  return *from_hex(text);
}

Bytes counting(std::size_t size) {
  Bytes out(size);
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::uint8_t>(i);
  return out;
}

}  // namespace

TEST_CASE("hashes equal those of an independent implementation") {
  REQUIRE_OK(init());
  CHECK(hash("abc").hex() == "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
  CHECK(hash_in("covey", as_byte_span("abc")).hex() ==
        "9c5807ad9fc962ff474873d6c978f0729830d74ae85c520ea340f9e22e3cad51");
  CHECK(keyed_hash(counting(32), as_byte_span("abc"))->hex() ==
        "d63a32d3e44738d7907f964316c241adaba0abfeabc32349677578a15a203f7f");
  CHECK(keyed_hash(counting(15), {}).error().code == ErrorCode::invalid_argument);
  CHECK(to_hex(derive_key(counting(32), "covey", 7)->span()) ==
        "11399f01009924f14fb1b416c1ea8a235dd1ae1ed6e694d21e60a74f12f1d468");
  CHECK_FALSE(derive_key(counting(31), "covey", 7).ok());
  CHECK_FALSE(derive_key(counting(32), "nine char", 7).ok());
}

TEST_CASE("an incremental hash equals the hash of the whole, however it is cut") {
  const Bytes data = counting(1000);
  const Hash256 whole = hash(data);
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{127}, std::size_t{128}, std::size_t{999}}) {
    Hasher hasher;
    hasher.update(ByteSpan(data).first(cut)).update(ByteSpan(data).subspan(cut));
    CHECK(hasher.finish() == whole);
    hasher.update(data);  // it starts afresh
    CHECK(hasher.finish() == whole);
  }
  CHECK(Hasher().update_u64(0x0102).finish() == hash(hex("0201000000000000")));
}

TEST_CASE("signatures equal RFC 8032's and refuse any changed bit") {
  const auto key = IdentityKey::from_seed(hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"));
  REQUIRE_OK(key);
  CHECK(key->public_key().hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  CHECK(
      key->sign({}).hex() ==
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
      "4655141438e7a100b");
  Bytes message = counting(40);
  Signature signature = key->sign(message);
  CHECK(verify(key->public_key(), message, signature));
  message[17] ^= 4;
  CHECK_FALSE(verify(key->public_key(), message, signature));
  message[17] ^= 4;
  signature.bytes[63] ^= 1;
  CHECK_FALSE(verify(key->public_key(), message, signature));
  CHECK_FALSE(verify(IdentityKey::generate().public_key(), message, key->sign(message)));
  CHECK_FALSE(verify(PublicKey{}, message, Signature{}));  // small order
  CHECK(IdentityKey::from_seed(key->seed().span())->public_key() == key->public_key());
  CHECK_FALSE(IdentityKey::from_seed(counting(31)).ok());
  CHECK(public_key(key->device_id()) == key->public_key());
}

TEST_CASE("a signature made in one domain is refused in another") {
  const IdentityKey key = IdentityKey::generate();
  const Bytes message = counting(10);
  const Signature signature = key.sign_in("plan", message);
  CHECK(verify_in("plan", key.public_key(), message, signature));
  CHECK_FALSE(verify_in("roster", key.public_key(), message, signature));
  CHECK_FALSE(verify(key.public_key(), message, signature));
}

TEST_CASE("key agreement equals RFC 7748's and is the same on both sides") {
  const auto alice = ExchangeKey::from_secret(hex("77076d0a7318a57d3c16c17251b26645df4c2f92ebc099d82ea2fc8e0a2b2a2d"));
  const auto bob = ExchangeKey::from_secret(hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  CHECK(bob->public_key().hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
  const ExchangeKey other = ExchangeKey::generate();
  REQUIRE_OK(alice->agree(bob->public_key(), "x"));
  CHECK(to_hex(alice->agree(bob->public_key(), "x")->span()) == to_hex(bob->agree(alice->public_key(), "x")->span()));
  CHECK(to_hex(alice->agree(bob->public_key(), "x")->span()) != to_hex(bob->agree(alice->public_key(), "y")->span()));
  CHECK(to_hex(alice->agree(bob->public_key(), "x")->span()) != to_hex(other.agree(bob->public_key(), "x")->span()));
  CHECK(to_hex(alice->agree_raw(bob->public_key())->span()) == to_hex(bob->agree_raw(alice->public_key())->span()));
}

TEST_CASE("a peer's key that forces a zero secret is refused") {
  const ExchangeKey key = ExchangeKey::generate();
  CHECK(key.agree(ExchangePublicKey{}, "x").error().code == ErrorCode::invalid_argument);
  ExchangePublicKey one;
  one.bytes[0] = 1;
  CHECK_FALSE(key.agree_raw(one).ok());
  const auto order8 = ExchangePublicKey::from_hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
  CHECK_FALSE(key.agree_raw(*order8).ok());
}

TEST_CASE("a box opens with its key and context only") {
  const SecretBytes key = random_secret(32);
  const Bytes plain = counting(100);
  auto box = seal(key.span(), plain, as_byte_span("a"));
  REQUIRE_OK(box);
  CHECK(box->size() == plain.size() + kBoxOverheadBytes);
  CHECK(to_hex(open(key.span(), *box, as_byte_span("a"))->span()) == to_hex(plain));
  CHECK(open(key.span(), *box, as_byte_span("b")).error().code == ErrorCode::permission_denied);
  CHECK_FALSE(open(random_secret(32).span(), *box, as_byte_span("a")).ok());
  for (std::size_t i = 0; i < box->size(); ++i) {
    (*box)[i] ^= 0x80;
    CHECK_FALSE(open(key.span(), *box, as_byte_span("a")).ok());
    (*box)[i] ^= 0x80;
  }
  CHECK(open(key.span(), ByteSpan(*box).first(39)).error().code == ErrorCode::corrupt_data);
  CHECK_FALSE(seal(counting(31), plain).ok());
  CHECK_FALSE(seal_with_nonce(key.span(), counting(12), plain).ok());
  CHECK(*seal(key.span(), plain) != *seal(key.span(), plain));  // fresh nonces
}

TEST_CASE("a box with a given nonce equals the one of draft-irtf-cfrg-xchacha, appendix A.3.1") {
  Bytes key(32);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::uint8_t>(0x80 + i);
  Bytes nonce(24);
  for (std::size_t i = 0; i < nonce.size(); ++i) nonce[i] = static_cast<std::uint8_t>(0x40 + i);
  const std::string plain =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be "
      "it.";
  const auto box = seal_with_nonce(key, nonce, as_byte_span(plain), hex("50515253c0c1c2c3c4c5c6c7"));
  REQUIRE_OK(box);
  CHECK(to_hex(ByteSpan(*box).subspan(24, 16)) == "bd6d179d3e83d43b9576579493c0e939");
  CHECK(to_hex(ByteSpan(*box).last(16)) == "c0875924c1c7987947deafd8780acf49");
}

TEST_CASE("Z85 equals the specification's example and refuses bad text") {
  CHECK(*z85_encode(hex("864fd26fb559f75b")) == "HelloWorld");
  CHECK(*z85_decode("HelloWorld") == hex("864fd26fb559f75b"));
  CHECK_FALSE(z85_encode(counting(3)).ok());
  CHECK_FALSE(z85_decode("Hell").ok());
  CHECK_FALSE(z85_decode("Hell\"").ok());
  CHECK_FALSE(z85_decode("#####").ok());  // above 2^32 - 1
  CHECK_FALSE(z85_decode("Hel\xff\xfe").ok());
  CHECK_FALSE(curve_key_from_z85("HelloWorld").ok());
  const CurveKeyPair pair = CurveKeyPair::generate();
  CHECK(to_z85(pair.public_key()).size() == 40);
  CHECK(*curve_key_from_z85(to_z85(pair.public_key())) == pair.public_key());
}

TEST_CASE("both holders of an invite derive the same CURVE pair, and each purpose has its own") {
  const auto a = CurveKeyPair::derive(counting(32), "invite");
  const auto b = CurveKeyPair::derive(counting(32), "invite");
  CHECK(a->public_key() == b->public_key());
  CHECK(to_hex(a->secret_key()) == "98c267a07c1a8aeabd8f96371f5537d0ec733472e267eb92dfa1595f20b99169");
  CHECK(CurveKeyPair::derive(counting(32), "other")->public_key() != a->public_key());
  CHECK(CurveKeyPair::from_secret(a->secret_key())->public_key() == a->public_key());
  CHECK_FALSE(CurveKeyPair::derive(counting(16), "invite").ok());
}

TEST_CASE("constant-time comparison compares, and random bytes differ") {
  CHECK(equal_constant_time(counting(5), counting(5)));
  CHECK_FALSE(equal_constant_time(counting(5), counting(6)));
  CHECK_FALSE(equal_constant_time(counting(2), hex("0003")));
  CHECK(equal_constant_time({}, {}));
  CHECK(random_bytes(32) != random_bytes(32));
  CHECK(random_u64() != random_u64());
}
