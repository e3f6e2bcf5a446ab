/// Conversations as the one text that a chat model was trained on. Sources: OpenAI's ChatML note; Meta's and Google's
/// prompt-format pages for Llama 3 and Gemma; the model cards of Phi-3-mini and Mistral-7B-Instruct (v0.1, v0.2), and
/// the chat_template of each one's tokenizer_config.json, whose output is matched character for character. A model's
/// own template is run as it stands (jinja.h).
///
///   COVEY_ASSIGN(const auto chat, text::chat_template_of("model_dir"));          // or ChatTemplate::named("llama-3")
///   COVEY_ASSIGN(const auto format, text::ChatFormat::create(chat, *tokenizer));
///   COVEY_ASSIGN(const auto parts, format.render(messages));
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/text/tokenizer.h"

namespace covey::text {

struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// A stretch of the rendered text; the parts one after another are the text.
struct ChatPart {
  std::string text;
  bool assistant = false;  ///< what the model is to say: an answer and the mark that ends it
};

class JinjaTemplate;

/// One family's form. A value type; immutable once made.
class ChatTemplate {
 public:
  /// "chatml", "llama-3", "gemma", "phi-3", "mistral" (Instruct v0.2) or "mistral-v0.1".
  /// @errors invalid_argument: another name; the message lists them.
  static Result<ChatTemplate> named(std::string_view name);
  /// A template as tokenizer_config.json has it, in Jinja (see jinja.h for the part that is known), run for every
  /// conversation. What a model is to say is what stands between the end of the generation prompt and the mark that
  /// follows the assistant's content: the eos token, or one token in angle brackets.
  /// @param where opens every message. @errors as JinjaTemplate::compile.
  static Result<ChatTemplate> of_jinja(std::string_view jinja, const std::string& where);

  [[nodiscard]] const std::string& name() const { return name_; }  ///< "the model's own" of one in Jinja

  /// @param bos, eos the texts of the tokenizer's tokens; empty where it has none.
  /// @param generation_prompt whether the text ends where the model's next answer begins.
  /// @errors invalid_argument: no message, a role that the family does not have, roles out of order; the message counts
  /// from 1 and never quotes content. Of one in Jinja also what JinjaTemplate::render says, and unsupported where it
  /// writes none of the answers.
  [[nodiscard]] Result<std::vector<ChatPart>> render(std::span<const ChatMessage> messages, std::string_view bos,
                                                     std::string_view eos, bool generation_prompt = false) const;
  /// What ends every answer.
  [[nodiscard]] std::string answer_end(std::string_view eos) const;
  [[nodiscard]] bool needs_bos() const { return bos_; }
  [[nodiscard]] bool needs_eos() const { return eos_ != Eos::none; }

 private:
  enum class Eos { none, at_end, after_answer };

  [[nodiscard]] Result<std::vector<ChatPart>> run_jinja(std::span<const ChatMessage> messages, std::string_view bos,
                                                        std::string_view eos, bool generation_prompt) const;

  std::string name_;
  bool bos_ = false;           ///< the text begins with the bos token
  bool alternate_ = false;     ///< user, assistant, user, ... and no system message
  bool trim_ = false;          ///< white space around a content goes
  Eos eos_ = Eos::none;        ///< at_end: after the last message where no answer is asked for
  std::string user_, system_;  ///< before a content; {role} of an unusual name is not needed
  std::string assistant_;
  std::string close_;                           ///< after a content of user or system, and after the mark below
  std::string answer_mark_;                     ///< ends an answer, and is part of it
  std::string after_answer_;                    ///< follows it
  std::string generate_;                        ///< where an answer is asked for
  bool drops_answers_ = false;                  ///< of one in Jinja: it never writes what the assistant says
  std::shared_ptr<const JinjaTemplate> jinja_;  ///< instead of all the texts above, but for generate_
};

/// The chat_template of a model: of a directory chat_template.jinja, else that of tokenizer_config.json (of several,
/// the one named "default"); of a .gguf its tokenizer.chat_template. @errors not_found: it has none; corrupt_data; as
/// of_jinja().
Result<ChatTemplate> chat_template_of(const std::string& model);

/// A template with the tokens of one tokenizer.
class ChatFormat {
 public:
  /// @errors unsupported: the template begins or ends with a token that the tokenizer does not read back from its text.
  static Result<ChatFormat> create(ChatTemplate chat, const Tokenizer& tokenizer);
  [[nodiscard]] const ChatTemplate& chat() const { return chat_; }
  /// @errors as ChatTemplate::render.
  [[nodiscard]] Result<std::vector<ChatPart>> render(std::span<const ChatMessage> messages,
                                                     bool generation_prompt = false) const {
    return chat_.render(messages, bos_, eos_, generation_prompt);
  }
  [[nodiscard]] std::string answer_end() const { return chat_.answer_end(eos_); }

 private:
  ChatTemplate chat_;
  std::string bos_, eos_;
};

}  // namespace covey::text
