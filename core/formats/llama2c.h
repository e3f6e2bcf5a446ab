/// llama2.c's two files: the model `.bin` (version 0) and `tokenizer.bin`. Source: karpathy/llama2.c, export.py (legacy
/// export) and tokenizer.py. Rows of wq and wk are in that file's order: RoPE turns neighbouring pairs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/result.h"

namespace covey::formats {

/// Letters as in the kernels: V vocabulary, H hidden, I intermediate, L layers.
struct Llama2cHeader {
  int dim = 0;     ///< H
  int hidden = 0;  ///< I
  int layers = 0;  ///< L
  int heads = 0;
  int kv_heads = 0;
  int vocab = 0;  ///< V
  int seq_len = 0;
  bool tied = true;  ///< the classifier is the token embedding
  [[nodiscard]] int head_dim() const { return dim / heads; }
  [[nodiscard]] int kv_dim() const { return kv_heads * head_dim(); }
};

/// A mapped model file. Immutable, movable, thread-safe for reading; spans are borrowed from it.
class Llama2cFile {
 public:
  /// @errors not_found, io_error; corrupt_data: a size out of its range, or a file whose length is not exactly what its
  /// header asks for.
  static Result<Llama2cFile> open(const std::string& path);

  struct Layer {
    std::span<const float> rms_att;  ///< (H)
    std::span<const float> wq;       ///< (H, H)
    std::span<const float> wk, wv;   ///< (kv_dim, H)
    std::span<const float> wo;       ///< (H, H)
    std::span<const float> rms_ffn;  ///< (H)
    std::span<const float> w1;       ///< (I, H), gate
    std::span<const float> w2;       ///< (H, I), down
    std::span<const float> w3;       ///< (I, H), up
  };
  [[nodiscard]] const Llama2cHeader& header() const { return header_; }
  [[nodiscard]] std::span<const float> token_embedding() const { return token_embedding_; }  ///< (V, H)
  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; }
  [[nodiscard]] std::span<const float> rms_final() const { return rms_final_; }    ///< (H)
  [[nodiscard]] std::span<const float> classifier() const { return classifier_; }  ///< (V, H); the embedding when tied

 private:
  MappedFile file_;
  Llama2cHeader header_;
  std::vector<Layer> layers_;
  std::span<const float> token_embedding_, rms_final_, classifier_;
};

/// The header of a file of `file_size` bytes, checked as open() does. For tests and fuzzing.
Result<Llama2cHeader> parse_llama2c_header(ByteSpan file, std::uint64_t file_size, const std::string& where);

struct ScoredPiece {
  std::string bytes;
  float score = 0;
};

/// Pieces of a tokenizer.bin in the order of their ids.
/// @errors not_found, io_error; corrupt_data: cut off, a length over the stated maximum, a score that is not a number.
Result<std::vector<ScoredPiece>> read_llama2c_tokenizer(const std::string& path);
Result<std::vector<ScoredPiece>> parse_llama2c_tokenizer(ByteSpan file, const std::string& where);

}  // namespace covey::formats
