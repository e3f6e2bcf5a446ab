#include "simulations/fault_world.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "adapters/layout.h"
#include "client/agent.h"
#include "coordinator/registration.h"
#include "coordinator/service.h"
#include "core/base/rng.h"
#include "core/crypto/hash.h"
#include "core/crypto/identity.h"
#include "core/net/memory_network.h"
#include "core/store/sqlite_store.h"
#include "core/wire/frame.h"
#include "simulations/faulty_disk.h"
#include "simulations/virtual_device.h"
#include "simulations/virtual_time.h"

namespace covey::simulations {
namespace {

constexpr std::int64_t kWallStart_ms = 1'767'225'600'000;  // 2026-01-01T00:00:00Z
constexpr std::int64_t kGiveUp_ms = 120'000;               // virtual, after the faults have ended
constexpr std::size_t kValues = 16;
constexpr double kClip = 32767;  // = the largest of 16 bits: one quantized unit is one unit of a delta
constexpr const char* kDatabase = "state.db";

enum FaultPurpose : std::uint64_t {
  kIdentity = 21,
  kCurve,
  kEntropy,
  kJitterSeed,
  kDelta,
  kFrame,
  kSurvive,
  kWork,
  kPlace
};

crypto::IdentityKey identity_of(std::uint64_t seed, std::uint64_t number) {
  Bytes bytes(32);
  Rng rng(derive_seed(seed, kIdentity), number);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.next_u32());
  return *crypto::IdentityKey::from_seed(bytes);  // 32 bytes are what it takes
}

/// Stands for a base model: downloaded like one, by devices that never look inside.
Bytes model_file() {
  return Bytes(2000, 0x42);
}

/// The queue's time with a wall clock of its own.
class SkewedClock final : public Clock {
 public:
  explicit SkewedClock(const EventQueue& queue) : queue_(queue) {}
  [[nodiscard]] std::int64_t wall_ms() const override { return queue_.clock().wall_ms() + skew_ms; }
  [[nodiscard]] std::int64_t monotonic_ms() const override { return queue_.now_ms(); }
  std::int64_t skew_ms = 0;

 private:
  const EventQueue& queue_;
};

/// Passes on to what stands behind it now: the registration of the coordinator's present life, or nobody.
class Door final : public net::KeyDirectory {
 public:
  [[nodiscard]] bool may_connect(const wire::Key& curve) const override {
    return behind != nullptr && behind->may_connect(curve);
  }
  const coordinator::Registration* behind = nullptr;
};

/// These show each frame to the world before it leaves.
class ServerTap final : public net::ServerTransport {
 public:
  ServerTap(net::ServerTransport& inner, const Bytes*& leaving) : inner_(inner), leaving_(leaving) {}
  void set_handlers(Handlers handlers) override { inner_.set_handlers(std::move(handlers)); }
  Status send(net::ConnectionId connection, Bytes frame) override {
    const Bytes copy = frame;
    leaving_ = &copy;
    Status sent = inner_.send(connection, std::move(frame));
    leaving_ = nullptr;
    return sent;
  }
  void mark_authenticated(net::ConnectionId connection) override { inner_.mark_authenticated(connection); }
  void close(net::ConnectionId connection) override { inner_.close(connection); }
  Status poll(std::int64_t wait_ms) override { return inner_.poll(wait_ms); }

 private:
  net::ServerTransport& inner_;
  const Bytes*& leaving_;
};

class ClientTap final : public net::ClientTransport {
 public:
  ClientTap(std::unique_ptr<net::ClientTransport> inner, const Bytes*& leaving)
      : inner_(std::move(inner)), leaving_(leaving) {}
  void set_handlers(Handlers handlers) override { inner_->set_handlers(std::move(handlers)); }
  Status connect() override { return inner_->connect(); }
  void disconnect() override { inner_->disconnect(); }
  Status send(Bytes frame) override {
    const Bytes copy = frame;
    leaving_ = &copy;
    Status sent = inner_->send(std::move(frame));
    leaving_ = nullptr;
    return sent;
  }
  Status poll(std::int64_t wait_ms) override { return inner_->poll(wait_ms); }

 private:
  std::unique_ptr<net::ClientTransport> inner_;
  const Bytes*& leaving_;
};

/// The coordinator's store; with a plant, one that spoils what goes in.
class PlantedStore final : public store::Store {
 public:
  PlantedStore(std::unique_ptr<store::SqliteStore> inner, Plant plant) : inner_(std::move(inner)), plant_(plant) {}

  Status commit(std::span<const store::Write> writes) override {
    if (plant_ == Plant::none) return inner_->commit(writes);
    std::vector<store::Write> changed(writes.begin(), writes.end());
    std::erase_if(changed, [&](const store::Write& write) {
      return (plant_ == Plant::late_charge && write.table == "privacy") ||
             (plant_ == Plant::lost_version && write.table == "versions");
    });
    for (store::Write& write : changed) {
      if (plant_ != Plant::counted_twice || write.table != "contributors" || !write.value) continue;
      auto row = wire::decode<coordinator::ContributorsRow>(*write.value);
      if (!row.ok() || row->devices.empty()) continue;
      row->devices.push_back(row->devices.front());
      write.value = wire::encode(*row);
    }
    return changed.empty() ? Status() : inner_->commit(changed);
  }
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override { return inner_->get(table, key); }
  Status scan(std::string_view table, ByteSpan prefix, const Visitor& visit) override {
    return inner_->scan(table, prefix, visit);
  }
  Status verify() override { return inner_->verify(); }
  Status backup(const std::string& path) override { return inner_->backup(path); }

 private:
  std::unique_ptr<store::SqliteStore> inner_;
  Plant plant_;
};

/// A machine of the world: what outlives its process.
struct Machine {
  Machine(const std::string& name, const EventQueue& queue) : disk(name), clock(queue) {}

  /// @errors what opening reports; the disk had its power cut in it: crashed() says so.
  Result<std::unique_ptr<store::SqliteStore>> open() const {
    // A small log, so that checkpoints happen within a world.
    return store::SqliteStore::open(
        {.path = kDatabase, .vfs = disk.name(), .process_lock = false, .checkpoint_pages = 64});
  }
  /// Of strikes not counted yet. `kind`: the fault that was armed.
  std::uint64_t new_strikes() {
    const std::uint64_t now = disk.struck();
    return now - std::exchange(counted, now);
  }

  FaultyDisk disk;
  SkewedClock clock;
  FaultKind armed{};
  Survival survival = Survival::everything;  ///< of the next power cut
  std::uint64_t counted = 0;
  std::int64_t back_ms = 200;  ///< how long it stays down when it dies
  bool gone = false;           ///< not to be started before gone is false again
};

/// "Trains" for a while and gives what the checks expect.
class FaultTrainer final : public client::Trainer {
 public:
  struct Hooks {
    std::function<std::int64_t(RoundId)> takes_ms;
    std::function<TrueUpdate(RoundId)> update;
    std::function<void()> on_ready;
  };
  FaultTrainer(EventQueue& queue, Hooks hooks) : queue_(queue), hooks_(std::move(hooks)) {}
  ~FaultTrainer() override { *alive_ = false; }

  void start(const wire::RoundPlan& plan) override {
    round_ = plan.round;
    ready_ms_ = queue_.now_ms() + hooks_.takes_ms(plan.round);
    queue_.at(ready_ms_, [this, alive = alive_] {
      if (*alive) hooks_.on_ready();
    });
  }
  void stop(bool) override { round_.reset(); }
  std::optional<client::Event> poll() override {
    if (!round_ || queue_.now_ms() < ready_ms_) return std::nullopt;
    const RoundId round = *std::exchange(round_, std::nullopt);
    const TrueUpdate update = hooks_.update(round);
    client::TrainingOutcome outcome;
    outcome.delta.assign(update.delta.begin(), update.delta.end());
    outcome.weight = update.weight;
    return client::TrainingDone{round, std::move(outcome), {}, {}};
  }

 private:
  EventQueue& queue_;
  Hooks hooks_;
  std::optional<RoundId> round_;
  std::int64_t ready_ms_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

struct FaultDevice : Machine {
  using Machine::Machine;
  std::uint32_t index = 0;
  std::uint64_t generation = 0;  ///< of identities: a device whose disk is beyond use enrols anew
  DeviceId id;
  std::uint64_t life = 0;
  std::int64_t latency_ms = 0;
  std::int64_t up_last_ms = 0;
  std::int64_t down_last_ms = 0;
  std::optional<std::int64_t> wake_ms;

  std::unique_ptr<store::SqliteStore> store;
  std::unique_ptr<MemoryDownloads> downloads;
  std::unique_ptr<FaultTrainer> trainer;
  std::unique_ptr<net::ClientTransport> transport;
  std::unique_ptr<client::Agent> agent;
};

class FaultWorld final : public coordinator::Evaluator {
 public:
  FaultWorld(const FaultScenario& scenario, Plant plant);
  FaultOutcome run();
  void evaluate(coordinator::Evaluate request) override;

 private:
  // processes
  void start_coordinator();
  Status open_coordinator();
  void coordinator_dies();
  void start_device(FaultDevice& device);
  Status open_device(FaultDevice& device);
  void device_dies(FaultDevice& device);
  void reinstall(FaultDevice& device);
  void power(Machine& machine);
  // faults
  void begin(const FaultEntry& entry);
  void end(const FaultEntry& entry);
  void break_disk(Machine& machine, const FaultEntry& entry);
  void faults_end();
  void strike(FaultKind kind, std::uint64_t times = 1);
  // time and messages
  void deliver(net::MemoryNetwork::Delivery delivery);
  void look_at_answer(const FaultDevice& device);
  void look_at_question(const FaultDevice& device);
  [[nodiscard]] bool exhausted() const;
  void arrive(FaultDevice& device, const net::MemoryNetwork::Delivery& delivery, const wire::Hash& content);
  void pump(FaultDevice& device);
  void pump_coordinator();
  void look(const Status& status, const char* what);

  [[nodiscard]] crypto::IdentityKey identity(const FaultDevice& device) const {
    return identity_of(scenario_.seed, 2 + device.index + 64 * device.generation);
  }
  [[nodiscard]] wire::Key curve(const FaultDevice& device) const;
  [[nodiscard]] TrueUpdate update_of(const DeviceId& device, RoundId round) const;
  [[nodiscard]] coordinator::TaskConfig make_task() const;
  [[nodiscard]] Rng dice(FaultPurpose purpose) { return Rng(derive_seed(scenario_.seed, purpose), drawn_++); }

  const FaultScenario scenario_;
  const Plant plant_;
  EventQueue queue_{kWallStart_ms};
  coordinator::TaskConfig task_;
  FaultChecks checks_;
  FaultOutcome outcome_;
  crypto::Hasher trace_;
  std::uint64_t drawn_ = 0;
  std::vector<const FaultEntry*> active_;  ///< of the network
  std::vector<Rng> entry_dice_;            ///< one per fault
  bool quiet_ = false;

  Machine server_;
  crypto::IdentityKey roster_key_;
  std::unique_ptr<PlantedStore> store_;
  std::unique_ptr<coordinator::Registration> registration_;
  Door door_;
  const Bytes* leaving_ = nullptr;
  std::unique_ptr<net::MemoryNetwork> network_;
  std::unique_ptr<ServerTap> tap_;
  std::unique_ptr<net::BlobServer> blobs_;
  std::unique_ptr<coordinator::Service> service_;
  std::uint64_t service_life_ = 0;
  std::optional<std::int64_t> server_wake_ms_;
  std::vector<std::unique_ptr<FaultDevice>> devices_;
  std::map<ModelVersion, std::set<DeviceId>> masked_;  ///< who sent a masked update for it
};

std::string disk_name() {
  static std::atomic<std::uint64_t> next{0};  // SQLite knows a VFS by its name, and worlds run beside each other
  return "covey-world-" + std::to_string(next++);
}

std::size_t place_of(coordinator::Phase phase) {
  using coordinator::Phase;
  switch (phase) {
    case Phase::idle:
    case Phase::finished:
      return 0;
    case Phase::collecting:
      return 1;
    case Phase::secure_share:
      return 2;
    case Phase::secure_mask:
      return 3;
    case Phase::secure_agree:
      return 4;
    case Phase::secure_unmask:
      return 5;
    case Phase::evaluating:
      return 6;
  }
  return 0;
}

FaultWorld::FaultWorld(const FaultScenario& scenario, Plant plant)
    : scenario_(scenario),
      plant_(plant),
      task_(make_task()),
      checks_(scenario, [this](const DeviceId& device, RoundId round) { return update_of(device, round); }),
      server_(disk_name(), queue_),
      roster_key_(identity_of(scenario.seed, 1)) {
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
    entry_dice_.emplace_back(derive_seed(scenario.seed, kFrame), entry.number);
    queue_.at(entry.at_ms, [this, &entry] { begin(entry); });
    queue_.at(entry.at_ms + entry.for_ms, [this, &entry] { end(entry); });
  }
  queue_.at(scenario.quiet_ms, [this] { faults_end(); });
}

coordinator::TaskConfig FaultWorld::make_task() const {
  Rng rng(derive_seed(scenario_.seed, kPlace), 1);
  adapters::AdapterLayout layout;
  layout.lora.push_back({.path = "model.layers.0.self_attn.q_proj", .in = 4, .out = 4, .rank = 2, .alpha = 4});
  layout.size = kValues;
  coordinator::TaskConfig task;
  task.task = "torture";
  task.adapter_layout = layout.canonical();
  task.initial.assign(kValues, 0.0F);
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
  task.privacy.clip_norm = kClip;
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
  out.delta.resize(kValues);
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
                                                              identity_of(scenario_.seed, 1), server_.clock));
  for (const auto& device : devices_) {
    if (!registration_->devices().contains(device->id)) {
      COVEY_TRY(registration_->admit(device->id, curve(*device), "device-" + std::to_string(device->index)));
    }
  }
  blobs_ = std::make_unique<net::BlobServer>();
  COVEY_TRY(blobs_->add(model_file()));
  COVEY_ASSIGN(service_,
               coordinator::Service::create(task_, identity_of(scenario_.seed, 0),
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
  server_wake_ms_.reset();
  power(server_);
  queue_.after(server_.back_ms, [this] { start_coordinator(); });
}

Status FaultWorld::open_device(FaultDevice& device) {
  COVEY_ASSIGN(device.store, device.open());
  device.downloads = std::make_unique<MemoryDownloads>(std::set<wire::Hash>());
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
  session.coordinator = identity_of(scenario_.seed, 0).public_key().bytes;
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
  device.wake_ms.reset();
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

// ---- faults --------------------------------------------------------------------------------------------------------

void FaultWorld::strike(FaultKind kind, std::uint64_t times) {
  if (times == 0 || !service_) return;
  outcome_.strikes[static_cast<std::size_t>(kind)][place_of(service_->machine().phase())] += times;
}

void FaultWorld::break_disk(Machine& machine, const FaultEntry& entry) {
  machine.armed = entry.kind;
  const bool cut = entry.kind == FaultKind::lost_write || entry.kind == FaultKind::torn_write;
  machine.survival = entry.kind == FaultKind::lost_write ? Survival::nothing : Survival::random;
  machine.disk.arm(cut                                 ? Fault::crash
                   : entry.kind == FaultKind::io_error ? Fault::io_error
                                                       : Fault::full,
                   static_cast<std::uint64_t>(entry.amount));
}

void FaultWorld::begin(const FaultEntry& entry) {
  const auto each = [&](auto&& act) {
    for (const auto& device : devices_) {
      if ((entry.devices >> device->index & 1U) != 0) act(*device);
    }
  };
  switch (entry.kind) {
    case FaultKind::loss:
    case FaultKind::delay:
    case FaultKind::reorder:
    case FaultKind::duplicate:
    case FaultKind::partition:
      active_.push_back(&entry);
      return;
    case FaultKind::dropout:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device.gone = true;
        device_dies(device);
      });
    case FaultKind::clock_skew:
      strike(entry.kind);
      if (entry.coordinator) {
        server_.clock.skew_ms = entry.amount;
        server_.back_ms = entry.for_ms;
        if (service_) coordinator_dies();
        return;
      }
      return each([&](FaultDevice& device) {
        device.clock.skew_ms = entry.amount;
        device.back_ms = entry.for_ms;
        device_dies(device);
      });
    case FaultKind::kill_device:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device.back_ms = entry.for_ms;
        device_dies(device);
      });
    case FaultKind::kill_coordinator:
      strike(entry.kind);
      server_.back_ms = entry.for_ms;
      if (service_) coordinator_dies();
      return;
    case FaultKind::bit_flip:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device_dies(device);
        const std::uint64_t bytes = device.disk.file_bytes(kDatabase);
        if (bytes == 0) return;
        (void)device.disk.flip_bit(kDatabase, static_cast<std::uint64_t>(entry.amount) % bytes, entry.number % 8);
      });
    case FaultKind::lost_write:
    case FaultKind::torn_write:
    case FaultKind::io_error:
    case FaultKind::full_disk:
      if (entry.coordinator) return break_disk(server_, entry);
      return each([&](FaultDevice& device) { break_disk(device, entry); });
  }
}

void FaultWorld::end(const FaultEntry& entry) {
  std::erase(active_, &entry);
  if (entry.kind == FaultKind::full_disk && entry.coordinator) server_.disk.arm(Fault::none, 0);
  for (const auto& device : devices_) {
    if ((entry.devices >> device->index & 1U) == 0) continue;
    if (entry.kind == FaultKind::full_disk && !entry.coordinator) device->disk.arm(Fault::none, 0);
    if (entry.kind == FaultKind::dropout) {
      device->gone = false;
      start_device(*device);
    }
  }
}

void FaultWorld::faults_end() {
  quiet_ = true;
  active_.clear();
  server_.disk.arm(Fault::none, 0);
  server_.clock.skew_ms = 0;
  for (const auto& device : devices_) {
    device->disk.arm(Fault::none, 0);
    device->clock.skew_ms = 0;
    device->gone = false;
    start_device(*device);
  }
}

// ---- time and messages ---------------------------------------------------------------------------------------------

void FaultWorld::deliver(net::MemoryNetwork::Delivery delivery) {
  FaultDevice& device = *devices_[delivery.client];
  const bool up = delivery.to_server;
  if (leaving_ != nullptr && !up) look_at_answer(device);
  if (leaving_ != nullptr && up && scenario_.secure) look_at_question(device);
  const wire::Hash content = leaving_ != nullptr ? crypto::hash(*leaving_).bytes : wire::Hash{};
  if (plant_ == Plant::deaf && quiet_) return;
  std::int64_t extra_ms = 0;
  std::int64_t overtaken_ms = 0;
  bool twice = false;
  const bool frame = !delivery.opens && !delivery.closes;
  for (const FaultEntry* entry : active_) {
    if ((entry->devices >> device.index & 1U) == 0) continue;
    Rng& rng = entry_dice_[entry->number];
    switch (entry->kind) {
      case FaultKind::partition:
        strike(entry->kind);
        return;
      case FaultKind::loss:
        if (frame && rng.uniform() < entry->share) return strike(entry->kind);
        break;
      case FaultKind::delay:
        strike(entry->kind);
        extra_ms += entry->amount;
        break;
      case FaultKind::duplicate:
        if (!frame || rng.uniform() >= entry->share) break;
        strike(entry->kind);
        twice = true;
        break;
      case FaultKind::reorder:
        if (!frame || rng.uniform() >= entry->share) break;
        strike(entry->kind);
        overtaken_ms = 1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(entry->amount)));
        break;
      default:
        break;
    }
  }
  std::int64_t& last_ms = up ? device.up_last_ms : device.down_last_ms;
  last_ms = std::max(last_ms, queue_.now_ms() + device.latency_ms + extra_ms);
  auto shared = std::make_shared<net::MemoryNetwork::Delivery>(std::move(delivery));
  if (twice) {
    auto copy = std::make_shared<net::MemoryNetwork::Delivery>(*shared);
    queue_.at(last_ms + device.latency_ms, [this, &device, copy, content] { arrive(device, *copy, content); });
  }
  queue_.at(last_ms + overtaken_ms, [this, &device, shared, content] { arrive(device, *shared, content); });
}

void FaultWorld::look_at_answer(const FaultDevice& device) {
  const auto envelope = wire::decode_frame(*leaving_);
  if (envelope.ok() && store_) checks_.said(device.id, envelope->message, *store_);
}

void FaultWorld::look_at_question(const FaultDevice& device) {
  const auto header = wire::parse_frame(*leaving_);
  if (!header.ok() || header->header.type != static_cast<std::uint16_t>(wire::MessageType::submit_begin)) return;
  if (service_) masked_[service_->machine().version().version].insert(device.id);
}

/// Of the devices that may still send a masked update for the present version there are too few for a round: the price
/// of one masked update per version (security.md section 4), which a fleet larger than a few cohorts does not pay.
bool FaultWorld::exhausted() const {
  if (!scenario_.secure || !service_) return false;
  const auto masked = masked_.find(service_->machine().version().version);
  if (masked == masked_.end()) return false;
  const auto left = std::ranges::count_if(devices_, [&](const auto& d) { return !masked->second.contains(d->id); });
  return left < static_cast<std::ptrdiff_t>(scenario_.least);
}

void FaultWorld::arrive(FaultDevice& device, const net::MemoryNetwork::Delivery& delivery, const wire::Hash& content) {
  trace_.update_u64(static_cast<std::uint64_t>(queue_.now_ms()))
      .update_u64(std::uint64_t{device.index} << 32 | delivery.bytes << 1 | (delivery.to_server ? 1U : 0U))
      .update(content);
  delivery.run();
  if (delivery.to_server) {
    pump_coordinator();
  } else {
    pump(device);
  }
}

void FaultWorld::pump(FaultDevice& device) {
  if (!device.agent) return;
  (void)device.transport->poll(0);
  const Status done = device.agent->run_due();
  strike(device.armed, device.new_strikes());
  if (!done.ok() || device.disk.crashed()) return device_dies(device);
  const auto next = device.agent->next_timer_ms();
  if (!next || (device.wake_ms && *device.wake_ms <= *next)) return;
  device.wake_ms = *next;
  queue_.at(*next, [this, &device, at = *next] {
    if (device.wake_ms != at) return;  // an earlier wake-up took its place
    device.wake_ms.reset();
    pump(device);
  });
}

void FaultWorld::pump_coordinator() {
  if (!service_) return;
  (void)tap_->poll(0);
  const Status done = service_->run_due();
  strike(server_.armed, server_.new_strikes());
  if (!done.ok() || server_.disk.crashed()) return coordinator_dies();
  const Status audited = checks_.audit(*store_);
  if (!audited.ok() || server_.disk.crashed()) return coordinator_dies();
  const auto next = service_->next_timer_ms();
  if (!next || (server_wake_ms_ && *server_wake_ms_ <= *next)) return;
  server_wake_ms_ = *next;
  queue_.at(*next, [this, at = *next] {
    if (server_wake_ms_ != at) return;
    server_wake_ms_.reset();
    pump_coordinator();
  });
}

void FaultWorld::evaluate(coordinator::Evaluate request) {
  Rng rng = dice(kWork);
  coordinator::Evaluated answer;
  answer.version = request.version;
  answer.loss = 1.0 / static_cast<double>(1 + request.version.value);
  answer.tokens = 1;
  queue_.after(10 + static_cast<std::int64_t>(rng.below(200)), [this, answer, life = service_life_] {
    if (!service_ || life != service_life_) return;
    (void)service_->evaluated(answer);  // a failed commit shows in run_due()
    pump_coordinator();
  });
}

/// A process that cannot go on dies and comes back. After the faults have ended nothing may fail any more.
void FaultWorld::look(const Status& status, const char* what) {
  if (status.ok()) return;
  if (quiet_ && !server_.disk.crashed()) {
    checks_.violated(Checker::store, std::string(what) + " fails without a fault: " + status.error().message);
  }
  coordinator_dies();
}

FaultOutcome FaultWorld::run() {
  start_coordinator();
  Rng place = dice(kPlace);
  for (const auto& device : devices_) {
    queue_.after(static_cast<std::int64_t>(place.below(300)), [this, d = device.get()] { start_device(*d); });
  }
  const auto over = [&] { return service_ && service_->finished(); };
  while (!over() && checks_.violations().empty() && queue_.now_ms() < scenario_.quiet_ms + kGiveUp_ms) {
    if (!queue_.run_one() || (quiet_ && exhausted())) break;
  }
  outcome_.finished = over();
  outcome_.exhausted = !outcome_.finished && exhausted();
  if (!outcome_.finished && !outcome_.exhausted && checks_.violations().empty()) {
    checks_.violated(Checker::progress,
                     "the rounds are not done " + std::to_string(kGiveUp_ms / 1000) + " s after the faults have ended");
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

}  // namespace

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
