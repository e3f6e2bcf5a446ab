#include "simulations/outcomes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "adapters/adapter.h"
#include "client/local_round.h"
#include "coordinator/round_planner.h"
#include "core/base/thread_pool.h"
#include "core/train/evaluate.h"
#include "core/train/method.h"

namespace covey::simulations {
namespace {

using formats::Json;

constexpr double kJoulesPerKwh = 3.6e6;
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// On the held-out rows that were cut from a device's own examples.
struct OwnRows {
  std::size_t rows = 0;
  double loss_before = kUnknown;  ///< of the base model
  double loss = kUnknown;         ///< of the last version
  double accuracy = kUnknown;
};

/// A bar of what is known of several devices: quantiles, and the mean.
Json spread_json(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  std::ranges::sort(values);
  double sum = 0;
  for (const double value : values) sum += value;
  return Json::object({{"devices", values.size()},
                       {"mean", values.empty() ? Json() : Json(sum / static_cast<double>(values.size()))},
                       {"p10", quantile(values, 0.1)},
                       {"median", quantile(values, 0.5)},
                       {"p90", quantile(values, 0.9)}});
}

Result<std::vector<OwnRows>> measure_own_rows(const Experiment& experiment, const adapters::Workbench& bench,
                                              const WorldResult& result) {
  std::vector<OwnRows> out(result.devices.size());
  std::map<std::uint32_t, std::vector<train::TokenRow>> rows;
  for (std::size_t i = 0; i < result.held_out.size(); ++i) rows[result.held_out_of[i]].push_back(result.held_out[i]);
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(result.adapter_layout));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench.model, std::move(layout), result.adapter));
  ThreadPool pool(experiment.threads);
  train::EvaluateOptions options;
  options.seq = static_cast<int>(experiment.task.local.seq);
  for (const auto& [device, own] : rows) {
    OwnRows& line = out[device];
    line.rows = own.size();
    // A device whose few held-out rows have nothing to predict has no figure.
    const auto before = train::evaluate(*bench.model, {}, {}, own, options, pool);
    const auto after = train::evaluate(*bench.model, adapter.spec(), adapter.view(), own, options, pool);
    if (before.ok()) line.loss_before = before->loss;
    if (!after.ok()) continue;
    line.loss = after->loss;
    line.accuracy = after->accuracy;
  }
  return out;
}

/// What a group of devices shares out among its members.
Json group_json(const std::vector<const DeviceOutcome*>& devices, const std::vector<const OwnRows*>& own) {
  std::vector<double> updates;
  std::vector<double> before;
  std::vector<double> after;
  std::vector<double> accuracy;
  std::uint64_t never = 0;
  double training = 0;
  double radio = 0;
  for (const auto* device : devices) {
    updates.push_back(static_cast<double>(device->contributions));
    never += device->contributions == 0 ? 1 : 0;
    training += device->training_joules;
    radio += device->radio_joules;
  }
  for (const auto* line : own) {
    before.push_back(line->loss_before);
    after.push_back(line->loss);
    accuracy.push_back(line->accuracy);
  }
  return Json::object({{"never", never},
                       {"updates", spread_json(std::move(updates))},
                       {"training_joules", training},
                       {"radio_joules", radio},
                       {"own_loss_before", spread_json(std::move(before))},
                       {"own_loss", spread_json(std::move(after))},
                       {"own_accuracy", spread_json(std::move(accuracy))}});
}

/// `which`: a class's number; nullopt: all devices.
Json group_of(const WorldResult& result, const std::vector<OwnRows>& own, std::optional<std::uint32_t> which) {
  std::vector<const DeviceOutcome*> devices;
  std::vector<const OwnRows*> lines;
  for (std::size_t i = 0; i < result.devices.size(); ++i) {
    if (which && result.devices[i].kind != *which) continue;
    devices.push_back(&result.devices[i]);
    lines.push_back(&own[i]);
  }
  return group_json(devices, lines);
}

std::string csv_number(double value) {
  return std::isfinite(value) ? Json(value).dump() : std::string();
}

std::string devices_csv(const Experiment& experiment, const WorldResult& result, const std::vector<OwnRows>& own) {
  std::string out = "device,class,updates,training_joules,radio_joules,held_out_rows,loss_before,loss,accuracy\n";
  for (std::size_t i = 0; i < result.devices.size(); ++i) {
    const auto& device = result.devices[i];
    std::string name = experiment.classes[device.kind].name;
    for (std::size_t at = 0; (at = name.find('"', at)) != std::string::npos; at += 2) name.insert(at, 1, '"');
    out += std::to_string(i) + ",\"" + name + "\"," + std::to_string(device.contributions) + "," +
           csv_number(device.training_joules) + "," + csv_number(device.radio_joules) + "," +
           std::to_string(own[i].rows) + "," + csv_number(own[i].loss_before) + "," + csv_number(own[i].loss) + "," +
           csv_number(own[i].accuracy) + "\n";
  }
  return out;
}

/// Every method on this experiment's model, adapter and batch: the plan that a device holds against its budget.
Result<Json> memory_json(const Experiment& experiment, const adapters::Workbench& bench, const WorldResult& result) {
  Json out = Json::array();
  if (experiment.modelled && experiment.modelled->parameters > 0) return out;  // `model` stands in for a larger one
  auto task = experiment.task;
  task.adapter_layout = result.adapter_layout;
  COVEY_ASSIGN(const auto layout, adapters::AdapterLayout::parse(result.adapter_layout));
  COVEY_ASSIGN(const auto spec, layout.bind(*bench.model));
  for (const auto& method : train::plan_method_names()) {
    auto plan = coordinator::plan_round(task, {}, RoundId{1}, 0);
    plan.method = method;
    if (method == "backprop") plan.seeded = {};
    const auto memory = client::training_memory(plan, *bench.model, spec);
    out.push_back(Json::object({{"method", method},
                                {"total_bytes", memory.total()},
                                {"weights_bytes", memory.weights_bytes},
                                {"buffers_bytes", memory.buffers_bytes},
                                {"adapter_bytes", memory.adapter_bytes},
                                {"process_bytes", memory.process_bytes}}));
  }
  return out;
}

}  // namespace

double co2_grams(double joules, double grid_g_per_kwh) {
  return joules / kJoulesPerKwh * grid_g_per_kwh;
}

double quantile(const std::vector<double>& sorted, double part) {
  if (sorted.empty()) return kUnknown;
  const double at = part * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Result<std::string> add_outcomes(const Experiment& experiment, const adapters::Workbench& bench, WorldResult& result) {
  Json& summary = result.summary;
  const std::string method = experiment.task.local.method;
  COVEY_ASSIGN(const Json memory, memory_json(experiment, bench, result));
  summary.set("method", method).set("memory", memory);
  for (const auto& line : memory.items()) {
    if (*line.get_string("method") == method) summary.set("training_bytes", *line.find("total_bytes"));
  }
  summary.set("grid_g_per_kwh", experiment.grid_g_per_kwh);
  summary.set("co2_g", co2_grams(*summary.get_double("joules"), experiment.grid_g_per_kwh));
  if (result.devices.empty()) return std::string();

  COVEY_ASSIGN(const auto own, measure_own_rows(experiment, bench, result));
  Json classes = Json::array();
  std::uint32_t number = 0;
  for (const auto& line : summary.find("classes")->items()) {
    Json whole = line;
    const Json figures = group_of(result, own, number++);
    for (const auto& [key, value] : figures.members()) whole.set(key, value);
    classes.push_back(std::move(whole));
  }
  summary.set("classes", std::move(classes)).set("fleet", group_of(result, own, std::nullopt));
  return devices_csv(experiment, result, own);
}

}  // namespace covey::simulations
