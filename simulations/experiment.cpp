#include "simulations/experiment.h"

#include <algorithm>
#include <filesystem>

#include "coordinator/settings.h"
#include "core/base/clock.h"
#include "core/config/reader.h"

namespace covey::simulations {
namespace {

std::string beside(const std::string& file, const std::string& path) {
  if (path.empty() || std::filesystem::path(path).is_absolute()) return path;
  return (std::filesystem::path(file).parent_path() / path).lexically_normal().string();
}

DataConfig read_data(config::Section section, const std::string& file) {
  DataConfig data;
  data.format = section.choice("format", {"lines", "play", "households"}, "lines");
  const bool generated = data.format == "households";
  if (!generated) {
    data.file = beside(file, section.text("file", ""));
    // At `format`, where there is one: a misspelt format explains a missing file.
    if (data.file.empty()) {
      section.problem(section.has("format") ? "format" : "file", "needs a `file`; add `file: ...` beside it");
    }
  }
  if (generated) data.lines = section.int64("lines", data.lines, 1, 10'000);
  data.partition = section.choice("partition", {"key", "iid", "label", "quantity", "drift"}, "key");
  const bool drift = data.partition == "drift";
  if (drift || data.partition == "label" || data.partition == "quantity") {
    data.alpha = section.real("alpha", data.alpha, 1e-3, 1e6);
  }
  if (drift) {
    data.phases = static_cast<std::size_t>(section.int64("phases", 4, 2, 100));
    data.phase_ms = section.duration_ms("phase", kDay_ms, 1, 3650 * kDay_ms);
  }
  data.held_out = section.real("held_out", 0.1, 0.0, 0.9);
  data.held_out_rows_max = section.int64("held_out_rows_max", 400, 0, 10'000'000);
  data.predict_end = section.boolean("predict_end", true);
  return data;
}

void read_fleet(config::Section section, Experiment& experiment, const std::string& file) {
  auto& read = experiment.fleet_files;
  experiment.classes = read_classes(section, [&](const std::string& path) {
    const std::string found = beside(file, path);
    if (!found.empty()) read.push_back(found);
    return found;
  });
  experiment.traces = read_traces(section, [&](const std::string& path) {
    const std::string found = beside(file, path);
    read.insert(read.end(), {found + ".up", found + ".down"});
    return found;
  });
  experiment.availability = read_availability(section.section("availability"));
  experiment.roster_known = section.choice("roster", {"followed", "known"}, "followed") == "known";
  if (experiment.roster_known && experiment.task.privacy.mode != wire::PrivacyMode::robust) {
    section.problem("roster", "known leaves out who else is listed, which secure aggregation needs; set `followed`");
  }
  experiment.dropout = section.real("dropout", 0.0, 0.0, 1.0);
  experiment.away_ms = section.duration_ms("away", 600'000, 0, 30 * kDay_ms);
  experiment.grid_g_per_kwh = section.real("grid_g_per_kwh", experiment.grid_g_per_kwh, 0, 1e5);
}

void read_adversaries(config::Section section, Adversaries& out) {
  out.share = section.real("share", 0.0, 0.0, 1.0);
  const std::string attack = section.choice("attack", attack_names(), attack_names().front());
  for (std::size_t i = 0; i < attack_names().size(); ++i) {
    if (attack == attack_names()[i]) out.attack = static_cast<Attack>(i);
  }
  out.scale = section.real("scale", out.scale, 0.0, 1e6);
}

}  // namespace

Result<KeyValue> KeyValue::parse(const std::string& text) {
  const auto at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
    return Error{ErrorCode::invalid_argument, "`" + text + "`: write section.key=value"};
  }
  return KeyValue{text.substr(0, at), text.substr(at + 1)};
}

Result<Experiment> load_experiment(const std::string& path, const std::vector<KeyValue>& set) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  for (const auto& [key, value] : set) COVEY_TRY(document.set(key, value));
  auto root = document.root();
  Experiment experiment;
  experiment.name = root.text("name", std::filesystem::path(path).stem().string());
  experiment.model = beside(path, root.text("model", config::required));
  experiment.tokenizer = beside(path, root.text("tokenizer", ""));
  experiment.devices = static_cast<std::size_t>(root.int64("devices", config::required, 1, 1'000'000));
  experiment.threads = static_cast<int>(root.int64("threads", 1, 1, 1024));
  experiment.data = read_data(root.section("data"), path);
  coordinator::read_rounds(root, experiment.task);
  if (experiment.task.min_count > experiment.devices) {
    root.problem("min", "is above `devices` (" + std::to_string(experiment.devices) + "); no round could be published");
  }
  experiment.central = root.boolean("central", false);
  if (experiment.central) {
    experiment.task.goal_count = experiment.task.min_count = 1;
    experiment.task.over_selection = 1;
    if (experiment.task.privacy.mode != wire::PrivacyMode::robust) {
      root.problem("central", "has one device, of which no sum can hide anything; set `privacy.mode: robust`");
    }
  }
  experiment.task.task = experiment.name;
  experiment.adapter = coordinator::read_adapter(root.section("adapter"));
  read_fleet(root.section("fleet"), experiment, path);
  experiment.modelled = read_modelled(root, experiment.task);
  if (experiment.modelled && experiment.central) {
    root.problem("central", "compares what is learnt, and `training: modelled` learns nothing; drop one of them");
  }
  read_adversaries(root.section("adversaries"), experiment.adversaries);
  experiment.virtual_ms_max = root.duration_ms("virtual_time_max", 365 * kDay_ms, 1'000, 3650 * kDay_ms);
  COVEY_TRY(document.finish());
  experiment.resolved = document.resolved();
  return experiment;
}

}  // namespace covey::simulations
