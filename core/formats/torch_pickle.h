/// The pickle inside a torch.save file, read without running anything: a state dict of tensors whose bytes lie in other
/// records of the same zip. Source: CPython's pickletools (protocol 2), pytorch's torch/serialization.py and
/// torch/_utils.py.
///
/// A pickle is a program for a stack machine that may name any callable. This reader knows the instructions that a
/// dictionary of tensors needs, makes no object but tensors, and refuses every other name and instruction by its name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/tensor.h"

namespace covey::formats {

/// A tensor as the pickle describes it: a strided window on a storage, in elements of `dtype`.
struct PickledTensor {
  std::string name;
  DType dtype = DType::f32;
  std::string storage;             ///< the key of the record data/<key>
  std::int64_t storage_count = 0;  ///< elements that the storage says it has
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> stride;  ///< as many as `shape`
};

constexpr std::size_t kPickleBytesMax = std::size_t{16} << 20;
constexpr std::size_t kPickleValuesMax = std::size_t{1} << 21;
constexpr std::size_t kPickleTensorsMax = std::size_t{1} << 17;
constexpr std::size_t kPickleDimsMax = 16;

/// In the dictionary's order. Sizes, strides and offsets are non-negative and below 2^40; whether they stay inside the
/// storage is the caller's to check, who knows the storage.
/// @param where opens every message.
/// @errors corrupt_data: cut short, an instruction without its operands, a name twice; unsupported: a callable, an
/// instruction or a value that is no tensor (the message names it); resource_exhausted: beyond the bounds above.
/// @cost O(size) time and memory, at most about 80 bytes for each of kPickleValuesMax values.
Result<std::vector<PickledTensor>> read_tensor_pickle(ByteSpan pickle, const std::string& where);

}  // namespace covey::formats
