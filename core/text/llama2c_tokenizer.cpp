#include "core/text/llama2c_tokenizer.h"

#include <cstdio>
#include <unordered_map>

#include "core/text/bpe_merge.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

constexpr std::int32_t kUnknown = 0;
constexpr std::int32_t kBos = 1;
constexpr std::int32_t kEos = 2;
constexpr std::int32_t kFirstByte = 3;
constexpr float kScoreMin = -1e10F;  // run.c merges nothing at or below it

std::string byte_name(int byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", byte);
  return name;
}

class Llama2cTokenizer final : public Tokenizer {
 public:
  explicit Llama2cTokenizer(std::vector<formats::ScoredPiece> pieces) : pieces_(std::move(pieces)) {
    vocab_size_ = static_cast<std::int32_t>(pieces_.size());
    if (vocab_size_ > kBos) bos_id_ = kBos;
    if (vocab_size_ > kEos) eos_id_ = kEos;
    has_bytes_ = vocab_size_ >= kFirstByte + 256;
    for (int b = 0; has_bytes_ && b < 256; ++b) has_bytes_ = at(kFirstByte + b).bytes == byte_name(b);
    for (std::int32_t id = 0; id < vocab_size_; ++id) index_.emplace(at(id).bytes, id);
    fill_merges();
  }

  std::vector<std::int32_t> encode(std::string_view text, bool add_special) const override {
    std::vector<std::int32_t> ids;
    if (!text.empty()) {
      if (const auto space = index_.find(" "); space != index_.end()) ids.push_back(space->second);
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t length = character_at(text, i).length;
        add_character(text.substr(i, length), ids);
        i += length;
      }
      merges_.apply(ids);
    }
    if (add_special && bos_id_ >= 0) ids.insert(ids.begin(), bos_id_);
    return ids;
  }

  std::string piece(std::int32_t id, bool at_start) const override {
    if (id < 0 || id >= vocab_size_) return {};
    if (has_bytes_ && id >= kFirstByte && id < kFirstByte + 256) return {static_cast<char>(id - kFirstByte)};
    const std::string& bytes = at(id).bytes;
    return at_start && bytes.starts_with(' ') ? bytes.substr(1) : bytes;
  }

  bool is_special(std::int32_t id) const override { return id == bos_id_ || (id == eos_id_ && id >= 0); }

 private:
  const formats::ScoredPiece& at(std::int32_t id) const { return pieces_[static_cast<std::size_t>(id)]; }

  void add_character(std::string_view character, std::vector<std::int32_t>& ids) const {
    if (const auto it = index_.find(std::string(character)); it != index_.end()) {
      ids.push_back(it->second);
    } else if (has_bytes_) {
      for (const char c : character) ids.push_back(kFirstByte + static_cast<unsigned char>(c));
    } else {
      ids.push_back(kUnknown);
    }
  }

  void fill_merges() {
    std::vector<std::string> vocab;
    std::vector<double> scores;
    std::vector<bool> hidden;
    for (const auto& piece : pieces_) {
      vocab.push_back(piece.bytes);
      scores.push_back(static_cast<double>(piece.score));
      hidden.push_back(piece.score <= kScoreMin);
    }
    merges_.add_scored(vocab, scores, hidden, [this](std::string_view token) {
      const auto found = index_.find(std::string(token));
      return found == index_.end() ? -1 : found->second;
    });
  }

  std::vector<formats::ScoredPiece> pieces_;
  std::unordered_map<std::string, std::int32_t> index_;
  MergeTable merges_;
  bool has_bytes_ = false;
};

}  // namespace

std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::vector<formats::ScoredPiece> pieces) {
  return std::make_shared<const Llama2cTokenizer>(std::move(pieces));
}

Result<std::shared_ptr<const Tokenizer>> load_llama2c_tokenizer(const std::string& path) {
  COVEY_ASSIGN(auto pieces, formats::read_llama2c_tokenizer(path));
  return make_llama2c_tokenizer(std::move(pieces));
}

}  // namespace covey::text
