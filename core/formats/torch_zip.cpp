#include "core/formats/torch_zip.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "core/formats/torch_pickle.h"

namespace covey::formats {
namespace {

// Sizes and signatures of APPNOTE.TXT, section 4.3.
constexpr std::uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56, kLocator64Size = 20;
constexpr std::uint64_t kRecordsMax = std::uint64_t{1} << 18;

using Records = std::map<std::string_view, ByteSpan, std::less<>>;

/// Little-endian; the caller has checked that it lies inside.
template <typename T>
T read(ByteSpan bytes, std::size_t at) {
  T out = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) out = static_cast<T>(out | static_cast<T>(bytes[at + i]) << (8 * i));
  return out;
}

/// The checksum of zip, gzip and PNG.
std::uint32_t crc32(ByteSpan bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> out{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1U ? 0xedb88320U : 0U);
      out[i] = c;
    }
    return out;
  }();
  std::uint32_t crc = ~0U;
  for (const std::uint8_t byte : bytes) crc = table[(crc ^ byte) & 0xffU] ^ (crc >> 8);
  return ~crc;
}

struct Directory {
  std::uint64_t records = 0, offset = 0, size = 0;
};

/// The end record stands at the end (torch writes no comment after it); large archives say more before it.
Result<Directory> find_directory(ByteSpan file, const std::string& where) {
  if (file.size() < kEndSize || read<std::uint32_t>(file, file.size() - kEndSize) != kEnd) {
    return corrupt(where, "is not a whole torch file: the zip's end record is missing");
  }
  const std::size_t end = file.size() - kEndSize;
  Directory out{read<std::uint16_t>(file, end + 10), read<std::uint32_t>(file, end + 16),
                read<std::uint32_t>(file, end + 12)};
  if (end >= kLocator64Size && read<std::uint32_t>(file, end - kLocator64Size) == kLocator64) {
    const auto at = read<std::uint64_t>(file, end - kLocator64Size + 8);
    if (at > file.size() || file.size() - at < kEnd64Size ||
        read<std::uint32_t>(file, static_cast<std::size_t>(at)) != kEnd64) {
      return corrupt(where, "the zip's 64-bit end record is not where the file says");
    }
    const auto here = static_cast<std::size_t>(at);
    out = {read<std::uint64_t>(file, here + 32), read<std::uint64_t>(file, here + 48),
           read<std::uint64_t>(file, here + 40)};
  }
  if (out.records > kRecordsMax) {
    return Error{ErrorCode::resource_exhausted,
                 where + ": the zip has more than " + std::to_string(kRecordsMax) + " records"};
  }
  if (out.offset > file.size() || file.size() - out.offset < out.size) {
    return corrupt(where, "the zip's directory lies outside the file");
  }
  return out;
}

/// Sizes of 2^32 and more stand in an extra field, in this order, where the plain field is all ones.
void widen(ByteSpan extra, std::array<std::uint64_t*, 3> fields) {
  while (extra.size() >= 4) {
    const auto id = read<std::uint16_t>(extra, 0);
    const std::size_t size = read<std::uint16_t>(extra, 2);
    if (extra.size() - 4 < size) return;
    ByteSpan body = extra.subspan(4, size);
    extra = extra.subspan(4 + size);
    if (id != 1) continue;
    for (std::uint64_t* field : fields) {
      if (*field != 0xffffffffU || body.size() < 8) continue;
      *field = read<std::uint64_t>(body, 0);
      body = body.subspan(8);
    }
  }
}

/// One entry of the directory at `at`, which moves behind it.
Status read_entry(ByteSpan file, ByteSpan directory, std::size_t& at, const std::string& where, Records& records,
                  std::uint64_t& total) {
  if (directory.size() - at < kCentralSize || read<std::uint32_t>(directory, at) != kCentralHeader) {
    return corrupt(where, "the zip's directory is broken");
  }
  const auto flags = read<std::uint16_t>(directory, at + 8);
  const auto method = read<std::uint16_t>(directory, at + 10);
  const auto crc = read<std::uint32_t>(directory, at + 16);
  std::uint64_t packed = read<std::uint32_t>(directory, at + 20);
  std::uint64_t size = read<std::uint32_t>(directory, at + 24);
  const std::size_t name_size = read<std::uint16_t>(directory, at + 28);
  const std::size_t extra_size = read<std::uint16_t>(directory, at + 30);
  const std::size_t comment_size = read<std::uint16_t>(directory, at + 32);
  std::uint64_t offset = read<std::uint32_t>(directory, at + 42);
  at += kCentralSize;
  if (directory.size() - at < name_size + extra_size + comment_size) {
    return corrupt(where, "the zip's directory is cut short");
  }
  const std::string_view name = as_text(directory.subspan(at, name_size));
  widen(directory.subspan(at + name_size, extra_size), {&size, &packed, &offset});
  at += name_size + extra_size + comment_size;

  const std::string what = "record " + std::to_string(records.size());
  if ((flags & 1U) != 0) return Error{ErrorCode::unsupported, where + ": " + what + " is encrypted"};
  if (method != 0) return Error{ErrorCode::unsupported, where + ": " + what + " is compressed; torch.save never does"};
  if (packed != size || offset > file.size() || file.size() - offset < kLocalSize ||
      read<std::uint32_t>(file, static_cast<std::size_t>(offset)) != kLocalHeader) {
    return corrupt(where, what + " is not where the zip's directory says");
  }
  const auto local = static_cast<std::size_t>(offset);
  const std::size_t skip = kLocalSize + read<std::uint16_t>(file, local + 26) + read<std::uint16_t>(file, local + 28);
  if (file.size() - local < skip || file.size() - local - skip < size ||
      as_text(file.subspan(local + kLocalSize, read<std::uint16_t>(file, local + 26))) != name) {
    return corrupt(where, what + " is not where the zip's directory says");
  }
  const ByteSpan bytes = file.subspan(local + skip, static_cast<std::size_t>(size));
  total += size;  // records that lie on each other would cost a checksum each
  if (total > file.size()) return corrupt(where, what + " lies on others");
  if (crc32(bytes) != crc) return corrupt(where, what + " is damaged: its checksum differs");
  if (!records.emplace(name, bytes).second) return corrupt(where, what + " has the name of another one");
  return {};
}

Result<Records> read_records(ByteSpan file, const std::string& where) {
  COVEY_ASSIGN(const Directory directory, find_directory(file, where));
  const ByteSpan list =
      file.subspan(static_cast<std::size_t>(directory.offset), static_cast<std::size_t>(directory.size));
  Records records;
  std::size_t at = 0;
  std::uint64_t total = 0;
  for (std::uint64_t i = 0; i < directory.records; ++i) COVEY_TRY(read_entry(file, list, at, where, records, total));
  return records;
}

/// Copies a tensor that does not lie row by row. The caller has checked that every element is inside `storage`.
Bytes gather(const PickledTensor& tensor, ByteSpan storage, std::size_t count) {
  const std::size_t width = size_of(tensor.dtype);
  Bytes out(count * width);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  for (std::size_t i = 0; i < count; ++i) {
    std::int64_t at = tensor.offset;
    for (std::size_t d = 0; d < index.size(); ++d) at += index[d] * tensor.stride[d];
    std::memcpy(out.data() + i * width, storage.data() + static_cast<std::size_t>(at) * width, width);
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < tensor.shape[d]) break;
      index[d] = 0;
    }
  }
  return out;
}

/// How many elements the tensor has, and whether they follow each other as its shape says. All in 64 bits: sizes and
/// strides are below 2^40, and a product that leaves the storage ends the walk.
struct Extent {
  std::int64_t count = 1;
  bool contiguous = true;
};
Result<Extent> extent_of(const PickledTensor& tensor, const std::string& where) {
  const auto outside = [&] { return corrupt(where, "tensor " + tensor.name + " reaches outside its storage"); };
  Extent out;
  if (std::ranges::find(tensor.shape, 0) != tensor.shape.end()) return Extent{0, true};
  std::int64_t last = tensor.offset;
  for (std::size_t d = tensor.shape.size(); d-- > 0;) {
    const std::int64_t size = tensor.shape[d];
    if (size > 1 && tensor.stride[d] != out.count) out.contiguous = false;
    std::int64_t reach = 0;
    if (__builtin_mul_overflow(size - 1, tensor.stride[d], &reach) || __builtin_add_overflow(last, reach, &last) ||
        __builtin_mul_overflow(out.count, size, &out.count)) {
      return outside();
    }
  }
  if (last >= tensor.storage_count) return outside();
  return out;
}

Status check_archive(const Records& records, std::string_view root, const std::string& where) {
  const auto order = records.find(std::string(root) + "byteorder");
  if (order != records.end() && as_text(order->second) != "little") {
    return Error{ErrorCode::unsupported, where + ": was written on a big-endian machine; save it again on another"};
  }
  return {};
}

}  // namespace

bool looks_like_zip(ByteSpan file) {
  return file.size() >= 4 && read<std::uint32_t>(file, 0) == kLocalHeader;
}

Result<TorchZipFile> TorchZipFile::open(const std::string& path) {
  COVEY_ASSIGN(MappedFile mapped, MappedFile::open(path));
  COVEY_ASSIGN(TorchZipFile out, parse(mapped.bytes(), path));
  out.file_ = std::move(mapped);
  return out;
}

Result<TorchZipFile> TorchZipFile::parse(ByteSpan file, const std::string& where) {
  if (!looks_like_zip(file)) {
    const bool old = file.size() > 1 && file[0] == 0x80;
    return Error{old ? ErrorCode::unsupported : ErrorCode::corrupt_data,
                 where + (old ? ": is a bare pickle; save it again with torch 1.6 or later, or as safetensors"
                              : ": is no torch file: it does not begin as a zip")};
  }
  COVEY_ASSIGN(const Records records, read_records(file, where));
  constexpr std::string_view kPickle = "/data.pkl";
  const auto pickle = std::ranges::find_if(records, [&](const auto& r) { return r.first.ends_with(kPickle); });
  if (pickle == records.end()) return corrupt(where, "is a zip without data.pkl, so torch did not write it");
  const std::string root(pickle->first.substr(0, pickle->first.size() - kPickle.size() + 1));
  COVEY_TRY(check_archive(records, root, where));
  COVEY_ASSIGN(const auto pickled, read_tensor_pickle(pickle->second, where));

  TorchZipFile out;
  std::uint64_t gathered = 0;
  for (const PickledTensor& tensor : pickled) {
    const auto record = records.find(root + "data/" + tensor.storage);
    const std::size_t width = size_of(tensor.dtype);
    if (record == records.end() || record->second.size() != static_cast<std::uint64_t>(tensor.storage_count) * width) {
      return corrupt(where, "tensor " + tensor.name + ": its storage is missing, or has another size");
    }
    COVEY_ASSIGN(const Extent extent, extent_of(tensor, where));
    const auto count = static_cast<std::size_t>(extent.count);
    TensorView view{.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape, .bytes = {}};
    if (extent.contiguous) {
      if (count > 0)
        view.bytes = record->second.subspan(static_cast<std::size_t>(tensor.offset) * width, count * width);
    } else {
      // A stride of 0 repeats elements without end; the file's own size is room enough for any real state dict.
      if (count > file.size() / width || (gathered += count * width) > file.size()) {
        return Error{ErrorCode::resource_exhausted,
                     where + ": tensor " + tensor.name + " repeats its storage too often"};
      }
      out.gathered_.push_back(std::make_unique<Bytes>(gather(tensor, record->second, count)));
      view.bytes = *out.gathered_.back();
    }
    out.tensors_.push_back(std::move(view));
  }
  return out;
}

const TensorView* TorchZipFile::find(std::string_view name) const {
  const auto found = std::ranges::find(tensors_, name, &TensorView::name);
  return found == tensors_.end() ? nullptr : &*found;
}

}  // namespace covey::formats
