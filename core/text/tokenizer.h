/// Text to token ids and back. Implementations: llama2.c's tokenizer.bin, and Hugging Face's tokenizer.json with BPE
/// (byte-level as GPT-2, Llama 3, Qwen 2; or with byte fallback as Llama 2). Anything else is refused by name.
///
///   COVEY_ASSIGN(const auto tokenizer, text::load_tokenizer("model_dir"));
///   const auto ids = tokenizer->encode("Once upon a time", /*add_special=*/true);
///   COVEY_ASSIGN(const auto text, tokenizer->decode(ids));
///
/// Bytes that are not UTF-8 are kept: each is a symbol of its own (neither letter, digit nor space), and byte-level and
/// byte-fallback vocabularies decode to the same bytes. Unicode normalization, where a tokenizer asks for it, is left
/// out for a text that holds such bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::text {

/// Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// @param add_special whether the tokenizer's own frame is put around the text (usually the bos token before it).
  /// Never fails: what no token covers becomes the unknown token, or is dropped where there is none.
  /// @cost O(n log n) in the text's length.
  [[nodiscard]] virtual std::vector<std::int32_t> encode(std::string_view text, bool add_special) const = 0;

  /// The bytes that `id` stands for at the start of a text or inside one; special tokens give their name. Empty where
  /// the id is out of range. A token may end inside a UTF-8 character: see StreamDecoder.
  [[nodiscard]] virtual std::string piece(std::int32_t id, bool at_start) const = 0;
  [[nodiscard]] virtual bool is_special(std::int32_t id) const = 0;

  /// @errors invalid_argument: an id out of [0, vocab_size), with its position.
  [[nodiscard]] Result<std::string> decode(std::span<const std::int32_t> ids, bool skip_special = true) const;

  /// Ids are below it. May exceed the number of tokens where a file leaves gaps.
  [[nodiscard]] std::int32_t vocab_size() const { return vocab_size_; }
  [[nodiscard]] std::int32_t bos_id() const { return bos_id_; }  ///< -1: none
  [[nodiscard]] std::int32_t eos_id() const { return eos_id_; }  ///< -1: none

 protected:
  std::int32_t vocab_size_ = 0;
  std::int32_t bos_id_ = -1;
  std::int32_t eos_id_ = -1;
};

/// Decodes token by token, giving out whole UTF-8 characters only. Special tokens give nothing. Borrows the tokenizer.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// What can be printed now. Ids out of range give nothing.
  std::string feed(std::int32_t id);
  /// What is left: the bytes of an unfinished character as they are.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool at_start_ = true;
  std::string pending_;
};

/// `path`: a Hugging Face directory (its tokenizer.json, else tokenizer.bin; tokenizer_config.json says which tokens
/// are bos and eos), a tokenizer.json, or a llama2.c tokenizer.bin.
/// @errors not_found, corrupt_data, invalid_argument, unsupported (names the part).
Result<std::shared_ptr<const Tokenizer>> load_tokenizer(const std::string& path);

}  // namespace covey::text
