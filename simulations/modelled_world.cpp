#include "simulations/modelled_world.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "adapters/workbench.h"
#include "aggregation/strategy.h"
#include "aggregation/update.h"
#include "coordinator/round_machine.h"
#include "coordinator/settings.h"
#include "core/base/cpu.h"
#include "core/base/rng.h"
#include "core/crypto/stream.h"
#include "core/net/blobs.h"
#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"
#include "simulations/own_cost.h"
#include "simulations/virtual_device.h"
#include "simulations/virtual_time.h"

namespace covey::simulations {
namespace {

using formats::Json;

constexpr std::int64_t kModelledWallMs = 1'767'225'600'000;  // 2026-01-01T00:00:00Z
constexpr std::int64_t kRestMs = 200;                        ///< from a round's end to the next check-in
constexpr double kSecond = 1e-3;

enum ModelledPurpose : std::uint64_t { kClasses = 41, kLinks, kHours, kExamples, kIds, kDeaths, kFirst };

std::uint64_t wire_bytes(const wire::Message& message) {
  const auto frame = wire::encode_frame(message);
  return frame.ok() ? frame->size() : 0;
}

/// A modelled device: 64 bytes, whatever it does.
struct Modelled {
  std::uint32_t kind = 0;
  std::uint32_t examples = 1;
  std::uint32_t life = 0;   ///< of what it has under way: an event of an earlier one does nothing
  std::uint64_t round = 0;  ///< it works for, or has worked for
  bool training = false;
  Link link;
};

class ModelledWorld {
 public:
  ModelledWorld(const Experiment& experiment, const WorldObserver& observer)
      : experiment_(experiment), observer_(observer), modelled_(*experiment.modelled), queue_(kModelledWallMs) {}

  Status prepare();
  Status run();
  Result<WorldResult> result();

 private:
  struct Totals {
    std::uint64_t up = 0;
    std::uint64_t down = 0;
    double joules = 0;
  };

  [[nodiscard]] DeviceId id_of(std::size_t index) const;
  [[nodiscard]] static std::size_t index_of(const DeviceId& id);
  [[nodiscard]] const DeviceClass& class_of(std::size_t index) const {
    return experiment_.classes[devices_[index].kind];
  }
  [[nodiscard]] AvailabilityOf hours_of(std::size_t index) const {
    return {experiment_.availability, derive_seed(task_.seed, kHours), index};
  }
  [[nodiscard]] std::int64_t moved(std::size_t index, bool up, std::int64_t from_ms, std::uint64_t bytes);
  void check_in_at(std::size_t index, std::int64_t time_ms);
  void check_in(std::size_t index);
  void offered(std::size_t index, const wire::TaskOffer& offer);
  void gone(std::size_t index, std::int64_t time_ms, std::int64_t trained_ms);
  void submit(std::size_t index);
  void step(const coordinator::Event& event);
  void perform(coordinator::Effect& effect);
  void said(const DeviceId& device, const wire::Message& message);
  void round_ended(const coordinator::RoundEnded& ended);
  const Bytes& update_of(std::uint32_t weight);

  const Experiment& experiment_;
  const WorldObserver& observer_;
  const ModelledTraining& modelled_;
  EventQueue queue_;
  coordinator::TaskConfig task_;
  std::int64_t parameters_ = 0;
  std::optional<coordinator::RoundMachine> machine_;
  std::vector<Modelled> devices_;
  std::map<coordinator::TimerId, std::uint64_t> timers_;  ///< setting of each that counts; 0: none
  std::uint64_t settings_ = 0;

  wire::RoundPlan plan_;  ///< of plan_bytes_
  Bytes plan_bytes_;
  std::map<std::uint32_t, Bytes> updates_;  ///< of plan_, by weight: all devices' updates are zeros
  std::uint64_t check_in_bytes_ = 0;
  std::uint64_t check_back_bytes_ = 0;

  std::optional<Error> failure_;
  std::vector<Json> rounds_;
  std::vector<std::uint64_t> contributions_;  ///< per class
  Totals totals_;
  std::uint64_t check_ins_ = 0;
  std::uint64_t persisted_rows_ = 0;
  std::uint64_t persisted_bytes_ = 0;
  std::uint64_t deaths_ = 0;
  std::uint64_t deaths_before_ = 0;
};

Status ModelledWorld::prepare() {
  COVEY_ASSIGN(const auto bench, adapters::open_workbench(experiment_.model, experiment_.tokenizer));
  task_ = experiment_.task;
  COVEY_ASSIGN(const auto files, coordinator::model_files(experiment_.model, experiment_.tokenizer));
  net::BlobServer blobs;
  COVEY_TRY(coordinator::serve_model(task_, files, blobs));
  COVEY_TRY(coordinator::add_adapter(task_, *bench.model, experiment_.adapter));
  parameters_ =
      modelled_.parameters > 0 ? static_cast<std::int64_t>(modelled_.parameters) : bench.model->parameter_count();
  COVEY_ASSIGN(machine_, coordinator::RoundMachine::create(task_));

  const auto kinds = draw_classes(experiment_.classes, experiment_.devices, derive_seed(task_.seed, kClasses));
  contributions_.resize(experiment_.classes.size());
  devices_.resize(experiment_.devices);
  Rng first(derive_seed(task_.seed, kFirst));
  Rng amounts(derive_seed(task_.seed, kExamples));
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    devices_[i].kind = static_cast<std::uint32_t>(kinds[i]);
    devices_[i].examples = static_cast<std::uint32_t>(1 - std::log(1 - amounts.uniform()) * (modelled_.examples - 1));
    devices_[i].link = draw_link(experiment_.classes[kinds[i]], experiment_.traces, derive_seed(task_.seed, kLinks), i);
    check_in_at(i, static_cast<std::int64_t>(first.below(task_.check_back_ms + 1)));
  }
  wire::CheckIn sample;
  sample.capabilities.software = "covey-sim";
  check_in_bytes_ = wire_bytes(sample);
  check_back_bytes_ = wire_bytes(wire::CheckBack{});
  return {};
}

/// The score that selection draws by follows from the first 8 bytes, the device's number from the last.
DeviceId ModelledWorld::id_of(std::size_t index) const {
  DeviceId id;
  std::uint64_t score = derive_seed(derive_seed(task_.seed, kIds), index);
  std::uint64_t number = index;
  for (std::size_t i = 0; i < 8; ++i) {
    id.key[i] = static_cast<std::uint8_t>(score >> (8 * i));
    id.key[24 + i] = static_cast<std::uint8_t>(number >> (8 * i));
  }
  return id;
}

std::size_t ModelledWorld::index_of(const DeviceId& id) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i) number |= static_cast<std::uint64_t>(id.key[24 + i]) << (8 * i);
  return static_cast<std::size_t>(number);
}

/// Books the bytes and the radio's energy. @return when they have arrived.
std::int64_t ModelledWorld::moved(std::size_t index, bool up, std::int64_t from_ms, std::uint64_t bytes) {
  const std::int64_t passed_ms = devices_[index].link.passed_ms(up, from_ms, bytes);
  (up ? totals_.up : totals_.down) += bytes;
  totals_.joules += static_cast<double>(passed_ms - from_ms) * kSecond * class_of(index).radio_watts;
  return passed_ms + class_of(index).latency_ms;
}

// ---- devices -------------------------------------------------------------------------------------------------------

/// At `time_ms`, or when the device is available again.
void ModelledWorld::check_in_at(std::size_t index, std::int64_t time_ms) {
  const auto window = hours_of(index).window(time_ms);
  const std::uint32_t life = ++devices_[index].life;
  queue_.at(std::max(time_ms, window.begin_ms), [this, index, life] {
    if (devices_[index].life == life) check_in(index);
  });
}

void ModelledWorld::check_in(std::size_t index) {
  const DeviceClass& kind = class_of(index);
  wire::CheckIn message;
  message.capabilities.software = "covey-sim";
  message.capabilities.processor = kind.name;
  message.capabilities.memory_bytes = kind.memory_bytes;
  message.capabilities.training_memory_bytes_max = kind.memory_bytes;
  message.capabilities.weakest_mode = wire::PrivacyMode::robust;
  message.last_round = RoundId{devices_[index].round};
  ++check_ins_;
  const std::int64_t there_ms = moved(index, true, queue_.now_ms(), check_in_bytes_);
  queue_.at(there_ms, [this, index, message = std::move(message)] {
    step(coordinator::MessageReceived{id_of(index), message});
  });
}

/// Download, training and upload lie in the future already: the device is done then, or gone before.
void ModelledWorld::offered(std::size_t index, const wire::TaskOffer& offer) {
  if (offer.plan != plan_bytes_) {
    plan_bytes_ = offer.plan;
    updates_.clear();
    auto plan = wire::decode<wire::RoundPlan>(plan_bytes_);
    if (!plan.ok()) {
      failure_ = plan.error();
      return;
    }
    plan_ = *std::move(plan);
  }
  Modelled& device = devices_[index];
  if (device.round == plan_.round.value && device.training) return;
  device.round = plan_.round.value;
  const std::int64_t now = queue_.now_ms();
  const std::int64_t told_ms = moved(index, false, now, wire_bytes(offer));
  step(coordinator::MessageReceived{id_of(index), wire::TaskAnswer{plan_.round, true, wire::RefusalReason::none}});
  device.training = true;
  const std::uint64_t down = modelled_.update_bytes > 0 ? modelled_.update_bytes : plan_.adapter.bytes;
  const std::int64_t begin_ms = moved(index, false, told_ms, down);
  const double tokens = plan_tokens(plan_, device.examples, static_cast<double>(device.examples) * plan_.seq);
  const std::int64_t train_ms =
      std::max<std::int64_t>(1, training_ms(class_of(index), parameters_, static_cast<std::uint64_t>(tokens)));
  const std::int64_t trained_ms = begin_ms + train_ms;

  Rng rng(derive_seed(derive_seed(task_.seed, kDeaths), index), plan_.round.value);
  const bool dies = rng.uniform() < experiment_.dropout;
  const std::int64_t dies_ms = begin_ms + static_cast<std::int64_t>(rng.uniform() * static_cast<double>(train_ms));
  const std::int64_t window_ms = hours_of(index).window(now).end_ms;
  if (dies || window_ms < trained_ms) {
    const std::int64_t end_ms = dies ? std::min(dies_ms, window_ms) : window_ms;
    return gone(index, end_ms, std::clamp<std::int64_t>(end_ms - begin_ms, 0, train_ms));
  }
  totals_.joules += static_cast<double>(train_ms) * kSecond * class_of(index).training_watts;
  const std::uint32_t life = ++device.life;
  queue_.at(trained_ms, [this, index, life] {
    if (devices_[index].life != life) return;
    const std::uint64_t bytes = modelled_.update_bytes > 0 ? modelled_.update_bytes : update_of(1).size();
    queue_.at(moved(index, true, queue_.now_ms(), bytes), [this, index, life] {
      if (devices_[index].life == life) submit(index);
    });
  });
}

void ModelledWorld::gone(std::size_t index, std::int64_t time_ms, std::int64_t trained_ms) {
  totals_.joules += static_cast<double>(trained_ms) * kSecond * class_of(index).training_watts;
  const std::uint32_t life = ++devices_[index].life;
  queue_.at(time_ms, [this, index, life] {
    if (devices_[index].life != life) return;
    ++deaths_;
    devices_[index].training = false;
    step(coordinator::DeviceGone{id_of(index)});
    check_in_at(index, queue_.now_ms() + experiment_.away_ms);
  });
}

const Bytes& ModelledWorld::update_of(std::uint32_t weight) {
  auto& content = updates_[weight];
  if (content.empty()) {
    const std::vector<float> zeros(task_.values());
    const auto nothing = [](std::span<std::uint32_t> out) { std::ranges::fill(out, 0U); };
    const auto update = aggregation::protect(plan_, wire::plan_hash(plan_bytes_), zeros, weight, nothing);
    if (!update.ok()) {
      failure_ = update.error();
    } else {
      content = wire::encode(*update);
    }
  }
  return content;
}

/// All at once: how long it took to travel has passed already.
void ModelledWorld::submit(std::size_t index) {
  Modelled& device = devices_[index];
  device.training = false;
  const DeviceId id = id_of(index);
  if (device.round != plan_.round.value) {  // the round has ended and another one is under way
    return check_in_at(index, queue_.now_ms() + kRestMs);
  }
  const Bytes content = update_of(std::clamp<std::uint32_t>(device.examples, 1, std::max(1U, plan_.weight_max)));
  const double tokens = plan_tokens(plan_, device.examples, static_cast<double>(device.examples) * plan_.seq);
  wire::TrainingReport report;
  report.tokens = static_cast<std::uint64_t>(tokens);
  report.train_ms =
      static_cast<std::uint32_t>(training_ms(class_of(index), parameters_, static_cast<std::uint64_t>(tokens)));
  step(coordinator::MessageReceived{id, wire::SubmitBegin{plan_.round, wire::UpdateKind::clear,
                                                          wire::content_hash(content), content.size(), report}});
  for (std::size_t at = 0, chunk = 0; at < content.size(); at += wire::kChunkBytes, ++chunk) {
    const std::size_t end = std::min<std::size_t>(content.size(), at + wire::kChunkBytes);
    Bytes part(content.begin() + static_cast<std::ptrdiff_t>(at), content.begin() + static_cast<std::ptrdiff_t>(end));
    step(coordinator::MessageReceived{
        id, wire::SubmitChunk{plan_.round, static_cast<std::uint32_t>(chunk), std::move(part)}});
  }
  check_in_at(index, queue_.now_ms() + kRestMs + 2 * class_of(index).latency_ms);
}

void ModelledWorld::said(const DeviceId& device, const wire::Message& message) {
  const std::size_t index = index_of(device);
  if (const auto* offer = std::get_if<wire::TaskOffer>(&message)) return offered(index, *offer);
  if (const auto* receipt = std::get_if<wire::Receipt>(&message)) {
    if (receipt->status == wire::ReceiptStatus::accepted) ++contributions_[devices_[index].kind];
    return;
  }
  const auto* back = std::get_if<wire::CheckBack>(&message);
  if (back == nullptr || devices_[index].training) return;
  check_in_at(index, moved(index, false, queue_.now_ms(), check_back_bytes_) + back->retry_after_ms);
}

// ---- coordinator ---------------------------------------------------------------------------------------------------

void ModelledWorld::step(const coordinator::Event& event) {
  auto effects = machine_->step(event, kModelledWallMs + queue_.now_ms());
  for (auto& effect : effects) perform(effect);
}

void ModelledWorld::perform(coordinator::Effect& effect) {
  if (const auto* persist = std::get_if<coordinator::Persist>(&effect)) {
    persisted_rows_ += persist->writes.size();
    for (const auto& write : persist->writes)
      persisted_bytes_ += write.key.size() + (write.value ? write.value->size() : 0);
  } else if (const auto* send = std::get_if<coordinator::Send>(&effect)) {
    // Behind this step's other effects: what a device answers is an event of its own.
    queue_.after(0, [this, device = send->device, message = send->message] { said(device, message); });
  } else if (const auto* set = std::get_if<coordinator::SetTimer>(&effect)) {
    const std::uint64_t setting = timers_[set->timer] = ++settings_;
    queue_.at(set->at_ms - kModelledWallMs, [this, timer = set->timer, setting] {
      if (timers_[timer] != setting) return;
      timers_[timer] = 0;
      step(coordinator::TimerFired{timer});
    });
  } else if (const auto* cancel = std::get_if<coordinator::CancelTimer>(&effect)) {
    timers_[cancel->timer] = 0;
  } else if (const auto* request = std::get_if<coordinator::Evaluate>(&effect)) {
    coordinator::Evaluated answer;
    answer.version = request->version;
    queue_.after(0, [this, answer] { step(answer); });
  } else if (const auto* noise = std::get_if<coordinator::DrawNoise>(&effect)) {
    queue_.after(0, [this, round = noise->round] {
      step(coordinator::NoiseDrawn{round, Bytes(crypto::kStreamSeedBytes, static_cast<std::uint8_t>(round.value))});
    });
  } else if (const auto* ended = std::get_if<coordinator::RoundEnded>(&effect)) {
    round_ended(*ended);
  }
}

void ModelledWorld::round_ended(const coordinator::RoundEnded& ended) {
  if (ended.round.value == 0) return;
  const auto& row = ended.row;
  const auto number = [](std::uint64_t value) { return Json(value); };
  Json line = Json::object({{"round", ended.round.value},
                            {"published", ended.published},
                            {"reason", ended.reason},
                            {"version", row.version.value},
                            {"virtual_s", static_cast<double>(queue_.now_ms()) * kSecond},
                            {"round_s", static_cast<double>(row.ended_ms - row.started_ms) * kSecond}});
  for (const auto* key : {"loss", "perplexity", "accuracy"}) line.set(key, Json());
  line.set("invited", row.invited).set("refused", row.refused).set("contributed", row.contributors);
  line.set("late", row.late).set("dropped", deaths_ - deaths_before_);
  line.set("train_loss_first", Json()).set("train_loss_last", Json()).set("delta_norm", row.delta_norm);
  line.set("tokens", row.tokens).set("update_bytes", row.update_bytes);
  line.set("bytes_up", number(totals_.up)).set("bytes_down", number(totals_.down));
  line.set("bytes_total", number(totals_.up + totals_.down)).set("joules_total", totals_.joules);
  line.set("check_ins", number(check_ins_));
  deaths_before_ = deaths_;
  if (observer_.on_round) observer_.on_round(line);
  rounds_.push_back(std::move(line));
}

Status ModelledWorld::run() {
  queue_.at(0, [this] { step(coordinator::Started{}); });
  COVEY_TRY(queue_.run_until([this] { return machine_->phase() == coordinator::Phase::finished || failure_; },
                             experiment_.virtual_ms_max, rounds_));
  return failure_ ? Status(*failure_) : Status();
}

Result<WorldResult> ModelledWorld::result() {
  WorldResult out;
  std::uint64_t contributions = 0;
  std::uint64_t published = 0;
  for (const auto& round : rounds_) {
    contributions += *round.get_uint("contributed");
    published += *round.get_bool("published") ? 1 : 0;
  }
  Json classes = Json::array();
  for (std::size_t c = 0; c < experiment_.classes.size(); ++c) {
    const auto devices = std::ranges::count(devices_, static_cast<std::uint32_t>(c), &Modelled::kind);
    classes.push_back(class_json(experiment_.classes[c], static_cast<std::uint64_t>(devices), contributions_[c]));
  }
  const Json none = Json::object({{"loss", Json()}, {"perplexity", Json()}, {"accuracy", Json()}});
  out.summary = Json::object({{"name", experiment_.name},
                              {"training", "modelled"},
                              {"seed", task_.seed},
                              {"devices", experiment_.devices},
                              {"rounds", rounds_.size()},
                              {"rounds_published", published},
                              {"contributions", contributions},
                              {"crashes", deaths_},
                              {"base", none},
                              {"final", none},
                              {"virtual_hours", static_cast<double>(queue_.now_ms()) * kSecond / 3600},
                              {"bytes_up", totals_.up},
                              {"bytes_down", totals_.down},
                              {"joules", totals_.joules},
                              {"check_ins", check_ins_},
                              {"persisted_rows", persisted_rows_},
                              {"persisted_bytes", persisted_bytes_},
                              {"version_values", task_.values()},
                              {"model_parameters", parameters_},
                              {"privacy_mode", wire::to_string(task_.privacy.mode)},
                              {"privacy_claim", aggregation::threat_model(task_.privacy.mode, false)},
                              {"classes", classes}});
  Json measured = Json::object({{"training_busy_s", 0.0}, {"threads", 1}, {"processor", cpu_name()}});
  add_cost(measured, {.process_s = process_cpu_seconds()});
  out.summary.set("measured", measured);
  out.rounds = rounds_;
  out.adapter_layout = task_.adapter_layout;
  const auto values = machine_->values();
  out.adapter.assign(values.begin(), values.end());
  out.summary.set("adapter_values", out.adapter.size());
  return out;
}

}  // namespace

Result<WorldResult> run_modelled_world(const Experiment& experiment, const WorldObserver& observer) {
  ModelledWorld world(experiment, observer);
  COVEY_TRY(world.prepare());
  COVEY_TRY(world.run());
  return world.result();
}

}  // namespace covey::simulations
