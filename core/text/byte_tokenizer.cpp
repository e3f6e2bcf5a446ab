#include "core/text/byte_tokenizer.h"

namespace covey::text {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() { vocab_size_ = 256; }

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool /*add_special*/) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<std::uint8_t>(c));
    return ids;
  }
  [[nodiscard]] std::string piece(std::int32_t id, bool /*at_start*/) const override {
    if (id < 0 || id >= vocab_size_) return {};
    return std::string(1, static_cast<char>(id));
  }
  [[nodiscard]] bool is_special(std::int32_t /*id*/) const override { return false; }
};

}  // namespace

std::shared_ptr<const Tokenizer> make_byte_tokenizer() {
  return std::make_shared<ByteTokenizer>();
}

}  // namespace covey::text
