#include "core/text/bpe_train.h"

#include "core/base/file.h"
#include "core/text/pipeline.h"
#include "core/text/tokenizer.h"
#include "support/support.h"

using namespace covey;  // NOLINT

TEST_CASE("a small vocabulary merges the most frequent pairs first") {
  const auto spec = text::train_bpe("low low low lower newest newest", 263);
  REQUIRE_OK(spec);
  REQUIRE(spec->vocab.size() == 263);
  // "l"+"o" and "o"+"w" occur 4 times; of equals the one with smaller ids ("l" < "o") goes first.
  CHECK(spec->vocab[258] == "lo");
  CHECK(spec->vocab[259] == "low");
  CHECK(spec->vocab[260] == "\xC4\xA0low");
  CHECK_FALSE(text::train_bpe("x", 257).ok());
  CHECK(text::train_bpe("", 400)->vocab.size() == 258);
  CHECK(text::train_bpe("abc", 400)->vocab.size() == 258);
}

TEST_CASE("a trained tokenizer is written, read back, and keeps every byte") {
  std::string corpus;
  for (int i = 0; i < 200; ++i) corpus += "turn on the kitchen light number " + std::to_string(i % 17) + "\n";
  const auto spec = text::train_bpe(corpus, 400);
  REQUIRE_OK(spec);
  const test::TempDir dir;
  REQUIRE_OK(formats::write_byte_level_tokenizer(dir.path(), *spec));
  const auto made = *text::make_tokenizer(*spec);
  const auto read = text::load_tokenizer(dir.path());
  REQUIRE_OK(read);
  CHECK((*read)->vocab_size() == made->vocab_size());
  CHECK((*read)->bos_id() == 0);
  CHECK((*read)->eos_id() == 1);
  std::string all_bytes;
  for (int b = 0; b < 256; ++b) all_bytes += static_cast<char>(b);
  for (const std::string& sample : {corpus, all_bytes, std::string("caf\xC3\xA9 \xFF\xFE\n\n  x"), std::string()}) {
    const auto ids = (*read)->encode(sample, false);
    CHECK(ids == made->encode(sample, false));
    CHECK((*read)->decode(ids).value() == sample);
  }
  CHECK((*read)->encode("turn on the kitchen", false).size() == 4);
  CHECK((*read)->encode("x", true)[0] == 0);
}

TEST_CASE("a vocabulary trained on tinyshakespeare shortens it and is the same every time") {
  const auto path = test::data_path("tinyshakespeare/input.txt");
  if (!path) return;
  const auto text = read_text_file(*path);
  REQUIRE_OK(text);
  const auto spec = text::train_bpe(*text, 1024);
  REQUIRE_OK(spec);
  CHECK(spec->vocab.size() == 1024);
  CHECK(text::train_bpe(*text, 1024)->vocab == spec->vocab);
  const auto tokenizer = *text::make_tokenizer(*spec);
  const auto ids = tokenizer->encode(*text, false);
  CHECK(ids.size() < text->size() / 2);
  CHECK(tokenizer->decode(ids).value() == *text);
}
