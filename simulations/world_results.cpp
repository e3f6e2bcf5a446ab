// What a world tells: a line for each round, running totals, the summary.
#include <algorithm>
#include <cmath>

#include "adapters/adapter.h"
#include "aggregation/strategy.h"
#include "coordinator/privacy_report.h"
#include "core/base/cpu.h"
#include "simulations/drop_reasons.h"
#include "simulations/own_cost.h"
#include "simulations/world_impl.h"

namespace covey::simulations {

using formats::Json;

namespace {

Json metrics_json(const coordinator::Metrics& metrics) {
  Json out = Json::object();
  out.set("loss", metrics.loss ? Json(*metrics.loss) : Json());
  out.set("perplexity", metrics.loss ? Json(std::exp(*metrics.loss)) : Json());
  out.set("accuracy", metrics.accuracy ? Json(*metrics.accuracy) : Json());
  return out;
}

/// Of all its lives.
std::int64_t trained_ms(const WorldDevice& device) {
  return device.trained_ms + (device.live ? device.live->trainer->trained_ms() : 0);
}

}  // namespace

Json RealWorld::totals() const {
  std::uint64_t up = 0;
  std::uint64_t down = 0;
  double joules = 0;
  for (const auto& device : devices_) {
    up += device->bytes_up;
    down += device->bytes_down;
    joules += static_cast<double>(trained_ms(*device)) * kWorldMillisecond * device->kind->training_watts +
              static_cast<double>(device->radio_ms) * kWorldMillisecond * device->kind->radio_watts;
  }
  return Json::object({{"bytes_up", up}, {"bytes_down", down}, {"bytes_total", up + down}, {"joules_total", joules}});
}

void RealWorld::round_ended(const coordinator::RoundEnded& ended) {
  last_ = ended.published || ended.round.value == 0 ? metrics_json(ended.row.metrics) : last_;
  if (ended.round.value == 0) {
    base_ = last_;
    return;
  }
  const auto& row = ended.row;
  Json line = Json::object({{"round", ended.round.value},
                            {"published", ended.published},
                            {"reason", ended.reason},
                            {"version", row.version.value},
                            {"virtual_s", static_cast<double>(queue_.now_ms()) * kWorldMillisecond},
                            {"round_s", static_cast<double>(row.ended_ms - row.started_ms) * kWorldMillisecond}});
  const Json metrics = metrics_json(row.metrics);
  for (const auto* key : {"loss", "perplexity", "accuracy"}) line.set(key, *metrics.find(key));
  line.set("invited", row.invited).set("refused", row.refused).set("contributed", row.contributors);
  line.set("late", row.late).set("dropped", crashes_ - crashes_before_round_);
  // In secure mode devices report nothing of their own: the coordinator has no such figures.
  const auto reported = [&](auto figure) {
    return task_.privacy.mode == wire::PrivacyMode::robust ? Json(figure) : Json();
  };
  line.set("train_loss_first", reported(row.train_loss_first)).set("train_loss_last", reported(row.train_loss_last));
  line.set("delta_norm", row.delta_norm).set("tokens", reported(row.tokens)).set("update_bytes", row.update_bytes);
  const Json sums = totals();
  for (const auto* key : {"bytes_up", "bytes_down", "bytes_total", "joules_total"}) line.set(key, *sums.find(key));
  note(add_drop_reasons(line, ended.round, store_));
  note(store_.forget_before(ended.round));
  const auto privacy = coordinator::read_privacy_report(task_, store_);
  note(privacy.ok() ? Status() : Status(privacy.error()));
  line.set("epsilon", privacy.ok() && *privacy ? Json((*privacy)->epsilon) : Json());
  crashes_before_round_ = crashes_;
  if (observer_.on_round) observer_.on_round(line);
  if (observer_.on_load) observer_.on_load(load_);
  rounds_.push_back(std::move(line));
}

std::vector<DeviceOutcome> RealWorld::outcomes() const {
  std::vector<DeviceOutcome> out;
  const auto& known = service_->machine().registry().rows();
  for (const auto& device : devices_) {
    auto& line = out.emplace_back();
    line.kind = static_cast<std::uint32_t>(device->kind - experiment_.classes.data());
    const auto row = known.find(device->id);
    if (row != known.end()) line.contributions = row->second.contributed;
    line.training_joules = static_cast<double>(trained_ms(*device)) * kWorldMillisecond * device->kind->training_watts;
    line.radio_joules = static_cast<double>(device->radio_ms) * kWorldMillisecond * device->kind->radio_watts;
  }
  return out;
}

Json RealWorld::class_table(const std::vector<DeviceOutcome>& outcomes) const {
  Json out = Json::array();
  for (std::uint32_t kind = 0; kind < experiment_.classes.size(); ++kind) {
    std::uint64_t devices = 0;
    std::uint64_t contributions = 0;
    for (const auto& device : outcomes) {
      if (device.kind != kind) continue;
      ++devices;
      contributions += device.contributions;
    }
    out.push_back(class_json(experiment_.classes[kind], devices, contributions));
  }
  return out;
}

Json RealWorld::measured() const {
  Json out = Json::object(
      {{"training_busy_s", training_.busy_seconds()}, {"threads", experiment_.threads}, {"processor", cpu_name()}});
  add_cost(out, {process_cpu_seconds() - cpu_begin_, training_.cpu_seconds(), evaluation_cpu_, trained_});
  out.set("agents_max", load_.agents_max).set("row_buffers_max", load_.row_buffers_max);
  std::size_t rows = 0;
  for (const auto& device : devices_) rows += device->store.bytes();
  out.set("device_store_bytes", rows).set("rss_bytes", rss_bytes());
  return out;
}

Result<WorldResult> RealWorld::result() {
  WorldResult out;
  out.devices = outcomes();
  std::uint64_t contributions = 0;
  std::uint64_t published = 0;
  for (const auto& round : rounds_) {
    contributions += *round.get_uint("contributed");
    published += *round.get_bool("published") ? 1 : 0;
  }
  const Json sums = totals();
  out.summary = Json::object({{"name", experiment_.name},
                              {"seed", task_.seed},
                              {"devices", devices_.size()},
                              {"rounds", rounds_.size()},
                              {"rounds_published", published},
                              {"contributions", contributions},
                              {"crashes", crashes_},
                              {"base", base_},
                              {"final", last_},
                              {"virtual_hours", static_cast<double>(queue_.now_ms()) * kWorldMillisecond / 3600},
                              {"bytes_up", *sums.find("bytes_up")},
                              {"bytes_down", *sums.find("bytes_down")},
                              {"joules", *sums.find("joules_total")},
                              {"version_values", task_.values()},
                              {"model_parameters", bench_.model->parameter_count()},
                              {"privacy_mode", wire::to_string(task_.privacy.mode)},
                              {"privacy_claim", aggregation::threat_model(task_.privacy.mode, false)},
                              {"classes", class_table(out.devices)}});
  out.summary.set("measured", measured());
  out.rounds = rounds_;
  out.adapter_layout = task_.adapter_layout;
  const auto values = service_->machine().values();
  const std::vector<float> version(values.begin(), values.end());
  COVEY_ASSIGN(const auto layout, adapters::AdapterLayout::parse(task_.adapter_layout));
  COVEY_ASSIGN(out.adapter, coordinator::adapter_of_version(task_, layout, *bench_.model, version, evaluation_pool_));
  out.summary.set("adapter_values", out.adapter.size());
  const auto attacked =
      attacked_rows(experiment_.adversaries.attack, data_.held_out, bench_.model->config().vocab_size);
  if (experiment_.adversaries.share > 0) {
    out.summary.set("bad_devices", std::ranges::count_if(devices_, [](const auto& device) { return device->bad; }));
    out.summary.set("attack", attack_names()[static_cast<std::size_t>(experiment_.adversaries.attack)]);
  }
  if (!attacked.empty()) {
    COVEY_ASSIGN(const auto success, measure(version, attacked));
    out.summary.set("attack_success", success.accuracy);
  }
  COVEY_ASSIGN(const auto privacy, coordinator::read_privacy_report(task_, store_));
  if (privacy) {
    out.summary.set("epsilon", privacy->epsilon).set("delta", privacy->delta);
    out.summary.set("privacy_claim", *out.summary.get_string("privacy_claim") + "; " + privacy->words());
  }
  out.held_out = std::move(data_.held_out);
  out.held_out_of = std::move(data_.held_out_of);
  return out;
}

Json class_json(const DeviceClass& kind, std::uint64_t devices, std::uint64_t contributions) {
  return Json::object({{"name", kind.name},
                       {"devices", devices},
                       {"contributions", contributions},
                       {"training_gflops", kind.training_gflops},
                       {"memory_bytes", kind.memory_bytes},
                       {"down_bytes_per_s", kind.down_bytes_per_s},
                       {"up_bytes_per_s", kind.up_bytes_per_s},
                       {"latency_ms", kind.latency_ms},
                       {"training_watts", kind.training_watts},
                       {"radio_watts", kind.radio_watts}});
}

}  // namespace covey::simulations
