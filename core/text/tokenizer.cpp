#include "core/text/tokenizer.h"

#include <filesystem>

#include "core/base/file.h"
#include "core/formats/gguf_tokenizer.h"
#include "core/formats/sentencepiece.h"
#include "core/formats/vocabulary_files.h"
#include "core/text/llama2c_tokenizer.h"
#include "core/text/pipeline.h"
#include "core/text/unicode.h"

namespace covey::text {

Result<std::string> Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string text;
  bool at_start = true;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::int32_t id = ids[i];
    if (id < 0 || id >= vocab_size_) {
      return Error{ErrorCode::invalid_argument, "token id " + std::to_string(id) + " at position " + std::to_string(i) +
                                                    " is outside the vocabulary of " + std::to_string(vocab_size_)};
    }
    if (is_special(id)) {
      if (!skip_special) text += piece(id, at_start);
      if (!skip_special) at_start = false;
      at_start = at_start || id == bos_id_;
      continue;
    }
    text += piece(id, at_start);
    at_start = false;
  }
  return text;
}

std::string StreamDecoder::feed(std::int32_t id) {
  if (tokenizer_.is_special(id)) {
    at_start_ = at_start_ || id == tokenizer_.bos_id();
    return finish();
  }
  pending_ += tokenizer_.piece(id, at_start_);
  at_start_ = false;
  const std::size_t keep = unfinished_suffix(pending_);
  std::string ready = pending_.substr(0, pending_.size() - keep);
  pending_.erase(0, ready.size());
  return ready;
}

std::string StreamDecoder::finish() {
  return std::exchange(pending_, {});
}

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFileBytesMax = std::uint64_t{256} << 20;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// The file of a directory that holds its tokenizer, the fullest description first.
Result<std::string> file_in(const std::string& directory) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer.bin", "vocab.txt", "merges.txt"}) {
    const fs::path file = fs::path(directory) / name;
    if (is_there(file)) return file.string();
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".tiktoken")) return entry.path().string();
  }
  return Error{ErrorCode::not_found, directory +
                                         ": holds no tokenizer.json, tokenizer.model, tokenizer.bin, vocab.txt, "
                                         "merges.txt with vocab.json, or .tiktoken"};
}

Result<formats::TokenizerSpec> spec_of(const std::string& file) {
  if (file.ends_with(".gguf")) {
    COVEY_ASSIGN(const auto gguf, formats::GgufFile::open(file));
    return formats::gguf_tokenizer(gguf);
  }
  const fs::path folder = fs::path(file).parent_path();
  const std::string name = fs::path(file).filename().string();
  if (name == "merges.txt" || (name == "vocab.json" && is_there(folder / "merges.txt"))) {
    const std::string vocab_file = (folder / "vocab.json").string();
    COVEY_ASSIGN(const std::string vocab, read_text_file(vocab_file, kFileBytesMax));
    COVEY_ASSIGN(const std::string merges, read_text_file((folder / "merges.txt").string(), kFileBytesMax));
    return formats::parse_vocab_merges(vocab, merges, vocab_file);
  }
  if (name.ends_with(".json")) return formats::read_tokenizer_json(file);
  COVEY_ASSIGN(const Bytes bytes, read_file(file, kFileBytesMax));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (name.ends_with(".txt")) return formats::parse_vocab_txt(text, file);
  if (formats::looks_like_tiktoken(text)) return formats::parse_tiktoken(text, file);  // Llama 3's tokenizer.model too
  if (name.ends_with(".model")) return formats::parse_sentencepiece(ByteSpan(bytes), file);
  return Error{ErrorCode::unsupported, file +
                                           ": is no vocabulary that we know: tokenizer.json, tokenizer.model, "
                                           "tokenizer.bin, vocab.txt, merges.txt with vocab.json, .tiktoken, .gguf"};
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path) {
  std::string file = path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    COVEY_ASSIGN(file, file_in(path));
  }
  if (!is_there(file)) return Error{ErrorCode::not_found, file + ": there is no such file"};
  if (file.ends_with(".bin")) return load_llama2c_tokenizer(file);
  COVEY_ASSIGN(auto spec, spec_of(file));
  auto tokenizer = make_tokenizer(std::move(spec));
  if (!tokenizer.ok()) return tokenizer.error().in(file);
  return tokenizer;
}

}  // namespace covey::text
