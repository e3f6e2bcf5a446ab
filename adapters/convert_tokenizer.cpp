#include "adapters/convert_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "core/base/file.h"
#include "core/formats/gguf_vocabulary.h"
#include "core/formats/hf_directory.h"
#include "core/formats/sentencepiece.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

Status duplicate(const fs::path& from, const fs::path& to) {
  COVEY_ASSIGN(const Bytes content, read_file(from.string()));
  return write_file_durably(to.string(), ByteSpan(content));
}

std::int64_t rows_of(const SourceModel& source) {
  return source.config.get_int("vocab_size", 0).value();
}

/// The first file with this ending, or empty.
std::string with_ending(const std::vector<std::string>& files, std::string_view ending) {
  const auto found = std::ranges::find_if(files, [&](const std::string& file) { return file.ends_with(ending); });
  return found == files.end() ? std::string() : *found;
}

/// Where the source's own vocabulary (its GGUF keys) is what goes on, the file; else nullptr.
const formats::GgufFile* own_vocabulary(const SourceModel& source, const std::string& tokenizer) {
  if (!tokenizer.empty() || !source.gguf || !source.gguf->file().contains("tokenizer.ggml.tokens")) return nullptr;
  return &source.gguf->file();
}

/// What cannot be held is said; what fails otherwise (the disk, a broken file) fails the conversion.
Status held_or_named(const Status& status, std::vector<std::string>& not_held) {
  if (status.ok() || status.error().code != ErrorCode::unsupported) return status;
  not_held.push_back("the tokenizer (" + status.error().message + ")");
  return {};
}

Status chat_template_to_gguf(const std::string& config_path, formats::GgufWriter& out) {
  std::error_code ignored;
  if (!fs::exists(config_path, ignored)) return {};
  COVEY_ASSIGN(const auto config, formats::Json::load(config_path, {.bytes_max = std::size_t{16} << 20}));
  const formats::Json* chat = config.find("chat_template");
  if (chat != nullptr && chat->is_string()) out.set("tokenizer.chat_template", chat->as_string().value());
  return {};
}

}  // namespace

std::vector<std::string> tokenizer_files(const std::string& model, const std::string& tokenizer, std::int64_t vocab) {
  std::vector<std::string> out;
  std::error_code ignored;
  const auto add = [&](const fs::path& path) {
    if (fs::exists(path, ignored)) out.push_back(path.string());
  };
  if (!tokenizer.empty() && !fs::is_directory(tokenizer, ignored)) {
    add(tokenizer);
    return out;
  }
  const std::string from = tokenizer.empty() ? model : tokenizer;
  if (fs::is_directory(from, ignored)) {
    const std::string folder = formats::model_directory(from);
    for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                             "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.bin"}) {
      add(fs::path(folder) / name);
    }
    return out;
  }
  const fs::path folder = fs::path(from).parent_path();
  add(folder / "tokenizer.bin");
  if (out.empty()) add(folder / ("tok" + std::to_string(vocab) + ".bin"));
  return out;
}

Status tokenizer_to_directory(const std::string& model, const std::string& tokenizer, std::int64_t vocab,
                              const std::string& directory, std::vector<std::string>& not_held) {
  if (tokenizer.empty() && model.ends_with(".gguf")) {
    COVEY_ASSIGN(const auto file, formats::GgufFile::open(model));
    if (file.contains("tokenizer.ggml.tokens")) {
      return held_or_named(formats::write_hf_tokenizer(file, directory), not_held);
    }
  }
  const auto files = tokenizer_files(model, tokenizer, vocab);
  if (files.empty()) not_held.emplace_back("a tokenizer: none was found; name one with --tokenizer");
  for (const fs::path file : files) {
    const std::string name = file.extension() == ".bin" ? "tokenizer.bin" : file.filename().string();
    COVEY_TRY(duplicate(file, fs::path(directory) / name));
  }
  return {};
}

Status tokenizer_to_gguf(const SourceModel& source, const std::string& tokenizer, formats::GgufWriter& out,
                         std::vector<std::string>& not_held) {
  if (const auto* own = own_vocabulary(source, tokenizer)) {
    formats::copy_vocabulary(*own, out);
    return {};
  }
  const auto files = tokenizer_files(source.path, tokenizer, rows_of(source));
  const auto rows = static_cast<std::size_t>(rows_of(source));
  const auto write = [&]() -> Status {
    // Where both are there, tokenizer.json is a translation that lacks the scores.
    if (const std::string pieces = with_ending(files, "tokenizer.model"); !pieces.empty()) {
      COVEY_ASSIGN(const Bytes bytes, read_file(pieces, std::uint64_t{256} << 20));
      COVEY_ASSIGN(const auto spec, formats::parse_sentencepiece(bytes, pieces));
      COVEY_TRY(formats::write_vocabulary(spec, rows, out, not_held));
      return chat_template_to_gguf((fs::path(pieces).parent_path() / "tokenizer_config.json").string(), out);
    }
    if (const std::string json = with_ending(files, ".json"); json.ends_with("tokenizer.json")) {
      COVEY_ASSIGN(const auto spec, formats::read_tokenizer_json(json));
      COVEY_TRY(formats::write_vocabulary(spec, rows, out, not_held));
      return chat_template_to_gguf((fs::path(json).parent_path() / "tokenizer_config.json").string(), out);
    }
    const std::string bin = with_ending(files, ".bin");
    if (bin.empty()) return Error{ErrorCode::unsupported, "no tokenizer was found; name one with --tokenizer"};
    COVEY_ASSIGN(const auto pieces, formats::read_llama2c_tokenizer(bin));
    formats::write_vocabulary(pieces, rows, out);
    return {};
  };
  COVEY_TRY(held_or_named(write(), not_held));
  out.set("tokenizer.ggml.model", "none");  // stands only where no vocabulary was written
  return {};
}

Status tokenizer_to_llama2c(const SourceModel& source, const std::string& tokenizer, const std::string& model,
                            std::vector<std::string>& not_held) {
  const fs::path beside = fs::path(model).parent_path() / "tokenizer.bin";
  std::error_code ignored;
  if (fs::exists(beside, ignored)) return {};
  if (const auto* own = own_vocabulary(source, tokenizer)) {
    auto pieces = formats::llama2c_vocabulary(*own, not_held);
    if (!pieces.ok()) return held_or_named(pieces.error(), not_held);
    return formats::write_llama2c_tokenizer(beside.string(), *pieces);
  }
  const std::string bin = with_ending(tokenizer_files(source.path, tokenizer, rows_of(source)), ".bin");
  if (!bin.empty()) return duplicate(bin, beside);
  not_held.push_back("the tokenizer, which has no llama2.c form; use --tokenizer " + source.path);
  return {};
}

}  // namespace covey::adapters
