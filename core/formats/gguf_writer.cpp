#include "core/formats/gguf_writer.h"

#include "core/base/file.h"

namespace covey::formats {
namespace {

constexpr std::size_t kAlignment = 32;  // the format's default, so that general.alignment need not be written
constexpr std::size_t kNameWrittenMax = 63;

template <typename T>
void put(Bytes& out, T value) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}
void put_text(Bytes& out, std::string_view text) {
  put(out, std::uint64_t{text.size()});
  out.insert(out.end(), text.begin(), text.end());
}
void put_type(Bytes& out, GgufType type) {
  put(out, static_cast<std::uint32_t>(type));
}

std::size_t padding(std::size_t size) {
  return (kAlignment - size % kAlignment) % kAlignment;
}

}  // namespace

bool GgufWriter::begin(std::string_view key, GgufType type) {
  if (!keys_.emplace(key).second) return false;
  put_text(entries_, key);
  put_type(entries_, type);
  return true;
}

bool GgufWriter::begin_array(std::string_view key, GgufType type, std::size_t count) {
  if (!begin(key, GgufType::array)) return false;
  put_type(entries_, type);
  put(entries_, std::uint64_t{count});
  return true;
}

void GgufWriter::set(std::string_view key, std::string_view text) {
  if (begin(key, GgufType::string)) put_text(entries_, text);
}
void GgufWriter::set(std::string_view key, bool value) {
  if (begin(key, GgufType::boolean)) put(entries_, static_cast<std::uint8_t>(value));
}
void GgufWriter::set(std::string_view key, std::uint32_t value) {
  if (begin(key, GgufType::u32)) put(entries_, value);
}
void GgufWriter::set(std::string_view key, float value) {
  if (begin(key, GgufType::f32)) put(entries_, value);
}
void GgufWriter::set(std::string_view key, std::span<const std::string> values) {
  if (!begin_array(key, GgufType::string, values.size())) return;
  for (const std::string& value : values) put_text(entries_, value);
}
void GgufWriter::set(std::string_view key, std::span<const float> values) {
  if (!begin_array(key, GgufType::f32, values.size())) return;
  for (const float value : values) put(entries_, value);
}
void GgufWriter::set(std::string_view key, std::span<const std::int32_t> values) {
  if (!begin_array(key, GgufType::i32, values.size())) return;
  for (const std::int32_t value : values) put(entries_, value);
}

void GgufWriter::copy(const GgufEntry& entry) {
  const GgufValue& value = entry.value;
  if (!(value.is_array ? begin_array(entry.key, value.type, value.count) : begin(entry.key, value.type))) return;
  if (value.type == GgufType::string) {
    for (const std::string_view text : value.strings) put_text(entries_, text);
  } else {
    entries_.insert(entries_.end(), value.bytes.begin(), value.bytes.end());
  }
}

void GgufWriter::add(std::string_view name, const GgmlTypeInfo& type, std::vector<std::int64_t> shape, Bytes bytes) {
  tensors_.push_back({std::string(name), &type, std::move(shape), std::move(bytes), {}});
}
void GgufWriter::borrow(std::string_view name, const GgmlTypeInfo& type, std::vector<std::int64_t> shape,
                        ByteSpan bytes) {
  tensors_.push_back({std::string(name), &type, std::move(shape), {}, bytes});
}

Status GgufWriter::write(const std::string& path) const {
  Bytes header;
  put(header, std::uint32_t{0x46554747});  // "GGUF"
  put(header, std::uint32_t{3});
  put(header, std::uint64_t{tensors_.size()});
  put(header, std::uint64_t{keys_.size()});
  header.insert(header.end(), entries_.begin(), entries_.end());

  const Bytes zeros(kAlignment);
  std::vector<ByteSpan> parts(2);  // header and its padding, filled in below
  std::set<std::string_view> names;
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    const auto bad = [&](const std::string& what) {
      return Error{ErrorCode::invalid_argument, path + ": tensor " + tensor.name + " " + what};
    };
    std::uint64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= static_cast<std::uint64_t>(extent);
    const auto row = static_cast<std::size_t>(tensor.shape.empty() ? 1 : tensor.shape.back());
    if (row % tensor.type->block != 0 ||
        elements / tensor.type->block * tensor.type->block_bytes != tensor.bytes().size()) {
      return bad(std::string("has bytes that do not fit its shape and type ") + tensor.type->name);
    }
    if (tensor.name.empty() || tensor.name.size() > kNameWrittenMax) return bad("has a name of no or over 63 bytes");
    if (tensor.shape.size() > 4) return bad("has more than 4 dimensions");
    if (!names.insert(tensor.name).second) return bad("is there twice");
    put_text(header, tensor.name);
    put(header, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) put(header, *extent);
    put(header, tensor.type->number);
    put(header, offset);
    const std::size_t pad = padding(tensor.bytes().size());
    offset += tensor.bytes().size() + pad;
    parts.push_back(tensor.bytes());
    parts.push_back(ByteSpan(zeros).first(pad));
  }
  parts[0] = header;
  parts[1] = ByteSpan(zeros).first(padding(header.size()));
  return write_file_durably(path, std::span<const ByteSpan>(parts));
}

}  // namespace covey::formats
