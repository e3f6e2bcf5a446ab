/// A device's life as a pure state machine: step(event, now) -> effects. No socket, file, clock, thread or entropy:
/// the daemon and the simulator run the same code.
///
///   resting -> connecting -> checking_in -> fetching -> training -> submitting -> resting
///      ^                         |  CheckBack                |  killed: the checkpoint resumes it
///      +-------------------------+---------------------------+
///
/// In `secure` and `grouped` mode the phases of secure aggregation stand in place of `submitting`; there is no
/// transition that emits a ClearUpdate in them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/store/store.h"
#include "core/wire/messages.h"

namespace covey::client {

enum class SessionPhase : std::uint8_t {
  resting = 0,
  connecting = 1,  ///< Hello sent, Welcome awaited
  checking_in = 2,
  fetching = 3,
  training = 4,
  submitting = 5,
  secure_advertise = 6,  // 6 to 10: secure aggregation, security.md section 4
  secure_share = 7,
  secure_mask = 8,
  secure_agree = 9,
  secure_unmask = 10,
};
const char* to_string(SessionPhase phase);

enum class SessionTimer : std::uint8_t { wake, reply, round_deadline };

/// What training gives back; the delta never leaves memory unprotected (checkpoints are encrypted).
struct TrainingOutcome {
  std::vector<float> delta;  ///< shape (P): trained minus received
  std::uint32_t weight = 1;
  wire::TrainingReport report;
};

// ---- events --------------------------------------------------------------------------------------------------------
struct Started {};
struct MessageReceived {
  wire::Message message;
};
struct ConnectionLost {};
struct TimerFired {
  SessionTimer timer{};
};
struct Fetched {
  wire::Hash blob{};
  std::uint64_t bytes = 0;
  std::uint32_t took_ms = 0;
};  ///< complete and verified
struct FetchFailed {
  wire::Hash blob{};
  std::string reason;
};
struct TrainingDone {
  RoundId round;
  TrainingOutcome outcome;
};
struct TrainingFailed {
  RoundId round;
  std::string reason;
};
struct EligibilityChanged {
  bool eligible = true;
  std::string reason;
};  ///< power, network, pause by the user
using Event = std::variant<Started, MessageReceived, ConnectionLost, TimerFired, Fetched, FetchFailed, TrainingDone,
                           TrainingFailed, EligibilityChanged>;

// ---- effects -------------------------------------------------------------------------------------------------------
struct Persist {
  std::vector<store::Write> writes;
};
struct Connect {};  ///< the driver connects and sends the signed Hello
struct Disconnect {};
struct Send {
  wire::Message message;
};
struct SetTimer {
  SessionTimer timer{};
  std::int64_t at_ms = 0;
};
struct CancelTimer {
  SessionTimer timer{};
};
struct Fetch {
  wire::FileBlob file;
};  ///< resumable; answer: Fetched or FetchFailed
struct Train {
  wire::RoundPlan plan;
};  ///< answer: TrainingDone or TrainingFailed
struct StopTraining {
  bool keep_checkpoint = true;
};
struct Journal {
  std::string line;
};  ///< what the user may read of what was done
using Effect =
    std::variant<Persist, Connect, Disconnect, Send, SetTimer, CancelTimer, Fetch, Train, StopTraining, Journal>;

}  // namespace covey::client
