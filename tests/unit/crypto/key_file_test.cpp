#include "core/crypto/key_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "core/base/file.h"
#include "core/crypto/aead.h"
#include "core/crypto/random.h"
#include "support/support.h"

using namespace covey;
using namespace covey::crypto;

TEST_CASE("a key file is private, comes back whole, and is never overwritten") {
  const test::TempDir dir;
  const std::string path = dir.file("id.key");
  const IdentityKey key = IdentityKey::generate();
  REQUIRE_OK(save_identity(path, key));
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  const auto again = load_identity(path);
  REQUIRE_OK(again);
  CHECK(again->public_key() == key.public_key());
  CHECK(save_identity(path, IdentityKey::generate()).error().code == ErrorCode::already_exists);
  CHECK(load_identity(path)->public_key() == key.public_key());
}

TEST_CASE("a key file that others may read is refused with the way to mend it") {
  const test::TempDir dir;
  const std::string path = dir.file("id.key");
  REQUIRE_OK(save_identity(path, IdentityKey::generate()));
  for (const unsigned mode : {0640U, 0604U, 0620U, 0666U}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    const auto refused = load_identity(path);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == ErrorCode::permission_denied);
    CHECK(refused.error().message.find("chmod 600 " + path) != std::string::npos);
  }
  REQUIRE(::chmod(path.c_str(), 0400) == 0);
  CHECK(load_identity(path).ok());
}

TEST_CASE("broken key files are refused by one line that shows no key") {
  const test::TempDir dir;
  const std::string digits(64, 'a');
  int n = 0;
  for (const std::string& content :
       {std::string(), std::string("hello"), "covey-key 1 identity\n" + digits.substr(1),
        std::string("covey-key 1 identity\n"), "covey-key 1 identity\n" + digits + "aa",
        "covey-key 1 identity\n" + digits.substr(1) + "g", "covey-key 2 identity\n" + digits,
        "covey-key 1 curve\n" + digits, "covey-key 1 identity " + digits, std::string(1000, 'a'),
        "covey-key 1 \x01\n" + digits}) {
    const std::string path = dir.file(std::to_string(n++));
    REQUIRE_OK(write_file_durably(path, content, 0600));
    const auto refused = load_identity(path);
    REQUIRE_MESSAGE(!refused.ok(), content);
    CHECK(refused.error().code == ErrorCode::corrupt_data);
    CHECK(refused.error().message.find('\n') == std::string::npos);
    CHECK(refused.error().message.find("aaaaaaaa") == std::string::npos);
  }
  CHECK(load_identity(dir.file("none")).error().code == ErrorCode::not_found);
  CHECK(load_identity(dir.path()).error().code == ErrorCode::invalid_argument);
}

TEST_CASE("CURVE pairs and device keys live in key files too") {
  const test::TempDir dir;
  const CurveKeyPair pair = CurveKeyPair::generate();
  REQUIRE_OK(save_curve(dir.file("curve.key"), pair));
  CHECK(load_curve(dir.file("curve.key"))->public_key() == pair.public_key());
  const auto first = load_or_create_key(dir.file("device.key"), "device");
  REQUIRE_OK(first);
  const auto second = load_or_create_key(dir.file("device.key"), "device");
  REQUIRE_OK(second);
  CHECK(equal_constant_time(first->span(), second->span()));
  CHECK_FALSE(write_key_file(dir.file("x"), "Bad kind", *first).ok());
}

TEST_CASE("a sealed file opens with its key and purpose only, and holds no plain text") {
  const test::TempDir dir;
  const std::string path = dir.file("checkpoint");
  const SecretBytes key = random_secret(32);
  const std::string plain = "the words of this household";
  REQUIRE_OK(write_sealed_file(path, key.span(), "checkpoint", as_byte_span(plain)));
  CHECK(as_text(read_sealed_file(path, key.span(), "checkpoint")->span()) == plain);
  CHECK(read_text_file(path)->find("household") == std::string::npos);
  CHECK(read_sealed_file(path, key.span(), "journal").error().code == ErrorCode::permission_denied);
  CHECK_FALSE(read_sealed_file(path, random_secret(32).span(), "checkpoint").ok());
  Bytes content = *read_file(path);
  content.pop_back();
  REQUIRE_OK(write_file_durably(path, ByteSpan(content)));
  CHECK_FALSE(read_sealed_file(path, key.span(), "checkpoint").ok());
  REQUIRE_OK(write_file_durably(path, std::string_view("covey")));
  CHECK(read_sealed_file(path, key.span(), "checkpoint").error().code == ErrorCode::corrupt_data);
  CHECK(read_sealed_file(dir.file("none"), key.span(), "checkpoint").error().code == ErrorCode::not_found);
}
