/// The driver of one RoundMachine, shared by the daemon and the simulator: it decodes frames, checks who speaks, turns
/// messages into events, and executes effects in order on the seams it is given. No thread, no socket and no clock of
/// its own.
///
///   COVEY_ASSIGN(auto service, Service::create(task, std::move(identity), {store, transport, registration, blobs,
///                                                                          evaluator, clock}));
///   COVEY_TRY(service->start());
///   for (;;) {
///     COVEY_TRY(transport.poll(service->wait_ms(100)));   // frames reach the service inside poll()
///     COVEY_TRY(service->run_due());                      // the simulator calls this at next_timer_ms() instead
///   }
///
/// Before a valid signed hello a connection gets Enrolled, Welcome or ErrorReply and nothing else.
/// A commit that fails ends the service: nothing is sent after it, every later call reports the same error, and a new
/// process continues from the store.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "coordinator/registration.h"
#include "coordinator/round_machine.h"
#include "core/base/clock.h"
#include "core/crypto/identity.h"
#include "core/net/blobs.h"
#include "core/net/transport.h"
#include "core/store/store.h"

namespace covey::coordinator {

/// Measures an adapter version on held-out data. evaluate() returns at once; the answer is given to
/// Service::evaluated() on the service's thread, now or later. Without held-out data: an answer without a loss.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  virtual void evaluate(Evaluate request) = 0;
};

/// Borrowed; must outlive the service. The registration is also the transport's key directory.
struct ServiceSeams {
  store::Store& store;
  net::ServerTransport& transport;
  Registration& registration;
  net::BlobServer& blobs;  ///< serves the base model's files already
  Evaluator& evaluator;
  const Clock& clock;
  /// 32 secret bytes for the noise of a round; empty: the system generator. A simulator gives its own.
  std::function<Bytes()> noise_seed = {};
  ThreadPool* pool = nullptr;  ///< takes the masks off a sum; null: the calling thread does
};

struct ServiceStats {
  std::uint64_t frames_in = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t refused_frames = 0;  ///< undecodable, or from someone we do not serve
  std::uint64_t incidents = 0;
};

/// Not thread-safe. Takes the transport's handlers; do not poll the transport after the service is gone.
class Service {
 public:
  /// Restores the machine from the store. @errors those of RoundMachine::create and restore.
  static Result<std::unique_ptr<Service>> create(TaskConfig config, crypto::IdentityKey identity, ServiceSeams seams);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// Begins or goes on. Call once.
  [[nodiscard]] Status start();
  /// Fires the timers that are due. @errors the commit that failed, now or before.
  [[nodiscard]] Status run_due();
  /// When run_due() has something to do, on the clock's monotonic scale.
  [[nodiscard]] std::optional<std::int64_t> next_timer_ms() const;
  /// From now to next_timer_ms(), within [0, max_ms].
  [[nodiscard]] std::int64_t wait_ms(std::int64_t max_ms) const;

  [[nodiscard]] Status evaluated(Evaluated answer);
  [[nodiscard]] Status pause();
  [[nodiscard]] Status resume();
  /// From now on every device that says hello is told of this endpoint, signed.
  void announce(const wire::EndpointNotice& notice);
  /// Devices that were told, by this process.
  [[nodiscard]] std::size_t told() const { return told_.size(); }
  /// @errors not_found.
  [[nodiscard]] Status revoke(const DeviceId& device);

  /// Called after each round's end was committed, and for the initial adapter (round 0).
  void on_round(std::function<void(const RoundEnded&)> listener) { on_round_ = std::move(listener); }

  [[nodiscard]] const RoundMachine& machine() const { return machine_; }
  [[nodiscard]] bool finished() const { return machine_.phase() == Phase::finished; }
  [[nodiscard]] const ServiceStats& stats() const { return stats_; }
  [[nodiscard]] std::size_t connected() const { return by_device_.size(); }
  /// The machine's time: wall clock at construction plus monotonic time since.
  [[nodiscard]] std::int64_t now_ms() const;

 private:
  struct Connection {
    std::optional<DeviceId> device;  ///< after a valid hello
    std::uint64_t sequence = 0;      ///< of its newest frame
    std::uint32_t complaints = 0;
  };

  Service(RoundMachine machine, crypto::IdentityKey identity, ServiceSeams seams);
  Status handle(Event event);
  void pump();
  void perform(Persist& effect);
  void perform(Send& effect);
  void perform(SetTimer& effect);
  void perform(CancelTimer& effect);
  void perform(Evaluate& effect);
  void perform(DrawNoise& effect);
  void perform(Serve& effect);
  void perform(RoundEnded& effect);
  void perform(Incident& effect);

  void on_frame(net::ConnectionId id, const wire::Key& curve, ByteSpan frame);
  void on_closed(net::ConnectionId id);
  void on_enroll(net::ConnectionId id, const wire::Key& curve, const wire::Enroll& message);
  void on_hello(net::ConnectionId id, const wire::Key& curve, const wire::Hello& message);
  void on_authenticated(net::ConnectionId id, const DeviceId& device, wire::Message message);
  void reply(net::ConnectionId id, const wire::Message& message);
  void complain(net::ConnectionId id, wire::ErrorReply error, bool close);

  ServiceSeams seams_;
  crypto::IdentityKey identity_;
  RoundMachine machine_;
  std::int64_t anchor_ms_ = 0;  ///< now_ms() minus the monotonic clock

  std::deque<Event> events_;
  bool pumping_ = false;
  std::uint64_t draw_epoch_ = 0;  ///< whose root the machine has
  std::optional<Error> failure_;
  std::map<TimerId, std::int64_t> timers_;  ///< on the scale of now_ms()
  std::map<net::ConnectionId, Connection> connections_;
  std::map<DeviceId, net::ConnectionId> by_device_;
  std::optional<wire::SignedEndpoint> moving_;
  std::set<DeviceId> told_;
  std::deque<wire::Hash> served_;  ///< adapters, newest last
  std::function<void(const RoundEnded&)> on_round_;
  ServiceStats stats_;
};

}  // namespace covey::coordinator
