/// Internal to core/net: the one thread that stands at the server's door. It answers ZAP requests (which CURVE keys may
/// connect), reads the socket monitor, samples the kernel's counters and cuts what the guard condemns. It has its own
/// thread because a flood must not gain from the server being busy.
///
/// Lives from before the listening socket is bound until after it is closed. At most one per process, since ZeroMQ
/// has one ZAP endpoint per context. All functions but the constructor may be called while the thread runs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/net/guard.h"
#include "core/net/transport.h"
#include "core/net/zmq_support.h"

namespace covey::net::internal {

/// What the ZAP handler writes into User-Id, so that each message says which accepted handshake it belongs to.
struct PeerName {
  wire::Key curve{};
  std::uint64_t serial = 0;
};
std::string format_peer(const PeerName& peer);
std::optional<PeerName> parse_peer(const char* text);

class Gatekeeper {
 public:
  struct Stats {
    std::size_t connections = 0;
    std::uint64_t accepted = 0;  ///< TCP connections
    std::uint64_t admitted = 0;  ///< keys that may connect
    std::uint64_t refused = 0;   ///< keys that may not, or not so often
    std::map<CutReason, std::uint64_t> cut;
  };

  /// Binds the ZAP endpoint, monitors `listener` and starts the thread. `directory` outlives this.
  /// @errors already_exists: the process has one already.
  static Result<std::unique_ptr<Gatekeeper>> start(const GuardLimits& limits, const KeyDirectory& directory,
                                                   zmq::socket_t& listener);
  ~Gatekeeper();
  Gatekeeper(const Gatekeeper&) = delete;
  Gatekeeper& operator=(const Gatekeeper&) = delete;

  /// False once the thread ended for whatever reason: nobody can be authenticated any more.
  [[nodiscard]] bool alive() const { return alive_.load(); }
  /// Readable when there is something to take; the server's thread polls and drains it.
  zmq::socket_t& wake() { return wake_; }

  /// False: the socket the frame came through is gone.
  bool bind(std::uint64_t serial, int fd);
  void delivered(std::uint64_t serial, std::size_t payload_bytes);
  void authenticated(std::uint64_t serial);
  void close(std::uint64_t serial, std::int64_t delay_ms);
  std::vector<std::uint64_t> take_closed();
  [[nodiscard]] Stats stats() const;
  /// Ends the thread, as its death would.
  void stop();

 private:
  Gatekeeper(const GuardLimits& limits, const KeyDirectory& directory);
  void run();
  void serve();
  void answer_zap();
  void read_events();
  void sample_and_cut();
  void cut(const Cut& what);
  void notify();

  const KeyDirectory& directory_;
  SystemClock clock_;
  mutable std::mutex mutex_;  ///< guards guard_ and stats_
  Guard guard_;
  Stats stats_;
  std::atomic<bool> alive_{true};
  std::uint64_t next_serial_ = 1;
  zmq::socket_t zap_;
  zmq::socket_t monitor_;
  zmq::socket_t control_;       ///< thread's end
  zmq::socket_t control_peer_;  ///< ours: anything sent ends the thread
  zmq::socket_t wake_;          ///< the server's end
  zmq::socket_t wake_peer_;     ///< thread's end
  std::once_flag stopped_;
  std::thread thread_;
};

}  // namespace covey::net::internal
