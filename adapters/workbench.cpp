#include "adapters/workbench.h"

#include <algorithm>
#include <filesystem>

#include "core/base/file.h"
#include "core/formats/json.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

void add_rows(const text::Tokenizer& tokenizer, std::string_view prompt, std::string_view text, int seq,
              std::vector<train::TokenRow>& rows) {
  std::vector<std::int32_t> tokens = tokenizer.encode(std::string(prompt) + std::string(text), true);
  if (tokenizer.eos_id() >= 0 && (tokens.empty() || tokens.back() != tokenizer.eos_id())) {
    tokens.push_back(tokenizer.eos_id());
  }
  if (prompt.empty()) {
    for (auto& row : train::chop(tokens, seq)) rows.push_back(std::move(row));
    return;
  }
  // The prompt's own tokens are an upper bound where its last one merges with the text: then one less is context.
  const std::vector<std::int32_t> context = tokenizer.encode(prompt, true);
  const auto same = std::mismatch(context.begin(), context.end(), tokens.begin(), tokens.end()).first;
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(seq) + 1));
  train::TokenRow row = train::next_token_row(tokens, static_cast<std::size_t>(same - context.begin()));
  if (train::has_target(row, seq)) rows.push_back(std::move(row));
}

Result<TextExample> read_json_line(std::string_view line, const std::string& where) {
  COVEY_ASSIGN(const formats::Json json, formats::Json::parse(line, where));
  TextExample example;
  if (json.contains("text")) {
    COVEY_ASSIGN(example.text, json.get_string("text"));
  } else if (json.contains("prompt") && json.contains("response")) {
    COVEY_ASSIGN(example.prompt, json.get_string("prompt"));
    COVEY_ASSIGN(example.text, json.get_string("response"));
  } else {
    return Error{ErrorCode::corrupt_data, where + ": needs \"text\", or \"prompt\" and \"response\""};
  }
  return example;
}

}  // namespace

Result<std::shared_ptr<const text::Tokenizer>> open_tokenizer(const std::string& path,
                                                              const std::string& tokenizer_path, int vocab) {
  if (!tokenizer_path.empty()) return text::load_tokenizer(tokenizer_path);
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return text::load_tokenizer(path);
  const std::string name = fs::path(path).filename().string();
  if (name.starts_with("tok") || name.ends_with(".json")) return text::load_tokenizer(path);
  if (!fs::exists(path, ignored)) return Error{ErrorCode::not_found, path + ": no such model"};
  const fs::path folder = fs::path(path).parent_path();
  for (const std::string& candidate : {std::string("tokenizer.bin"), "tok" + std::to_string(vocab) + ".bin"}) {
    const fs::path file = folder / candidate;
    if (fs::exists(file, ignored)) return text::load_tokenizer(file.string());
  }
  return Error{ErrorCode::not_found, path + ": no tokenizer.bin or tok" + std::to_string(vocab) +
                                         ".bin beside it; name one with --tokenizer"};
}

Result<Workbench> open_workbench(const std::string& path, const std::string& tokenizer_path,
                                 model::LoadOptions options) {
  Workbench bench;
  COVEY_ASSIGN(bench.model, model::Model::load(path, options));
  const int vocab = bench.model->config().vocab_size;
  COVEY_ASSIGN(bench.tokenizer, open_tokenizer(path, tokenizer_path, vocab));
  if (bench.tokenizer->vocab_size() > vocab) {
    return Error{ErrorCode::invalid_argument,
                 path + ": the tokenizer has " + std::to_string(bench.tokenizer->vocab_size()) + " ids and the model " +
                     std::to_string(vocab) + "; name the model's own tokenizer"};
  }
  return bench;
}

Result<std::vector<TextExample>> read_examples(const std::string& path) {
  COVEY_ASSIGN(const std::string content, read_text_file(path));
  const bool json = path.ends_with(".jsonl");
  std::vector<TextExample> examples;
  std::string_view rest = content;
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (json) {
      COVEY_ASSIGN(TextExample example, read_json_line(line, path + ":" + std::to_string(number)));
      examples.push_back(std::move(example));
    } else {
      examples.push_back({.prompt = {}, .text = std::string(line)});
    }
  }
  if (examples.empty()) return Error{ErrorCode::invalid_argument, path + ": holds no example (one per line)"};
  return examples;
}

std::vector<train::TokenRow> example_rows(const text::Tokenizer& tokenizer, std::span<const TextExample> examples,
                                          int seq) {
  std::vector<train::TokenRow> rows;
  for (const auto& example : examples) add_rows(tokenizer, example.prompt, example.text, seq, rows);
  return rows;
}

std::vector<train::TokenRow> text_rows(const text::Tokenizer& tokenizer, std::span<const std::string> texts, int seq) {
  std::vector<train::TokenRow> rows;
  for (const auto& text : texts) add_rows(tokenizer, {}, text, seq, rows);
  return rows;
}

}  // namespace covey::adapters
