/// The driver of one Session, shared by the daemon and the simulator: it turns the session's effects into calls on the
/// seams it is given, and what comes from them into events. It has no thread, no socket, no clock and no entropy of its
/// own.
///
///   Agent agent(std::move(config), {store, transport, downloads, trainer, clock, random});
///   COVEY_TRY(agent.start(capabilities));
///   for (;;) {
///     COVEY_TRY(transport.poll(agent.wait_ms(100)));  // frames reach the agent inside poll()
///     COVEY_TRY(agent.run_due());                     // the simulator calls this at next_timer_ms() instead
///   }
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/endpoints.h"
#include "client/session.h"
#include "core/base/clock.h"
#include "core/crypto/identity.h"
#include "core/net/transport.h"
#include "core/store/store.h"

namespace covey::client {

/// Trains what a plan asks for. All calls come from the agent's thread; an implementation may work on another one.
class Trainer {
 public:
  virtual ~Trainer() = default;
  /// Begins, or goes on from the round's checkpoint. The plan's files are there. Problems come out of poll().
  virtual void start(const wire::RoundPlan& plan) = 0;
  /// Ends within one step; after it poll() has nothing to say until the next start().
  virtual void stop(bool keep_checkpoint) = 0;
  /// TrainingProgressed, TrainingDone or TrainingFailed where there is news. Never waits. The agent fills in the
  /// rounding seed of TrainingDone.
  virtual std::optional<Event> poll() = 0;
};

/// Brings a plan's files onto the device, one at a time. All calls come from the agent's thread.
class Downloads {
 public:
  struct Step {
    std::vector<wire::Message> send;
    bool complete = false;    ///< the file is there and verified
    std::uint64_t bytes = 0;  ///< with `complete`: received for it
    std::string failure;      ///< not empty: given up, one line
  };
  virtual ~Downloads() = default;
  /// Complete at once where the file is there already.
  virtual Step begin(const wire::FileBlob& file) = 0;
  /// ManifestReply, ChunkReply or ErrorReply.
  virtual Step on_message(const wire::Message& message) = 0;
  /// The link is gone; what has arrived is kept for the next begin().
  virtual void abandon() = 0;
  /// All files of this plan are there and training begins: others may go.
  virtual void keep_only(const wire::RoundPlan& plan) = 0;
};

struct AgentConfig {
  SessionConfig session;  ///< identity and curve in it are set from those below
  crypto::IdentityKey identity;
  wire::Key curve{};            ///< public key the transport connects with
  net::ServerAddress server{};  ///< pinned at enrolment; empty where the transport knows one server only
};

/// Borrowed; must outlive the agent.
struct AgentSeams {
  store::Store& store;
  net::ClientTransport& transport;
  Downloads& downloads;
  Trainer& trainer;
  const Clock& clock;
  std::function<void(std::span<std::uint8_t>)> random;  ///< the system's entropy; a seeded generator in the simulator
};

/// What is left of an agent whose device only waits for its next check-in: a driver of many devices keeps this, the
/// store and the files in the agent's place.
struct RestingAgent {
  RestingSession session;
  std::optional<std::int64_t> wake_ms;  ///< as next_timer_ms() said; nothing while the device may not train
  crypto::IdentityKey identity;
};

/// Not thread-safe. Takes the transport's handlers; do not poll the transport after the agent is gone.
class Agent {
 public:
  Agent(AgentConfig config, AgentSeams seams);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Restores the session from the store and begins. @errors those of Session::restore and of run_due.
  [[nodiscard]] Status start(const wire::Capabilities& capabilities);
  /// In place of start(): goes on from where rest() was called, over the same store.
  [[nodiscard]] Status resume(const wire::Capabilities& capabilities, const RestingAgent& resting);
  /// Nothing where the device does more than wait. Else this agent is spent: only its end may follow.
  [[nodiscard]] std::optional<RestingAgent> rest();
  /// Fires what is due and hears the trainer. @errors a failed commit (persist before send: nothing was sent after it):
  /// end this agent; a new one continues from the store.
  [[nodiscard]] Status run_due();
  /// Power, network, pause, new examples: EligibilityChanged or CapabilitiesChanged. @errors as run_due.
  [[nodiscard]] Status handle(Event event);

  /// When run_due has a timer to fire, on the clock's monotonic scale. A busy trainer is not a timer.
  [[nodiscard]] std::optional<std::int64_t> next_timer_ms() const;
  /// From now to next_timer_ms(), within [0, max_ms].
  [[nodiscard]] std::int64_t wait_ms(std::int64_t max_ms) const;

  [[nodiscard]] const Session& session() const { return session_; }
  /// The session's time: wall clock at construction plus monotonic time since.
  [[nodiscard]] std::int64_t now_ms() const;
  /// Where it connects next: the invite's endpoint, or one the coordinator has announced since.
  [[nodiscard]] const net::ServerAddress& server() const { return endpoints_.choose(now_ms()); }
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }  ///< frames, this process
  [[nodiscard]] std::uint64_t bytes_received() const { return bytes_received_; }

 private:
  Status pump();
  Status execute(Effect effect);
  Status perform(Persist effect);
  Status perform(Connect effect);
  Status perform(Disconnect effect);
  Status perform(Send effect);
  Status perform(SetTimer effect);
  Status perform(CancelTimer effect);
  Status perform(Fetch effect);
  Status perform(Train effect);
  Status perform(StopTraining effect);
  void on_frame(ByteSpan frame);
  void on_closed();
  void follow(Downloads::Step step);
  void send(const wire::Message& message);
  void lose_link(const std::string& why);
  void learn_endpoint(const wire::SignedEndpoint& document);
  std::string unreached();
  void poll_trainer();

  AgentConfig config_;
  AgentSeams seams_;
  Session session_;
  EndpointBook endpoints_;
  std::int64_t anchor_ms_ = 0;  ///< now_ms() minus the monotonic clock

  std::deque<Event> events_;
  bool pumping_ = false;
  std::optional<Error> failure_;
  std::map<SessionTimer, std::int64_t> timers_;
  bool linked_ = false;
  bool welcomed_ = false;
  EndpointBook::Heard heard_;  ///< of this connection: its server, and the Welcome's time
  wire::Nonce nonce_{};
  std::uint64_t sequence_ = 0;
  std::optional<wire::FileBlob> fetching_;
  std::int64_t fetch_started_ms_ = 0;
  std::int64_t fetch_heard_ms_ = 0;
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_received_ = 0;
};

}  // namespace covey::client
