/// safetensors files. Source: huggingface/safetensors, tensor.rs: u64 header length N, N bytes of JSON, data.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/result.h"
#include "core/formats/tensor.h"

namespace covey::formats {

/// A mapped file whose whole header was checked: known types, shapes that match byte ranges, ranges that follow each
/// other without gap or overlap and cover the file. Immutable, movable, thread-safe for reading.
class SafetensorsFile {
 public:
  /// @errors not_found, permission_denied, io_error; corrupt_data: a rule of the format is broken, the message says
  /// which and at which tensor; unsupported: an element type we do not know.
  static Result<SafetensorsFile> open(const std::string& path);

  /// In the order of their data. Bytes stay valid while this object lives, moves included.
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  /// nullptr where there is none of that name. O(log n).
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  /// @errors not_found, with the file's name.
  [[nodiscard]] Result<const TensorView*> get(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  [[nodiscard]] Status read_header(ByteSpan file);

  std::string path_;
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

/// The same checks on bytes in memory (borrowed by the result). For tests and fuzzing.
Result<std::vector<TensorView>> parse_safetensors(ByteSpan file, const std::string& where,
                                                  std::map<std::string, std::string>* metadata = nullptr);

/// An F32 tensor over `values`, borrowed.
TensorView f32_view(std::string name, std::vector<std::int64_t> shape, std::span<const float> values);

/// Writes the file durably, as the reference writer does: by alignment descending, then by name; header padded with
/// spaces to a multiple of 8.
/// @errors invalid_argument: a shape that does not match its bytes, a name twice; io_error: the old file stands.
[[nodiscard]] Status write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                                       const std::map<std::string, std::string>& metadata = {});

}  // namespace covey::formats
