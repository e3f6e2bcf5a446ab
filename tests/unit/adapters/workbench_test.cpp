#include "adapters/workbench.h"

#include "core/base/file.h"
#include "core/text/bpe_train.h"
#include "support/support.h"

using namespace covey;
using namespace covey::adapters;

namespace {

std::shared_ptr<const text::Tokenizer> tokenizer() {
  static const auto made = [] {
    const test::TempDir dir;
    auto spec = text::train_bpe("the lamp in the study is on, the lamp in the hall is off", 280);
    REQUIRE_OK(spec);
    REQUIRE_OK(formats::write_byte_level_tokenizer(dir.path(), *spec));
    auto out = text::load_tokenizer(dir.path());
    REQUIRE_OK(out);
    return *out;
  }();
  return made;
}

}  // namespace

TEST_CASE("lines and JSON lines are read as examples") {
  const test::TempDir dir;
  REQUIRE_OK(write_file_durably(dir.file("a.txt"), std::string_view("one line\r\n\n  \nanother\n")));
  auto lines = read_examples(dir.file("a.txt"));
  REQUIRE_OK(lines);
  REQUIRE(lines->size() == 2);
  CHECK((*lines)[0].text == "one line");
  REQUIRE_OK(write_file_durably(dir.file("a.jsonl"),
                                std::string_view("{\"text\": \"x\"}\n{\"prompt\": \"p\", \"response\": \"r\"}\n")));
  auto objects = read_examples(dir.file("a.jsonl"));
  REQUIRE_OK(objects);
  CHECK((*objects)[1].prompt == "p");
  CHECK((*objects)[1].text == "r");
}

TEST_CASE("a data file that cannot be used is named with its line") {
  const test::TempDir dir;
  REQUIRE_OK(write_file_durably(dir.file("bad.jsonl"), std::string_view("{\"text\": \"x\"}\n{\"label\": 3}\n")));
  CHECK(read_examples(dir.file("bad.jsonl")).error().message.find("bad.jsonl:2") != std::string::npos);
  REQUIRE_OK(write_file_durably(dir.file("empty.txt"), std::string_view("\n\n")));
  CHECK(read_examples(dir.file("empty.txt")).error().code == ErrorCode::invalid_argument);
  CHECK(read_examples(dir.file("none.txt")).error().code == ErrorCode::not_found);
}

TEST_CASE("a row frames its text, and a prompt is not predicted") {
  const auto bpe = tokenizer();
  const std::vector<std::string> texts{"the lamp is on"};
  const auto rows = text_rows(*bpe, texts, 64);
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].ids.front() == bpe->bos_id());
  CHECK(rows[0].targets.back() == bpe->eos_id());

  const std::vector<TextExample> examples{{.prompt = "the lamp", .text = " is on"}};
  const auto prompted = example_rows(*bpe, examples, 64);
  REQUIRE(prompted.size() == 1);
  CHECK(prompted[0].ids == rows[0].ids);
  std::size_t predicted = 0;
  for (const std::int32_t target : prompted[0].targets) predicted += target == model::kNoTarget ? 0 : 1;
  CHECK(predicted < rows[0].targets.size());
  CHECK(predicted >= 2);
  CHECK(prompted[0].targets.front() == model::kNoTarget);
}

TEST_CASE("a long text becomes several rows that lose no target") {
  const auto bpe = tokenizer();
  std::string text;
  for (int i = 0; i < 50; ++i) text += "the hall is off, ";
  const std::vector<std::string> texts{text};
  std::size_t targets = 0;
  for (const auto& row : text_rows(*bpe, texts, 16)) {
    CHECK(row.ids.size() <= 16);
    targets += row.targets.size();
  }
  CHECK(targets == bpe->encode(text, true).size());  // all but the first, and the end
}

TEST_CASE("a model's tokenizer is found beside it or asked for") {
  const auto bin = test::data_path("stories260K/stories260K.bin");
  if (!bin) return;
  const auto bench = open_workbench(*bin);
  REQUIRE_OK(bench);
  CHECK(bench->tokenizer->vocab_size() == 512);
  CHECK(open_workbench("/nowhere/model.bin").error().code == ErrorCode::not_found);
}
