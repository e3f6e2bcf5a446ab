#include "core/base/file.h"

#include "support/support.h"

using namespace covey;

TEST_CASE("a file written durably is read and mapped back, and replaced as a whole") {
  const test::TempDir dir;
  const std::string path = dir.file("a");
  for (const std::string text : {"first", "", "the third content is longer"}) {
    REQUIRE_OK(write_file_durably(path, std::string_view(text)));
    const auto read = read_text_file(path);
    REQUIRE_OK(read);
    CHECK(*read == text);
    const auto mapped = MappedFile::open(path);
    REQUIRE_OK(mapped);
    CHECK(as_text(mapped->bytes()) == text);
  }
}

TEST_CASE("a missing file, a folder and a file over the bound are refused with the path in the message") {
  const test::TempDir dir;
  CHECK(read_file(dir.file("none")).error().code == ErrorCode::not_found);
  CHECK(read_file(dir.path()).error().message.find(dir.path()) != std::string::npos);
  REQUIRE_OK(write_file_durably(dir.file("b"), std::string_view("12345")));
  CHECK(read_file(dir.file("b"), 4).error().code == ErrorCode::invalid_argument);
  CHECK(read_file(dir.file("b/below")).error().code == ErrorCode::not_found);
}

TEST_CASE("hexadecimal round-trips and refuses what is not hexadecimal") {
  const Bytes bytes = {0, 1, 0xab, 0xff};
  CHECK(to_hex(bytes) == "0001abff");
  CHECK(*from_hex("0001abFF") == bytes);
  CHECK_FALSE(from_hex("abc"));
  CHECK_FALSE(from_hex("zz"));
}
