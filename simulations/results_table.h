/// results.sqlite of a sweep: plain tables for whoever asks SQL.
///
///   runs(name TEXT PRIMARY KEY, variant, settings, seed, folder, loss, perplexity, accuracy, base_loss, rounds,
///        virtual_hours, bytes_up, bytes_down, joules, training_bytes, wall_s)   settings: "key=value key=value"
///   rounds(run, round, ...)  the members of metrics.jsonl that are numbers, by their names
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"
#include "simulations/sweep.h"

struct sqlite3;

namespace covey::simulations {

/// One connection; not thread-safe.
class ResultsTable {
 public:
  /// Opens or makes the file. @errors corrupt_data: no SQLite file, or tables of another kind; io_error.
  static Result<ResultsTable> open(const std::string& path);

  /// A run with its rounds, in one transaction, in place of what stood under its name. @errors io_error.
  Status put(const SweepPoint& point, const std::string& folder, const formats::Json& summary,
             std::span<const formats::Json> rounds);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  Status run(const std::string& sql);
  std::string path_;
  std::unique_ptr<sqlite3, Close> database_;
};

/// A row of `runs` with its rounds, put together as run_directory.h's files have it, as far as the table goes.
struct TableRun {
  std::string name;
  std::string variant;
  std::string settings;
  std::uint64_t seed = 0;
  formats::Json summary;
  std::vector<formats::Json> rounds;
};
/// Reads a file that this version or an earlier one wrote; changes nothing.
/// @errors not_found; corrupt_data: no SQLite file, or without these tables; io_error.
Result<std::vector<TableRun>> read_results_table(const std::string& path);

}  // namespace covey::simulations
