/// Comma-separated values with a first line of column names. Source: RFC 4180, with '\n' alone as a line break, too.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::data {

struct CsvRecord {
  std::size_t line = 0;  ///< where it begins, from 1
  std::vector<std::string> fields;
};

struct CsvLimits {
  std::size_t record_bytes_max = std::size_t{1} << 20;
  std::size_t records_max = 10'000'000;
  std::size_t fields_max = 1000;
};

/// All records, the first line included; blank lines are skipped. A field in double quotes may hold commas, line breaks
/// and doubled quotes.
/// @errors corrupt_data: a quote inside an unquoted field or without its end, another number of fields than the first
/// line has; invalid_argument: over a limit. Each names the line, never the content.
Result<std::vector<CsvRecord>> parse_csv(std::string_view content, const std::string& where,
                                         const CsvLimits& limits = {});

}  // namespace covey::data
