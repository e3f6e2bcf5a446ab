/// What the commands, the coordinator's evaluation and the device's trainer share: a model with its tokenizer, and text
/// as training rows. No optimizer is reachable from here.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/data/examples.h"
#include "core/model/model.h"
#include "core/text/tokenizer.h"
#include "core/train/rows.h"

namespace covey::adapters {

/// A model and its tokenizer.
struct Workbench {
  std::shared_ptr<model::Model> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
};

/// What a model's frozen weights are computed in.
enum class Dtype : std::uint8_t { as_stored, f32, w8a8 };
/// "auto", "f32", "w8a8"; asserted.
Dtype dtype_named(std::string_view name);

/// `path`: Hugging Face directory or llama2.c `.bin`. `tokenizer_path` empty: the directory itself, or tokenizer.bin,
/// else tok<vocab>.bin beside the `.bin`.
/// @errors not_found, corrupt_data, unsupported; invalid_argument where the tokenizer has more ids than the model.
Result<Workbench> open_workbench(const std::string& path, const std::string& tokenizer_path = {},
                                 model::LoadOptions options = {}, Dtype dtype = Dtype::as_stored);
/// The tokenizer alone, by the same rules; `path` may also be a tokenizer file. `vocab` (0: unknown) finds
/// tok<vocab>.bin.
Result<std::shared_ptr<const text::Tokenizer>> open_tokenizer(const std::string& path,
                                                              const std::string& tokenizer_path, int vocab);

using TextExample = data::Example;
using data::read_examples;

/// Which chat template conversations are written with.
struct ChatChoice {
  std::string name;            ///< a name of text::ChatTemplate; empty: what the model's directory says
  std::string model_path;      ///< as open_workbench takes it
  std::string tokenizer_path;  ///< likewise
};
/// @errors not_found: neither named nor said by the directory; as text::chat_template_of and text::ChatFormat::create.
Result<text::ChatFormat> open_chat_format(const ChatChoice& choice, const text::Tokenizer& tokenizer);
/// read_examples() with conversations. A model without a template reads every other file.
Result<std::vector<TextExample>> read_examples_for(const ChatChoice& choice, const text::Tokenizer& tokenizer,
                                                   const std::string& path);

/// Rows of at most `seq` positions: the tokenizer's frame, the text, the end token where there is one. A longer example
/// becomes several rows (with a prompt, or a conversation: it is cut). Examples that give nothing to predict are left
/// out.
std::vector<train::TokenRow> example_rows(const text::Tokenizer& tokenizer, std::span<const TextExample> examples,
                                          int seq);
/// The same for plain texts.
std::vector<train::TokenRow> text_rows(const text::Tokenizer& tokenizer, std::span<const std::string> texts, int seq);

}  // namespace covey::adapters
