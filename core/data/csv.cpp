#include "core/data/csv.h"

#include <algorithm>
#include <utility>

namespace covey::data {
namespace {

class CsvReader {
 public:
  CsvReader(std::string_view content, const std::string& where, const CsvLimits& limits)
      : rest_(content), where_(where), limits_(limits) {}

  Result<std::vector<CsvRecord>> read() {
    std::vector<CsvRecord> out;
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);  // a byte order mark
    while (!rest_.empty()) {
      if (skip_blank_line()) continue;
      if (out.size() == limits_.records_max) {
        return fail(line_, ErrorCode::invalid_argument,
                    "more than " + std::to_string(limits_.records_max) + " records");
      }
      CsvRecord record;
      record.line = line_;
      COVEY_TRY(read_record(record));
      if (!out.empty() && record.fields.size() != out.front().fields.size()) {
        return fail(record.line, ErrorCode::corrupt_data,
                    "has " + std::to_string(record.fields.size()) + " fields, the first line has " +
                        std::to_string(out.front().fields.size()) + "; put fields with commas in double quotes");
      }
      out.push_back(std::move(record));
    }
    return out;
  }

 private:
  [[nodiscard]] Error fail(std::size_t line, ErrorCode code, const std::string& what) const {
    return {code, where_ + ":" + std::to_string(line) + ": " + what};
  }

  /// The length of the line break at the front; 0: none.
  [[nodiscard]] std::size_t line_break() const {
    if (rest_.starts_with("\r\n")) return 2;
    return rest_.starts_with('\n') ? 1 : 0;
  }

  bool skip_blank_line() {
    const std::size_t length = line_break();
    rest_.remove_prefix(length);
    line_ += length > 0 ? 1 : 0;
    return length > 0;
  }

  Status read_record(CsvRecord& record) {
    const std::size_t before = rest_.size();
    while (true) {
      std::string field;
      COVEY_TRY(rest_.starts_with('"') ? read_quoted(record.line, field) : read_plain(field));
      record.fields.push_back(std::move(field));
      if (before - rest_.size() > limits_.record_bytes_max || record.fields.size() > limits_.fields_max) {
        return fail(record.line, ErrorCode::invalid_argument,
                    "the record has more than " + std::to_string(limits_.record_bytes_max) + " bytes or " +
                        std::to_string(limits_.fields_max) + " fields");
      }
      if (rest_.starts_with(',')) {
        rest_.remove_prefix(1);
        continue;
      }
      if (rest_.empty() || skip_blank_line()) return {};
      return fail(line_, ErrorCode::corrupt_data, "text after a closing quote; double the quotes inside a field");
    }
  }

  Status read_plain(std::string& field) {
    std::size_t end = 0;
    while (end < rest_.size() && rest_[end] != ',' && rest_[end] != '\n' && rest_[end] != '"') ++end;
    if (end < rest_.size() && rest_[end] == '"') {
      return fail(line_, ErrorCode::corrupt_data, "a quote inside a field without quotes; put the field in quotes");
    }
    std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end);
    if (!rest_.starts_with(',') && text.ends_with('\r')) text.remove_suffix(1);
    field = text;
    return {};
  }

  Status read_quoted(std::size_t begin, std::string& field) {
    rest_.remove_prefix(1);
    while (true) {
      const std::size_t end = rest_.find('"');
      if (end == std::string_view::npos || field.size() + end > limits_.record_bytes_max) {
        return fail(begin, ErrorCode::corrupt_data, "a quoted field has no end, or is too long");
      }
      const std::string_view text = rest_.substr(0, end);
      line_ += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
      field += text;
      rest_.remove_prefix(end + 1);
      if (!rest_.starts_with('"')) return {};
      field += '"';
      rest_.remove_prefix(1);
    }
  }

  std::string_view rest_;
  const std::string& where_;
  const CsvLimits& limits_;
  std::size_t line_ = 1;
};

}  // namespace

Result<std::vector<CsvRecord>> parse_csv(std::string_view content, const std::string& where, const CsvLimits& limits) {
  return CsvReader(content, where, limits).read();
}

}  // namespace covey::data
