/// The part of Jinja that chat templates are written in, run within bounds. Source: Jinja2's documentation, with the
/// settings that Hugging Face's library renders chat templates with (trim_blocks, lstrip_blocks).
///
///   COVEY_ASSIGN(const auto jinja, JinjaTemplate::compile(source, "tokenizer_config.json: chat_template"));
///   COVEY_ASSIGN(const MarkedText text, jinja.render({.messages = messages, .bos = "<s>", .eos = "</s>"}));
///
/// Known: text, comments, {{ }}, set (also of a namespace, also as a block), if, for (with a condition, else, break,
/// continue, loop.*), generation marks; literals, + - * / // % ~, comparisons, in, is, and, or, not, x if y else z,
/// indices and slices; the methods, filters and tests listed in jinja_calls.cpp. Names known: messages, bos_token,
/// eos_token, add_generation_prompt; every other name is undefined, tools and strftime_now among them.
/// Not known, and refused by name: macros, includes, inheritance, tojson, today's date.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/text/chat.h"

namespace covey::text {

namespace jinja {
struct Node;
}

/// A text that remembers which of its bytes came out of an assistant's content.
struct MarkedText {
  struct Mark {
    std::size_t begin = 0, end = 0;  ///< bytes [begin, end), never empty
    std::size_t message = 0;         ///< index in the conversation
  };
  std::string text;
  std::vector<Mark> marks;  ///< in order, disjoint

  [[nodiscard]] MarkedText substr(std::size_t at, std::size_t count = std::string::npos) const;
  void append(const MarkedText& other);
};

struct JinjaInputs {
  std::span<const ChatMessage> messages;
  std::string_view bos = {}, eos = {};
  bool generation_prompt = false;
};

/// Immutable; may be used from several threads.
class JinjaTemplate {
 public:
  static constexpr std::size_t kBytesMax = std::size_t{1} << 20;
  /// @param where opens every message, also those of render(). @errors corrupt_data: no Jinja; unsupported: something
  /// that is not known, by name; resource_exhausted: longer than kBytesMax or nested too deep.
  static Result<JinjaTemplate> compile(std::string_view source, const std::string& where);

  /// Whether the template uses this name anywhere.
  [[nodiscard]] bool mentions(std::string_view name) const;
  /// @errors invalid_argument: the template raised an exception or met an undefined value (the message never quotes
  /// content); unsupported: a filter, method or test not known; resource_exhausted: more than a million steps, or texts
  /// of more than 64 MiB and 64 times the conversation put together.
  [[nodiscard]] Result<MarkedText> render(const JinjaInputs& inputs) const;

 private:
  std::shared_ptr<const jinja::Node> root_;
  std::string where_;
};

}  // namespace covey::text
