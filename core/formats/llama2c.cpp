#include "core/formats/llama2c.h"

#include <cmath>
#include <cstring>

namespace covey::formats {
namespace {

constexpr std::size_t kHeaderBytes = 7 * sizeof(std::int32_t);
// With these bounds no product below reaches 2^63.
constexpr std::int64_t kDimMax = 1 << 16;
constexpr std::int64_t kHiddenMax = 1 << 20;
constexpr std::int64_t kLayersMax = 1 << 10;
constexpr std::int64_t kVocabMax = 1 << 24;
constexpr std::int64_t kSeqMax = 1 << 24;
constexpr std::size_t kTextBytesMax = 4096;
constexpr std::size_t kPiecesMax = std::size_t{1} << 24;

std::int64_t layer_floats(const Llama2cHeader& h) {
  const std::int64_t dim = h.dim;
  return 2 * dim + 2 * dim * dim + 2 * dim * h.kv_dim() + 3 * dim * h.hidden;
}

std::int64_t file_floats(const Llama2cHeader& h) {
  const std::int64_t embedding = std::int64_t{h.vocab} * h.dim;
  const std::int64_t frequencies = std::int64_t{h.seq_len} * (h.head_dim() / 2) * 2;
  return embedding * (h.tied ? 1 : 2) + h.layers * layer_floats(h) + h.dim + frequencies;
}

}  // namespace

Result<Llama2cHeader> parse_llama2c_header(ByteSpan file, std::uint64_t file_size, const std::string& where) {
  if (file.size() < kHeaderBytes) return corrupt(where, "is too short for a llama2.c model");
  std::int32_t v[7];
  std::memcpy(v, file.data(), kHeaderBytes);
  Llama2cHeader h{v[0], v[1], v[2], v[3], v[4], 0, v[6], v[5] > 0};
  const std::int64_t vocab = std::abs(std::int64_t{v[5]});
  const struct {
    const char* name;
    std::int64_t value, max;
  } fields[] = {
      {"dim", h.dim, kDimMax},        {"hidden_dim", h.hidden, kHiddenMax}, {"n_layers", h.layers, kLayersMax},
      {"n_heads", h.heads, h.dim},    {"n_kv_heads", h.kv_heads, h.heads},  {"vocab_size", vocab, kVocabMax},
      {"seq_len", h.seq_len, kSeqMax}};
  for (const auto& field : fields) {
    if (field.value < 1 || field.value > field.max) {
      return corrupt(where, std::string("is not a llama2.c model: its ") + field.name + " is " +
                                std::to_string(field.value) + ", outside 1.." + std::to_string(field.max));
    }
  }
  h.vocab = static_cast<int>(vocab);
  if (h.dim % h.heads != 0 || h.head_dim() % 2 != 0)
    return corrupt(where, "n_heads does not divide dim into even parts");
  if (h.heads % h.kv_heads != 0) return corrupt(where, "n_kv_heads does not divide n_heads");
  const std::uint64_t needed = kHeaderBytes + 4 * static_cast<std::uint64_t>(file_floats(h));
  if (file_size != needed) {
    return corrupt(where, "has " + std::to_string(file_size) + " bytes, its header asks for " + std::to_string(needed) +
                              "; fetch or export it again");
  }
  return h;
}

Result<Llama2cFile> Llama2cFile::open(const std::string& path) {
  Llama2cFile result;
  COVEY_ASSIGN(result.file_, MappedFile::open(path));
  const ByteSpan bytes = result.file_.bytes();
  COVEY_ASSIGN(result.header_, parse_llama2c_header(bytes, bytes.size(), path));
  const Llama2cHeader& h = result.header_;
  const auto* next = reinterpret_cast<const float*>(bytes.data() + kHeaderBytes);  // maps start on a page
  const auto take = [&](std::int64_t rows, std::int64_t columns) {
    const std::span<const float> span(next, static_cast<std::size_t>(rows * columns));
    next += rows * columns;
    return span;
  };
  result.token_embedding_ = take(h.vocab, h.dim);
  result.layers_.resize(static_cast<std::size_t>(h.layers));
  const struct {
    std::span<const float> Layer::*member;
    std::int64_t rows, columns;
  } order[] = {{&Layer::rms_att, 1, h.dim},     {&Layer::wq, h.dim, h.dim},    {&Layer::wk, h.kv_dim(), h.dim},
               {&Layer::wv, h.kv_dim(), h.dim}, {&Layer::wo, h.dim, h.dim},    {&Layer::rms_ffn, 1, h.dim},
               {&Layer::w1, h.hidden, h.dim},   {&Layer::w2, h.dim, h.hidden}, {&Layer::w3, h.hidden, h.dim}};
  for (const auto& tensor : order) {
    for (Layer& layer : result.layers_) layer.*tensor.member = take(tensor.rows, tensor.columns);
  }
  result.rms_final_ = take(1, h.dim);
  take(h.seq_len, h.head_dim());  // freqs_cos and freqs_sin, which nothing reads any more
  result.classifier_ = h.tied ? result.token_embedding_ : take(h.vocab, h.dim);
  return result;
}

Result<std::vector<ScoredPiece>> parse_llama2c_tokenizer(ByteSpan file, const std::string& where) {
  std::size_t position = 0;
  const auto take = [&](auto& value) {
    if (file.size() - position < sizeof value) return false;
    std::memcpy(&value, file.data() + position, sizeof value);
    position += sizeof value;
    return true;
  };
  std::uint32_t length_max = 0;
  if (!take(length_max)) return corrupt(where, "is too short for a llama2.c tokenizer");
  if (length_max < 1 || length_max > kTextBytesMax) {
    return corrupt(
        where, "is not a llama2.c tokenizer: its longest token would have " + std::to_string(length_max) + " bytes");
  }
  std::vector<ScoredPiece> pieces;
  while (position < file.size()) {
    const std::string token = "token " + std::to_string(pieces.size());
    ScoredPiece piece;
    std::uint32_t length = 0;
    if (!take(piece.score) || !take(length)) return corrupt(where, "is cut off in " + token + "; fetch it again");
    if (!std::isfinite(piece.score)) return corrupt(where, "the score of " + token + " is not a finite number");
    if (length > length_max) {
      return corrupt(where, token + " has " + std::to_string(length) + " bytes, over the stated maximum of " +
                                std::to_string(length_max));
    }
    if (file.size() - position < length) return corrupt(where, "is cut off in " + token + "; fetch it again");
    piece.bytes = as_text(file.subspan(position, length));
    position += length;
    pieces.push_back(std::move(piece));
    if (pieces.size() > kPiecesMax) return corrupt(where, "has more than 2^24 tokens");
  }
  if (pieces.empty()) return corrupt(where, "holds no tokens");
  return pieces;
}

Result<std::vector<ScoredPiece>> read_llama2c_tokenizer(const std::string& path) {
  COVEY_ASSIGN(const Bytes bytes, read_file(path, std::uint64_t{256} << 20));
  return parse_llama2c_tokenizer(bytes, path);
}

}  // namespace covey::formats
