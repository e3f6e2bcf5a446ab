#include "simulations/results_table.h"

#include <sqlite3.h>

#include <array>
#include <map>
#include <vector>

namespace covey::simulations {
namespace {

using formats::Json;

constexpr std::array kRoundColumns = {"round",    "version",    "virtual_s",   "round_s",      "loss",   "perplexity",
                                      "accuracy", "invited",    "refused",     "contributed",  "late",   "dropped",
                                      "bytes_up", "bytes_down", "bytes_total", "joules_total", "epsilon"};

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

void bind_json(sqlite3_stmt* statement, int at, const Json* value) {
  if (value == nullptr || value->is_null()) {
    sqlite3_bind_null(statement, at);
  } else if (value->is_int()) {
    sqlite3_bind_int64(statement, at, *value->as_int());
  } else if (value->is_number()) {
    sqlite3_bind_double(statement, at, *value->as_double());
  } else {
    const std::string text = value->is_string() ? *value->as_string() : value->dump();
    sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  }
}

/// INSERT OR REPLACE of one row.
bool insert_row(sqlite3* database, const std::string& table, const std::vector<Json>& row) {
  std::string sql = "INSERT OR REPLACE INTO " + table + " VALUES (";
  for (std::size_t i = 0; i < row.size(); ++i) sql += i == 0 ? "?" : ",?";
  sqlite3_stmt* made = nullptr;
  if (sqlite3_prepare_v2(database, (sql + ")").c_str(), -1, &made, nullptr) != SQLITE_OK) return false;
  const std::unique_ptr<sqlite3_stmt, Finalize> statement(made);
  for (std::size_t i = 0; i < row.size(); ++i) bind_json(statement.get(), static_cast<int>(i) + 1, &row[i]);
  return sqlite3_step(statement.get()) == SQLITE_DONE;
}

Json member(const Json& from, const char* section, const char* key) {
  const Json* at = section == nullptr ? &from : from.find(section);
  const Json* found = at == nullptr ? nullptr : at->find(key);
  return found == nullptr ? Json() : *found;
}

}  // namespace

void ResultsTable::Close::operator()(sqlite3* database) const {
  sqlite3_close(database);
}

Status ResultsTable::run(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code == SQLITE_OK) return {};
  return Error{code == SQLITE_NOTADB || code == SQLITE_ERROR ? ErrorCode::corrupt_data : ErrorCode::io_error,
               path_ + ": " + sqlite3_errmsg(database_.get())};
}

Result<ResultsTable> ResultsTable::open(const std::string& path) {
  ResultsTable out;
  out.path_ = path;
  sqlite3* database = nullptr;
  const int code = sqlite3_open(path.c_str(), &database);
  out.database_.reset(database);
  if (code != SQLITE_OK) return Error{ErrorCode::io_error, path + ": " + sqlite3_errstr(code)};
  COVEY_TRY(out.run(
      "CREATE TABLE IF NOT EXISTS runs(name TEXT PRIMARY KEY, variant TEXT, settings TEXT, seed INTEGER, folder TEXT, "
      "loss REAL, perplexity REAL, accuracy REAL, base_loss REAL, rounds INTEGER, virtual_hours REAL, bytes_up "
      "INTEGER, "
      "bytes_down INTEGER, joules REAL, training_bytes INTEGER, wall_s REAL)"));
  std::string columns = "run TEXT";
  for (const char* column : kRoundColumns) columns += std::string(", ") + column + " REAL";
  COVEY_TRY(out.run("CREATE TABLE IF NOT EXISTS rounds(" + columns + ", PRIMARY KEY(run, round))"));
  return out;
}

Status ResultsTable::put(const SweepPoint& point, const std::string& folder, const Json& summary,
                         std::span<const Json> rounds) {
  std::string settings;
  for (const auto& pair : point.set) settings += (settings.empty() ? "" : " ") + pair.text();
  COVEY_TRY(run("BEGIN IMMEDIATE"));
  bool ok = insert_row(
      database_.get(), "runs",
      {point.name, point.variant, settings, point.seed, folder, member(summary, "final", "loss"),
       member(summary, "final", "perplexity"), member(summary, "final", "accuracy"), member(summary, "base", "loss"),
       member(summary, nullptr, "rounds"), member(summary, nullptr, "virtual_hours"),
       member(summary, nullptr, "bytes_up"), member(summary, nullptr, "bytes_down"), member(summary, nullptr, "joules"),
       member(summary, nullptr, "training_bytes"), member(summary, "measured", "wall_s")});
  for (const auto& round : rounds) {
    std::vector<Json> row = {point.name};
    for (const char* column : kRoundColumns) row.push_back(member(round, nullptr, column));
    ok = ok && insert_row(database_.get(), "rounds", row);
  }
  if (ok) return run("COMMIT");
  const Error failed{ErrorCode::io_error, path_ + ": " + sqlite3_errmsg(database_.get())};
  (void)run("ROLLBACK");
  return failed;
}

namespace {

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
};

Json column_json(sqlite3_stmt* row, int column) {
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER:
      return sqlite3_column_int64(row, column);
    case SQLITE_FLOAT:
      return sqlite3_column_double(row, column);
    case SQLITE_TEXT:
      return std::string(reinterpret_cast<const char*>(sqlite3_column_text(row, column)),
                         static_cast<std::size_t>(sqlite3_column_bytes(row, column)));
    default:
      return {};
  }
}

/// Each row as an object by its columns' names.
Result<std::vector<Json>> rows_of(sqlite3* database, const std::string& path, const std::string& sql) {
  constexpr std::size_t kRowsMax = 10'000'000;
  sqlite3_stmt* made = nullptr;
  const int prepared = sqlite3_prepare_v2(database, sql.c_str(), -1, &made, nullptr);
  const std::unique_ptr<sqlite3_stmt, Finalize> statement(made);
  const auto failed = [&](const std::string& what) {
    return Error{ErrorCode::corrupt_data, path + ": " + what + "; give the results.sqlite of a `covey-sim sweep`"};
  };
  if (prepared != SQLITE_OK) return failed(sqlite3_errmsg(database));
  std::vector<Json> out;
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(made)) == SQLITE_ROW) {
    if (out.size() == kRowsMax) return failed("more than " + std::to_string(kRowsMax) + " rows");
    Json& row = out.emplace_back(Json::object());
    for (int i = 0; i < sqlite3_column_count(made); ++i) row.set(sqlite3_column_name(made, i), column_json(made, i));
  }
  if (code != SQLITE_DONE) return failed(sqlite3_errmsg(database));
  return out;
}

std::string text_of(const Json& row, const char* key) {
  const Json* value = row.find(key);
  return value != nullptr && value->is_string() ? *value->as_string() : std::string();
}

/// What summary.json would say, as far as the row does.
Json summary_from(const Json& row) {
  Json out = Json::object({{"name", text_of(row, "name")}, {"seed", member(row, nullptr, "seed")}});
  out.set("base", Json::object({{"loss", member(row, nullptr, "base_loss")}}));
  out.set("final", Json::object({{"loss", member(row, nullptr, "loss")},
                                 {"perplexity", member(row, nullptr, "perplexity")},
                                 {"accuracy", member(row, nullptr, "accuracy")}}));
  for (const char* key : {"rounds", "virtual_hours", "bytes_up", "bytes_down", "joules", "training_bytes"}) {
    out.set(key, member(row, nullptr, key));
  }
  return out.set("measured", Json::object({{"wall_s", member(row, nullptr, "wall_s")}}));
}

}  // namespace

Result<std::vector<TableRun>> read_results_table(const std::string& path) {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READONLY, nullptr);
  const std::unique_ptr<sqlite3, CloseDatabase> database(opened);
  if (code != SQLITE_OK) return Error{ErrorCode::not_found, path + ": " + sqlite3_errstr(code)};
  COVEY_ASSIGN(const auto runs, rows_of(opened, path, "SELECT * FROM runs ORDER BY name"));
  COVEY_ASSIGN(const auto rounds, rows_of(opened, path, "SELECT * FROM rounds ORDER BY run, round"));
  std::map<std::string, std::vector<Json>> by_run;
  for (const auto& round : rounds) by_run[text_of(round, "run")].push_back(round);
  std::vector<TableRun> out;
  for (const auto& row : runs) {
    TableRun& run = out.emplace_back();
    run.name = text_of(row, "name");
    run.variant = text_of(row, "variant");
    run.settings = text_of(row, "settings");
    const auto seed = row.get_uint("seed", 0);
    run.seed = seed.ok() ? *seed : 0;
    run.summary = summary_from(row);
    run.rounds = std::move(by_run[run.name]);
  }
  return out;
}

}  // namespace covey::simulations
