#include "core/text/chat.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/base/file.h"
#include "core/formats/gguf.h"
#include "core/formats/json.h"
#include "core/text/jinja.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

constexpr std::array kNames = {"chatml", "llama-3", "gemma", "phi-3", "mistral", "mistral-v0.1"};

/// As Python's str.strip, which Jinja's trim is.
std::string_view trimmed(std::string_view text) {
  const auto is_space = [](const Character& c) {
    return c.valid && (c.kind == CharClass::space || (c.code >= 0x1c && c.code <= 0x1f));
  };
  while (!text.empty()) {
    const Character c = character_at(text, 0);
    if (!is_space(c)) break;
    text.remove_prefix(c.length);
  }
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0U) == 0x80) --start;
    const Character c = character_at(text, start);
    if (!is_space(c) || start + c.length != text.size()) break;
    text.remove_suffix(c.length);
  }
  return text;
}

/// A content that no mark and no strip has to do with.
constexpr const char* kProbe = "\x01";

/// Bytes of the mark that ends an answer, where `rest` follows its content: the eos token, or one in angle brackets.
std::size_t end_mark_size(std::string_view rest, std::string_view eos) {
  if (!eos.empty() && rest.starts_with(eos)) return eos.size();
  constexpr std::size_t kMarkMax = 64;
  const std::size_t end = rest.substr(0, kMarkMax).find('>');
  if (!rest.starts_with('<') || end == std::string_view::npos) return 0;
  return rest.substr(0, end).find_first_of(" \n") == std::string_view::npos ? end + 1 : 0;
}

Error at_message(std::size_t index, const std::string& what) {
  return {ErrorCode::invalid_argument, "message " + std::to_string(index + 1) + " " + what};
}

}  // namespace

Result<ChatTemplate> ChatTemplate::named(std::string_view name) {
  ChatTemplate out;
  out.name_ = name;
  if (name == "chatml") {
    out.system_ = "<|im_start|>system\n";
    out.user_ = "<|im_start|>user\n";
    out.assistant_ = out.generate_ = "<|im_start|>assistant\n";
    out.close_ = "<|im_end|>\n";
    out.answer_mark_ = "<|im_end|>";
    out.after_answer_ = "\n";
  } else if (name == "llama-3") {
    out.bos_ = out.trim_ = true;
    out.system_ = "<|start_header_id|>system<|end_header_id|>\n\n";
    out.user_ = "<|start_header_id|>user<|end_header_id|>\n\n";
    out.assistant_ = out.generate_ = "<|start_header_id|>assistant<|end_header_id|>\n\n";
    out.close_ = out.answer_mark_ = "<|eot_id|>";
  } else if (name == "gemma") {
    out.bos_ = out.trim_ = out.alternate_ = true;
    out.user_ = "<start_of_turn>user\n";
    out.assistant_ = out.generate_ = "<start_of_turn>model\n";
    out.close_ = "<end_of_turn>\n";
    out.answer_mark_ = "<end_of_turn>";
    out.after_answer_ = "\n";
  } else if (name == "phi-3") {
    out.eos_ = Eos::at_end;
    out.system_ = "<|system|>\n";
    out.user_ = "<|user|>\n";
    out.assistant_ = out.generate_ = "<|assistant|>\n";
    out.close_ = "<|end|>\n";
    out.answer_mark_ = "<|end|>";
    out.after_answer_ = "\n";
  } else if (name == "mistral" || name == "mistral-v0.1") {
    out.bos_ = out.alternate_ = true;
    out.eos_ = Eos::after_answer;
    out.user_ = "[INST] ";
    out.close_ = " [/INST]";
    if (name == "mistral-v0.1") out.after_answer_ = " ";
  } else {
    std::string list;
    for (const char* known : kNames) list += (list.empty() ? "" : ", ") + std::string(known);
    return Error{ErrorCode::invalid_argument,
                 "there is no chat template \"" + std::string(name.substr(0, 40)) + "\"; there are " + list};
  }
  return out;
}

Result<std::vector<ChatPart>> ChatTemplate::render(std::span<const ChatMessage> messages, std::string_view bos,
                                                   std::string_view eos, bool generation_prompt) const {
  if (messages.empty()) return Error{ErrorCode::invalid_argument, "a conversation needs at least one message"};
  if (jinja_ != nullptr) return run_jinja(messages, bos, eos, generation_prompt);
  std::vector<ChatPart> parts;
  const auto say = [&](std::string_view text, bool assistant) {
    if (text.empty()) return;
    if (parts.empty() || parts.back().assistant != assistant) parts.push_back({{}, assistant});
    parts.back().text += text;
  };
  if (bos_) say(bos, false);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const bool assistant = message.role == "assistant";
    if (!assistant && message.role != "user" && message.role != "system") {
      return at_message(i, "has a role that is none of system, user and assistant");
    }
    if (alternate_ && message.role == "system") {
      return at_message(i, "is a system message, which " + name_ + " has not; put it into the first user message");
    }
    if (alternate_ && assistant != (i % 2 == 1)) {
      return at_message(i, "breaks the order user, assistant, user, ..., which " + name_ + " needs");
    }
    const std::string_view content = trim_ ? trimmed(message.content) : std::string_view(message.content);
    say(assistant ? assistant_ : message.role == "user" ? user_ : system_, false);
    say(content, assistant);
    say(assistant ? answer_mark_ : close_, assistant);
    if (assistant && eos_ == Eos::after_answer) say(eos, true);
    if (assistant) say(after_answer_, false);
  }
  if (generation_prompt) {
    say(generate_, false);
  } else if (eos_ == Eos::at_end) {
    say(eos, false);
  }
  return parts;
}

Result<ChatTemplate> ChatTemplate::of_jinja(std::string_view jinja, const std::string& where) {
  COVEY_ASSIGN(auto compiled, JinjaTemplate::compile(jinja, where));
  ChatTemplate out;
  out.name_ = "the model's own";
  out.bos_ = compiled.mentions("bos_token");
  out.eos_ = compiled.mentions("eos_token") ? Eos::after_answer : Eos::none;
  // What a generation prompt adds; without tokens, so that what is said in its stead (an eos) shares no letter with it.
  const std::vector<ChatMessage> probe = {{"user", "u"}};
  const auto without = compiled.render({.messages = probe});
  const auto with = compiled.render({.messages = probe, .generation_prompt = true});
  if (without.ok() && with.ok()) {
    const auto differs = std::ranges::mismatch(with->text, without->text).in1;
    out.generate_.assign(differs, with->text.end());
  }
  const std::vector<ChatMessage> answered = {{"user", "u"}, {"assistant", kProbe}};
  const auto talk = compiled.render({.messages = answered});
  out.drops_answers_ = talk.ok() && talk->marks.empty();
  out.jinja_ = std::make_shared<const JinjaTemplate>(std::move(compiled));
  return out;
}

Result<std::vector<ChatPart>> ChatTemplate::run_jinja(std::span<const ChatMessage> messages, std::string_view bos,
                                                      std::string_view eos, bool generation_prompt) const {
  bool answered = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role != "assistant" && role != "user" && role != "system") {
      return at_message(i, "has a role that is none of system, user and assistant");
    }
    answered = answered || (role == "assistant" && !trimmed(messages[i].content).empty());
  }
  COVEY_ASSIGN(const MarkedText all, jinja_->render({messages, bos, eos, generation_prompt}));
  if (answered && drops_answers_) {
    return Error{ErrorCode::unsupported, "the model's own chat template leaves the assistant's messages out; name one"};
  }
  const std::string_view text = all.text;
  std::vector<ChatPart> parts;
  const auto say = [&](std::size_t begin, std::size_t end, bool assistant) {
    if (begin < end) parts.push_back({std::string(text.substr(begin, end - begin)), assistant});
  };
  std::size_t done = 0;
  for (std::size_t i = 0; i < all.marks.size(); ++i) {
    std::size_t begin = all.marks[i].begin;
    while (i + 1 < all.marks.size() && all.marks[i + 1].message == all.marks[i].message) ++i;
    const std::size_t header = generate_.empty() ? std::string::npos : text.substr(done, begin - done).rfind(generate_);
    if (header != std::string::npos) begin = done + header + generate_.size();
    const std::size_t end = all.marks[i].end + end_mark_size(text.substr(all.marks[i].end), eos);
    say(done, begin, false);
    say(begin, end, true);
    done = end;
  }
  say(done, text.size(), false);
  return parts;
}

std::string ChatTemplate::answer_end(std::string_view eos) const {
  if (jinja_ != nullptr) {
    const auto parts = run_jinja(std::vector<ChatMessage>{{"user", "u"}, {"assistant", kProbe}}, {}, eos, false);
    if (!parts.ok()) return {};
    for (const ChatPart& part : *parts) {
      if (part.assistant) return part.text.substr(part.text.rfind(kProbe) + 1);
    }
    return {};
  }
  return answer_mark_ + std::string(eos_ == Eos::after_answer ? eos : "");
}

Result<ChatTemplate> chat_template_of(const std::string& directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored) && directory.ends_with(".gguf")) {
    COVEY_ASSIGN(const formats::GgufFile file, formats::GgufFile::open(directory));
    constexpr const char* kKey = "tokenizer.chat_template";
    if (!file.contains(kKey)) return Error{ErrorCode::not_found, directory + ": has no " + kKey + "; name one"};
    COVEY_ASSIGN(const std::string jinja, file.get_string(kKey));
    return ChatTemplate::of_jinja(jinja, directory + ": " + kKey);
  }
  const std::string jinja_path = directory + "/chat_template.jinja";
  if (std::filesystem::exists(jinja_path, ignored)) {
    COVEY_ASSIGN(const std::string jinja, read_text_file(jinja_path, JinjaTemplate::kBytesMax));
    return ChatTemplate::of_jinja(jinja, jinja_path);
  }
  const std::string path = directory + "/tokenizer_config.json";
  if (!std::filesystem::exists(path, ignored)) {
    return Error{ErrorCode::not_found, directory + ": has no tokenizer_config.json, so no chat template; name one"};
  }
  COVEY_ASSIGN(const formats::Json config, formats::Json::load(path));
  const formats::Json* entry = config.find("chat_template");
  if (entry == nullptr || entry->is_null()) {
    return Error{ErrorCode::not_found, path + ": has no chat_template; name one"};
  }
  const std::string where = path + ": chat_template";
  if (entry->is_string()) {
    COVEY_ASSIGN(const std::string jinja, entry->as_string());
    return ChatTemplate::of_jinja(jinja, where);
  }
  COVEY_TRY(config.get_array("chat_template"));
  for (const formats::Json& item : entry->items()) {
    if (!item.is_object()) continue;
    COVEY_ASSIGN(const std::string name, item.get_string("name", ""));
    if (name != "default") continue;
    COVEY_ASSIGN(const std::string jinja, item.get_string("template"));
    return ChatTemplate::of_jinja(jinja, where);
  }
  return Error{ErrorCode::not_found, where + " names none \"default\"; name one of ours"};
}

Result<ChatFormat> ChatFormat::create(ChatTemplate chat, const Tokenizer& tokenizer) {
  ChatFormat out;
  const auto token = [&](std::int32_t id, const char* what) -> Result<std::string> {
    if (id < 0) return std::string();
    std::string text = tokenizer.piece(id, false);
    const auto back = tokenizer.encode(text, false);
    if (back.size() == 1 && back[0] == id) return text;
    return Error{ErrorCode::unsupported, "chat template " + chat.name() + ": the tokenizer does not read its own " +
                                             what + " token in a text; use a template without it, such as chatml"};
  };
  if (chat.needs_bos()) {
    COVEY_ASSIGN(out.bos_, token(tokenizer.bos_id(), "bos"));
  }
  if (chat.needs_eos()) {
    COVEY_ASSIGN(out.eos_, token(tokenizer.eos_id(), "eos"));
  }
  out.chat_ = std::move(chat);
  return out;
}

}  // namespace covey::text
