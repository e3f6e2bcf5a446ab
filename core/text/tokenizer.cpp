#include "core/text/tokenizer.h"

#include <filesystem>

#include "core/text/bpe_tokenizer.h"
#include "core/text/llama2c_tokenizer.h"
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
      if (!skip_special) text += piece(id, false);
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

Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path) {
  std::error_code error;
  std::string file = path;
  if (std::filesystem::is_directory(path, error)) {
    file.clear();
    for (const char* name : {"/tokenizer.json", "/tokenizer.bin"}) {
      if (file.empty() && std::filesystem::exists(path + name, error)) file = path + name;
    }
    if (file.empty()) {
      const bool sentencepiece = std::filesystem::exists(path + "/tokenizer.model", error);
      return Error{sentencepiece ? ErrorCode::unsupported : ErrorCode::not_found,
                   path + (sentencepiece ? ": has its tokenizer as tokenizer.model only; add the tokenizer.json of it"
                                         : ": holds neither tokenizer.json nor tokenizer.bin")};
    }
  }
  if (file.ends_with(".json")) return load_tokenizer_json(file);
  if (file.ends_with(".bin")) return load_llama2c_tokenizer(file);
  if (!std::filesystem::exists(file, error)) return Error{ErrorCode::not_found, file + ": there is no such file"};
  return Error{ErrorCode::unsupported, file + ": is no tokenizer.json, tokenizer.bin, or directory that holds one"};
}

}  // namespace covey::text
