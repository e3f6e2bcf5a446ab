/// What a tortured world puts between the deployed code and the machine: clocks that are off, transports that show what
/// leaves, a store that a planted mistake spoils, a disk that fails, a trainer that does not train.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "client/agent.h"
#include "coordinator/registration.h"
#include "coordinator/rows.h"
#include "core/net/transport.h"
#include "core/store/sqlite_store.h"
#include "simulations/fault_world.h"
#include "simulations/faulty_disk.h"
#include "simulations/virtual_time.h"

namespace covey::simulations {

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

inline constexpr const char* kFaultDatabase = "state.db";

/// A machine of the world: what outlives its process.
struct Machine {
  Machine(const std::string& name, const EventQueue& queue) : disk(name), clock(queue) {}

  /// @errors what opening reports; the disk had its power cut in it: crashed() says so.
  Result<std::unique_ptr<store::SqliteStore>> open() const {
    // A small log, so that checkpoints happen within a world.
    return store::SqliteStore::open(
        {.path = kFaultDatabase, .vfs = disk.name(), .process_lock = false, .checkpoint_pages = 64});
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

}  // namespace covey::simulations
