/// The tortured world itself; fault_world.cpp has its processes, fault_strikes.cpp its faults, time and messages.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "coordinator/service.h"
#include "core/base/rng.h"
#include "core/crypto/hash.h"
#include "core/crypto/identity.h"
#include "core/net/memory_network.h"
#include "simulations/fault_machine.h"
#include "simulations/virtual_device.h"

namespace covey::simulations {

inline constexpr std::int64_t kFaultWallStart_ms = 1'767'225'600'000;  // 2026-01-01T00:00:00Z
inline constexpr std::int64_t kFaultGiveUp_ms = 120'000;               // virtual, after the faults have ended
inline constexpr std::size_t kFaultValues = 16;
inline constexpr double kFaultClip = 32767;  // = the largest of 16 bits: one quantized unit is one unit of a delta

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

/// The identity key number `number` of a world: 0 the coordinator's, 1 the roster's, then the devices'.
crypto::IdentityKey fault_identity(std::uint64_t seed, std::uint64_t number);

struct FaultDevice : Machine {
  using Machine::Machine;
  std::uint32_t index = 0;
  std::uint64_t generation = 0;  ///< of identities: a device whose disk is beyond use enrols anew
  DeviceId id;
  std::uint64_t life = 0;
  std::int64_t latency_ms = 0;
  std::int64_t up_last_ms = 0;
  std::int64_t down_last_ms = 0;
  WakeUp wake_up;

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
    return fault_identity(scenario_.seed, 2 + device.index + 64 * device.generation);
  }
  [[nodiscard]] wire::Key curve(const FaultDevice& device) const;
  [[nodiscard]] TrueUpdate update_of(const DeviceId& device, RoundId round) const;
  [[nodiscard]] coordinator::TaskConfig make_task() const;
  [[nodiscard]] Rng dice(FaultPurpose purpose) { return Rng(derive_seed(scenario_.seed, purpose), drawn_++); }

  const FaultScenario scenario_;
  const Plant plant_;
  EventQueue queue_{kFaultWallStart_ms};
  coordinator::TaskConfig task_;
  FaultChecks checks_;
  FaultOutcome outcome_;
  crypto::Hasher trace_;
  std::uint64_t drawn_ = 0;
  std::vector<const FaultEntry*> active_;    ///< of the network
  std::map<std::uint32_t, Rng> entry_dice_;  ///< by the number of a fault
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
  WakeUp server_wake_up_;
  const std::set<wire::Hash> preinstalled_;  ///< nothing is: there is no base model
  BlobShelf shelf_;
  std::vector<std::unique_ptr<FaultDevice>> devices_;
  std::map<ModelVersion, std::set<DeviceId>> masked_;  ///< who sent a masked update for it
};

}  // namespace covey::simulations
