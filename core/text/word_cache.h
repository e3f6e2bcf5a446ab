/// Ids of words met before in one text. Not thread-safe: one for each call. Full, it starts anew.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/word_model.h"

namespace covey::text {

class WordCache {
 public:
  explicit WordCache(const WordModel& model) : model_(model), slots_(kSlots) {}

  void encode(std::string_view word, std::vector<std::int32_t>& out) {
    if (word.size() > kWordBytesMax) return model_.encode(word, out);
    const std::uint64_t hash = hash_of(word);
    std::size_t at = static_cast<std::size_t>(hash) & (kSlots - 1);
    while (slots_[at].hash != 0) {
      const Slot& slot = slots_[at];
      if (slot.hash == hash && std::string_view(bytes_).substr(slot.word, slot.length) == word) {
        const auto* ids = ids_.data() + slot.ids;
        out.insert(out.end(), ids, ids + slot.count);
        return;
      }
      at = (at + 1) & (kSlots - 1);
    }
    const std::size_t before = out.size();
    model_.encode(word, out);
    if (used_ == kSlots / 2) {
      slots_.assign(kSlots, {});
      bytes_.clear();
      ids_.clear();
      used_ = 0;
      at = static_cast<std::size_t>(hash) & (kSlots - 1);
    }
    ++used_;
    slots_[at] = {hash, static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(ids_.size()),
                  static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(out.size() - before)};
    bytes_ += word;
    ids_.insert(ids_.end(), out.begin() + static_cast<std::ptrdiff_t>(before), out.end());
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 16;
  static constexpr std::size_t kWordBytesMax = 48;
  struct Slot {
    std::uint64_t hash = 0;  // 0: free
    std::uint32_t word = 0, ids = 0;
    std::uint16_t length = 0, count = 0;
  };

  static std::uint64_t hash_of(std::string_view word) {
    const std::uint64_t hash = std::hash<std::string_view>()(word);
    return hash == 0 ? 1 : hash;
  }

  const WordModel& model_;
  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<std::int32_t> ids_;
  std::size_t used_ = 0;
};

}  // namespace covey::text
