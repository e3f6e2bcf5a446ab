/// Decides which connections of the server to cut. Pure: told what happened and what the kernel counts, it answers; the
/// gatekeeper (gatekeeper.h) asks the kernel and does the cutting. Why it exists: ZeroMQ bounds neither multipart
/// messages nor silent peers and cannot close a connection (security.md section 3, README.md here).
///
/// Three numbers name a connection: the descriptor, which the system reuses; the cookie of the socket behind it, which
/// it does not; and the serial that the ZAP handler gave it once its key was accepted, which messages carry.
/// Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/wire/messages.h"

namespace covey::net {

struct GuardLimits {
  std::size_t connections_max = 1000;
  std::int64_t hello_deadline_ms = 10'000;  ///< from accept to a signed hello
  /// Bytes the kernel received that were not delivered as frames, per connection.
  std::uint64_t undelivered_max = 2 * 288 * 1024;
  std::uint64_t undelivered_before_hello_max = 64 * 1024;
  std::uint64_t undelivered_total_max = std::uint64_t{256} << 20;  ///< all connections; the worst are cut first
  /// What heartbeats and their answers may add, since they are never delivered.
  std::uint64_t heartbeat_bytes_per_s = 8;
  std::int64_t unmatched_ms = 5'000;  ///< a frame's connection that the monitor never named is taken for gone
};

enum class CutReason : std::uint8_t { over_cap, same_key, no_hello, undelivered, undelivered_total, asked };
const char* to_string(CutReason reason);

struct Cut {
  int fd = -1;
  std::uint64_t cookie = 0;
  CutReason reason{};
};

class Guard {
 public:
  struct Watched {
    int fd = -1;
    std::uint64_t cookie = 0;
  };
  struct Sample {
    int fd = -1;
    std::uint64_t cookie = 0;
    std::uint64_t received_bytes = 0;
  };

  explicit Guard(GuardLimits limits) : limits_(limits) {}

  // What the socket monitor says, in its order.
  /// @return what to cut where this one is above the cap: the oldest that has not said hello, so that a flood of silent
  /// connections pushes out itself; the new one where all have.
  std::optional<Cut> accepted(int fd, std::uint64_t cookie, std::int64_t now_ms);
  void disconnected(int fd);

  // What the ZAP handler says.
  /// A handshake of `key`, which may hold `connections_max` connections, would become `serial`. False: refuse it, since
  /// twice as many of this key's handshakes have yet to send their first frame. Such a one counts until the hello is
  /// overdue; the handler cannot know its socket, so these can be refused but not pushed out.
  bool admit(std::uint64_t serial, const wire::Key& key, std::size_t connections_max, std::int64_t now_ms);

  // What the server says of the serials its frames carry.
  /// The first frame of `serial` came through this socket. May come before accepted() does. Where its key now has more
  /// connections than it may, the oldest is cut at the next judge().
  void bind(std::uint64_t serial, int fd, std::uint64_t cookie, std::int64_t now_ms);
  void delivered(std::uint64_t serial, std::uint64_t wire_bytes);
  void authenticated(std::uint64_t serial);
  /// Cut at `at_ms`, so that what was sent just before still leaves.
  void close(std::uint64_t serial, std::int64_t at_ms);

  // What the clock says.
  [[nodiscard]] std::vector<Watched> watched() const;
  /// `samples` may miss connections and hold ones that are gone. A connection is named in one answer only.
  std::vector<Cut> judge(std::span<const Sample> samples, std::int64_t now_ms);

  /// Serials whose connection ended since the last call.
  std::vector<std::uint64_t> take_closed();
  [[nodiscard]] bool has_closed() const { return !closed_.empty(); }
  [[nodiscard]] std::size_t connections() const { return sockets_.size(); }

 private:
  struct Peer {
    std::uint64_t serial = 0;  ///< 0: no frame yet
    std::uint64_t delivered_bytes = 0;
    bool authenticated = false;
    bool surplus = false;  ///< pushed out by newer connections of its key
    std::int64_t close_at_ms = -1;
  };
  /// The connections of one CURVE key, oldest first.
  struct OfKey {
    struct Silent {
      std::uint64_t serial = 0;
      std::int64_t since_ms = 0;
    };
    std::size_t connections_max = 0;
    std::vector<Silent> silent;           ///< accepted handshakes without a frame yet
    std::vector<std::uint64_t> speaking;  ///< bound ones that are not pushed out
  };
  struct Socket {
    std::uint64_t cookie = 0;
    std::uint64_t order = 0;  ///< of acceptance
    std::int64_t accepted_ms = 0;
    std::uint64_t undelivered_bytes = 0;  ///< at the last sample
    bool cut = false;
    Peer peer;
  };
  struct Early {
    Peer peer;
    std::int64_t since_ms = 0;
  };

  Peer* find(std::uint64_t serial);
  Cut mark(int fd, Socket& socket, CutReason reason);
  void drop_peer(const Peer& peer);
  void speaks(std::uint64_t serial);
  void forget_key_of(std::uint64_t serial);
  void forget_silent(OfKey& of, std::int64_t now_ms);
  std::optional<CutReason> verdict(const Socket& socket, std::int64_t now_ms) const;

  GuardLimits limits_;
  std::uint64_t next_order_ = 1;
  std::size_t uncut_ = 0;
  std::unordered_map<int, Socket> sockets_;
  std::map<std::uint64_t, int> silent_;                            ///< order -> fd of those without a hello, uncut
  std::unordered_map<std::uint64_t, int> fd_of_serial_;            ///< bound ones
  std::unordered_map<std::uint64_t, Early> early_;                 ///< by cookie: bound before they were accepted
  std::unordered_map<std::uint64_t, std::uint64_t> early_cookie_;  ///< by serial
  std::map<wire::Key, OfKey> keys_;
  std::unordered_map<std::uint64_t, wire::Key> key_of_serial_;
  std::vector<std::uint64_t> closed_;
};

}  // namespace covey::net
