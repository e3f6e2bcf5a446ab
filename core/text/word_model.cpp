#include "core/text/word_model.h"

#include <algorithm>
#include <cstdio>

namespace covey::text {

VocabIndex::VocabIndex(const std::vector<std::string>& vocab, const std::vector<bool>& hidden) {
  index_.reserve(vocab.size());
  for (std::size_t id = 0; id < vocab.size(); ++id) {
    if (vocab[id].empty() || (id < hidden.size() && hidden[id])) continue;
    index_.emplace(vocab[id], static_cast<std::int32_t>(id));
    longest_ = std::max(longest_, vocab[id].size());
  }
}

std::vector<std::int32_t> fallback_bytes(const formats::TokenizerSpec& spec) {
  const VocabIndex index(spec.vocab, {});
  std::vector<std::int32_t> ids(256, -1);
  for (std::size_t b = 0; spec.byte_fallback && b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(b));
    ids[b] = index.find(name);
  }
  return ids;
}

}  // namespace covey::text
