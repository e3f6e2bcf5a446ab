#include "simulations/fault_world.h"

#include <algorithm>
#include <atomic>

#include "adapters/layout.h"
#include "simulations/fault_world_impl.h"

namespace covey::simulations {

crypto::IdentityKey fault_identity(std::uint64_t seed, std::uint64_t number) {
  Bytes bytes(32);
  Rng rng(derive_seed(seed, kIdentity), number);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.next_u32());
  return *crypto::IdentityKey::from_seed(bytes);  // 32 bytes are what it takes
}

namespace {

/// Stands for a base model: downloaded like one, by devices that never look inside.
Bytes model_file() {
  return Bytes(2000, 0x42);
}

std::string disk_name() {
  static std::atomic<std::uint64_t> next{0};  // SQLite knows a VFS by its name, and worlds run beside each other
  return "covey-world-" + std::to_string(next++);
}

}  // namespace

FaultWorld::FaultWorld(const FaultScenario& scenario, Plant plant)
    : scenario_(scenario),
      plant_(plant),
      task_(make_task()),
      checks_(scenario, [this](const DeviceId& device, RoundId round) { return update_of(device, round); }),
      server_(disk_name(), queue_),
      roster_key_(fault_identity(scenario.seed, 1)) {
  server_.disk.set_lying_sync(plant == Plant::lying_sync);
  network_ = std::make_unique<net::MemoryNetwork>(
      [this](net::MemoryNetwork::Delivery delivery) { deliver(std::move(delivery)); }, &door_);
  tap_ = std::make_unique<ServerTap>(network_->server(), leaving_);
  Rng place = dice(kPlace);
  for (std::uint32_t i = 0; i < scenario.devices; ++i) {
    auto device = std::make_unique<FaultDevice>(disk_name(), queue_);
    device->index = i;
    device->id = identity(*device).device_id();
    device->latency_ms = 2 + static_cast<std::int64_t>(place.below(40));
    devices_.push_back(std::move(device));
  }
  for (const FaultEntry& entry : scenario_.faults) {
    entry_dice_.emplace(entry.number, Rng(derive_seed(scenario.seed, kFrame), entry.number));
    queue_.at(entry.at_ms, [this, &entry] { begin(entry); });
    queue_.at(entry.at_ms + entry.for_ms, [this, &entry] { end(entry); });
  }
  queue_.at(scenario.quiet_ms, [this] { faults_end(); });
}

coordinator::TaskConfig FaultWorld::make_task() const {
  Rng rng(derive_seed(scenario_.seed, kPlace), 1);
  adapters::AdapterLayout layout;
  layout.lora.push_back({.path = "model.layers.0.self_attn.q_proj", .in = 4, .out = 4, .rank = 2, .alpha = 4});
  layout.size = kFaultValues;
  coordinator::TaskConfig task;
  task.task = "torture";
  task.adapter_layout = layout.canonical();
  task.initial.assign(kFaultValues, 0.0F);
  net::BlobServer names;  // a blob's name is the hash of its manifest
  task.model = {{"model.safetensors", *names.add(model_file()), model_file().size()}};
  task.seed = scenario_.seed;
  task.rounds = scenario_.rounds;
  task.rounds_tried_max = 1'000'000;
  task.goal_count = scenario_.goal;
  task.min_count = scenario_.least - (plant_ == Plant::low_threshold ? 1 : 0);
  task.over_selection = 1 + rng.uniform();
  task.deadline_ms = 1500 + static_cast<std::int64_t>(rng.below(3000));
  task.round_pause_ms = 50 + static_cast<std::int64_t>(rng.below(300));
  task.evaluation_timeout_ms = 2000;
  task.check_back_ms = 200;
  task.group_commit_updates = static_cast<std::uint32_t>(1 + rng.below(4));
  task.group_commit_ms = 20 + static_cast<std::int64_t>(rng.below(300));
  task.privacy.mode = scenario_.secure ? wire::PrivacyMode::secure : wire::PrivacyMode::robust;
  task.privacy.clip_norm = kFaultClip;
  task.privacy.value_bits = 16;
  task.privacy.weight_max = scenario_.ledger ? 1 : 4;
  task.privacy.survivors_min = task.min_count;
  task.privacy.phase_ms = 700 + static_cast<std::int64_t>(rng.below(800));
  if (scenario_.ledger) {
    task.privacy.dp.noise_multiplier = 1;
    task.privacy.dp.budget = {1000, 1e-5};
  }
  return task;
}

TrueUpdate FaultWorld::update_of(const DeviceId& device, RoundId round) const {
  Rng rng(derive_seed(derive_seed(scenario_.seed, kDelta), std::hash<DeviceId>{}(device)), round.value);
  TrueUpdate out;
  out.delta.resize(kFaultValues);
  for (auto& value : out.delta) value = static_cast<std::int32_t>(rng.below(41)) - 20;
  out.weight = scenario_.ledger ? 1 : static_cast<std::uint32_t>(1 + rng.below(4));
  return out;
}

wire::Key FaultWorld::curve(const FaultDevice& device) const {
  wire::Key key{};
  Rng rng(derive_seed(scenario_.seed, kCurve), device.index + 64 * device.generation);
  for (auto& byte : key) byte = static_cast<std::uint8_t>(rng.next_u32());
  return key;
}

// ---- processes -----------------------------------------------------------------------------------------------------

void FaultWorld::power(Machine& machine) {
  if (!machine.disk.crashed()) return;
  machine.disk.power_cycle(machine.survival, derive_seed(derive_seed(scenario_.seed, kSurvive), drawn_++));
}

Status FaultWorld::open_coordinator() {
  COVEY_ASSIGN(auto store, server_.open());
  store_ = std::make_unique<PlantedStore>(std::move(store), plant_);
  COVEY_ASSIGN(registration_, coordinator::Registration::open(*store_, roster_key_.public_key().bytes,
                                                              fault_identity(scenario_.seed, 1), server_.clock));
  for (const auto& device : devices_) {
    if (!registration_->devices().contains(device->id)) {
      COVEY_TRY(registration_->admit(device->id, curve(*device), "device-" + std::to_string(device->index)));
    }
  }
  blobs_ = std::make_unique<net::BlobServer>();
  COVEY_TRY(blobs_->add(model_file()));
  COVEY_ASSIGN(service_,
               coordinator::Service::create(task_, fault_identity(scenario_.seed, 0),
                                            {*store_, *tap_, *registration_, *blobs_, *this, server_.clock, [this] {
                                               Bytes seed(32);
                                               Rng rng = dice(kEntropy);
                                               for (auto& byte : seed) byte = static_cast<std::uint8_t>(rng.next_u32());
                                               return seed;
                                             }}));
  service_->on_round([this](const coordinator::RoundEnded& ended) {
    if (ended.round.value == 0) return;
    ++(ended.published ? outcome_.published : outcome_.aborted);
    outcome_.published_quiet |= ended.published && quiet_;
  });
  door_.behind = registration_.get();
  network_->set_listening(true);
  return service_->start();
}

void FaultWorld::start_coordinator() {
  if (service_ || server_.gone) return;
  ++service_life_;
  look(open_coordinator(), "the coordinator");
  pump_coordinator();
}

void FaultWorld::coordinator_dies() {
  strike(server_.armed, server_.new_strikes());
  ++outcome_.deaths;
  ++service_life_;
  door_.behind = nullptr;
  network_->set_listening(false);
  service_.reset();
  registration_.reset();
  blobs_.reset();
  store_.reset();
  server_wake_up_.cancel();
  power(server_);
  queue_.after(server_.back_ms, [this] { start_coordinator(); });
}

Status FaultWorld::open_device(FaultDevice& device) {
  COVEY_ASSIGN(device.store, device.open());
  device.downloads = std::make_unique<MemoryDownloads>(preinstalled_, shelf_);
  device.trainer = std::make_unique<FaultTrainer>(
      queue_, FaultTrainer::Hooks{[this, &device](RoundId round) {
                                    Rng rng(derive_seed(derive_seed(scenario_.seed, kWork), device.index), round.value);
                                    return static_cast<std::int64_t>(20 + rng.below(700));
                                  },
                                  [this, &device](RoundId round) {
                                    TrueUpdate update = update_of(device.id, round);
                                    if (plant_ == Plant::wrong_sum && device.index == 0) ++update.delta[3];
                                    return update;
                                  },
                                  [this, &device] { pump(device); }});
  device.transport = std::make_unique<ClientTap>(network_->make_client(curve(device), device.index), leaving_);
  client::SessionConfig session;
  session.task = task_.task;
  session.coordinator = fault_identity(scenario_.seed, 0).public_key().bytes;
  session.roster = roster_key_.public_key().bytes;
  session.policy.weakest_mode = task_.privacy.mode;
  session.policy.survivors_min = task_.privacy.survivors_min;
  session.reply_ms = 800;
  session.backoff_first_ms = 100;
  session.backoff_max_ms = 2000;
  session.submit_grace_ms = 2000;
  session.jitter_seed = derive_seed(derive_seed(scenario_.seed, kJitterSeed), drawn_++);
  device.agent = std::make_unique<client::Agent>(
      client::AgentConfig{session, identity(device), curve(device), {}},
      client::AgentSeams{*device.store, *device.transport, *device.downloads, *device.trainer, device.clock,
                         [this](std::span<std::uint8_t> out) {
                           static std::atomic<std::uint64_t> never_again{1};
                           Rng rng = dice(kEntropy);
                           for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
                           if (plant_ == Plant::dice && !out.empty()) {
                             out[0] = static_cast<std::uint8_t>(never_again.fetch_add(1));
                           }
                         }});
  wire::Capabilities capabilities;
  capabilities.software = "covey-sim";
  capabilities.memory_bytes = capabilities.training_memory_bytes_max = std::uint64_t{4} << 30;
  capabilities.examples = 64;
  capabilities.weakest_mode = task_.privacy.mode;
  return device.agent->start(capabilities);
}

void FaultWorld::start_device(FaultDevice& device) {
  if (device.agent || device.gone) return;
  ++device.life;
  const Status opened = open_device(device);
  if (!opened.ok()) {
    device_dies(device);
    if (opened.error().code == ErrorCode::corrupt_data) reinstall(device);
    return;
  }
  pump(device);
}

void FaultWorld::device_dies(FaultDevice& device) {
  strike(device.armed, device.new_strikes());
  ++outcome_.deaths;
  ++device.life;
  network_->break_connection(device.index);
  device.agent.reset();
  device.transport.reset();
  device.trainer.reset();
  device.downloads.reset();
  device.store.reset();
  device.wake_up.cancel();
  power(device);
  queue_.after(device.back_ms, [this, &device, life = device.life] {
    if (device.life == life) start_device(device);
  });
}

/// Its owner wipes it and enrols it again: a new device, as far as anyone can tell.
void FaultWorld::reinstall(FaultDevice& device) {
  ++outcome_.reinstalled;
  ++device.generation;
  device.id = identity(device).device_id();
  device.disk.wipe();
  if (!registration_) return;  // listed at the coordinator's next start
  const auto listed = registration_->admit(device.id, curve(device), "device-" + std::to_string(device.index));
  if (!listed.ok()) look(listed.error(), "enrolling a device");
}

FaultOutcome FaultWorld::run() {
  start_coordinator();
  Rng place = dice(kPlace);
  for (const auto& device : devices_) {
    queue_.after(static_cast<std::int64_t>(place.below(300)), [this, d = device.get()] { start_device(*d); });
  }
  const auto over = [&] { return service_ && service_->finished(); };
  while (!over() && checks_.violations().empty() && queue_.now_ms() < scenario_.quiet_ms + kFaultGiveUp_ms) {
    if (!queue_.run_one() || (quiet_ && exhausted())) break;
  }
  outcome_.finished = over();
  outcome_.exhausted = !outcome_.finished && exhausted();
  if (!outcome_.finished && !outcome_.exhausted && checks_.violations().empty()) {
    checks_.violated(Checker::progress, "the rounds are not done " + std::to_string(kFaultGiveUp_ms / 1000) +
                                            " s after the faults have ended");
  }
  if (store_ && checks_.violations().empty()) {
    server_.disk.arm(Fault::none, 0);
    if (plant_ == Plant::torn_roster) (void)store_->erase("roster", store::key_of(std::uint64_t{1}));
    const Status finished = checks_.finish(*store_, roster_key_.public_key().bytes);
    if (!finished.ok()) checks_.violated(Checker::store, finished.error().message);
  }
  outcome_.violations = checks_.violations();
  outcome_.trace = trace_.finish().bytes;
  outcome_.virtual_ms = queue_.now_ms();
  return outcome_;
}

const char* to_string(Plant plant) {
  constexpr std::array<const char*, kPlants> kNames = {"none",          "wrong_sum",   "counted_twice", "lying_sync",
                                                       "low_threshold", "late_charge", "lost_version",  "torn_roster",
                                                       "deaf",          "dice"};
  return kNames[static_cast<std::size_t>(plant)];
}

Checker checker_of(Plant plant) {
  switch (plant) {
    case Plant::counted_twice:
      return Checker::once;
    case Plant::lying_sync:
      return Checker::kept;
    case Plant::low_threshold:
      return Checker::threshold;
    case Plant::late_charge:
      return Checker::ledger;
    case Plant::lost_version:
      return Checker::durable;
    case Plant::torn_roster:
      return Checker::store;
    case Plant::deaf:
      return Checker::progress;
    case Plant::dice:
      return Checker::replay;
    case Plant::none:
    case Plant::wrong_sum:
      break;
  }
  return Checker::sum;
}

const char* fault_phase_name(std::size_t phase) {
  constexpr std::array<const char*, kFaultPhases> kNames = {"idle",  "collecting", "share",     "mask",
                                                            "agree", "unmask",     "evaluating"};
  return kNames[phase];
}

FaultOutcome run_fault_world(const FaultScenario& scenario, Plant plant) {
  return FaultWorld(scenario, plant).run();
}

}  // namespace covey::simulations
