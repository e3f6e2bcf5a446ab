#include "core/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/formats/json.h"

namespace covey::formats {
namespace {

constexpr std::uint64_t kHeaderMax = 100'000'000;
constexpr std::size_t kDimensionsMax = 16;
constexpr std::string_view kMetadata = "__metadata__";

/// Elements * size, or nothing where it does not fit 64 bits.
Result<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape, DType dtype) {
  std::uint64_t bytes = size_of(dtype);
  for (const std::int64_t n : shape) {
    if (n < 0) return Error{ErrorCode::corrupt_data, "has a negative size in its shape"};
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(n), &bytes)) {
      return Error{ErrorCode::corrupt_data, "has a shape whose product overflows"};
    }
  }
  return bytes;
}

struct Entry {
  TensorView tensor;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

Result<Entry> read_entry(const JsonMember& member) {
  Entry entry;
  entry.tensor.name = member.key;
  COVEY_ASSIGN(const std::string dtype, member.value.get_string("dtype"));
  auto known = dtype_from(dtype);
  if (!known.ok()) return member.value.error_at("dtype", known.error().message);
  entry.tensor.dtype = *known;
  COVEY_ASSIGN(entry.tensor.shape, member.value.get_ints("shape"));
  if (entry.tensor.shape.size() > kDimensionsMax) return member.value.error_at("shape", "has more than 16 dimensions");
  COVEY_ASSIGN(const auto offsets, member.value.get_ints("data_offsets"));
  if (offsets.size() != 2 || offsets[0] < 0 || offsets[1] < offsets[0]) {
    return member.value.error_at("data_offsets", "must be [begin, end] with 0 <= begin <= end");
  }
  entry.begin = static_cast<std::uint64_t>(offsets[0]);
  entry.end = static_cast<std::uint64_t>(offsets[1]);
  auto bytes = byte_count(entry.tensor.shape, entry.tensor.dtype);
  if (!bytes.ok()) return member.value.error_at("shape", bytes.error().message);
  if (*bytes != entry.end - entry.begin) {
    return member.value.error_at("data_offsets", "span " + std::to_string(entry.end - entry.begin) + " bytes, but " +
                                                     to_string(*known) + " " + entry.tensor.shape_text() + " needs " +
                                                     std::to_string(*bytes));
  }
  return entry;
}

}  // namespace

Result<std::vector<TensorView>> parse_safetensors(ByteSpan file, const std::string& where,
                                                  std::map<std::string, std::string>* metadata) {
  if (file.size() < 8) return corrupt(where, "is too short for a safetensors file");
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, file.data(), 8);
  if (header_size > kHeaderMax) {
    return corrupt(where, "claims a header of " + std::to_string(header_size) + " bytes, over the format's limit");
  }
  if (header_size > file.size() - 8) {
    return corrupt(where, "claims a header of " + std::to_string(header_size) + " bytes, but has only " +
                              std::to_string(file.size() - 8) + "; fetch it again");
  }
  const std::string_view header = as_text(file.subspan(8, header_size));
  if (!header.starts_with('{')) return corrupt(where, "its header does not start with {");
  auto json = Json::parse(header, where, {.bytes_max = kHeaderMax, .depth_max = 4});
  if (!json.ok()) return json.error();

  std::vector<Entry> entries;
  for (const JsonMember& member : json->members()) {
    if (member.key == kMetadata) {
      if (!member.value.is_object()) return corrupt(where, "__metadata__ is not an object");
      for (const JsonMember& item : member.value.members()) {
        auto text = item.value.as_string();
        if (!text.ok()) return corrupt(where, "__metadata__ holds something that is no string");
        if (metadata != nullptr) metadata->emplace(item.key, *std::move(text));
      }
      continue;
    }
    if (!member.value.is_object()) return corrupt(where, "holds an entry that is no object");
    auto entry = read_entry(member);
    if (!entry.ok()) {  // a getter says invalid_argument; here the file is what is wrong
      const bool unknown = entry.error().message.find("unknown element type") != std::string::npos;
      return Error{unknown ? ErrorCode::unsupported : ErrorCode::corrupt_data, entry.error().message};
    }
    entries.push_back(*std::move(entry));
  }

  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.tensor.name < b.tensor.name;
  });
  const ByteSpan data = file.subspan(8 + header_size);
  std::uint64_t position = 0;
  std::vector<TensorView> tensors;
  tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    if (entry.begin != position) {
      return corrupt(where,
                     "the data has a gap or an overlap at byte " + std::to_string(std::min(position, entry.begin)));
    }
    if (entry.end > data.size()) {
      return corrupt(where, "is cut off: needs " + std::to_string(entry.end) + " bytes of data or more, has " +
                                std::to_string(data.size()) + "; fetch it again");
    }
    position = entry.end;
    entry.tensor.bytes = data.subspan(entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.tensor));
  }
  if (position != data.size()) {
    return corrupt(where, std::to_string(data.size() - position) + " bytes at the end belong to no tensor");
  }
  return tensors;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile result;
  result.path_ = path;
  COVEY_ASSIGN(result.file_, MappedFile::open(path));
  COVEY_TRY(result.read_header(result.file_.bytes()));
  return result;
}

Status SafetensorsFile::read_header(ByteSpan file) {
  COVEY_ASSIGN(tensors_, parse_safetensors(file, path_, &metadata_));
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
  return {};
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<const TensorView*> SafetensorsFile::get(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return tensor;
  return Error{ErrorCode::not_found, path_ + ": holds no tensor " + std::string(name)};
}

TensorView f32_view(std::string name, std::vector<std::int64_t> shape, std::span<const float> values) {
  return {std::move(name), DType::f32, std::move(shape),
          ByteSpan(reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float))};
}

Status write_safetensors(const std::string& path, std::span<const TensorView> tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorView*> order;
  for (const TensorView& tensor : tensors) {
    auto bytes = byte_count(tensor.shape, tensor.dtype);
    if (!bytes.ok() || *bytes != tensor.bytes.size()) {
      return Error{ErrorCode::invalid_argument,
                   path + ": tensor " + tensor.name + " of shape " + tensor.shape_text() + " does not fit its bytes"};
    }
    order.push_back(&tensor);
  }
  std::ranges::sort(order, [](const TensorView* a, const TensorView* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });

  Json header = Json::object();
  if (!metadata.empty()) {
    Json items = Json::object();
    for (const auto& [key, value] : metadata) items.set(key, value);
    header.set(kMetadata, std::move(items));
  }
  std::int64_t position = 0;
  for (const TensorView* tensor : order) {
    if (header.contains(tensor->name) || tensor->name == kMetadata) {
      return Error{ErrorCode::invalid_argument, path + ": the name " + tensor->name + " is taken already"};
    }
    const auto end = position + static_cast<std::int64_t>(tensor->bytes.size());
    header.set(tensor->name, Json::object({{"dtype", to_string(tensor->dtype)},
                                           {"shape", tensor->shape},
                                           {"data_offsets", Json::array({position, end})}}));
    position = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');

  Bytes file(8 + text.size());
  file.reserve(file.size() + static_cast<std::size_t>(position));
  const std::uint64_t header_size = text.size();
  std::memcpy(file.data(), &header_size, 8);
  std::memcpy(file.data() + 8, text.data(), text.size());
  for (const TensorView* tensor : order) file.insert(file.end(), tensor->bytes.begin(), tensor->bytes.end());
  return write_file_durably(path, ByteSpan(file));
}

}  // namespace covey::formats
