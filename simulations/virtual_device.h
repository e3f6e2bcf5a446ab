/// One virtual device: the deployed agent (session, codec, store) with downloads in memory and training on the pool.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "adapters/workbench.h"
#include "client/agent.h"
#include "client/roster.h"
#include "coordinator/registration.h"
#include "core/crypto/identity.h"
#include "core/net/blob_fetch.h"
#include "core/store/memory_store.h"
#include "simulations/fleet.h"
#include "simulations/journal.h"
#include "simulations/training_pool.h"
#include "simulations/virtual_time.h"

namespace covey::simulations {

/// A plan's files in memory. What is preinstalled (the base model) is there from the start and moves no bytes.
class MemoryDownloads final : public client::Downloads {
 public:
  explicit MemoryDownloads(std::set<wire::Hash> preinstalled) : preinstalled_(std::move(preinstalled)) {}

  Step begin(const wire::FileBlob& file) override;
  Step on_message(const wire::Message& message) override;
  void abandon() override;
  void keep_only(const wire::RoundPlan& plan) override;

  /// nullptr where it was not downloaded. Valid until the next keep_only().
  [[nodiscard]] const Bytes* content(const wire::Hash& blob) const;

 private:
  Step follow(net::FetchStep step);

  std::set<wire::Hash> preinstalled_;
  std::map<wire::Hash, Bytes> complete_;
  std::optional<net::BlobFetcher> fetcher_;
  Bytes incoming_;
  std::uint64_t fetched_ = 0;
};

/// Where a device stands that has followed the whole roster, as `fleet.roster: known` lets all begin; its own listing
/// is filled in by known_roster_row().
/// @errors what the chain reports.
Result<client::RosterHead> follow_roster(const coordinator::Registration& registration, const wire::Key& roster);
store::Write known_roster_row(client::RosterHead head, const wire::Key& curve);

/// What a plan's local training computes, in tokens of backprop: other methods' passes are counted in its terms.
/// @param positions  tokens in all of the device's `rows` rows.
double plan_tokens(const wire::RoundPlan& plan, std::size_t rows, double positions);

/// What all devices of a world share. Borrowed by them.
struct SharedWorld {
  EventQueue& queue;
  TrainingPool& pool;
  const adapters::Workbench& bench;
  Journal* journal = nullptr;  ///< of what was trained before; may be nullptr
};

/// Trains for real on the pool; is done at a virtual time that the device's class gives.
class VirtualTrainer final : public client::Trainer {
 public:
  struct Hooks {
    std::function<void(const wire::RoundPlan&, std::int64_t modelled_ms)> on_start;
    std::function<void()> on_ready;                                 ///< at virtual time, when poll() has news
    std::function<void(RoundId, std::span<float> delta)> on_delta;  ///< a bad device's: changes it; may be empty
  };
  /// What the device has at this virtual time; the rows outlive the trainer.
  using RowsNow = std::function<std::span<const train::TokenRow>()>;
  /// @param number  of the device, which seeded training takes its own directions from.
  VirtualTrainer(SharedWorld shared, std::uint64_t number, const DeviceClass& device, RowsNow rows,
                 const MemoryDownloads& downloads, Hooks hooks);
  ~VirtualTrainer() override;

  void start(const wire::RoundPlan& plan) override;
  void stop(bool keep_checkpoint) override;
  std::optional<client::Event> poll() override;

  /// Of all finished and stopped work.
  [[nodiscard]] std::int64_t trained_ms() const { return trained_ms_; }

 private:
  struct Running {
    RoundId round;
    TrainingPool::Ticket ticket = 0;
    std::int64_t started_ms = 0;
    std::int64_t ready_at_ms = 0;
  };
  [[nodiscard]] std::int64_t modelled_ms(const wire::RoundPlan& plan, std::span<const train::TokenRow> rows) const;

  SharedWorld shared_;
  std::uint64_t number_;
  const DeviceClass& device_;
  RowsNow rows_;
  const MemoryDownloads& downloads_;
  Hooks hooks_;
  std::optional<Running> running_;
  std::uint64_t generation_ = 0;  ///< of start() and stop(): a late on_ready finds itself outdated
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::optional<client::Event> early_;  ///< a failure known at start()
  std::int64_t trained_ms_ = 0;
};

}  // namespace covey::simulations
