/// Internal to SecAggServer: its state, shared by the files that hold its transitions.
///   secagg_server.cpp   messages, phases, what is due      secagg_server_rows.cpp   durable rows, restart
///   secagg_server_unmask.cpp   rebuilding secrets, taking the masks off
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aggregation/secagg_graph.h"
#include "aggregation/secagg_seam.h"
#include "aggregation/secagg_server.h"
#include "aggregation/shamir.h"

namespace covey::aggregation {

struct SecAggServer::Machine {
  Machine(SecAggSetup s, SecAggRoster r, const SecAggSeam& test_seam);

  // -- secagg_server.cpp
  Error refuse(wire::SecureReason why, const std::string& what);
  Error die(wire::SecureReason why, const std::string& what);
  void erase();
  /// The device's index where its message belongs to `expected`; empty with ok where the same message is counted
  /// already.
  Result<std::optional<std::uint16_t>> admit(const DeviceId& device, Phase expected, const wire::Hash& digest);
  Status check_session(RoundId round, const wire::Hash& of);
  void take_list(wire::SecureList given);
  [[nodiscard]] bool is_dead(std::uint32_t device) const;
  [[nodiscard]] std::vector<std::uint16_t> expected_in(Phase in_phase) const;
  /// Which of `of`'s shares `holder` has: x, from 1.
  [[nodiscard]] std::uint32_t place_of(std::uint16_t holder, std::uint16_t of) const;
  [[nodiscard]] wire::SecureInbox inbox(std::uint16_t device) const;
  [[nodiscard]] wire::SecureUnmask unmask_request(std::uint16_t device) const;

  // -- secagg_server_unmask.cpp
  /// Dead devices whose mask secret survivors' updates need, and all survivors.
  [[nodiscard]] bool secret_needed(std::uint16_t device) const;
  Result<std::vector<MaskTerm>> mask_terms(ThreadPool* pool);
  Result<SecretBytes> rebuild(std::uint16_t device, std::vector<DeviceId>& found_suspects) const;

  SecAggSetup setup;
  SecAggRoster roster;
  SecAggSeam seam;
  Phase phase = Phase::advertise;
  wire::SecureReason reason = wire::SecureReason::none;
  wire::SecureReason blame = wire::SecureReason::none;

  std::map<DeviceId, wire::SecureKeys> advertised;
  std::set<DeviceId> gone;

  wire::SecureList list;
  wire::Hash session{};
  SecAggParams params;
  std::optional<SecAggGraph> graph;
  std::vector<std::vector<std::uint32_t>> neighbours;  ///< by device
  std::map<DeviceId, std::uint16_t> index_of;

  /// Of the message counted from a device in a phase: (phase, index) -> digest.
  std::map<std::pair<Phase, std::uint16_t>, wire::Hash> counted;
  std::map<std::uint16_t, wire::SecureBoxes> boxes;  ///< by sender, until close_mask()
  std::set<std::uint16_t> shared;                    ///< whose boxes are in: U2
  std::vector<std::uint32_t> sum;                    ///< (1 + P), modulo 2^32
  std::set<std::uint16_t> survivors;                 ///< whose masked updates are in: U3
  std::vector<std::uint16_t> dead;                   ///< all others, from close_mask() on
  std::map<std::uint16_t, wire::Signature> signatures;
  std::map<std::uint16_t, std::vector<ShamirPoint>> shares;  ///< by the device whose secret they are of

  std::vector<DeviceId> suspects;
  bool head_changed = false;
  bool boxes_changed = false;
  bool sum_changed = false;
};

}  // namespace covey::aggregation
