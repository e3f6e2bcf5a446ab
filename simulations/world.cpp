#include "simulations/world.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <set>

#include "adapters/adapter.h"
#include "aggregation/strategy.h"
#include "client/agent.h"
#include "coordinator/privacy_report.h"
#include "coordinator/registration.h"
#include "coordinator/service.h"
#include "coordinator/settings.h"
#include "core/base/cpu.h"
#include "core/base/rng.h"
#include "core/crypto/curve.h"
#include "core/crypto/hash.h"
#include "core/crypto/stream.h"
#include "core/net/memory_network.h"
#include "core/store/memory_store.h"
#include "core/train/evaluate.h"
#include "simulations/drop_reasons.h"
#include "simulations/modelled_world.h"
#include "simulations/own_cost.h"
#include "simulations/virtual_device.h"

namespace covey::simulations {
namespace {

using formats::Json;

constexpr std::int64_t kWallStartMs = 1'767'225'600'000;  // 2026-01-01T00:00:00Z
constexpr double kMillisecond = 1e-3;

// Purposes of the seeds derived from the experiment's seed.
enum Purpose : std::uint64_t {
  kFleet = 11,
  kKeys,
  kRandom,
  kJitter,
  kStart,
  kDropout,
  kData,
  kAdversary,
  kNoise,
  kNonces,
  kLinks,
  kHours
};

crypto::IdentityKey identity_from(std::uint64_t seed, std::uint64_t index) {
  Bytes bytes(32);
  Rng rng(derive_seed(seed, kKeys), index);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.next_u32());
  return *crypto::IdentityKey::from_seed(bytes);  // 32 bytes are what it takes
}

/// In memory nothing is encrypted: a CURVE key is only a name here.
wire::Key curve_from(std::uint64_t seed, std::uint64_t index) {
  wire::Key key{};
  Rng rng(derive_seed(seed, kKeys + 100), index);
  for (auto& byte : key) byte = static_cast<std::uint8_t>(rng.next_u32());
  return key;
}

struct Device {
  std::size_t index = 0;
  const DeviceClass* kind = nullptr;
  const DeviceRows* rows = nullptr;
  wire::Key curve{};
  Link link;
  store::MemoryStore store;
  Rng random{0};
  Rng nonces{0};

  // One life, from start to crash.
  std::unique_ptr<MemoryDownloads> downloads;
  bool bad = false;
  std::unique_ptr<VirtualTrainer> trainer;
  std::unique_ptr<net::ClientTransport> transport;
  std::unique_ptr<client::Agent> agent;

  WakeUp wake_up;
  std::uint64_t life = 0;
  std::optional<RoundId> crashed_in;  ///< a device dies at most once per round
  std::int64_t up_free_ms = 0;        ///< its links carry one frame after the other
  std::int64_t down_free_ms = 0;
  std::int64_t up_last_ms = 0;  ///< arrival of the newest frame: later ones come later
  std::int64_t down_last_ms = 0;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::int64_t radio_ms = 0;
  std::int64_t trained_ms = 0;  ///< of earlier lives
};

class World final : public coordinator::Evaluator {
 public:
  World(const Experiment& experiment, const WorldObserver& observer)
      : experiment_(experiment),
        observer_(observer),
        queue_(kWallStartMs),
        evaluation_pool_(experiment.threads),
        training_(experiment.threads, observer.ranks) {}

  Status prepare();
  Status run();
  Result<WorldResult> result();

  void evaluate(coordinator::Evaluate request) override;

 private:
  Status make_devices();
  [[nodiscard]] Bytes noise_seed();
  void poison(RoundId round, std::span<float> delta, std::size_t device) const;
  Result<train::Evaluation> measure(std::vector<float> adapter, std::span<const train::TokenRow> rows);
  void start_life(Device& device);
  void keep_hours(Device& device);
  void crash(Device& device);
  void training_begins(Device& device, const wire::RoundPlan& plan, std::int64_t modelled_ms);
  void pump(Device& device);
  void pump_server();
  void deliver(net::MemoryNetwork::Delivery delivery);
  void round_ended(const coordinator::RoundEnded& ended);
  void note(const Status& status);
  [[nodiscard]] Json totals() const;
  [[nodiscard]] std::vector<DeviceOutcome> outcomes() const;
  [[nodiscard]] Json class_table(const std::vector<DeviceOutcome>& outcomes) const;

  const Experiment& experiment_;
  const WorldObserver& observer_;
  EventQueue queue_;
  adapters::Workbench bench_;
  SimulatedData data_;
  coordinator::TaskConfig task_;
  ThreadPool evaluation_pool_;
  store::MemoryStore store_;
  net::BlobServer blobs_;
  std::unique_ptr<coordinator::Registration> registration_;
  std::unique_ptr<net::MemoryNetwork> network_;
  std::unique_ptr<coordinator::Service> service_;
  WakeUp server_wake_up_;
  TrainingPool training_;  // its jobs borrow data_; a device that goes while it trains still drops its job here
  std::vector<std::unique_ptr<Device>> devices_;
  std::optional<Error> failure_;
  std::vector<Json> rounds_;
  std::uint64_t noise_seeds_ = 0;
  Json base_ = Json::object();
  Json last_ = Json::object();
  std::uint64_t crashes_ = 0;
  std::uint64_t crashes_before_round_ = 0;
  double cpu_begin_ = 0;
  double evaluation_cpu_ = 0;
  std::uint64_t trained_ = 0;  ///< rounds that devices began to train for
};

/// The first device gets what all have, phase after phase; the held-out rows stay what they are.
void put_on_one(SimulatedData& data, std::size_t phases) {
  DeviceRows all{"central", {}, {}};
  for (std::size_t phase = 0; phase < phases; ++phase) {
    if (phases > 1) all.phase_begin.push_back(all.rows.size());
    for (const auto& device : data.devices) std::ranges::copy(device.in_phase(phase), std::back_inserter(all.rows));
  }
  if (phases > 1) all.phase_begin.push_back(all.rows.size());
  data.devices.clear();
  data.devices.push_back(std::move(all));
  std::ranges::fill(data.held_out_of, 0U);
}

Json metrics_json(const coordinator::Metrics& metrics) {
  Json out = Json::object();
  out.set("loss", metrics.loss ? Json(*metrics.loss) : Json());
  out.set("perplexity", metrics.loss ? Json(std::exp(*metrics.loss)) : Json());
  out.set("accuracy", metrics.accuracy ? Json(*metrics.accuracy) : Json());
  return out;
}

Status World::prepare() {
  COVEY_ASSIGN(bench_, adapters::open_workbench(experiment_.model, experiment_.tokenizer));
  COVEY_ASSIGN(data_,
               load_device_data(experiment_.data, experiment_.devices, static_cast<int>(experiment_.task.local.seq),
                                *bench_.tokenizer, data_seed(experiment_)));
  if (experiment_.central) put_on_one(data_, experiment_.data.phases);
  task_ = experiment_.task;
  COVEY_ASSIGN(const auto files, coordinator::model_files(experiment_.model, experiment_.tokenizer));
  COVEY_TRY(coordinator::serve_model(task_, files, blobs_));
  COVEY_TRY(coordinator::add_adapter(task_, *bench_.model, experiment_.adapter));

  const auto roster_key = identity_from(task_.seed, 1);
  const wire::Key roster_public = roster_key.public_key().bytes;
  COVEY_ASSIGN(registration_, coordinator::Registration::open(store_, roster_public, std::nullopt, queue_.clock()));
  network_ = std::make_unique<net::MemoryNetwork>(
      [this](net::MemoryNetwork::Delivery delivery) { deliver(std::move(delivery)); }, registration_.get());
  COVEY_TRY(make_devices());
  // All devices in few epochs: each device verifies the chain, and its bytes are part of what the world measures.
  COVEY_TRY(registration_->sign_pending(roster_key));
  if (experiment_.roster_known) {
    COVEY_ASSIGN(const auto head, follow_roster(*registration_, roster_public));
    for (auto& device : devices_) COVEY_TRY(device->store.commit(std::vector{known_roster_row(head, device->curve)}));
  }
  COVEY_ASSIGN(service_, coordinator::Service::create(task_, identity_from(task_.seed, 0),
                                                      {store_, network_->server(), *registration_, blobs_, *this,
                                                       queue_.clock(), [this] { return noise_seed(); }}));
  service_->on_round([this](const coordinator::RoundEnded& ended) { round_ended(ended); });
  return {};
}

Status World::make_devices() {
  const std::size_t count = data_.devices.size();
  const auto kinds = draw_classes(experiment_.classes, count, derive_seed(task_.seed, kFleet));
  Rng starts(derive_seed(task_.seed, kStart));
  const auto bad = draw_adversaries(experiment_.adversaries, count, derive_seed(task_.seed, kAdversary));
  for (std::size_t i = 0; i < count; ++i) {
    auto device = std::make_unique<Device>();
    device->index = i;
    device->kind = &experiment_.classes[kinds[i]];
    device->link = draw_link(*device->kind, experiment_.traces, derive_seed(task_.seed, kLinks), i);
    device->bad = bad[i];
    if (bad[i]) poison_rows(experiment_.adversaries.attack, data_.devices[i].rows, bench_.model->config().vocab_size);
    device->rows = &data_.devices[i];
    device->curve = curve_from(task_.seed, i);
    device->random = Rng(derive_seed(task_.seed, kRandom), i);
    device->nonces = Rng(derive_seed(task_.seed, kNonces), i);
    const DeviceId id = identity_from(task_.seed, 2 + i).device_id();
    COVEY_TRY(registration_->admit(id, device->curve, data_.devices[i].key));
    const auto start_ms = static_cast<std::int64_t>(starts.below(task_.check_back_ms + 1));
    queue_.at(start_ms, [this, d = device.get()] { start_life(*d); });
    devices_.push_back(std::move(device));
  }
  return {};
}

void World::start_life(Device& device) {
  ++device.life;
  std::set<wire::Hash> preinstalled;
  for (const auto& file : task_.model) preinstalled.insert(file.blob);
  device.downloads = std::make_unique<MemoryDownloads>(std::move(preinstalled));
  device.trainer = std::make_unique<VirtualTrainer>(
      SharedWorld{queue_, training_, bench_, observer_.journal}, device.index, *device.kind,
      [this, &device] { return device.rows->in_phase(phase_at(experiment_.data, queue_.now_ms())); }, *device.downloads,
      VirtualTrainer::Hooks{
          .on_start = [this, &device](const wire::RoundPlan& plan,
                                      std::int64_t ms) { training_begins(device, plan, ms); },
          .on_ready = [this, &device] { pump(device); },
          .on_delta = device.bad ? [this, &device](RoundId round,
                                                   std::span<float> delta) { poison(round, delta, device.index); }
                                 : std::function<void(RoundId, std::span<float>)>()});
  device.transport = network_->make_client(device.curve, device.index);

  client::SessionConfig session;
  session.task = task_.task;
  session.coordinator = identity_from(task_.seed, 0).public_key().bytes;
  session.roster = identity_from(task_.seed, 1).public_key().bytes;
  session.policy.weakest_mode = task_.privacy.mode;
  session.policy.survivors_min = task_.privacy.survivors_min;
  session.policy.corrupt_fraction_min = task_.privacy.corrupt_fraction;
  session.jitter_seed = derive_seed(derive_seed(task_.seed, kJitter), device.index);
  device.agent = std::make_unique<client::Agent>(
      client::AgentConfig{session, identity_from(task_.seed, 2 + device.index), device.curve},
      client::AgentSeams{device.store, *device.transport, *device.downloads, *device.trainer, queue_.clock(),
                         [&device](std::span<std::uint8_t> out) {
                           // Seeds of rounding and keys come from a stream of their own: how often a device had to
                           // connect cannot reach a result.
                           Rng& stream = out.size() == sizeof(wire::Nonce) ? device.nonces : device.random;
                           for (auto& byte : out) byte = static_cast<std::uint8_t>(stream.next_u32());
                         }});
  wire::Capabilities capabilities;
  capabilities.software = "covey-sim";
  capabilities.processor = device.kind->name;
  capabilities.memory_bytes = device.kind->memory_bytes;
  capabilities.training_memory_bytes_max = device.kind->memory_bytes;
  capabilities.examples = std::bit_floor(std::uint64_t{device.rows->rows.size()});
  capabilities.weakest_mode = task_.privacy.mode;
  note(device.agent->start(capabilities));
  keep_hours(device);
  pump(device);
}

/// Tells the device when it may train and when not, from now until its life ends.
void World::keep_hours(Device& device) {
  if (!experiment_.availability.diurnal) return;
  const AvailabilityOf hours(experiment_.availability, derive_seed(task_.seed, kHours), device.index);
  const auto window = hours.window(queue_.now_ms());
  const bool now = window.begin_ms <= queue_.now_ms();
  note(device.agent->handle(client::EligibilityChanged{now, now ? "" : "not charging"}));
  queue_.at(now ? window.end_ms : window.begin_ms, [this, &device, life = device.life] {
    if (!device.agent || device.life != life) return;
    keep_hours(device);
    pump(device);
  });
}

void World::poison(RoundId round, std::span<float> delta, std::size_t device) const {
  poison_delta(experiment_.adversaries, delta,
               derive_seed(derive_seed(task_.seed, kAdversary), round.value << 32 | device));
}

/// Of the simulated system generator: a world repeats, noise included.
Bytes World::noise_seed() {
  Bytes out(crypto::kStreamSeedBytes);
  Rng rng(derive_seed(task_.seed, kNoise), noise_seeds_++);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
  return out;
}

void World::crash(Device& device) {
  if (!device.agent) return;
  ++crashes_;
  network_->break_connection(device.index);
  device.agent.reset();
  device.transport.reset();
  device.trainer->stop(false);
  device.trained_ms += device.trainer->trained_ms();
  device.trainer.reset();
  device.downloads.reset();
  device.wake_up.cancel();
  queue_.after(experiment_.away_ms, [this, &device] { start_life(device); });
}

void World::training_begins(Device& device, const wire::RoundPlan& plan, std::int64_t modelled_ms) {
  ++trained_;
  if (experiment_.dropout <= 0 || device.crashed_in == plan.round) return;
  Rng rng(derive_seed(derive_seed(task_.seed, kDropout), device.index), plan.round.value);
  if (rng.uniform() >= experiment_.dropout) return;
  device.crashed_in = plan.round;
  queue_.after(static_cast<std::int64_t>(rng.uniform() * static_cast<double>(modelled_ms)),
               [this, &device] { crash(device); });
}

void World::pump(Device& device) {
  if (!device.agent) return;
  note(device.transport->poll(0));
  note(device.agent->run_due());
  device.wake_up.set(queue_, device.agent->next_timer_ms(), [this, &device] { pump(device); });
}

void World::pump_server() {
  note(network_->server().poll(0));
  note(service_->run_due());
  server_wake_up_.set(queue_, service_->next_timer_ms(), [this] { pump_server(); });
}

void World::deliver(net::MemoryNetwork::Delivery delivery) {
  Device& device = *devices_[delivery.client];
  const bool up = delivery.to_server;
  std::int64_t& free_ms = up ? device.up_free_ms : device.down_free_ms;
  std::int64_t& last_ms = up ? device.up_last_ms : device.down_last_ms;
  const std::int64_t begin_ms = std::max(free_ms, queue_.now_ms());
  free_ms = device.link.passed_ms(up, begin_ms, delivery.bytes);
  last_ms = std::max(last_ms, free_ms + device.kind->latency_ms);
  (up ? device.bytes_up : device.bytes_down) += delivery.bytes;
  device.radio_ms += free_ms - begin_ms;
  queue_.at(last_ms, [this, &device, up, run = std::move(delivery.run)] {
    run();
    if (up) {
      pump_server();
    } else {
      pump(device);
    }
  });
}

Result<train::Evaluation> World::measure(std::vector<float> values, std::span<const train::TokenRow> rows) {
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(task_.adapter_layout));
  COVEY_ASSIGN(values,
               coordinator::adapter_of_version(task_, layout, *bench_.model, std::move(values), evaluation_pool_));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench_.model, std::move(layout), std::move(values)));
  train::EvaluateOptions options;
  options.seq = static_cast<int>(task_.local.seq);
  return train::evaluate(*bench_.model, adapter.spec(), adapter.view(), rows, options, evaluation_pool_);
}

void World::evaluate(coordinator::Evaluate request) {
  coordinator::Evaluated answer;
  answer.version = request.version;
  if (!data_.held_out.empty()) {
    const auto now = [&] { return measure(std::move(request.adapter), data_.held_out); };
    const auto once = [&]() -> Result<train::Evaluation> {
      return observer_.journal != nullptr ? observer_.journal->evaluation(request.version, now) : now();
    };
    const double cpu_begin = process_cpu_seconds();
    const double training_begin = training_.cpu_seconds();
    const auto measured = observer_.ranks != nullptr ? evaluate_once(*observer_.ranks, once) : once();
    const double others = training_.cpu_seconds() - training_begin;  // jobs that ended beside it
    evaluation_cpu_ += std::max(0.0, process_cpu_seconds() - cpu_begin - others);
    if (measured.ok()) {
      answer.loss = measured->loss;
      answer.accuracy = measured->accuracy;
      answer.tokens = static_cast<std::uint64_t>(measured->tokens);
    } else {
      note(measured.error());
    }
  }
  queue_.after(0, [this, answer] {
    note(service_->evaluated(answer));
    pump_server();
  });
}

/// Of all its lives.
std::int64_t trained_ms(const Device& device) {
  return device.trained_ms + (device.trainer ? device.trainer->trained_ms() : 0);
}

Json World::totals() const {
  std::uint64_t up = 0;
  std::uint64_t down = 0;
  double joules = 0;
  for (const auto& device : devices_) {
    up += device->bytes_up;
    down += device->bytes_down;
    joules += static_cast<double>(trained_ms(*device)) * kMillisecond * device->kind->training_watts +
              static_cast<double>(device->radio_ms) * kMillisecond * device->kind->radio_watts;
  }
  return Json::object({{"bytes_up", up}, {"bytes_down", down}, {"bytes_total", up + down}, {"joules_total", joules}});
}

void World::round_ended(const coordinator::RoundEnded& ended) {
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
                            {"virtual_s", static_cast<double>(queue_.now_ms()) * kMillisecond},
                            {"round_s", static_cast<double>(row.ended_ms - row.started_ms) * kMillisecond}});
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
  const auto privacy = coordinator::read_privacy_report(task_, store_);
  note(privacy.ok() ? Status() : Status(privacy.error()));
  line.set("epsilon", privacy.ok() && *privacy ? Json((*privacy)->epsilon) : Json());
  crashes_before_round_ = crashes_;
  if (observer_.on_round) observer_.on_round(line);
  rounds_.push_back(std::move(line));
}

void World::note(const Status& status) {
  if (!status.ok() && !failure_) failure_ = status.error();
}

Status World::run() {
  cpu_begin_ = process_cpu_seconds();
  COVEY_TRY(service_->start());
  pump_server();
  COVEY_TRY(queue_.run_until([this] { return service_->finished() || failure_; }, experiment_.virtual_ms_max, rounds_));
  return failure_ ? Status(*failure_) : Status();
}

std::vector<DeviceOutcome> World::outcomes() const {
  std::vector<DeviceOutcome> out;
  const auto& known = service_->machine().registry().rows();
  for (const auto& device : devices_) {
    auto& line = out.emplace_back();
    line.kind = static_cast<std::uint32_t>(device->kind - experiment_.classes.data());
    const auto row = known.find(identity_from(task_.seed, 2 + device->index).device_id());
    if (row != known.end()) line.contributions = row->second.contributed;
    line.training_joules = static_cast<double>(trained_ms(*device)) * kMillisecond * device->kind->training_watts;
    line.radio_joules = static_cast<double>(device->radio_ms) * kMillisecond * device->kind->radio_watts;
  }
  return out;
}

Json World::class_table(const std::vector<DeviceOutcome>& outcomes) const {
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

Result<WorldResult> World::result() {
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
                              {"virtual_hours", static_cast<double>(queue_.now_ms()) * kMillisecond / 3600},
                              {"bytes_up", *sums.find("bytes_up")},
                              {"bytes_down", *sums.find("bytes_down")},
                              {"joules", *sums.find("joules_total")},
                              {"version_values", task_.values()},
                              {"model_parameters", bench_.model->parameter_count()},
                              {"privacy_mode", wire::to_string(task_.privacy.mode)},
                              {"privacy_claim", aggregation::threat_model(task_.privacy.mode, false)},
                              {"classes", class_table(out.devices)}});
  Json measured = Json::object(
      {{"training_busy_s", training_.busy_seconds()}, {"threads", experiment_.threads}, {"processor", cpu_name()}});
  add_cost(measured, {process_cpu_seconds() - cpu_begin_, training_.cpu_seconds(), evaluation_cpu_, trained_});
  out.summary.set("measured", measured);
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

}  // namespace

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

std::uint64_t data_seed(const Experiment& experiment) {
  return derive_seed(experiment.task.seed, kData);
}

Result<WorldResult> run_world(const Experiment& experiment, const WorldObserver& observer) {
  if (experiment.modelled) return run_modelled_world(experiment, observer);
  World world(experiment, observer);
  COVEY_TRY(world.prepare());
  COVEY_TRY(world.run());
  return world.result();
}

}  // namespace covey::simulations
