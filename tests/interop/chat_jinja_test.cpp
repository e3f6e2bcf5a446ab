// Our chat templates against Jinja: the same conversations through @huggingface/jinja, which transformers.js renders
// tokenizer_config.json's chat_template with.
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/json.h"
#include "core/text/chat.h"
#include "support/support.h"
#include "unit/text/chat_templates.h"

using namespace covey;  // NOLINT
using formats::Json;
using text::ChatMessage;

namespace {

std::string node_modules() {
  const char* modules = std::getenv("COVEY_NODE_MODULES");
  return modules != nullptr ? modules : test::source_dir() + "/tests/interop/node_modules";
}

/// Contents that templates can stumble over. No U+0085 and U+FEFF at an end: Python's strip and JavaScript's trim
/// differ there, and we follow Python's, which the families were trained with.
std::string random_content(Rng& rng) {
  static const std::vector<std::string> pieces = {
      "hello",    " ",        "\n",           "\n\n",      "\t",  "'",      "\"",   "\\n",
      "{{ x }}",  "{% if %}", "<|im_end|>",   "[INST]",    "é",   "日本語", "🙂", "</s>",
      "<|user|>", "\xC2\xA0", "\xE3\x80\x80", "e\xCC\x81", "0.5", "&amp;"};
  std::string out;
  for (std::uint64_t n = rng.below(7); n > 0; --n) out += pieces[rng.below(pieces.size())];
  return out;
}

std::vector<ChatMessage> random_talk(Rng& rng) {
  std::vector<ChatMessage> talk;
  if (rng.below(3) == 0) talk.push_back({"system", random_content(rng)});
  const std::uint64_t turns = 1 + rng.below(5);
  for (std::uint64_t i = 0; i < turns; ++i) talk.push_back({i % 2 == 0 ? "user" : "assistant", random_content(rng)});
  if (rng.below(10) == 0) talk.push_back(talk.back());  // two of one role
  return talk;
}

struct Case {
  std::string_view jinja;
  std::vector<ChatMessage> talk;
  bool generate = false;
};

std::vector<Json> rendered_by_jinja(const std::vector<Case>& cases) {
  Json request = Json::array({});
  for (const Case& c : cases) {
    Json messages = Json::array({});
    for (const auto& m : c.talk) messages.push_back(Json::object({{"role", m.role}, {"content", m.content}}));
    request.push_back(Json::object({{"template", c.jinja},
                                    {"messages", messages},
                                    {"bos_token", "<s>"},
                                    {"eos_token", "</s>"},
                                    {"add_generation_prompt", c.generate}}));
  }
  const test::TempDir dir;
  REQUIRE_OK(request.save(dir.file("request.json")));
  const auto result = test::run_command("node " + test::source_dir() + "/tests/interop/render_chat.mjs " +
                                        node_modules() + " " + dir.file("request.json"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  const auto answers = Json::parse(result.out);
  REQUIRE_OK(answers);
  REQUIRE(answers->size() == cases.size());
  return {answers->items().begin(), answers->items().end()};
}

}  // namespace

TEST_CASE("every chat template writes what Jinja writes, on 300 random conversations each") {
  std::error_code ignored;
  if (!std::filesystem::exists(node_modules() + "/@huggingface/jinja", ignored)) {
    std::cout << "SKIPPED: @huggingface/jinja is not installed; tests/run.sh --interop installs it\n";
    return;
  }
  std::vector<std::string_view> templates = {test::kChatMlWithDefault};
  for (const auto& known : test::kChatTemplates) templates.push_back(known.jinja);
  Rng rng(20261127);
  std::vector<Case> cases;
  for (const std::string_view jinja : templates) {
    for (int i = 0; i < 300; ++i) cases.push_back({jinja, random_talk(rng), rng.below(2) == 0});
  }
  const auto answers = rendered_by_jinja(cases);
  int texts = 0, refusals = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    CAPTURE(i);
    const auto chat = text::ChatTemplate::recognize(c.jinja, "t");
    REQUIRE_OK(chat);
    CAPTURE(chat->name());
    const auto parts = chat->render(c.talk, "<s>", "</s>", c.generate);
    REQUIRE(parts.ok() == answers[i].contains("text"));
    if (!parts.ok()) {
      ++refusals;
      continue;
    }
    std::string ours;
    for (const auto& part : *parts) ours += part.text;
    CHECK(ours == answers[i].get_string("text").value());
    ++texts;
  }
  std::cout << "chat templates: " << texts << " conversations equal, " << refusals << " refused by both\n";
  CHECK(texts > 1500);
  CHECK(refusals > 100);
}
