// Our Jinja against @huggingface/jinja, which transformers.js renders tokenizer_config.json's chat_template with: the
// same conversations through templates in our own words, and through every real one in $COVEY_CHAT_TEMPLATES (a folder
// of .jinja and tokenizer_config.json files), which is not ours to commit.
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
/// The package's strip('\n') takes all white space, Python's the line feeds alone: `bare` leaves the others out.
std::string random_content(Rng& rng, bool bare) {
  static const std::vector<std::string> pieces = {
      "hello",    " ",          "\n",           "\n\n",      "\t",     "'",    "\"",   "\\n",     "{{ x }}",
      "{% if %}", "<|im_end|>", "[INST]",       "é",         "日本語", "🙂", "</s>", "<think>", "</think>",
      "<|user|>", "\xC2\xA0",   "\xE3\x80\x80", "e\xCC\x81", "0.5",    "&amp;"};
  std::string out;
  for (std::uint64_t n = rng.below(7); n > 0; --n) {
    const std::string& piece = pieces[rng.below(pieces.size())];
    const bool blank = piece == " " || piece == "\t" || piece == "\xC2\xA0" || piece == "\xE3\x80\x80";
    if (!bare || !blank) out += piece;
  }
  return out;
}

std::vector<ChatMessage> random_talk(Rng& rng, bool bare) {
  std::vector<ChatMessage> talk;
  if (rng.below(3) == 0) talk.push_back({"system", random_content(rng, bare)});
  const std::uint64_t turns = 1 + rng.below(5);
  for (std::uint64_t i = 0; i < turns; ++i)
    talk.push_back({i % 2 == 0 ? "user" : "assistant", random_content(rng, bare)});
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

namespace {

/// Compares `count` random conversations, and the families by name where they have one.
void compare(const std::string& name, std::string_view jinja, int count, bool has_refusals, int& texts, int& refusals) {
  CAPTURE(name);
  Rng rng(20261127);
  const bool bare = jinja.find("strip('\\n')") != std::string_view::npos;
  std::vector<Case> cases;
  for (int i = 0; i < count; ++i) cases.push_back({jinja, random_talk(rng, bare), rng.below(2) == 0});
  const auto answers = rendered_by_jinja(cases);
  const auto chat = text::ChatTemplate::of_jinja(jinja, name);
  REQUIRE_OK(chat);
  const auto family = text::ChatTemplate::named(name);
  int equal = 0;
  int refused = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    CAPTURE(i);
    const auto parts = chat->render(c.talk, "<s>", "</s>", c.generate);
    if (!parts.ok()) CAPTURE(parts.error().message);
    REQUIRE(parts.ok() == answers[i].contains("text"));
    if (family.ok()) CHECK(family->render(c.talk, "<s>", "</s>", c.generate).ok() == parts.ok());
    if (!parts.ok()) {
      ++refused;
      continue;
    }
    std::string ours;
    for (const auto& part : *parts) ours += part.text;
    CHECK(ours == answers[i].get_string("text").value());
    ++equal;
    if (!family.ok()) continue;
    const auto also = family->render(c.talk, "<s>", "</s>", c.generate);
    std::string by_name;
    for (const auto& part : *also) by_name += part.text;
    CHECK(by_name == ours);
  }
  std::cout << name << ": " << equal << " conversations equal, " << refused << " refused by both\n";
  CHECK(equal > count / 3);
  CHECK((refused > 0 || !has_refusals));
  texts += equal;
  refusals += refused;
}

bool is_installed() {
  std::error_code ignored;
  if (std::filesystem::exists(node_modules() + "/@huggingface/jinja", ignored)) return true;
  std::cout << "SKIPPED: @huggingface/jinja is not installed; tests/run.sh --interop installs it\n";
  return false;
}

}  // namespace

TEST_CASE("every chat template writes what Jinja writes, on 300 random conversations each") {
  if (!is_installed()) return;
  int texts = 0, refusals = 0;
  compare("chatml with a system message", test::kChatMlWithDefault, 300, false, texts, refusals);
  compare("llama-2", test::kLlama2, 300, false, texts, refusals);
  for (const auto& known : test::kChatTemplates) {
    compare(std::string(known.name), known.jinja, 300, known.jinja.find("raise_exception") != std::string_view::npos,
            texts, refusals);
  }
  for (const auto& newer : test::kNewerChatTemplates) {
    compare(std::string(newer.name), newer.jinja, 300, newer.jinja.find("raise_exception") != std::string_view::npos,
            texts, refusals);
  }
  CHECK(texts > 3000);
  CHECK(refusals > 100);
}

TEST_CASE("the real templates at hand write what Jinja writes, or are refused by name") {
  if (!is_installed()) return;
  const char* folder = std::getenv("COVEY_CHAT_TEMPLATES");
  if (folder == nullptr) {
    std::cout << "SKIPPED: COVEY_CHAT_TEMPLATES names no folder of .jinja and tokenizer_config.json files\n";
    return;
  }
  int texts = 0, refusals = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string path = entry.path().string();
    auto source = read_text_file(path);
    REQUIRE_OK(source);
    if (path.ends_with(".json")) {
      const auto config = Json::parse(*source, path);
      REQUIRE_OK(config);
      source = config->get_string("chat_template");
      REQUIRE_OK(source);
    }
    const auto chat = text::ChatTemplate::of_jinja(*source, path);
    const auto first = chat.ok() ? chat->render(std::vector<ChatMessage>{{"user", "x"}}, "<s>", "</s>")
                                 : Result<std::vector<text::ChatPart>>(chat.error());
    if (!first.ok() && first.error().code == ErrorCode::unsupported) {
      std::cout << "refused: " << first.error().message << "\n";
      continue;
    }
    compare(entry.path().filename().string(), *source, 300, false, texts, refusals);
  }
  CHECK(texts > 0);
}
