/// rwkv.cpp's model file, versions 100 and 101, for RWKV 4 and RWKV 7. Source: RWKV/rwkv.cpp, docs/FILE_FORMAT.md.
/// A header of six 32-bit numbers (magic, version, vocabulary, width, layers, type), then tensors to the end of the
/// file, each with its name; sizes are in reversed order. Names and values are given as Hugging Face's (version 4) and
/// flash-linear-attention's (version 7) directories have them.
#pragma once

#include <map>
#include <string>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/formats/tensor.h"

namespace covey::formats {

/// Immutable, movable, thread-safe for reading; views are borrowed from it.
class RwkvCppFile {
 public:
  /// @errors not_found, io_error; those of parse().
  static Result<RwkvCppFile> open(const std::string& path);
  /// Borrows `file`. @errors corrupt_data: cut off, sizes out of range, a name twice, a tensor missing. unsupported:
  /// quantized tensors, RWKV 5 or 6.
  static Result<RwkvCppFile> parse(ByteSpan file, const std::string& where);

  [[nodiscard]] int rwkv_version() const { return rwkv_version_; }  ///< 4 or 7
  [[nodiscard]] int vocab() const { return vocab_; }
  /// What a config.json would say.
  [[nodiscard]] const Json& config() const { return config_; }
  [[nodiscard]] const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  /// @errors not_found, corrupt_data: another shape (sizes of one in front do not count).
  [[nodiscard]] Result<const TensorView*> find(const std::string& name, const std::vector<std::int64_t>& shape) const;
  /// A tensor's values, `out` as many as `shape` says. @errors those of find().
  [[nodiscard]] Status read(const std::string& name, const std::vector<std::int64_t>& shape,
                            std::span<float> out) const;

 private:
  struct Header;
  Status read_tensor(ByteSpan file, std::size_t& at);
  Status name_tensors(const Header& header);
  Status describe(const Header& header);
  [[nodiscard]] Result<std::int64_t> size_of_tensor(const std::string& name, std::size_t from_end) const;

  MappedFile file_;
  std::string where_;
  int rwkv_version_ = 0;
  int vocab_ = 0;
  Json config_;
  std::map<std::string, TensorView> tensors_;
};

/// Whether a file begins with the format's magic; false where it cannot be read.
bool is_rwkv_cpp(const std::string& path);

}  // namespace covey::formats
