/// Coordinator half of pairwise-mask secure aggregation: it learns the sum over at least n_min devices. Source:
/// Bonawitz et al., CCS 2017; Bell et al., CCS 2020; security.md section 4. Deviations: README.md.
///
/// One session, without I/O, not thread-safe:
///   1 on_advertise() ...  close_advertise()   fixes the list
///   2 on_boxes() ...      close_share()       devices whose boxes are not in have dropped out
///   3 on_masked() ...     close_mask()        those whose masked update is in are the survivors
///   4 on_agree() ...      close_agree()
///   5 on_shares() ...     finish()            once enough_shares(), or at the deadline
/// The caller closes a phase when all_in(), or at its deadline. After each close: persist take_rows(), then send due()
/// to every device. A device that repeats its last message, or comes back, gets due() again.
///
/// An on_...() that fails concerns that device's message alone, which is not counted; blame() then tells what is wrong
/// with it. A close_...() or finish() that fails ends the session: everything is erased, nothing is unmasked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregation/running_sum.h"
#include "aggregation/secagg_session.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

struct SecAggSeam;

/// One durable value of the session. Keys: "head", "boxes", "sum"; an absent value erases.
struct SecAggRow {
  std::string key;
  std::optional<Bytes> value;
};

/// Memory: O(P) for the sum, O(n k) for boxes until close_mask(). Never O(n P).
class SecAggServer {
 public:
  enum class Phase : std::uint8_t { advertise = 0, share = 1, mask = 2, agree = 3, unmask = 4, finished = 5, dead = 6 };

  /// @param roster  as of setup.roster_epoch.
  /// @errors invalid_argument: n_min below 2 or above the cohort.
  static Result<SecAggServer> create(SecAggSetup setup, SecAggRoster roster);
  static Result<SecAggServer> create_with_seam(SecAggSetup setup, SecAggRoster roster, const SecAggSeam& seam);
  /// A session whose list is closed already, from the share phase on: one of a round's groups.
  /// @errors invalid_argument: as create(), or no k and t bear the list's length.
  static Result<SecAggServer> begin(SecAggSetup setup, SecAggRoster roster, wire::SecureList list);
  /// Continues from the newest rows of each key. Devices that were not yet counted send again.
  /// @errors corrupt_data: rows that are not of this setup.
  static Result<SecAggServer> restore(SecAggSetup setup, SecAggRoster roster, std::span<const SecAggRow> rows);
  SecAggServer(SecAggServer&&) noexcept;
  SecAggServer& operator=(SecAggServer&&) noexcept;
  ~SecAggServer();

  /// @errors permission_denied: unknown device, bad signature, another plan or epoch, a second and different one, or
  /// the phase is over (`unexpected`: the device has dropped out of this round). The same again is ok in any phase.
  [[nodiscard]] Status on_advertise(const DeviceId& device, const wire::SecureAdvertise& message);
  [[nodiscard]] Status on_boxes(const DeviceId& device, const wire::SecureBoxes& message);
  /// Adds the words to the sum and forgets them. The caller acknowledges after the commit of take_rows().
  [[nodiscard]] Status on_masked(const DeviceId& device, const wire::MaskedUpdate& message);
  [[nodiscard]] Status on_agree(const DeviceId& device, const wire::SecureAgree& message);
  [[nodiscard]] Status on_shares(const DeviceId& device, const wire::SecureShares& message);
  /// A device says that it goes no further, or is known to be gone: all_in() waits for it no longer. Its masked update
  /// still counts where it is in.
  void on_gone(const DeviceId& device);

  /// @errors permission_denied (too_few_devices): the session is dead.
  [[nodiscard]] Status close_advertise();
  /// In place of close_advertise(), for a caller that deals the devices into groups: their list, k and t being those of
  /// the smallest group. This server has no part in what follows. @errors as close_advertise().
  [[nodiscard]] Result<wire::SecureList> close_list();
  [[nodiscard]] Status close_share();
  [[nodiscard]] Status close_mask();
  [[nodiscard]] Status close_agree();
  /// The sum over the survivors, as clear updates would have given it.
  /// @param pool  nullptr: on the caller's thread.
  /// @errors permission_denied: fewer than t shares of a secret that is needed (too_few_shares), a rebuilt secret that
  /// is not the advertised one (bad_share), or a sum that honest devices cannot give (wrong_shape). The session is
  /// dead.
  /// @cost survivors + dead x k masks of 1 + P words; O(P) memory.
  [[nodiscard]] Result<RunningSum> finish(ThreadPool* pool);

  /// True where everyone that may still send in this phase has. In `advertise`: the whole cohort has advertised.
  [[nodiscard]] bool all_in() const;
  /// In `unmask`: every secret that is needed has t shares; finish() can be called.
  [[nodiscard]] bool enough_shares() const;
  /// What this device must get in the present phase; empty where there is nothing to say to it.
  [[nodiscard]] std::optional<wire::Message> due(const DeviceId& device) const;
  /// The devices of the list, in its order; empty while advertising.
  [[nodiscard]] std::vector<DeviceId> devices() const;
  /// Those that the present phase waits for.
  [[nodiscard]] std::vector<DeviceId> awaited() const;
  /// How many have been counted in the present phase.
  [[nodiscard]] std::uint32_t counted() const;

  /// What changed since the last call and must be durable before anything else is sent. `with_sum` includes the running
  /// sum with its contributors (4 (1 + P) bytes); without it contributors since the last such call are not durable.
  [[nodiscard]] std::vector<SecAggRow> take_rows(bool with_sum = true);

  [[nodiscard]] Phase phase() const;
  /// Why the session is dead; `none` while it is not.
  [[nodiscard]] wire::SecureReason reason() const;
  /// Why the last on_...() was refused.
  [[nodiscard]] wire::SecureReason blame() const;
  [[nodiscard]] const SecAggSetup& setup() const;
  [[nodiscard]] const SecAggParams& params() const;  ///< from close_advertise() on
  [[nodiscard]] std::uint32_t survivors() const;     ///< from close_mask() on
  /// Devices that finish() found giving wrong shares, or given wrong ones by their makers: which of both it cannot
  /// tell.
  [[nodiscard]] const std::vector<DeviceId>& suspects() const;

 private:
  struct Machine;
  explicit SecAggServer(std::unique_ptr<Machine> machine);
  std::unique_ptr<Machine> machine_;
};

}  // namespace covey::aggregation
