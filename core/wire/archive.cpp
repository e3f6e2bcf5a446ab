#include "core/wire/archive.h"

#include <limits>

namespace covey::wire {

void OutputArchive::write(const void* data, std::size_t size) {
  const auto* first = static_cast<const std::uint8_t*>(data);
  out_.insert(out_.end(), first, first + size);
}

void OutputArchive::write_count(std::size_t count) {
  COVEY_ASSERT(count <= std::numeric_limits<std::uint32_t>::max());
  write_plain(static_cast<std::uint32_t>(count));
}

void InputArchive::read(void* out, std::size_t size) {
  const std::size_t left = bytes_.size() - at_;
  if (size > left) {
    refuse(ErrorCode::corrupt_data,
           "needs " + std::to_string(size) + " bytes where " + std::to_string(left) + " are left");
  }
  if (size > 0) std::memcpy(out, bytes_.data() + at_, size);
  at_ += size;
}

std::size_t InputArchive::read_count(std::size_t max, std::size_t encoded_min, std::size_t memory_each) {
  const std::size_t count = read_plain<std::uint32_t>();
  const std::size_t left = bytes_.size() - at_;
  if (count > left / encoded_min) {
    refuse(ErrorCode::corrupt_data,
           "claims " + std::to_string(count) + " elements where " + std::to_string(left) + " bytes are left");
  }
  if (count > max) {
    refuse(ErrorCode::resource_exhausted,
           "has " + std::to_string(count) + " elements where at most " + std::to_string(max) + " are allowed");
  }
  // count < 2^32 and memory_each is a type's size: no overflow. One more for a string's end.
  const std::size_t memory = (count + 1) * memory_each;
  if (count > 0 && memory > memory_left_) {
    refuse(ErrorCode::resource_exhausted, "would take more memory than a message of this size may");
  }
  if (count > 0) memory_left_ -= memory;
  return count;
}

void InputArchive::require(bool ok, const char* what) const {
  if (!ok) refuse(ErrorCode::corrupt_data, what);
}

void InputArchive::finish() const {
  if (at_ == bytes_.size()) return;
  refuse(ErrorCode::corrupt_data, "ends here, but " + std::to_string(bytes_.size() - at_) + " bytes follow");
}

void InputArchive::refuse(ErrorCode code, const std::string& what) const {
  throw Refused{{code, "byte " + std::to_string(at_) + ": " + what}};
}

}  // namespace covey::wire
