#include "adapters/workbench.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include <utility>
#include "core/base/assert.h"
#include "core/formats/hf_directory.h"
#include "core/formats/rwkv_cpp.h"
#include "core/text/byte_tokenizer.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

void add_rows(const text::Tokenizer& tokenizer, const TextExample& example, int seq,
              std::vector<train::TokenRow>& rows) {
  // A text that goes on is as good in pieces; an answer without its prompt is not.
  const bool whole = !example.prompt.empty() || !example.chat.empty();
  train::TokenRow row = data::tokenize(tokenizer, example, whole ? seq : std::numeric_limits<int>::max() - 1);
  if (!whole) {
    for (auto& piece : train::split_row(row, seq)) rows.push_back(std::move(piece));
  } else if (train::has_target(row, seq)) {
    rows.push_back(std::move(row));
  }
}

}  // namespace

Result<std::shared_ptr<const text::Tokenizer>> open_tokenizer(const std::string& path,
                                                              const std::string& tokenizer_path, int vocab) {
  if (!tokenizer_path.empty()) return text::load_tokenizer(tokenizer_path);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return text::load_tokenizer(formats::model_directory(path));
  const std::string name = fs::path(path).filename().string();
  if (!fs::exists(path, ignored)) return Error{ErrorCode::not_found, path + ": no such model"};
  if (formats::is_rwkv_cpp(path)) {
    COVEY_ASSIGN(const auto file, formats::RwkvCppFile::open(path));
    if (file.vocab() == 256) return text::make_byte_tokenizer();
    return Error{ErrorCode::not_found, path + ": its format holds no tokenizer; name one with --tokenizer"};
  }
  if (name.starts_with("tok") || !name.ends_with(".bin")) return text::load_tokenizer(path);
  const fs::path folder = fs::path(path).parent_path();
  for (const std::string& candidate : {std::string("tokenizer.bin"), "tok" + std::to_string(vocab) + ".bin"}) {
    const fs::path file = folder / candidate;
    if (fs::exists(file, ignored)) return text::load_tokenizer(file.string());
  }
  return Error{ErrorCode::not_found, path + ": no tokenizer.bin or tok" + std::to_string(vocab) +
                                         ".bin beside it; name one with --tokenizer"};
}

Dtype dtype_named(std::string_view name) {
  COVEY_ASSERT(name == "auto" || name == "f32" || name == "w8a8");
  return name == "f32" ? Dtype::f32 : (name == "w8a8" ? Dtype::w8a8 : Dtype::as_stored);
}

Result<Workbench> open_workbench(const std::string& path, const std::string& tokenizer_path, model::LoadOptions options,
                                 Dtype dtype) {
  Workbench bench;
  options.widen = options.widen || dtype == Dtype::f32;
  COVEY_ASSIGN(bench.model, model::Model::load(path, options));
  if (dtype == Dtype::w8a8) COVEY_TRY(bench.model->use_int8());
  const int vocab = bench.model->config().vocab_size;
  COVEY_ASSIGN(bench.tokenizer, open_tokenizer(path, tokenizer_path, vocab));
  if (bench.tokenizer->vocab_size() > vocab) {
    return Error{ErrorCode::invalid_argument,
                 path + ": the tokenizer has " + std::to_string(bench.tokenizer->vocab_size()) + " ids and the model " +
                     std::to_string(vocab) + "; name the model's own tokenizer"};
  }
  return bench;
}

Result<text::ChatFormat> open_chat_format(const ChatChoice& choice, const text::Tokenizer& tokenizer) {
  std::error_code ignored;
  const std::string& source = choice.tokenizer_path.empty() ? choice.model_path : choice.tokenizer_path;
  if (choice.name.empty() && !fs::is_directory(source, ignored) && !source.ends_with(".gguf")) {
    return Error{ErrorCode::not_found, source + ": says no chat template; name one with --chat-template"};
  }
  COVEY_ASSIGN(text::ChatTemplate chat,
               choice.name.empty() ? text::chat_template_of(source) : text::ChatTemplate::named(choice.name));
  return text::ChatFormat::create(std::move(chat), tokenizer);
}

Result<std::vector<TextExample>> read_examples_for(const ChatChoice& choice, const text::Tokenizer& tokenizer,
                                                   const std::string& path) {
  const auto format = open_chat_format(choice, tokenizer);
  if (!format.ok() && !choice.name.empty()) return format.error();
  data::ReadLimits limits;
  if (format.ok()) limits.chat = &*format;
  auto examples = read_examples(path, limits);
  // Only a file that holds conversations needs a template.
  if (!examples.ok() && !format.ok() && examples.error().code == ErrorCode::unsupported) {
    return Error{format.error().code, examples.error().message + " (" + format.error().message + ")"};
  }
  return examples;
}

std::vector<train::TokenRow> example_rows(const text::Tokenizer& tokenizer, std::span<const TextExample> examples,
                                          int seq) {
  std::vector<train::TokenRow> rows;
  for (const auto& example : examples) add_rows(tokenizer, example, seq, rows);
  return rows;
}

std::vector<train::TokenRow> text_rows(const text::Tokenizer& tokenizer, std::span<const std::string> texts, int seq) {
  std::vector<train::TokenRow> rows;
  for (const auto& text : texts) add_rows(tokenizer, {.prompt = {}, .text = text, .key = {}}, seq, rows);
  return rows;
}

}  // namespace covey::adapters
