/// What the commands, the coordinator's evaluation and the device's trainer share: a model with its tokenizer, text as
/// training rows, and evaluation of files. No optimizer is reachable from here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/model.h"
#include "core/train/evaluate.h"
#include "core/train/rows.h"

namespace covey::text {
class Tokenizer;
}

namespace covey::adapters {

/// A model and the tokenizer that lies beside it.
struct Workbench {
  std::shared_ptr<model::Model> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
};

/// `path`: Hugging Face directory or llama2.c `.bin`. `tokenizer_path` empty: the directory itself, or tokenizer.bin,
/// else tok<vocab>.bin beside the `.bin`.
/// @errors not_found, corrupt_data, unsupported; invalid_argument where tokenizer and model disagree on the vocabulary.
Result<Workbench> open_workbench(const std::string& path, const std::string& tokenizer_path = {},
                                 model::LoadOptions options = {});

/// One text as one training row: beginning-of-sequence token where the tokenizer has one, the text, end token.
train::TokenRow text_row(const text::Tokenizer& tokenizer, const std::string& text, int seq);
/// Each text becomes a row (cut at `seq`). Empty texts are left out.
std::vector<train::TokenRow> text_rows(const text::Tokenizer& tokenizer, const std::vector<std::string>& texts,
                                       int seq);

/// Texts of a data file: `.txt` one example per line, `.jsonl` one object per line with "text", or "prompt" and
/// "response". @errors not_found, corrupt_data (names the line).
Result<std::vector<std::string>> read_texts(const std::string& path);

}  // namespace covey::adapters
