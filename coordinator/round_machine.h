/// The life of a task on the coordinator, as a pure state machine: step(event, now) -> effects. It touches no socket,
/// file, clock, thread or entropy, so the daemon, the simulator and the fault tests run the same code.
///
///   idle -> collecting -> [secure: share -> mask -> agree -> unmask] -> evaluating -> published -> idle
///             |  fewer than min_count at the deadline                                                 (next round)
///             +-> aborted -> idle
///
/// In `secure` and `grouped` mode devices advertise keys while the round collects, as each ends its training.
///
/// Effects are executed in order. A Persist is durable before any Send behind it leaves (persist before send).
/// Updates are added to the running sum as they come; {running sum, contributors} is committed every
/// `group_commit_updates` updates or `group_commit_ms`, and acknowledged in the same step, behind that commit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "aggregation/running_sum.h"
#include "coordinator/registry.h"
#include "coordinator/rows.h"
#include "coordinator/selection.h"
#include "coordinator/task.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/store/store.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

enum class Phase : std::uint8_t {
  idle = 0,
  collecting = 1,
  // 2 to 6: secure aggregation, security.md section 4; its advertise phase is `collecting`
  secure_share = 3,
  secure_mask = 4,
  secure_agree = 5,
  secure_unmask = 6,
  evaluating = 7,
  finished = 8,  ///< all rounds of the task are done
};
const char* to_string(Phase phase);
/// Devices are at work for a round, or ending it together.
constexpr bool in_round(Phase phase) {
  return phase >= Phase::collecting && phase <= Phase::secure_unmask;
}

enum class TimerId : std::uint8_t { round_deadline, group_commit, evaluation, next_round, secure_phase };

// ---- events --------------------------------------------------------------------------------------------------------
struct Started {};  ///< first event after construction or restore
struct MessageReceived {
  DeviceId device;
  wire::Message message;
};  ///< from an enrolled, authenticated device
struct DeviceGone {
  DeviceId device;
};  ///< its connection ended
struct TimerFired {
  TimerId timer{};
};
struct Evaluated {  ///< answer to Evaluate
  ModelVersion version;
  std::optional<double> loss;  ///< mean per token; absent where the coordinator has no held-out data
  std::optional<double> accuracy;
  std::uint64_t tokens = 0;
};
struct NoiseDrawn {  ///< answer to DrawNoise
  RoundId round;
  Bytes seed;  ///< 32 bytes of the system generator
};
struct Pause {};
struct Resume {};
using Event = std::variant<Started, MessageReceived, DeviceGone, TimerFired, Evaluated, NoiseDrawn, Pause, Resume>;

// ---- effects -------------------------------------------------------------------------------------------------------
struct Persist {
  std::vector<store::Write> writes;
};  ///< one atomic commit
struct Send {
  DeviceId device;
  wire::Message message;  ///< a TaskOffer's signature is left to the driver, which has the key
};                        ///< dropped where the device is not connected
struct SetTimer {
  TimerId timer{};
  std::int64_t at_ms = 0;
};  ///< on the `now` scale; replaces an earlier one
struct CancelTimer {
  TimerId timer{};
};
struct Evaluate {
  ModelVersion version;
  std::vector<float> adapter;
};  ///< flat (P); answer: Evaluated
struct DrawNoise {
  RoundId round;
};  ///< the closed round's sum waits for noise; answer: NoiseDrawn
struct Serve {
  wire::Hash blob{};
  Bytes content;
};  ///< make this blob downloadable (already persisted)
struct RoundEnded {
  RoundId round;  ///< 0: the initial adapter was evaluated
  bool published = false;
  std::string reason;
  RoundRow row;  ///< its figures; for round 0 only version and metrics
};               ///< for logs, metrics, reports
struct Incident {
  DeviceId device;
  RoundId round;
  std::string what;
};  ///< something a correct device does not do; for the log
using Effect = std::variant<Persist, Send, SetTimer, CancelTimer, Evaluate, DrawNoise, Serve, RoundEnded, Incident>;

/// Whether the roster lists a device as active, as of an epoch.
using RosterView = std::function<bool(const DeviceId& device, std::uint64_t epoch)>;

/// Not thread-safe. After kill -9 in any phase: construct, restore(), Started; the phase goes on from what was
/// committed, and devices without an acknowledgement send again. `now_ms` never goes back within one process; a scale
/// that moved between two processes only shortens or stretches the deadline of the round in progress.
class RoundMachine {
 public:
  /// @param roster  asked in `secure` mode only.
  /// @errors what TaskConfig::check() reports; invalid_argument: `secure` mode without a roster.
  static Result<RoundMachine> create(TaskConfig config, RosterView roster = {});
  RoundMachine(RoundMachine&&) noexcept;
  RoundMachine& operator=(RoundMachine&&) noexcept;
  ~RoundMachine();

  /// Reads the rows of an earlier life; call once, before Started. An empty store is a new task.
  /// @errors invalid_argument: the store belongs to another task or model. corrupt_data. What the store reports.
  Status restore(store::Store& store);

  [[nodiscard]] std::vector<Effect> step(const Event& event, std::int64_t now_ms);

  /// Stated in the plans of rounds that start from now on.
  void set_roster_epoch(std::uint64_t epoch);
  /// The newest epoch's root, for tasks whose devices are drawn by sortition.
  void set_draw_root(const DrawRoot& root);
  /// Borrowed; expands masks in parallel. Without it they are expanded on the caller's thread.
  void set_pool(ThreadPool* pool);

  // What status pages, commands and tests look at; borrowed until the next step().
  [[nodiscard]] Phase phase() const;
  [[nodiscard]] bool paused() const;
  [[nodiscard]] RoundId round() const;            ///< newest round started; 0 = none yet
  [[nodiscard]] std::uint64_t published() const;  ///< rounds published
  [[nodiscard]] const RoundRow& round_row() const;
  /// Updates in the running sum, committed or not; in secure mode the devices counted in the present phase.
  [[nodiscard]] std::uint32_t collected() const;
  [[nodiscard]] const VersionRow& version() const;
  [[nodiscard]] std::span<const float> values() const;  ///< (P) of version()
  [[nodiscard]] const Registry& registry() const;
  [[nodiscard]] const TaskConfig& config() const;

 private:
  struct Impl;
  explicit RoundMachine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::coordinator
