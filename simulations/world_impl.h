/// Internal to the real-training world: its state, shared by the files that hold its parts.
///   world.cpp          task, coordinator and devices are made; events run; versions are evaluated
///   world_devices.cpp  a device's lives, its links, its rests
///   world_results.cpp  rounds, totals, the summary
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "adapters/workbench.h"
#include "client/agent.h"
#include "coordinator/registration.h"
#include "coordinator/service.h"
#include "core/base/rng.h"
#include "core/base/thread_pool.h"
#include "core/net/memory_network.h"
#include "core/train/evaluate.h"
#include "simulations/virtual_device.h"
#include "simulations/world.h"
#include "simulations/world_stores.h"

namespace covey::simulations {

/// Purposes of the seeds derived from the experiment's seed.
namespace world_seed {
inline constexpr std::uint64_t kFleet = 11, kKeys = 12, kRandom = 13, kJitter = 14, kStart = 15, kDropout = 16,
                               kData = 17, kAdversary = 18, kNoise = 19, kNonces = 20, kLinks = 21, kHours = 22;
}  // namespace world_seed

inline constexpr double kWorldMillisecond = 1e-3;

/// What a device has while it does more than wait for its next check-in. Made and ended many times in a life.
struct LiveDevice {
  LiveDevice(const std::set<wire::Hash>& preinstalled, BlobShelf& shelf, const std::vector<wire::Hash>& held)
      : downloads(preinstalled, shelf, held) {}

  MemoryDownloads downloads;
  std::unique_ptr<VirtualTrainer> trainer;
  std::unique_ptr<net::ClientTransport> transport;
  std::unique_ptr<client::Agent> agent;
};

/// What is kept of every device, always.
struct WorldDevice {
  std::size_t index = 0;
  const DeviceClass* kind = nullptr;
  DeviceId id;
  wire::Key curve{};
  Link link;
  bool bad = false;
  DeviceStore store;                   ///< its disk
  std::vector<wire::Hash> downloaded;  ///< and the files on it, while it rests
  std::uint64_t random_position = 0;   ///< of its generators
  std::uint64_t nonces_position = 0;

  std::unique_ptr<LiveDevice> live;  ///< at most one of these two; none: it is away, dead or not yet there
  std::unique_ptr<client::RestingAgent> resting;

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
  std::int64_t trained_ms = 0;  ///< by trainers that are gone
};

class RealWorld final : public coordinator::Evaluator {
 public:
  RealWorld(const Experiment& experiment, const WorldObserver& observer);

  Status prepare();
  Status run();
  Result<WorldResult> result();

  void evaluate(coordinator::Evaluate request) override;

 private:
  Status make_devices();
  [[nodiscard]] Bytes noise_seed();
  void poison(RoundId round, std::span<float> delta, std::size_t device) const;
  Result<train::Evaluation> measure(std::vector<float> adapter, std::span<const train::TokenRow> rows);

  // world_devices.cpp
  void start_life(WorldDevice& device);
  void make_live(WorldDevice& device, crypto::IdentityKey identity);
  void wake(WorldDevice& device);
  void rest_if_idle(WorldDevice& device);
  void end_live(WorldDevice& device);
  [[nodiscard]] client::SessionConfig session_of(const WorldDevice& device) const;
  [[nodiscard]] wire::Capabilities capabilities_of(const WorldDevice& device) const;
  [[nodiscard]] Result<std::vector<train::TokenRow>> rows_of(const WorldDevice& device) const;
  void keep_hours(WorldDevice& device);
  void crash(WorldDevice& device);
  void training_begins(WorldDevice& device, const wire::RoundPlan& plan, std::int64_t modelled_ms);
  void draw_random(WorldDevice& device, std::span<std::uint8_t> out) const;
  void pump(WorldDevice& device);
  void pump_server();
  void deliver(net::MemoryNetwork::Delivery delivery);

  // world_results.cpp
  void round_ended(const coordinator::RoundEnded& ended);
  [[nodiscard]] formats::Json totals() const;
  [[nodiscard]] std::vector<DeviceOutcome> outcomes() const;
  [[nodiscard]] formats::Json class_table(const std::vector<DeviceOutcome>& outcomes) const;
  [[nodiscard]] formats::Json measured() const;

  void note(const Status& status) {
    if (!status.ok() && !failure_) failure_ = status.error();
  }

  const Experiment& experiment_;
  const WorldObserver& observer_;
  EventQueue queue_;
  adapters::Workbench bench_;
  SimulatedData data_;
  coordinator::TaskConfig task_;
  wire::Key coordinator_{};
  wire::Key roster_{};
  std::set<wire::Hash> preinstalled_;  ///< the base model's files
  ThreadPool evaluation_pool_;
  CoordinatorStore store_;
  net::BlobServer blobs_;
  std::unique_ptr<coordinator::Registration> registration_;
  std::unique_ptr<net::MemoryNetwork> network_;
  std::unique_ptr<coordinator::Service> service_;
  WakeUp server_wake_up_;
  BlobShelf shelf_;
  std::map<wire::Hash, std::weak_ptr<const std::set<wire::Key>>> rosters_;  ///< who is active, by epoch's hash
  WorldLoad load_;
  TrainingPool training_;  // a device that goes while it trains still drops its job here
  std::vector<std::unique_ptr<WorldDevice>> devices_;
  std::optional<Error> failure_;
  std::vector<formats::Json> rounds_;
  std::uint64_t noise_seeds_ = 0;
  formats::Json base_ = formats::Json::object();
  formats::Json last_ = formats::Json::object();
  std::uint64_t crashes_ = 0;
  std::uint64_t crashes_before_round_ = 0;
  double cpu_begin_ = 0;
  double evaluation_cpu_ = 0;
  std::uint64_t trained_ = 0;  ///< rounds that devices began to train for
};

/// Key number `index` of a world: 0 the coordinator's, 1 the roster's, then the devices'.
crypto::IdentityKey world_identity(std::uint64_t seed, std::uint64_t index);

}  // namespace covey::simulations
