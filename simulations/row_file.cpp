#include "simulations/row_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>

#include "core/base/file.h"
#include "simulations/file_bytes.h"

namespace covey::simulations {
namespace {

constexpr std::size_t kRowBuffer = std::size_t{1} << 20;
constexpr const char* kRowFileName = "the temporary file of token rows";

void put_number(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::uint8_t>(value | 0x80));
  out.push_back(static_cast<std::uint8_t>(value));
}

/// Small where the magnitude is.
std::uint64_t folded(std::int64_t value) {
  return static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63);
}
std::int64_t unfolded(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

/// What a target is written relative to: 0 stands for kNoTarget, 1 for the next token.
std::int64_t expected(const std::vector<std::int32_t>& ids, std::size_t at) {
  return at + 1 < ids.size() ? ids[at + 1] : 0;
}

void put_ids(Bytes& out, const std::vector<std::int32_t>& ids) {
  put_number(out, ids.size());
  for (const auto id : ids) put_number(out, folded(id));
}

void put_row(Bytes& out, const train::TokenRow& row) {
  out.push_back(row.is_class ? 1 : 0);
  put_ids(out, row.ids);
  put_ids(out, row.types);
  put_ids(out, row.second_ids);
  put_number(out, row.targets.size());
  for (std::size_t i = 0; i < row.targets.size(); ++i) {
    const std::int64_t target = row.targets[i];
    put_number(out, target == data::kNoTarget ? 0 : 1 + folded(target - expected(row.ids, i)));
  }
}

/// A file that ends too early gives zeros and is found by failed().
class RowReader {
 public:
  explicit RowReader(ByteSpan bytes) : bytes_(bytes) {}

  std::uint64_t number() {
    std::uint64_t out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (bytes_.empty()) {
        failed_ = true;
        return 0;
      }
      const std::uint8_t byte = bytes_.front();
      bytes_ = bytes_.subspan(1);
      out |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return out;
    }
    failed_ = true;
    return 0;
  }
  /// Every element takes a byte at least.
  std::size_t count() {
    const std::uint64_t n = number();
    failed_ = failed_ || n > bytes_.size();
    return failed_ ? 0 : static_cast<std::size_t>(n);
  }
  std::vector<std::int32_t> ids() {
    std::vector<std::int32_t> out(count());
    for (auto& id : out) id = static_cast<std::int32_t>(unfolded(number()));
    return out;
  }
  train::TokenRow row() {
    train::TokenRow out;
    out.is_class = number() == 1;
    out.ids = ids();
    out.types = ids();
    out.second_ids = ids();
    out.targets.resize(count());
    for (std::size_t i = 0; i < out.targets.size(); ++i) {
      const std::uint64_t coded = number();
      out.targets[i] =
          coded == 0 ? data::kNoTarget : static_cast<std::int32_t>(unfolded(coded - 1) + expected(out.ids, i));
    }
    return out;
  }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }

 private:
  ByteSpan bytes_;
  bool failed_ = false;
};

}  // namespace

Result<std::unique_ptr<RowFile>> RowFile::create() {
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(ignored);
  std::string path = (folder.empty() ? std::filesystem::path("/tmp") : folder).string() + "/covey-sim-rows-XXXXXX";
  const int file = ::mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) return os_error(path, "cannot make a temporary file (TMPDIR names another folder)");
  ::unlink(path.c_str());
  return std::unique_ptr<RowFile>(new RowFile(file));
}

RowFile::~RowFile() {
  ::close(file_);
}

Result<RowFile::Place> RowFile::append(std::span<const train::TokenRow> rows) {
  if (waiting_.size() >= kRowBuffer) COVEY_TRY(finish());
  const std::size_t begin = waiting_.size();
  for (const auto& row : rows) put_row(waiting_, row);
  const std::size_t bytes = waiting_.size() - begin;
  if (bytes > std::numeric_limits<std::uint32_t>::max()) {
    return Error{ErrorCode::invalid_argument, "a device has more than 4 GiB of token rows; give it fewer examples"};
  }
  return Place{written_ + begin, static_cast<std::uint32_t>(bytes), static_cast<std::uint32_t>(rows.size())};
}

Status RowFile::finish() {
  COVEY_TRY(write_at(file_, written_, waiting_, kRowFileName));
  written_ += waiting_.size();
  waiting_ = {};
  return {};
}

Result<std::vector<train::TokenRow>> RowFile::read(const Place& place) const {
  Bytes content(place.bytes);
  if (!read_at(file_, place.at, content))
    return Error{ErrorCode::io_error, std::string(kRowFileName) + ": cannot read"};
  RowReader reader(content);
  std::vector<train::TokenRow> out;
  out.reserve(place.rows);
  for (std::uint32_t i = 0; i < place.rows && !reader.failed(); ++i) out.push_back(reader.row());
  if (reader.failed() || !reader.empty()) {
    return Error{ErrorCode::corrupt_data, std::string(kRowFileName) + ": its content has changed"};
  }
  return out;
}

}  // namespace covey::simulations
