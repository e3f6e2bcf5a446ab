#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "simulations/comparison.h"
#include "simulations/report_page.h"
#include "simulations/results_table.h"
#include "simulations/run_directory.h"

namespace covey::simulations {
namespace {

using formats::Json;
namespace fs = std::filesystem;

/// A run, and what runs of its group share.
struct ReadRun {
  ComparedRun run;
  std::string label;
  bool named = false;                           ///< the label was given
  std::map<std::string, std::string> settings;  ///< dotted key -> value, as far as they may differ
};

bool digit(char c) {
  return c >= '0' && c <= '9';
}

/// "runs/0003-fedprox-s2" -> "fedprox", "fedavg-seed4" -> "fedavg"; other names stay.
std::string label_of(const fs::path& folder) {
  std::string name = (folder.filename().empty() ? folder.parent_path() : folder).filename().string();
  for (const std::string_view mark : {"-seed", "_seed", "-s", "_s"}) {
    const auto at = name.rfind(mark);
    const auto number = at == std::string::npos ? at : at + mark.size();
    if (number >= name.size() || at == 0 ||
        !std::all_of(name.begin() + static_cast<std::ptrdiff_t>(number), name.end(), digit))
      continue;
    name.resize(at);
    break;
  }
  const std::size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits >= 4 && digits + 1 < name.size() && name[digits] == '-') name.erase(0, digits + 1);
  return name;
}

/// The lines of a resolved configuration by their dotted keys, without what tells seeds apart or changes no result.
std::map<std::string, std::string> settings_of(const std::string& config) {
  std::map<std::string, std::string> out;
  std::vector<std::string> path;
  for (std::size_t at = 0; at < config.size();) {
    const auto end = std::min(config.find('\n', at), config.size());
    const std::string line = config.substr(at, end - at);
    at = end + 1;
    const std::size_t indent = line.find_first_not_of(' ');
    if (indent == std::string::npos || line[indent] == '#') continue;
    const auto colon = line.find(": ", indent);
    const bool section = line.ends_with(':');
    path.resize(std::min(path.size(), indent / 2));
    const std::string name = line.substr(indent, section                      ? line.size() - indent - 1
                                                 : colon == std::string::npos ? colon
                                                                              : colon - indent);
    std::string key;
    for (const auto& part : path) key += part + ".";
    key += name;
    if (section) {
      path.push_back(name);
    } else if (key != "seed" && key != "threads" && key != "name") {
      auto& value = out[key];  // items of a list may share a key
      value += (value.empty() ? "" : ", ") + (colon == std::string::npos ? std::string() : line.substr(colon + 2));
    }
  }
  return out;
}

Result<ReadRun> read_folder(const fs::path& folder) {
  ReadRun out;
  out.run.source = folder.string();
  COVEY_ASSIGN(RunFiles files, read_run(folder.string()));
  out.run.summary = std::move(files.summary);
  out.run.rounds = std::move(files.rounds);
  const double seed = json_double(&out.run.summary, "seed");
  out.run.seed = seed >= 0 && seed < 9e18 ? static_cast<std::uint64_t>(seed) : 0;
  out.settings = settings_of(json_text(out.run.summary, "config"));
  out.label = label_of(folder);
  return out;
}

Result<std::vector<ReadRun>> read_table(const std::string& path) {
  std::vector<ReadRun> out;
  COVEY_ASSIGN(auto rows, read_results_table(path));
  for (auto& row : rows) {
    ReadRun& read = out.emplace_back();
    read.run = {path + ": " + row.name, row.seed, std::move(row.summary), std::move(row.rounds)};
    read.label = row.variant.empty() ? row.settings : row.variant;
    if (read.label.empty()) read.label = "all";
    read.settings = {{"variant", row.variant}, {"set", row.settings}};
  }
  return out;
}

Error nothing_there(const std::string& path) {
  return {ErrorCode::not_found, path +
                                    ": no complete run there; give a folder that `covey-sim run` or `covey-sim "
                                    "sweep` wrote, or a sweep's results.sqlite"};
}

Result<std::vector<ReadRun>> read_source(const std::string& path, std::vector<std::string>& skipped) {
  std::error_code none;
  const fs::path at(path);
  if (!fs::exists(at, none)) return nothing_there(path);
  if (!fs::is_directory(at, none)) return read_table(path);
  std::vector<ReadRun> out;
  if (fs::exists(at / "summary.json", none)) {
    COVEY_ASSIGN(out.emplace_back(), read_folder(at));
    return out;
  }
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(at / "runs", none)) {
    if (entry.is_directory(none)) folders.push_back(entry.path());
    if (folders.size() > kComparedRunsMax) break;
  }
  if (folders.empty() && fs::exists(at / "results.sqlite", none)) return read_table((at / "results.sqlite").string());
  std::ranges::sort(folders);
  for (const auto& folder : folders) {
    if (!fs::exists(folder / "summary.json", none) || fs::exists(folder / kJournalName, none)) {
      skipped.push_back(folder.string());
      continue;
    }
    COVEY_ASSIGN(out.emplace_back(), read_folder(folder));
  }
  if (out.empty()) return nothing_there(path);
  return out;
}

/// Groups of one name are told apart by the settings in which they differ.
void tell_apart(std::vector<ReadRun>& firsts) {
  std::map<std::string, std::vector<ReadRun*>> by_label;
  for (auto& first : firsts) {
    // A sweep without variants numbers its runs: a number is no name.
    if (!first.named && std::ranges::all_of(first.label, digit)) first.label.clear();
    by_label[first.label].push_back(&first);
  }
  for (auto& [label, same] : by_label) {
    if (same.size() == 1 && !label.empty()) continue;
    std::set<std::string> keys;
    for (const auto* one : same) {
      for (const auto& [key, value] : one->settings) {
        const bool everywhere = std::ranges::all_of(same, [&, &k = key, &v = value](const ReadRun* other) {
          const auto found = other->settings.find(k);
          return found != other->settings.end() && found->second == v;
        });
        if (!everywhere) keys.insert(key);
      }
    }
    std::size_t number = 0;
    for (auto* one : same) {
      std::string words;
      for (const auto& key : keys) {
        const auto found = one->settings.find(key);
        if (found != one->settings.end()) words += (words.empty() ? "" : " ") + key + "=" + found->second;
      }
      if (words.size() > 80) words.clear();  // runs of other experiments: too much differs to be a name
      if (words.empty()) words = "(" + std::to_string(++number) + ")";
      one->label += (one->label.empty() ? "" : " ") + words;
    }
  }
}

}  // namespace

Result<ComparedRuns> read_compared_runs(const std::vector<std::string>& sources) {
  ComparedRuns out;
  std::vector<ReadRun> firsts;  // of each group, without its run
  std::size_t count = 0;
  for (const auto& source : sources) {
    std::error_code none;
    const auto equals = source.find('=');
    const bool named = equals != std::string::npos && equals > 0 && !fs::exists(source, none);
    COVEY_ASSIGN(auto runs, read_source(named ? source.substr(equals + 1) : source, out.skipped));
    count += runs.size();
    if (count > kComparedRunsMax) {
      return Error{ErrorCode::invalid_argument, source + ": more than " + std::to_string(kComparedRunsMax) + " runs"};
    }
    for (auto& read : runs) {
      if (named) {
        read.label = source.substr(0, equals);
        read.named = true;
      }
      const auto same = std::ranges::find_if(firsts, [&](const ReadRun& first) {
        return first.settings == read.settings && first.named == read.named && (!named || first.label == read.label);
      });
      const auto at = static_cast<std::size_t>(same - firsts.begin());
      if (same == firsts.end()) {
        out.groups.emplace_back();
        firsts.push_back({{}, read.label, read.named, read.settings});
      }
      auto& group = out.groups[at].runs;
      const auto place = std::ranges::lower_bound(group, read.run.seed, {}, &ComparedRun::seed);
      if (place != group.end() && place->seed == read.run.seed) {
        return Error{ErrorCode::invalid_argument,
                     read.run.source + ": the settings and the seed of " + place->source + "; leave one of them out"};
      }
      group.insert(place, std::move(read.run));
    }
  }
  if (out.groups.size() > kComparedGroupsMax) {
    return Error{ErrorCode::invalid_argument, std::to_string(out.groups.size()) + " settings; at most " +
                                                  std::to_string(kComparedGroupsMax) + " can be laid side by side"};
  }
  tell_apart(firsts);
  for (std::size_t i = 0; i < firsts.size(); ++i) out.groups[i].label = firsts[i].label;
  return out;
}

}  // namespace covey::simulations
