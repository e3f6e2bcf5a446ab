/// One virtual device: the deployed agent (session, codec, store) with downloads in memory and training on the pool.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
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
#include "simulations/fleet.h"
#include "simulations/journal.h"
#include "simulations/training_pool.h"
#include "simulations/virtual_time.h"

namespace covey::simulations {

/// Adapters that devices have downloaded, each once. The newest stay; older ones live as long as somebody holds them.
class BlobShelf {
 public:
  using Content = std::shared_ptr<const Bytes>;
  /// The shelf's own copy, where it has one.
  Content keep(const wire::Hash& blob, Bytes content);
  /// Null where nobody has it any more.
  [[nodiscard]] Content find(const wire::Hash& blob) const;

 private:
  /// As the coordinator serves three versions, a device's newest one is among these when a plan names it again.
  static constexpr std::size_t kNewest = 4;
  std::map<wire::Hash, std::weak_ptr<const Bytes>> known_;
  std::deque<Content> newest_;
};

/// A plan's files in memory. What is preinstalled (the base model) is there from the start and moves no bytes.
class MemoryDownloads final : public client::Downloads {
 public:
  /// @param preinstalled  borrowed, as is the shelf.
  /// @param held          downloaded before, by the same device.
  MemoryDownloads(const std::set<wire::Hash>& preinstalled, BlobShelf& shelf, const std::vector<wire::Hash>& held = {});

  Step begin(const wire::FileBlob& file) override;
  Step on_message(const wire::Message& message) override;
  void abandon() override;
  void keep_only(const wire::RoundPlan& plan) override;

  /// Null where it was not downloaded.
  [[nodiscard]] BlobShelf::Content content(const wire::Hash& blob) const;
  /// What is complete.
  [[nodiscard]] std::vector<wire::Hash> held() const;

 private:
  Step follow(net::FetchStep step);

  const std::set<wire::Hash>& preinstalled_;
  BlobShelf& shelf_;
  std::map<wire::Hash, BlobShelf::Content> complete_;
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

/// What a world holds in memory beside what every device leaves behind; the largest so far of each.
struct WorldLoad {
  std::size_t agents = 0;  ///< devices that do more than wait for their next check-in
  std::size_t agents_max = 0;
  std::atomic<std::size_t> row_buffers = 0;  ///< devices whose token rows are in memory
  std::size_t row_buffers_max = 0;
};

/// What all devices of a world share. Borrowed by them.
struct SharedWorld {
  EventQueue& queue;
  TrainingPool& pool;
  const adapters::Workbench& bench;
  Journal* journal = nullptr;  ///< of what was trained before; may be nullptr
  WorldLoad& load;
};

/// Trains for real on the pool; is done at a virtual time that the device's class gives.
class VirtualTrainer final : public client::Trainer {
 public:
  struct Hooks {
    std::function<void(const wire::RoundPlan&, std::int64_t modelled_ms)> on_start;
    std::function<void()> on_ready;                                 ///< at virtual time, when poll() has news
    std::function<void(RoundId, std::span<float> delta)> on_delta;  ///< a bad device's: changes it; may be empty
    std::function<void(const Error&)> on_failure = {};              ///< the world's own: no rows to be read
  };
  /// What the device has at this virtual time.
  using RowsNow = std::function<Result<std::vector<train::TokenRow>>()>;
  /// @param number  of the device, which seeded training takes its own directions from.
  VirtualTrainer(SharedWorld shared, std::uint64_t number, const DeviceClass& device, RowsNow rows,
                 const MemoryDownloads& downloads, Hooks hooks);
  ~VirtualTrainer() override;

  void start(const wire::RoundPlan& plan) override;
  void stop(bool keep_checkpoint) override;
  std::optional<client::Event> poll() override;

  /// Nothing runs, and nothing waits to be heard.
  [[nodiscard]] bool idle() const { return !running_ && !early_; }
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
