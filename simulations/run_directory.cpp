#include "simulations/run_directory.h"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "adapters/adapter_file.h"
#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "simulations/journal.h"
#include "simulations/outcomes.h"
#include "simulations/report.h"
#include "simulations/world.h"

namespace covey::simulations {
namespace {

using formats::Json;

/// The summary of a complete run; null where there is none yet.
Result<Json> complete_run(const RunDirectory& directory, const std::string& identity) {
  const std::string& out = directory.out;
  const bool begun = std::filesystem::exists(out + "/" + kJournalName);
  const bool ended = std::filesystem::exists(out + "/summary.json") && !begun;
  if (!begun && !ended && !std::filesystem::exists(out + "/metrics.jsonl")) return Json();
  if (!directory.resume) {
    return Error{ErrorCode::already_exists,
                 out + (ended ? ": already holds a run; choose another --out or remove it"
                              : ": holds a run that did not come to its end; go on with --resume, or remove it")};
  }
  if (!ended) return Json();
  COVEY_ASSIGN(const auto summary, Json::load(out + "/summary.json"));
  const auto was = summary.get_string("identity");
  if (!was.ok() || *was != identity) {
    return Error{ErrorCode::invalid_argument,
                 out +
                     ": holds a complete run of another experiment, seed, model, data or version; choose another "
                     "--out or remove it"};
  }
  return summary;
}

Status save_adapter_beside(const Experiment& experiment, const adapters::Workbench& bench, const WorldResult& result,
                           const std::string& out) {
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(result.adapter_layout));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench.model, std::move(layout), result.adapter));
  return adapters::save_adapter(out + "/adapter", adapter, experiment.model);
}

/// Lines as they come, for people who watch; the whole file is written durably at the end.
class LiveMetrics {
 public:
  explicit LiveMetrics(const std::string& path) : file_(path, std::ios::trunc) {}
  void add(const Json& round) { file_ << round.dump() << std::endl; }

 private:
  std::ofstream file_;
};

Status write_results(const Experiment& experiment, WorldResult& result, const std::string& out) {
  COVEY_ASSIGN(const auto bench, adapters::open_workbench(experiment.model, experiment.tokenizer));
  COVEY_ASSIGN(const std::string devices, add_outcomes(experiment, bench, result));
  if (!devices.empty()) COVEY_TRY(write_file_durably(out + "/devices.csv", devices));
  std::string lines;
  for (const auto& round : result.rounds) lines += round.dump() + "\n";
  COVEY_TRY(write_file_durably(out + "/metrics.jsonl", lines));
  COVEY_TRY(write_file_durably(out + "/metrics.csv", metrics_csv(result.rounds)));
  COVEY_TRY(write_file_durably(out + "/report.html", render_report(result.summary, result.rounds)));
  COVEY_TRY(save_adapter_beside(experiment, bench, result, out));
  return result.summary.save(out + "/summary.json");  // the last: with it the run is complete
}

}  // namespace

namespace {

/// A rank that only helps: the first one decides whether there is something to run. Each keeps what it has trained in a
/// journal of its own.
Result<Json> help(const Experiment& experiment, const RunDirectory& directory) {
  if (directory.ranks->share(0, {}) != Bytes{1}) return Json();
  COVEY_ASSIGN(const auto identity, run_identity(experiment));
  COVEY_TRY(make_folders(directory.out));
  const std::string path = directory.out + "/" + kJournalName + "." + std::to_string(directory.ranks->rank());
  COVEY_ASSIGN(const auto journal, Journal::open(path, identity));
  WorldObserver observer;
  observer.journal = journal.get();
  observer.ranks = directory.ranks;
  COVEY_TRY(run_world(experiment, observer));
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  return Json();
}

}  // namespace

Result<Json> run_into(const Experiment& experiment, const RunDirectory& directory) {
  if (directory.ranks != nullptr && !directory.ranks->first()) return help(experiment, directory);
  const std::string& out = directory.out;
  COVEY_ASSIGN(const auto identity, run_identity(experiment));
  COVEY_ASSIGN(auto complete, complete_run(directory, identity.hex()));
  if (complete.is_object()) {
    if (directory.ranks != nullptr) directory.ranks->share(0, Bytes{0});
    return complete;
  }
  COVEY_TRY(make_folders(out));
  const std::string journal_path = out + "/" + kJournalName;
  COVEY_ASSIGN(const auto journal, Journal::open(journal_path, identity));
  COVEY_TRY(write_file_durably(out + "/config.yaml", directory.config));

  if (directory.ranks != nullptr) directory.ranks->share(0, Bytes{1});
  const auto started = std::chrono::steady_clock::now();
  LiveMetrics live(out + "/metrics.jsonl");
  WorldObserver observer;
  observer.journal = journal.get();
  observer.ranks = directory.ranks;
  observer.on_round = [&](const Json& round) {
    live.add(round);
    if (directory.on_round) directory.on_round(round);
  };
  COVEY_ASSIGN(WorldResult result, run_world(experiment, observer));
  Json measured = *result.summary.find("measured");
  measured.set("wall_s", std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  measured.set("resumed_records", journal->resumed());
  result.summary.set("measured", measured).set("identity", identity.hex());
  result.summary.set("command", directory.command_line).set("config", directory.config);
  COVEY_TRY(write_results(experiment, result, out));
  std::error_code ignored;
  std::vector<std::filesystem::path> journals;  // those of ranks that an earlier life had, too
  for (const auto& entry : std::filesystem::directory_iterator(out, ignored)) {
    if (entry.path().filename().string().starts_with(kJournalName)) journals.push_back(entry.path());
  }
  for (const auto& path : journals) std::filesystem::remove(path, ignored);  // one that stays only repeats the end
  return result.summary;
}

Result<RunFiles> read_run(const std::string& folder) {
  constexpr std::uint64_t kMetricsBytesMax = std::uint64_t{256} << 20;
  const std::string name = folder + "/summary.json";
  RunFiles out;
  COVEY_ASSIGN(out.summary, Json::load(name, {.bytes_max = std::size_t{64} << 20}));
  const Json* last = out.summary.find("final");
  if (last == nullptr || !last->is_object()) {
    return Error{ErrorCode::corrupt_data, name +
                                              ": has no object `final`, so `covey-sim run` did not write it; give a "
                                              "folder that it wrote"};
  }
  const std::string lines = folder + "/metrics.jsonl";
  COVEY_ASSIGN(const std::string text, read_text_file(lines, kMetricsBytesMax));
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const std::string where = lines + ":" + std::to_string(out.rounds.size() + 1);
    COVEY_ASSIGN(auto line, Json::parse(std::string_view(text).substr(at, end - at), where, {.where_has_line = true}));
    if (!line.is_object()) return Error{ErrorCode::corrupt_data, where + ": is no object; a run writes one a round"};
    out.rounds.push_back(std::move(line));
    at = end + 1;
  }
  return out;
}

}  // namespace covey::simulations
