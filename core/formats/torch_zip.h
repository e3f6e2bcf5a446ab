/// Files that torch.save writes since torch 1.6: a zip of stored (never compressed) records, one of which is a pickle
/// that says where the tensors lie in the others. Source: PKWARE's APPNOTE.TXT, pytorch's caffe2/serialize and
/// torch/serialization.py. Nothing in the file is run: see torch_pickle.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/file.h"
#include "core/base/result.h"
#include "core/formats/tensor.h"

namespace covey::formats {

/// A state dict whose every tensor was checked: records inside the file, checksums right, windows inside their storage.
/// Immutable, movable, thread-safe for reading.
///
///   COVEY_ASSIGN(const auto file, TorchZipFile::open("adapter_model.bin"));
///   for (const TensorView& tensor : file.tensors()) ...
class TorchZipFile {
 public:
  /// @errors not_found, permission_denied, io_error; corrupt_data: a rule of the format is broken; unsupported: the
  /// older format without a zip, compressed or encrypted records, big-endian values, anything but tensors (its name is
  /// said); resource_exhausted: the bounds of torch_pickle.h, or tensors that repeat their storage so often that they
  /// would take more than the file's size.
  static Result<TorchZipFile> open(const std::string& path);
  /// The same on bytes in memory, borrowed by the result.
  static Result<TorchZipFile> parse(ByteSpan file, const std::string& where);

  /// In the dictionary's order; bytes stay valid while this object lives, moves included. A tensor that does not lie
  /// row by row in its storage was copied.
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  [[nodiscard]] const TensorView* find(std::string_view name) const;

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::vector<std::unique_ptr<Bytes>> gathered_;
};

/// Whether the bytes begin as a zip does.
bool looks_like_zip(ByteSpan file);

}  // namespace covey::formats
