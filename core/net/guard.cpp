#include "core/net/guard.h"

#include <algorithm>
#include <utility>

namespace covey::net {

const char* to_string(CutReason reason) {
  switch (reason) {
    case CutReason::over_cap:
      return "too many connections";
    case CutReason::same_key:
      return "too many connections of one key";
    case CutReason::no_hello:
      return "no signed hello in time";
    case CutReason::undelivered:
      return "too many bytes that make no frame";
    case CutReason::undelivered_total:
      return "too many bytes that make no frame, over all connections";
    case CutReason::asked:
      return "closed by the server";
  }
  return "unknown";
}

std::optional<Cut> Guard::accepted(int fd, std::uint64_t cookie, std::int64_t now_ms) {
  disconnected(fd);  // the descriptor is new, so whatever we knew under it is gone
  Socket& socket = sockets_[fd];
  socket.cookie = cookie;
  socket.order = next_order_++;
  socket.accepted_ms = now_ms;
  if (const auto early = early_.find(cookie); early != early_.end()) {
    socket.peer = early->second.peer;
    early_cookie_.erase(socket.peer.serial);
    fd_of_serial_[socket.peer.serial] = fd;
    early_.erase(early);
  }
  if (!socket.peer.authenticated) silent_[socket.order] = fd;
  ++uncut_;  // cut ones are about to end and take no one's place
  if (uncut_ <= limits_.connections_max) return std::nullopt;
  const int victim = silent_.empty() ? fd : silent_.begin()->second;
  return mark(victim, sockets_.at(victim), CutReason::over_cap);
}

void Guard::disconnected(int fd) {
  const auto it = sockets_.find(fd);
  if (it == sockets_.end()) return;
  silent_.erase(it->second.order);
  if (!it->second.cut) --uncut_;
  drop_peer(it->second.peer);
  sockets_.erase(it);
}

// ---- connections of one key ----------------------------------------------------------------------------------------

bool Guard::admit(std::uint64_t serial, const wire::Key& key, std::size_t connections_max, std::int64_t now_ms) {
  OfKey& of = keys_[key];
  of.connections_max = connections_max;
  forget_silent(of, now_ms);
  if (of.silent.size() >= 2 * connections_max) return false;
  of.silent.push_back({serial, now_ms});
  key_of_serial_[serial] = key;
  return true;
}

/// Those whose hello is overdue have been cut by then, or are about to be.
void Guard::forget_silent(OfKey& of, std::int64_t now_ms) {
  std::erase_if(of.silent, [&](const OfKey::Silent& one) {
    if (now_ms - one.since_ms < limits_.hello_deadline_ms) return false;
    key_of_serial_.erase(one.serial);
    return true;
  });
}

void Guard::speaks(std::uint64_t serial) {
  const auto key = key_of_serial_.find(serial);
  if (key == key_of_serial_.end()) return;
  OfKey& of = keys_.at(key->second);
  std::erase_if(of.silent, [&](const OfKey::Silent& one) { return one.serial == serial; });
  of.speaking.push_back(serial);
  if (of.speaking.size() <= of.connections_max) return;
  if (Peer* oldest = find(of.speaking.front())) oldest->surplus = true;
  of.speaking.erase(of.speaking.begin());
}

void Guard::forget_key_of(std::uint64_t serial) {
  const auto key = key_of_serial_.find(serial);
  if (key == key_of_serial_.end()) return;
  if (const auto at = keys_.find(key->second); at != keys_.end()) {  // gone where this one was the surplus of the key
    std::erase(at->second.speaking, serial);
    if (at->second.speaking.empty() && at->second.silent.empty()) keys_.erase(at);
  }
  key_of_serial_.erase(key);
}

// ---- sockets and serials -------------------------------------------------------------------------------------------

void Guard::drop_peer(const Peer& peer) {
  if (peer.serial == 0) return;
  forget_key_of(peer.serial);
  fd_of_serial_.erase(peer.serial);
  closed_.push_back(peer.serial);
}

void Guard::bind(std::uint64_t serial, int fd, std::uint64_t cookie, std::int64_t now_ms) {
  const auto it = sockets_.find(fd);
  if (it == sockets_.end() || it->second.cookie != cookie) {  // the monitor has yet to tell of this socket
    Early& early = early_[cookie];
    if (early.peer.serial != 0) {
      early_cookie_.erase(early.peer.serial);
      forget_key_of(early.peer.serial);
      closed_.push_back(early.peer.serial);
    }
    early = {.peer = {.serial = serial}, .since_ms = now_ms};
    early_cookie_[serial] = cookie;
    speaks(serial);
    return;
  }
  Socket& socket = it->second;
  if (socket.peer.serial == serial) return;
  // Another serial under this socket was a late frame of the descriptor's last owner.
  drop_peer(socket.peer);
  socket.peer = {.serial = serial, .close_at_ms = socket.peer.close_at_ms};
  if (!socket.cut) silent_[socket.order] = fd;
  fd_of_serial_[serial] = fd;
  speaks(serial);
}

Guard::Peer* Guard::find(std::uint64_t serial) {
  if (const auto it = fd_of_serial_.find(serial); it != fd_of_serial_.end()) return &sockets_.at(it->second).peer;
  if (const auto it = early_cookie_.find(serial); it != early_cookie_.end()) return &early_.at(it->second).peer;
  return nullptr;
}

void Guard::delivered(std::uint64_t serial, std::uint64_t wire_bytes) {
  if (Peer* peer = find(serial)) peer->delivered_bytes += wire_bytes;
}

void Guard::authenticated(std::uint64_t serial) {
  Peer* peer = find(serial);
  if (peer == nullptr) return;
  peer->authenticated = true;
  if (const auto it = fd_of_serial_.find(serial); it != fd_of_serial_.end()) {
    silent_.erase(sockets_.at(it->second).order);
  }
}

void Guard::close(std::uint64_t serial, std::int64_t at_ms) {
  if (Peer* peer = find(serial)) peer->close_at_ms = at_ms;
}

std::vector<Guard::Watched> Guard::watched() const {
  std::vector<Watched> out;
  out.reserve(sockets_.size());
  for (const auto& [fd, socket] : sockets_) {
    if (!socket.cut) out.push_back({fd, socket.cookie});
  }
  return out;
}

Cut Guard::mark(int fd, Socket& socket, CutReason reason) {
  socket.cut = true;
  --uncut_;
  silent_.erase(socket.order);
  return {fd, socket.cookie, reason};
}

std::optional<CutReason> Guard::verdict(const Socket& socket, std::int64_t now_ms) const {
  const Peer& peer = socket.peer;
  if (peer.close_at_ms >= 0 && now_ms >= peer.close_at_ms) return CutReason::asked;
  if (peer.surplus) return CutReason::same_key;
  if (!peer.authenticated && now_ms - socket.accepted_ms >= limits_.hello_deadline_ms) return CutReason::no_hello;
  const auto limit = peer.authenticated ? limits_.undelivered_max : limits_.undelivered_before_hello_max;
  if (socket.undelivered_bytes > limit) return CutReason::undelivered;
  return std::nullopt;
}

std::vector<Cut> Guard::judge(std::span<const Sample> samples, std::int64_t now_ms) {
  for (const Sample& sample : samples) {
    const auto it = sockets_.find(sample.fd);
    if (it == sockets_.end() || it->second.cookie != sample.cookie) continue;
    Socket& socket = it->second;
    const auto age_s = static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_ms - socket.accepted_ms) / 1000);
    const std::uint64_t accounted = socket.peer.delivered_bytes + age_s * limits_.heartbeat_bytes_per_s;
    socket.undelivered_bytes = sample.received_bytes > accounted ? sample.received_bytes - accounted : 0;
  }
  std::vector<Cut> out;
  std::vector<std::pair<std::uint64_t, int>> by_bytes;
  std::uint64_t total = 0;
  for (auto& [fd, socket] : sockets_) {
    if (socket.cut) continue;
    if (const auto reason = verdict(socket, now_ms)) {
      out.push_back(mark(fd, socket, *reason));
    } else if (socket.undelivered_bytes > 0) {
      total += socket.undelivered_bytes;
      by_bytes.emplace_back(socket.undelivered_bytes, fd);
    }
  }
  if (total > limits_.undelivered_total_max) {
    std::sort(by_bytes.rbegin(), by_bytes.rend());
    for (const auto& [bytes, fd] : by_bytes) {
      if (total <= limits_.undelivered_total_max) break;
      out.push_back(mark(fd, sockets_.at(fd), CutReason::undelivered_total));
      total -= bytes;
    }
  }
  for (auto it = keys_.begin(); it != keys_.end();) {
    forget_silent(it->second, now_ms);
    it = it->second.silent.empty() && it->second.speaking.empty() ? keys_.erase(it) : std::next(it);
  }
  for (auto it = early_.begin(); it != early_.end();) {
    if (now_ms - it->second.since_ms < limits_.unmatched_ms) {
      ++it;
      continue;
    }
    early_cookie_.erase(it->second.peer.serial);
    forget_key_of(it->second.peer.serial);
    closed_.push_back(it->second.peer.serial);
    it = early_.erase(it);
  }
  return out;
}

std::vector<std::uint64_t> Guard::take_closed() {
  return std::exchange(closed_, {});
}

}  // namespace covey::net
