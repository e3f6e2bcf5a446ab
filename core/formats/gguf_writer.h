/// Writes GGUF version 3. Source: ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/gguf.h"

namespace covey::formats {

/// Collects keys and tensors, then writes the file. Keys keep the order in which they came; a key set again is ignored
/// (the first stands), a tensor added twice is refused by write(). Not thread-safe.
class GgufWriter {
 public:
  void set(std::string_view key, std::string_view text);
  void set(std::string_view key, const char* text) { set(key, std::string_view(text)); }
  void set(std::string_view key, bool value);
  void set(std::string_view key, std::uint32_t value);
  void set(std::string_view key, float value);
  void set(std::string_view key, std::span<const std::string> values);
  void set(std::string_view key, std::span<const float> values);
  void set(std::string_view key, std::span<const std::int32_t> values);
  /// As it lies in another file, of any type.
  void copy(const GgufEntry& entry);
  [[nodiscard]] bool has(std::string_view key) const { return keys_.contains(std::string(key)); }

  /// @param shape  outermost first
  /// @param bytes  owned, or borrowed until write(); of the size that type and shape ask for (checked by write)
  void add(std::string_view name, const GgmlTypeInfo& type, std::vector<std::int64_t> shape, Bytes bytes);
  void borrow(std::string_view name, const GgmlTypeInfo& type, std::vector<std::int64_t> shape, ByteSpan bytes);

  /// Durably. @errors invalid_argument: a tensor whose bytes do not fit its type and shape, a name that the format
  /// cannot hold or that is there twice; io_error: the old file stands.
  [[nodiscard]] Status write(const std::string& path) const;

 private:
  struct Tensor {
    std::string name;
    const GgmlTypeInfo* type;
    std::vector<std::int64_t> shape;
    Bytes owned;
    ByteSpan borrowed;
    [[nodiscard]] ByteSpan bytes() const { return owned.empty() ? borrowed : ByteSpan(owned); }
  };
  /// Key and type; whether the key is new.
  bool begin(std::string_view key, GgufType type);
  bool begin_array(std::string_view key, GgufType type, std::size_t count);

  std::set<std::string> keys_;
  Bytes entries_;
  std::vector<Tensor> tensors_;
};

}  // namespace covey::formats
