#include <algorithm>

#include "core/base/file.h"
#include "core/data/batcher.h"
#include "core/data/examples.h"
#include "core/text/bpe_train.h"
#include "core/text/pipeline.h"
#include "support/support.h"

using namespace covey;  // NOLINT

namespace {

/// A small vocabulary with ChatML's marks, <s> (0) and </s> (1) as special tokens.
std::shared_ptr<const text::Tokenizer> chat_tokenizer() {
  auto spec = text::train_bpe("hello hello user user assistant assistant [INST] [INST]", 290);
  REQUIRE_OK(spec);
  for (const char* mark : {"<|im_start|>", "<|im_end|>"}) {
    const auto id = static_cast<std::int32_t>(spec->vocab.size());
    spec->vocab.emplace_back(mark);
    spec->added_tokens.push_back({.id = id, .content = mark, .special = true});
  }
  return *text::make_tokenizer(*std::move(spec));
}

text::ChatFormat format_of(const char* name, const text::Tokenizer& tokenizer) {
  auto chat = text::ChatTemplate::named(name);
  REQUIRE_OK(chat);
  auto format = text::ChatFormat::create(*chat, tokenizer);
  REQUIRE_OK(format);
  return *format;
}

const std::string kLine =
    R"({"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello you"},)"
    R"( {"role": "user", "content": "more"}, {"role": "assistant", "content": "no"}], "key": "home"})";

/// The text of the predicted tokens, "|" between stretches that do not touch.
std::string predicted_text(const text::Tokenizer& tokenizer, const data::TokenRow& row) {
  std::string out;
  bool open = false;
  for (const std::int32_t target : row.targets) {
    if (target == data::kNoTarget) {
      if (open) out += "|";
      open = false;
      continue;
    }
    out += tokenizer.piece(target, false);
    open = true;
  }
  return out;
}

}  // namespace

TEST_CASE("of a conversation only the assistant's answers and their end marks are predicted") {
  const auto tokenizer = chat_tokenizer();
  for (const auto& [name, expected] : std::vector<std::pair<const char*, std::string>>{
           {"chatml", "hello you<|im_end|>|no<|im_end|>|"}, {"mistral", "hello you</s>|no</s>"}}) {
    CAPTURE(name);
    const auto format = format_of(name, *tokenizer);
    const auto examples = data::parse_jsonl(kLine, "d.jsonl", {.chat = &format});
    REQUIRE_OK(examples);
    REQUIRE(examples->size() == 1);
    CHECK((*examples)[0].key == "home");
    const auto row = data::tokenize(*tokenizer, (*examples)[0], 1000);
    CHECK(predicted_text(*tokenizer, row) == expected);
    // The ids are those of the whole text, and each target is the next id.
    std::string all;
    for (const auto& part : (*examples)[0].chat) all += part.text;
    auto ids = tokenizer->encode(all, false);
    for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
      CHECK((row.targets[t] == data::kNoTarget || row.targets[t] == ids[t + 1]));
    }
    ids.pop_back();
    CHECK(row.ids == ids);
    // Cut anywhere, a row is the start of the whole one.
    for (int seq = 1; seq < static_cast<int>(ids.size()); ++seq) {
      const auto cut = data::tokenize(*tokenizer, (*examples)[0], seq);
      CHECK(std::equal(cut.ids.begin(), cut.ids.end(), row.ids.begin()));
      CHECK(std::equal(cut.targets.begin(), cut.targets.end(), row.targets.begin()));
      CHECK(cut.ids.size() == static_cast<std::size_t>(seq));
    }
  }
}

TEST_CASE("a conversation that cannot be learned from is refused with its line, never its content") {
  const auto tokenizer = chat_tokenizer();
  const auto format = format_of("mistral", *tokenizer);
  const auto refused = [&](const std::string& line, std::string_view expected, bool with_template = true) {
    CAPTURE(line);
    const auto result =
        data::parse_jsonl("\n" + line, "d.jsonl", {.messages_max = 5, .chat = with_template ? &format : nullptr});
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.starts_with("d.jsonl:2:"));
    CHECK(result.error().message.find(expected) != std::string::npos);
    CHECK(result.error().message.find("SECRET") == std::string::npos);
    CHECK(exit_code(result.error()) == 2);
  };
  const auto message = [](const std::string& role) { return R"({"role": ")" + role + R"(", "content": "SECRET"})"; };
  const auto line = [](const std::string& messages) { return "{\"messages\": [" + messages + "]}"; };
  refused(kLine, "chat template", false);
  refused(line(""), "at least one message");
  refused(line(message("user")), "no assistant message");
  refused(line(message("system") + "," + message("assistant")), "message 1 is a system message");
  refused(line(message("user") + "," + message("user")), "message 2 breaks the order");
  refused(line(message("user") + R"(,{"role": "assistant"})"), "content");
  refused(line(message("user") + R"(,{"role": "assistant", "content": ["SECRET"]})"), "content");
  refused(line("3"), "must be objects");
  refused("{\"messages\": 3}", "messages");
  refused("{\"messages\": [], \"text\": \"SECRET\"}", "needs either");
  refused(line(message("user") + "," + message("assistant") + "," + message("user") + "," + message("assistant") + "," +
               message("user") + "," + message("assistant")),
          "more than 5");
}

TEST_CASE("a template whose end token the tokenizer cannot read back is refused") {
  auto spec = text::train_bpe("hello", 258);
  REQUIRE_OK(spec);
  spec->added_tokens.clear();  // "</s>" is then plain text
  const auto tokenizer = *text::make_tokenizer(*std::move(spec));
  const auto chat = text::ChatTemplate::named("mistral");
  REQUIRE_OK(chat);
  const auto format = text::ChatFormat::create(*chat, *tokenizer);
  REQUIRE_FALSE(format.ok());
  CHECK(format.error().message.find("does not read its own") != std::string::npos);
}
