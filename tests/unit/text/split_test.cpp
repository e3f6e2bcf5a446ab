#include "core/text/split.h"

#include "core/text/unicode.h"
#include "support/support.h"

using namespace covey::text;  // NOLINT

namespace {
std::string joined(const Pieces& pieces) {
  std::string out;
  for (const auto piece : pieces) out += "[" + std::string(piece) + "]";
  return out;
}
std::string gpt2(std::string_view text) {
  Pieces pieces;
  split_gpt2(text, pieces);
  return joined(pieces);
}
std::string llama3(std::string_view text, int digits) {
  Pieces pieces;
  split_llama3(text, digits, pieces);
  return joined(pieces);
}
}  // namespace

TEST_CASE("GPT-2's expression cuts words, numbers, signs and spaces") {
  CHECK(gpt2("") == "");
  CHECK(gpt2("Hello world") == "[Hello][ world]");
  CHECK(gpt2("we're 'RE it's'") == "[we]['re][ '][RE][ it]['s][']");
  CHECK(gpt2("a  b   12!? ") == "[a][ ][ b][  ][ 12][!?][ ]");
  CHECK(gpt2("x\n\n  y") == "[x][\n\n ][ y]");
  CHECK(gpt2("x\n\ty\n") == "[x][\n][\t][y][\n]");
  CHECK(gpt2("\xC3\xA9t\xC3\xA9 \xC2\xBD\xE4\xB8\xAD") == "[\xC3\xA9t\xC3\xA9][ \xC2\xBD][\xE4\xB8\xAD]");
  CHECK(gpt2("a\xC2\xA0\x62") == "[a][\xC2\xA0][b]");
}

TEST_CASE("Llama 3's and Qwen 2's expressions keep line breaks and leading signs") {
  CHECK(llama3("I'VE (done)", 3) == "[I]['VE][ (][done][)]");
  CHECK(llama3("a(b", 3) == "[a][(b]");
  CHECK(llama3("12345 67", 3) == "[123][45][ ][67]");
  CHECK(llama3("12345", 1) == "[1][2][3][4][5]");
  CHECK(llama3("x;\n\n  y", 3) == "[x][;\n\n][ ][ y]");
  CHECK(llama3("x \n \n  y", 3) == "[x][ \n \n][ ][ y]");
  CHECK(llama3("end  ", 3) == "[end][  ]");
  CHECK(llama3("a\n", 3) == "[a][\n]");
}

TEST_CASE("bytes that are not UTF-8 are signs of their own") {
  CHECK(gpt2("a\xFF\xFE z") == "[a][\xFF\xFE][ z]");
  CHECK(gpt2("\xE4\xB8") == "[\xE4\xB8]");
  CHECK(character_at("\xC3", 0).length == 1);
  CHECK_FALSE(character_at("\xED\xA0\x80", 0).valid);
  CHECK(unfinished_suffix("a\xE4\xB8") == 2);
  CHECK(unfinished_suffix("a\xE4\xB8\xAD") == 0);
  CHECK(unfinished_suffix("\xF0\x9F\xA6") == 3);
  CHECK(unfinished_suffix("\xFF") == 0);
  CHECK(normalize("e\xCC\x81", NormalForm::nfc) == "\xC3\xA9");
  CHECK(normalize("e\xCC\x81\xFF", NormalForm::nfc) == "e\xCC\x81\xFF");
}

TEST_CASE("ByteLevel's alphabet is one to one") {
  for (int b = 0; b < 256; ++b) {
    const std::string& text = byte_alphabet()[static_cast<std::size_t>(b)];
    CHECK(byte_of(character_at(text, 0).code) == static_cast<std::uint8_t>(b));
  }
  CHECK(byte_alphabet()[' '] == "\xC4\xA0");
  CHECK(byte_alphabet()['!'] == "!");
  CHECK_FALSE(byte_of(' ').has_value());
}

TEST_CASE("digits are cut off by runs or one by one") {
  Pieces runs;
  split_digits("ab12c3", false, runs);
  CHECK(joined(runs) == "[ab][12][c][3]");
  Pieces single;
  split_digits("12", true, single);
  CHECK(joined(single) == "[1][2]");
}
