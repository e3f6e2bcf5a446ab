/// The coordinator's half of one round of secure aggregation: one session in `secure` mode, one for each group in
/// `grouped` mode (grouped.h). Calls, order and errors are those of SecAggServer (secagg_server.h), which does the
/// work; this class deals the devices into groups when the list closes, keeps the groups in step, and counts which are
/// left.
///
/// A group that falls below n_min or t, or whose sum no honest devices can give, is dead: nothing of it is unmasked,
/// its devices are told, and the others go on while at least `groups_min` are left.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "aggregation/secagg_server.h"

namespace covey::aggregation {

/// Not thread-safe. Memory: that of a server for each group, so O(P) for each group's sum.
class SecAggRound {
 public:
  using Phase = SecAggServer::Phase;

  /// A new round, or one that goes on from the newest rows of each key.
  /// @param groups_min  fewer sums end the round; 1 in `secure` mode.
  /// @errors those of SecAggServer::restore(); corrupt_data: rows that are not of this setup.
  static Result<SecAggRound> restore(SecAggSetup setup, SecAggRoster roster, std::uint32_t groups_min,
                                     std::span<const SecAggRow> rows = {});

  [[nodiscard]] Status on(const DeviceId& device, const wire::SecureAdvertise& message);
  [[nodiscard]] Status on(const DeviceId& device, const wire::SecureBoxes& message);
  [[nodiscard]] Status on(const DeviceId& device, const wire::MaskedUpdate& message);
  [[nodiscard]] Status on(const DeviceId& device, const wire::SecureAgree& message);
  [[nodiscard]] Status on(const DeviceId& device, const wire::SecureShares& message);
  void on_gone(const DeviceId& device);

  /// Closes any phase but `unmask`, in every group. @errors what ended the last group that could not be spared: erase.
  [[nodiscard]] Status close_phase();
  /// The sums of the groups that are left, in the order of groups. @errors as close_phase().
  [[nodiscard]] Result<std::vector<RunningSum>> finish(ThreadPool* pool);

  [[nodiscard]] bool all_in() const;
  [[nodiscard]] bool enough_shares() const;
  [[nodiscard]] std::optional<wire::Message> due(const DeviceId& device) const;
  /// Everyone in the list, of dead groups too; empty while advertising.
  [[nodiscard]] std::vector<DeviceId> devices() const;
  /// Whether the device's group is one of those that are left; before the groups are dealt, true.
  [[nodiscard]] bool in_play(const DeviceId& device) const;
  [[nodiscard]] std::vector<DeviceId> awaited() const;
  [[nodiscard]] std::uint32_t counted() const;
  [[nodiscard]] std::vector<SecAggRow> take_rows(bool with_sum = true);
  /// The keys of all rows that take_rows() may have given: to be erased when the round is over.
  [[nodiscard]] std::vector<std::string> row_keys() const;
  [[nodiscard]] Phase phase() const;
  [[nodiscard]] wire::SecureReason blame() const { return blame_; }
  [[nodiscard]] std::vector<DeviceId> suspects() const;
  [[nodiscard]] std::uint32_t groups() const { return setup_.groups; }
  /// Of which something is left.
  [[nodiscard]] std::uint32_t groups_left() const;

 private:
  SecAggRound(SecAggSetup setup, SecAggRoster roster, std::uint32_t groups_min)
      : setup_(std::move(setup)), roster_(std::move(roster)), groups_min_(groups_min) {}
  Status deal(wire::SecureList whole);
  [[nodiscard]] std::size_t group_of(const DeviceId& device) const;
  template <typename Call>
  Status in_session(const DeviceId& device, Call&& call);
  [[nodiscard]] std::string prefix(std::size_t group) const;
  static bool alive(const SecAggServer& session);

  SecAggSetup setup_;
  SecAggRoster roster_;
  std::uint32_t groups_min_ = 1;
  std::vector<SecAggServer> sessions_;          ///< one until the groups are dealt
  std::map<DeviceId, std::uint32_t> group_of_;  ///< from then on
  std::optional<wire::SecureList> whole_;       ///< likewise
  bool whole_changed_ = false;
  wire::SecureReason blame_ = wire::SecureReason::none;
};

}  // namespace covey::aggregation
