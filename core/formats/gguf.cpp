#include "core/formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

namespace covey::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read where they lie");

constexpr std::size_t kEntryBytesMin = 8 + 4 + 1;           // key length, type, value
constexpr std::size_t kTensorBytesMin = 8 + 1 + 4 + 4 + 8;  // name length and name, dimensions, type, offset
constexpr std::uint64_t kKeyBytesMax = 65535;
constexpr std::uint64_t kNameBytesMax = 64;
constexpr std::uint32_t kDimensionsMax = 4;
constexpr std::uint64_t kAlignmentMax = std::uint64_t{1} << 20;
constexpr std::string_view kAlignmentKey = "general.alignment";

std::size_t size_of(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    default:
      return 8;  // also the length in front of a string
  }
}

bool is_printable(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

/// Reads forward through the file; every take() says whether the bytes were there.
class Cursor {
 public:
  explicit Cursor(ByteSpan file) : file_(file) {}

  template <typename T>
  bool take(T& value) {
    if (left() < sizeof value) return false;
    std::memcpy(&value, file_.data() + at_, sizeof value);
    at_ += sizeof value;
    return true;
  }
  bool take(std::string_view& text) {
    std::uint64_t length = 0;
    if (!take(length) || length > left()) return false;
    text = as_text(file_.subspan(at_, length));
    at_ += length;
    return true;
  }
  bool take(std::uint64_t length, ByteSpan& bytes) {
    if (length > left()) return false;
    bytes = file_.subspan(at_, length);
    at_ += length;
    return true;
  }
  [[nodiscard]] std::size_t left() const { return file_.size() - at_; }
  [[nodiscard]] std::size_t at() const { return at_; }

 private:
  ByteSpan file_;
  std::size_t at_ = 0;
};

Error damaged(const std::string& what) {
  return {ErrorCode::corrupt_data, what};
}

const std::string kCutOff = "is cut off; fetch the file again";

Status read_items(Cursor& cursor, GgufValue& value) {
  if (value.count > cursor.left() / size_of(value.type)) return damaged(kCutOff);
  if (value.type != GgufType::string) {
    if (!cursor.take(value.count * size_of(value.type), value.bytes)) return damaged(kCutOff);
    if (value.type == GgufType::boolean && std::ranges::any_of(value.bytes, [](std::uint8_t b) { return b > 1; })) {
      return damaged("holds a bool that is neither 0 nor 1");
    }
    return {};
  }
  value.strings.resize(value.count);
  for (std::string_view& text : value.strings) {
    if (!cursor.take(text)) return damaged(kCutOff);
  }
  return {};
}

Status read_value(Cursor& cursor, GgufValue& value) {
  const auto take_type = [&]() -> std::optional<GgufType> {
    std::uint32_t number = 0;
    if (!cursor.take(number) || number > static_cast<std::uint32_t>(GgufType::f64)) return std::nullopt;
    return static_cast<GgufType>(number);
  };
  auto type = take_type();
  if (!type) return damaged("has no value type that the format knows");
  if (*type == GgufType::array) {
    value.is_array = true;
    type = take_type();
    std::uint64_t count = 0;
    if (!type || *type == GgufType::array) return damaged("is an array of something that the format does not know");
    if (!cursor.take(count)) return damaged(kCutOff);
    value.count = count;
  }
  value.type = *type;
  return read_items(cursor, value);
}

struct TensorEntry {
  GgufTensor tensor;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// After its name was read: dimensions, type, offset; and the bytes that these imply.
Status read_tensor(Cursor& cursor, TensorEntry& entry) {
  std::uint32_t dimensions = 0;
  if (!cursor.take(dimensions)) return damaged(kCutOff);
  if (dimensions > kDimensionsMax) return damaged("has " + std::to_string(dimensions) + " dimensions, over 4");
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    std::int64_t extent = 0;
    if (!cursor.take(extent)) return damaged(kCutOff);
    if (extent < 1) return damaged("has a dimension of " + std::to_string(extent));
    if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(extent), &elements)) {
      return damaged("has a shape whose product overflows");
    }
    entry.tensor.shape.push_back(extent);
  }
  const std::int64_t row = entry.tensor.shape.empty() ? 1 : entry.tensor.shape.front();
  std::ranges::reverse(entry.tensor.shape);
  std::uint32_t type = 0;
  if (!cursor.take(type) || !cursor.take(entry.offset)) return damaged(kCutOff);
  entry.tensor.type = ggml_type_info(type);
  if (entry.tensor.type == nullptr) {
    return Error{ErrorCode::unsupported, "has type number " + std::to_string(type) + ", which is not known here"};
  }
  const auto& info = *entry.tensor.type;
  if (static_cast<std::uint64_t>(row) % info.block != 0) {
    return damaged("has rows of " + std::to_string(row) + " values, which do not fill blocks of " + info.name);
  }
  if (__builtin_mul_overflow(elements / info.block, std::uint64_t{info.block_bytes}, &entry.bytes)) {
    return damaged("has a shape whose size overflows");
  }
  return {};
}

std::uint64_t padded(std::uint64_t size, std::uint64_t alignment) {
  return (size + alignment - 1) / alignment * alignment;  // callers keep size far below 2^64
}

/// Gives each tensor its bytes. They follow each other in the order of their entries, each padded to the alignment.
Status place(std::vector<TensorEntry>& entries, ByteSpan file, std::size_t header_end, std::uint64_t alignment) {
  const std::uint64_t begin = std::min<std::uint64_t>(padded(header_end, alignment), file.size());
  const ByteSpan data = file.subspan(begin);
  std::uint64_t position = 0;
  for (TensorEntry& entry : entries) {
    const std::string name = "tensor " + std::string(entry.tensor.name);
    if (entry.offset != position) {
      return damaged(name + " begins at byte " + std::to_string(entry.offset) + " of the data, must begin at " +
                     std::to_string(position));
    }
    if (position > data.size() || entry.bytes > data.size() - position) {
      return damaged(name + " needs " + std::to_string(entry.bytes) +
                     " bytes, more than the file has left; fetch the file again");
    }
    entry.tensor.bytes = data.subspan(position, entry.bytes);
    position = padded(position + entry.bytes, alignment);
  }
  if (data.size() > position) {
    return damaged(std::to_string(data.size() - position) + " bytes at the end belong to no tensor");
  }
  return {};
}

Result<std::uint64_t> checked_version(Cursor& cursor, std::uint32_t& version) {
  std::uint32_t magic = 0;
  if (!cursor.take(magic) || magic != 0x46554747U) return damaged("is not a GGUF file");
  if (!cursor.take(version)) return damaged(kCutOff);
  if ((version & 0xFFFFU) == 0 && version != 0) {
    return Error{ErrorCode::unsupported, "is a big-endian GGUF file; convert it to little-endian"};
  }
  if (version == 1) return Error{ErrorCode::unsupported, "is GGUF version 1; convert it with a newer llama.cpp"};
  if (version != 2 && version != 3) {
    return Error{ErrorCode::unsupported, "is GGUF version " + std::to_string(version) + "; 2 and 3 are supported"};
  }
  std::uint64_t tensors = 0;
  if (!cursor.take(tensors)) return damaged(kCutOff);
  return tensors;
}

}  // namespace

std::int64_t GgufTensor::elements() const {
  return static_cast<std::int64_t>(bytes.size() / type->block_bytes * type->block);
}

std::string GgufTensor::shape_text() const {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile result;
  result.path_ = path;
  COVEY_ASSIGN(result.file_, MappedFile::open(path));
  if (auto status = result.read(result.file_.bytes()); !status.ok()) return status.error().in(path);
  return result;
}

Result<GgufFile> GgufFile::parse(ByteSpan file, const std::string& where) {
  GgufFile result;
  result.path_ = where;
  if (auto status = result.read(file); !status.ok()) return status.error().in(where);
  return result;
}

Status GgufFile::read(ByteSpan file) {
  Cursor cursor(file);
  COVEY_ASSIGN(const std::uint64_t tensors, checked_version(cursor, version_));
  std::uint64_t entries = 0;
  if (!cursor.take(entries)) return damaged(kCutOff);
  if (entries > cursor.left() / kEntryBytesMin || tensors > cursor.left() / kTensorBytesMin) {
    return damaged("claims " + std::to_string(entries) + " keys and " + std::to_string(tensors) +
                   " tensors, more than its size allows");
  }
  entries_.resize(entries);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    GgufEntry& entry = entries_[i];
    const std::string number = "key " + std::to_string(i + 1);
    if (!cursor.take(entry.key)) return damaged(number + " " + kCutOff);
    if (entry.key.size() > kKeyBytesMax || !is_printable(entry.key)) return damaged(number + " is not printable ASCII");
    if (auto status = read_value(cursor, entry.value); !status.ok()) {
      return damaged(shown(entry.key) + " " + status.error().message);
    }
    if (!entry_index_.emplace(entry.key, i).second) return damaged(shown(entry.key) + " is there twice");
  }
  if (const GgufValue* alignment = value(kAlignmentKey)) {
    alignment_ = 0;
    if (!alignment->is_array && alignment->type == GgufType::u32) {
      std::uint32_t stated = 0;
      std::memcpy(&stated, alignment->bytes.data(), sizeof stated);
      alignment_ = stated;
    }
    if (!std::has_single_bit(alignment_) || alignment_ > kAlignmentMax) {
      return damaged("general.alignment must be a u32, a power of two, at most " + std::to_string(kAlignmentMax));
    }
  }
  std::vector<TensorEntry> placed(tensors);
  for (std::size_t i = 0; i < placed.size(); ++i) {
    std::string_view& name = placed[i].tensor.name;
    const std::string number = "tensor " + std::to_string(i + 1);
    if (!cursor.take(name)) return damaged(number + " " + kCutOff);
    if (name.size() > kNameBytesMax || !is_printable(name)) {
      return damaged("the name of " + number + " is not up to 64 printable ASCII characters");
    }
    if (auto status = read_tensor(cursor, placed[i]); !status.ok()) {
      return Error{status.error().code, "tensor " + std::string(name) + " " + status.error().message};
    }
    if (!tensor_index_.emplace(name, i).second) return damaged("tensor " + std::string(name) + " is there twice");
  }
  COVEY_TRY(place(placed, file, cursor.at(), alignment_));
  tensors_.reserve(placed.size());
  for (TensorEntry& entry : placed) tensors_.push_back(std::move(entry.tensor));
  return {};
}

const GgufTensor* GgufFile::find(std::string_view tensor) const {
  const auto it = tensor_index_.find(tensor);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

Result<const GgufTensor*> GgufFile::get(std::string_view tensor) const {
  if (const GgufTensor* found = find(tensor)) return found;
  return Error{ErrorCode::not_found, path_ + ": holds no tensor " + std::string(tensor)};
}

}  // namespace covey::formats
