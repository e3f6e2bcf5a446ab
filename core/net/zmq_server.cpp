#include "core/net/zmq_server.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/net/gatekeeper.h"
#include "core/net/zmq_support.h"

namespace covey::net {
namespace {

constexpr int kZapEnforceDomain = 93;  // ZMQ_ZAP_ENFORCE_DOMAIN: 4.3.4 has it but its header hides it
constexpr std::size_t kDescriptorsLeft = 512;
constexpr std::size_t kConnectionsLeast = 16;
/// Polls that may pass until a connection that ended is reported while frames keep coming. ZeroMQ serves its
/// connections in turn, so what the ended one had sent (4 frames at most) has been read by then, unless thousands
/// flood.
constexpr std::uint64_t kPollsToDrain = 8;
constexpr std::int64_t kOutboxRetryMs = 5;
constexpr std::size_t kEndedRemembered = 4096;

Result<std::size_t> connection_cap(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return Error{ErrorCode::internal, "cannot read RLIMIT_NOFILE"};
  const std::size_t descriptors = limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
  if (descriptors < kDescriptorsLeft + kConnectionsLeast) {
    return Error{ErrorCode::resource_exhausted, "the process may open " + std::to_string(descriptors) +
                                                    " descriptors; raise it with `ulimit -n " +
                                                    std::to_string(wanted + kDescriptorsLeft) + "` or LimitNOFILE="};
  }
  return std::min(wanted, descriptors - kDescriptorsLeft);
}

}  // namespace

class ZmqServer::Impl {
 public:
  Impl(ZmqServerOptions options) : options_(std::move(options)) {}
  ~Impl();

  Status start(const KeyDirectory& directory);
  Result<std::string> listen(const std::string& endpoint, const SecretBytes& secret_key);
  Status stop_listening(const std::string& endpoint);
  Status send(ConnectionId connection, Bytes frame);
  void close(std::uint64_t serial);
  Status poll(std::int64_t wait_ms);

  ZmqServerOptions options_;
  Handlers handlers_;
  std::string endpoint_;
  ServerStats stats_;
  std::unique_ptr<internal::Gatekeeper> gate_;

 private:
  struct Connection {
    std::string routing;
    wire::Key curve{};
    bool closing = false;
    std::deque<Bytes> outbox;
    std::int64_t stalled_since_ms = 0;
  };
  enum class Sent { yes, full, gone };
  using Connections = std::unordered_map<std::uint64_t, Connection>;

  void set_options();
  bool read_frame();
  void handle(const std::string& routing, const zmq::message_t& message);
  Connection* connection_of(const std::string& routing, const internal::PeerName& peer, int fd);
  Sent try_send(const Connection& connection, Bytes& frame);
  void flush_outboxes();
  void drop_outbox(Connection& connection);
  void ended(std::uint64_t serial);
  void report_ended();
  void stop_listening();
  void take_ended(bool dry);

  SystemClock clock_;
  zmq::socket_t router_;
  std::vector<std::string> listening_;                       ///< endpoints as bound
  Connections connections_;                                  ///< by serial
  std::unordered_map<std::string, std::uint64_t> routings_;  ///< routing id -> serial
  std::unordered_set<std::uint64_t> waiting_;                ///< serials with something in the outbox
  std::uint64_t outbox_bytes_ = 0;
  std::unordered_set<std::uint64_t> ended_;  ///< recent ones: late frames of theirs are no new connection
  std::deque<std::uint64_t> ended_order_;
  struct Leaving {
    std::uint64_t serial = 0;
    std::uint64_t at_poll = 0;  ///< reported then at the latest
  };
  std::uint64_t polls_ = 0;
  std::deque<Leaving> leaving_;  ///< down, but what they sent may still wait to be read
  std::vector<std::uint64_t> to_report_;
};

ZmqServer::Impl::~Impl() {
  if (router_.handle() != nullptr) {
    zmq_socket_monitor(router_.handle(), nullptr, 0);  // before its reader goes: I/O must never wait for it
    stop_listening();
    router_.close();
  }
  gate_.reset();
}

void ZmqServer::Impl::stop_listening() {
  for (const std::string& endpoint : std::exchange(listening_, {})) zmq_unbind(router_.handle(), endpoint.c_str());
}

Status ZmqServer::Impl::stop_listening(const std::string& endpoint) {
  if (std::erase(listening_, endpoint) == 0) {
    return Error{ErrorCode::not_found, "the server does not listen on " + endpoint};
  }
  if (zmq_unbind(router_.handle(), endpoint.c_str()) != 0) return internal::zmq_error("stop listening on " + endpoint);
  return {};
}

void ZmqServer::Impl::set_options() {
  router_.set(zmq::sockopt::curve_server, true);
  router_.set(zmq::sockopt::zap_domain, "covey");
  const int enforce = 1;  // without a handler nobody gets in, instead of everybody
  if (zmq_setsockopt(router_.handle(), kZapEnforceDomain, &enforce, sizeof enforce) != 0) throw zmq::error_t();
  router_.set(zmq::sockopt::router_mandatory, true);
  router_.set(zmq::sockopt::maxmsgsize, kMaxMessageBytes);
  router_.set(zmq::sockopt::sndhwm, 4);
  router_.set(zmq::sockopt::rcvhwm, 4);
  router_.set(zmq::sockopt::handshake_ivl, options_.handshake_ms);
  router_.set(zmq::sockopt::heartbeat_ivl, options_.heartbeat_ms);
  router_.set(zmq::sockopt::heartbeat_timeout, options_.heartbeat_timeout_ms);
  router_.set(zmq::sockopt::heartbeat_ttl, options_.heartbeat_timeout_ms);
  router_.set(zmq::sockopt::linger, options_.linger_ms);
  router_.set(zmq::sockopt::backlog, options_.backlog);
}

Status ZmqServer::Impl::start(const KeyDirectory& directory) {
  COVEY_ASSIGN(options_.guard.connections_max, connection_cap(options_.guard.connections_max));
  try {
    router_ = zmq::socket_t(internal::process_context(), zmq::socket_type::router);
    set_options();
  } catch (const zmq::error_t& e) {
    return Error{ErrorCode::unavailable, std::string("server socket: ") + e.what()};
  }
  COVEY_ASSIGN(gate_, internal::Gatekeeper::start(options_.guard, directory, router_));
  COVEY_ASSIGN(endpoint_, listen(options_.endpoint, options_.secret_key));
  return {};
}

/// A listener copies the socket's options when it is bound, so each one keeps the key that was set before it. The
/// socket, its monitor, the ZAP handler and the guard are the same for all of them.
Result<std::string> ZmqServer::Impl::listen(const std::string& endpoint, const SecretBytes& secret_key) {
  if (secret_key.size() != 32) {
    return Error{ErrorCode::invalid_argument,
                 "CURVE secret key: " + std::to_string(secret_key.size()) + " bytes instead of 32"};
  }
  if (endpoint.rfind("tcp://", 0) != 0) {
    return Error{ErrorCode::invalid_argument,
                 "endpoint " + endpoint + ": write tcp://ADDRESS:PORT, for example tcp://0.0.0.0:7400"};
  }
  if (zmq_setsockopt(router_.handle(), ZMQ_CURVE_SECRETKEY, secret_key.data(), secret_key.size()) != 0) {
    return internal::zmq_error("CURVE secret key");
  }
  const auto give_up_ms = clock_.monotonic_ms() + options_.bind_retry_ms;
  while (zmq_bind(router_.handle(), endpoint.c_str()) != 0) {
    if (zmq_errno() != EADDRINUSE || clock_.monotonic_ms() >= give_up_ms) {
      const int number = zmq_errno();
      Error error = internal::zmq_error("cannot listen on " + endpoint);
      if (number == EINVAL || number == ENODEV || number == EADDRNOTAVAIL) {
        error.code = ErrorCode::invalid_argument;
        error.message += "; write tcp://ADDRESS:PORT with an address of this machine";
      }
      return error;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return listening_.emplace_back(router_.get(zmq::sockopt::last_endpoint));
}

Status ZmqServer::Impl::poll(std::int64_t wait_ms) {
  if (!gate_->alive()) {
    stop_listening();
    return Error{ErrorCode::unavailable,
                 "the thread that authenticates connections ended, so the server stopped listening; restart it"};
  }
  flush_outboxes();
  if (!waiting_.empty()) wait_ms = std::min(wait_ms, kOutboxRetryMs);
  zmq_pollitem_t items[] = {{router_.handle(), 0, ZMQ_POLLIN, 0}, {gate_->wake().handle(), 0, ZMQ_POLLIN, 0}};
  if (zmq_poll(items, 2, std::max<std::int64_t>(0, wait_ms)) < 0 && zmq_errno() != EINTR) {
    return internal::zmq_error("poll");
  }
  try {
    zmq::message_t token;
    while (gate_->wake().recv(token, zmq::recv_flags::dontwait)) {
    }
    ++polls_;
    for (const auto serial : gate_->take_closed()) leaving_.push_back({serial, polls_ + kPollsToDrain});
    std::size_t frames = 0;
    while (frames < options_.frames_per_poll && read_frame()) ++frames;
    take_ended(frames < options_.frames_per_poll);
  } catch (const zmq::error_t& e) {
    return Error{ErrorCode::unavailable, std::string("server socket: ") + e.what()};
  }
  flush_outboxes();
  return {};
}

/// False: nothing is waiting.
bool ZmqServer::Impl::read_frame() {
  zmq::message_t routing;
  if (!router_.recv(routing, zmq::recv_flags::dontwait)) return false;
  zmq::message_t message;
  if (routing.more()) (void)router_.recv(message, zmq::recv_flags::none);  // a message's parts come all at once
  bool several = !routing.more();
  for (bool more = message.more(); more; several = true) {
    zmq::message_t rest;
    (void)router_.recv(rest, zmq::recv_flags::none);
    more = rest.more();
  }
  if (several) {
    ++stats_.multipart;
    const auto peer = internal::parse_peer(zmq_msg_gets(message.handle(), "User-Id"));
    if (peer && connection_of(routing.to_string(), *peer, zmq_msg_get(message.handle(), ZMQ_SRCFD)) != nullptr) {
      close(peer->serial);
      gate_->close(peer->serial, 0);
    }
    return true;
  }
  handle(routing.to_string(), message);
  return true;
}

void ZmqServer::Impl::handle(const std::string& routing, const zmq::message_t& message) {
  auto* const raw = const_cast<zmq_msg_t*>(message.handle());  // the getters' signatures lack a const
  const auto peer = internal::parse_peer(zmq_msg_gets(raw, "User-Id"));
  if (!peer) return;  // cannot be: without our handler's word there is no connection
  Connection* const connection = connection_of(routing, *peer, zmq_msg_get(raw, ZMQ_SRCFD));
  if (connection == nullptr) return;
  gate_->delivered(peer->serial, message.size());
  if (connection->closing) return;
  ++stats_.frames_in;
  stats_.bytes_in += message.size();
  if (handlers_.on_frame) handlers_.on_frame({peer->serial}, peer->curve, internal::bytes_of(message));
}

/// The connection a frame belongs to, made known with its first one. Null: it is gone.
ZmqServer::Impl::Connection* ZmqServer::Impl::connection_of(const std::string& routing, const internal::PeerName& peer,
                                                            int fd) {
  if (const auto it = connections_.find(peer.serial); it != connections_.end()) return &it->second;
  if (ended_.contains(peer.serial) || !gate_->bind(peer.serial, fd)) return nullptr;
  if (const auto old = routings_.find(routing); old != routings_.end()) ended(old->second);
  routings_[routing] = peer.serial;
  Connection& connection = connections_[peer.serial];
  connection.routing = routing;
  connection.curve = peer.curve;
  return &connection;
}

ZmqServer::Impl::Sent ZmqServer::Impl::try_send(const Connection& connection, Bytes& frame) {
  zmq::message_t routing(connection.routing);
  if (zmq_msg_send(routing.handle(), router_.handle(), ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) {
    return zmq_errno() == EAGAIN ? Sent::full : Sent::gone;
  }
  const std::size_t size = frame.size();
  zmq::message_t message = internal::message_of(std::move(frame));
  // The queue was found open with the routing id; only the peer's end can make this fail.
  if (zmq_msg_send(message.handle(), router_.handle(), ZMQ_DONTWAIT) < 0) return Sent::gone;
  ++stats_.frames_out;
  stats_.bytes_out += size;
  return Sent::yes;
}

Status ZmqServer::Impl::send(ConnectionId id, Bytes frame) {
  const auto it = connections_.find(id.value);
  if (it == connections_.end() || it->second.closing) return Error{ErrorCode::unavailable, "the connection is gone"};
  if (frame.size() > wire::kFrameBytesMax) {
    return Error{ErrorCode::invalid_argument, "a frame of " + std::to_string(frame.size()) + " bytes; at most " +
                                                  std::to_string(wire::kFrameBytesMax) + " pass"};
  }
  Connection& connection = it->second;
  if (connection.outbox.empty()) {
    const Sent sent = try_send(connection, frame);
    if (sent == Sent::yes) return {};
    if (sent == Sent::gone) return Error{ErrorCode::unavailable, "the connection is gone"};
    connection.stalled_since_ms = clock_.monotonic_ms();
  }
  if (connection.outbox.size() >= options_.outbox_frames_max ||
      outbox_bytes_ + frame.size() > options_.outbox_total_bytes_max) {
    return Error{ErrorCode::unavailable, "the connection's queue is full"};
  }
  outbox_bytes_ += frame.size();
  connection.outbox.push_back(std::move(frame));
  waiting_.insert(id.value);
  return {};
}

void ZmqServer::Impl::flush_outboxes() {
  const auto now = clock_.monotonic_ms();
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const std::uint64_t serial = *it;
    Connection& connection = connections_.at(serial);
    Sent sent = Sent::yes;
    while (!connection.outbox.empty() && sent == Sent::yes) {
      const std::size_t size = connection.outbox.front().size();
      sent = try_send(connection, connection.outbox.front());
      if (sent != Sent::yes) break;
      connection.outbox.pop_front();
      outbox_bytes_ -= size;
      connection.stalled_since_ms = now;
    }
    const bool stalled = sent == Sent::full && now - connection.stalled_since_ms >= options_.stalled_ms;
    if (sent == Sent::gone || stalled) {
      drop_outbox(connection);
      connection.closing = true;
      gate_->close(serial, 0);
    }
    it = connection.outbox.empty() ? waiting_.erase(it) : std::next(it);
  }
}

void ZmqServer::Impl::drop_outbox(Connection& connection) {
  for (const Bytes& frame : connection.outbox) outbox_bytes_ -= frame.size();
  connection.outbox.clear();
}

void ZmqServer::Impl::close(std::uint64_t serial) {
  const auto it = connections_.find(serial);
  if (it == connections_.end() || it->second.closing) return;
  it->second.closing = true;
  gate_->close(serial, options_.close_delay_ms);
}

/// Forgets the connection and remembers to say so.
void ZmqServer::Impl::ended(std::uint64_t serial) {
  const auto it = connections_.find(serial);
  if (it == connections_.end()) return;
  drop_outbox(it->second);
  waiting_.erase(serial);
  if (const auto routing = routings_.find(it->second.routing);
      routing != routings_.end() && routing->second == serial) {
    routings_.erase(routing);
  }
  connections_.erase(it);
  ended_.insert(serial);
  ended_order_.push_back(serial);
  if (ended_order_.size() > kEndedRemembered) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }
  to_report_.push_back(serial);
}

/// What a peer sent before it left comes before the news that it left: when nothing more is waiting, or after so many
/// polls that its turn has come. Waiting for a quiet moment alone would let a flood keep the news back for ever.
void ZmqServer::Impl::take_ended(bool dry) {
  while (!leaving_.empty() && (dry || leaving_.front().at_poll <= polls_)) {
    ended(leaving_.front().serial);
    leaving_.pop_front();
  }
  report_ended();
}

void ZmqServer::Impl::report_ended() {
  for (const auto serial : std::exchange(to_report_, {})) {
    if (handlers_.on_closed) handlers_.on_closed({serial});
  }
}

ZmqServer::ZmqServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqServer::~ZmqServer() = default;

Result<std::unique_ptr<ZmqServer>> ZmqServer::create(ZmqServerOptions options, const KeyDirectory& directory) {
  auto impl = std::make_unique<Impl>(std::move(options));
  COVEY_TRY(impl->start(directory));
  return std::unique_ptr<ZmqServer>(new ZmqServer(std::move(impl)));
}

const std::string& ZmqServer::endpoint() const {
  return impl_->endpoint_;
}

Result<std::string> ZmqServer::listen_also(const std::string& endpoint, const SecretBytes& secret_key) {
  return impl_->listen(endpoint, secret_key);
}

Status ZmqServer::stop_listening(const std::string& endpoint) {
  return impl_->stop_listening(endpoint);
}

ServerStats ZmqServer::stats() const {
  ServerStats out = impl_->stats_;
  const auto gate = impl_->gate_->stats();
  const auto cut = [&](CutReason reason) {
    const auto it = gate.cut.find(reason);
    return it == gate.cut.end() ? 0 : it->second;
  };
  out.connections = gate.connections;
  out.accepted = gate.accepted;
  out.admitted = gate.admitted;
  out.refused = gate.refused;
  out.cut_over_cap = cut(CutReason::over_cap);
  out.cut_same_key = cut(CutReason::same_key);
  out.cut_no_hello = cut(CutReason::no_hello);
  out.cut_undelivered = cut(CutReason::undelivered) + cut(CutReason::undelivered_total);
  return out;
}

void ZmqServer::set_handlers(Handlers handlers) {
  impl_->handlers_ = std::move(handlers);
}

Status ZmqServer::send(ConnectionId connection, Bytes frame) {
  return impl_->send(connection, std::move(frame));
}

void ZmqServer::mark_authenticated(ConnectionId connection) {
  impl_->gate_->authenticated(connection.value);
}

void ZmqServer::close(ConnectionId connection) {
  impl_->close(connection.value);
}

Status ZmqServer::poll(std::int64_t wait_ms) {
  return impl_->poll(wait_ms);
}

void ZmqServer::kill_gatekeeper() {
  impl_->gate_->stop();
}

}  // namespace covey::net
