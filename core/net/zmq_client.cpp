#include "core/net/zmq_client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/crypto/random.h"
#include "core/net/socket_info.h"
#include "core/net/zmq_support.h"

namespace covey::net {
namespace {

constexpr std::size_t kFramesPerPoll = 64;
constexpr std::int64_t kRetryMs = 5;
constexpr std::int64_t kSampleMs = 100;

}  // namespace

class ZmqClient::Impl {
 public:
  explicit Impl(ZmqClientOptions options) : options_(std::move(options)), jitter_(crypto::random_u64()) {}
  ~Impl() { hang_up(options_.linger_ms); }

  Status connect();
  void disconnect();
  Status send(Bytes frame);
  Status poll(std::int64_t wait_ms);
  [[nodiscard]] bool connected() const { return state_ == State::up; }

  Handlers handlers_;
  ZmqClientOptions options_;

 private:
  enum class State { idle, waiting, dialling, up };

  Status dial();
  void hang_up(int linger_ms);
  void lost();
  bool read_events();
  void read_frames();
  void flush();
  bool flooded();
  std::int64_t bounded_wait(std::int64_t wait_ms) const;
  std::int64_t backoff();

  Rng jitter_;
  SystemClock clock_;
  State state_ = State::idle;
  int failures_ = 0;
  std::int64_t until_ms_ = 0;  ///< waiting: when to dial; dialling: when to give up
  std::int64_t next_sample_ms_ = 0;
  std::deque<Bytes> outbox_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
  int fd_ = -1;
  std::uint64_t cookie_ = 0;
  std::int64_t up_since_ms_ = 0;
  std::uint64_t delivered_bytes_ = 0;
  std::uint64_t attempt_ = 0;  ///< tells a handler's reconnect from the connection it ran in
};

std::int64_t ZmqClient::Impl::backoff() {
  if (failures_ == 0) return 0;
  const int doublings = std::min(failures_ - 1, 20);
  const auto most = std::min(options_.backoff_max_ms, options_.backoff_ms << doublings);
  // Between half and all of it, so that devices that lost one server do not come back in one wave.
  return static_cast<std::int64_t>(static_cast<double>(most) * (0.5 + 0.5 * jitter_.uniform()));
}

Status ZmqClient::Impl::connect() {
  disconnect();
  state_ = State::waiting;
  until_ms_ = clock_.monotonic_ms() + backoff();
  return {};
}

void ZmqClient::Impl::disconnect() {
  if (state_ == State::up) failures_ = 0;
  hang_up(options_.linger_ms);
  outbox_.clear();
  state_ = State::idle;
}

Status ZmqClient::Impl::dial() {
  static std::atomic<std::uint64_t> instances{0};
  ++attempt_;
  fd_ = -1;
  delivered_bytes_ = 0;
  try {
    socket_ = zmq::socket_t(internal::process_context(), zmq::socket_type::dealer);
    socket_.set(zmq::sockopt::curve_serverkey, zmq::buffer(options_.server_key));
    socket_.set(zmq::sockopt::curve_publickey, zmq::buffer(options_.public_key));
    socket_.set(zmq::sockopt::curve_secretkey, zmq::buffer(options_.secret_key.data(), options_.secret_key.size()));
    socket_.set(zmq::sockopt::maxmsgsize, kMaxMessageBytes);
    socket_.set(zmq::sockopt::sndhwm, 4);
    socket_.set(zmq::sockopt::rcvhwm, 4);
    socket_.set(zmq::sockopt::handshake_ivl, options_.handshake_ms);
    socket_.set(zmq::sockopt::connect_timeout, options_.connect_timeout_ms);
    socket_.set(zmq::sockopt::heartbeat_ivl, options_.heartbeat_ms);
    socket_.set(zmq::sockopt::heartbeat_timeout, options_.heartbeat_timeout_ms);
    socket_.set(zmq::sockopt::heartbeat_ttl, options_.heartbeat_timeout_ms);
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::reconnect_ivl, -1);
    const std::string name = "inproc://covey.client." + std::to_string(instances.fetch_add(1));
    const int events = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                       ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    if (zmq_socket_monitor(socket_.handle(), name.c_str(), events) != 0) throw zmq::error_t();
    monitor_ = zmq::socket_t(internal::process_context(), zmq::socket_type::pair);
    monitor_.set(zmq::sockopt::linger, 0);
    monitor_.set(zmq::sockopt::rcvhwm, 0);
    monitor_.connect(name);
    socket_.connect(options_.endpoint);
  } catch (const zmq::error_t& e) {
    return Error{ErrorCode::unavailable, "cannot connect to " + options_.endpoint + ": " + e.what()};
  }
  return {};
}

void ZmqClient::Impl::hang_up(int linger_ms) {
  if (socket_.handle() != nullptr) {
    zmq_socket_monitor(socket_.handle(), nullptr, 0);
    zmq_setsockopt(socket_.handle(), ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    socket_.close();
  }
  if (monitor_.handle() != nullptr) monitor_.close();
}

void ZmqClient::Impl::lost() {
  failures_ = state_ == State::up ? 1 : failures_ + 1;
  hang_up(0);
  outbox_.clear();
  state_ = State::idle;
  if (handlers_.on_closed) handlers_.on_closed();
}

Status ZmqClient::Impl::send(Bytes frame) {
  if (state_ == State::idle) return Error{ErrorCode::unavailable, "not connected"};
  if (frame.size() > wire::kFrameBytesMax) {
    return Error{ErrorCode::invalid_argument, "a frame of " + std::to_string(frame.size()) + " bytes; at most " +
                                                  std::to_string(wire::kFrameBytesMax) + " pass"};
  }
  if (outbox_.size() >= options_.outbox_frames_max) {
    return Error{ErrorCode::unavailable, "the queue to the server is full"};
  }
  outbox_.push_back(std::move(frame));
  if (state_ == State::up) flush();
  return {};
}

void ZmqClient::Impl::flush() {
  while (!outbox_.empty()) {
    zmq_pollitem_t item{socket_.handle(), 0, ZMQ_POLLOUT, 0};
    if (zmq_poll(&item, 1, 0) <= 0) return;
    zmq::message_t message = internal::message_of(std::move(outbox_.front()));
    outbox_.pop_front();
    if (zmq_msg_send(message.handle(), socket_.handle(), ZMQ_DONTWAIT) < 0) return;  // the pipe just went: loss follows
  }
}

/// False: the connection failed or ended.
bool ZmqClient::Impl::read_events() {
  internal::MonitorEvent event;
  bool alive = true;
  while (internal::read_monitor(monitor_, event)) {
    if (event.event == ZMQ_EVENT_CONNECTED) {
      fd_ = event.value;
      cookie_ = internal::socket_cookie(fd_).value_or(0);
    } else if (event.event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      state_ = State::up;
      failures_ = 0;
      up_since_ms_ = clock_.monotonic_ms();
    } else {
      alive = false;
    }
  }
  return alive;
}

void ZmqClient::Impl::read_frames() {
  const std::uint64_t attempt = attempt_;
  for (std::size_t n = 0; n < kFramesPerPoll; ++n) {
    if (attempt != attempt_ || socket_.handle() == nullptr) return;  // a handler hung up or dialled anew
    zmq::message_t message;
    if (!socket_.recv(message, zmq::recv_flags::dontwait)) return;
    bool several = false;
    for (bool more = message.more(); more; several = true) {
      zmq::message_t rest;
      (void)socket_.recv(rest, zmq::recv_flags::none);
      more = rest.more();
    }
    if (several) continue;
    delivered_bytes_ += internal::wire_bytes(message.size());
    if (handlers_.on_frame) handlers_.on_frame(internal::bytes_of(message));
  }
}

bool ZmqClient::Impl::flooded() {
  const auto now = clock_.monotonic_ms();
  if (state_ != State::up || now < next_sample_ms_ || internal::socket_cookie(fd_) != cookie_) return false;
  next_sample_ms_ = now + kSampleMs;
  const auto received = internal::received_bytes(fd_).value_or(0);
  const auto heartbeats = static_cast<std::uint64_t>((now - up_since_ms_) / 1000) * 8;
  return received > delivered_bytes_ + heartbeats + options_.undelivered_max;
}

std::int64_t ZmqClient::Impl::bounded_wait(std::int64_t wait_ms) const {
  wait_ms = std::max<std::int64_t>(0, wait_ms);
  if (state_ == State::waiting || state_ == State::dialling) {
    wait_ms = std::min(wait_ms, std::max<std::int64_t>(0, until_ms_ - clock_.monotonic_ms()));
  }
  if (state_ == State::up && !outbox_.empty()) wait_ms = std::min(wait_ms, kRetryMs);
  return wait_ms;
}

Status ZmqClient::Impl::poll(std::int64_t wait_ms) {
  if (state_ == State::waiting && clock_.monotonic_ms() >= until_ms_) {
    COVEY_TRY(dial());
    state_ = State::dialling;
    until_ms_ = clock_.monotonic_ms() + options_.connect_timeout_ms;
  }
  if (state_ == State::idle || state_ == State::waiting) {
    std::this_thread::sleep_for(std::chrono::milliseconds(bounded_wait(wait_ms)));
    return {};
  }
  try {
    if (state_ == State::up) flush();
    zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {monitor_.handle(), 0, ZMQ_POLLIN, 0}};
    if (zmq_poll(items, 2, bounded_wait(wait_ms)) < 0 && zmq_errno() != EINTR) return internal::zmq_error("poll");
    const std::uint64_t attempt = attempt_;
    const bool alive = read_events();
    if (state_ == State::up) flush();
    read_frames();  // what came before the end comes before the news of it
    if (attempt != attempt_ || state_ == State::idle || state_ == State::waiting) return {};
    const bool late = state_ == State::dialling && clock_.monotonic_ms() >= until_ms_;
    if (!alive || late || flooded()) lost();
  } catch (const zmq::error_t& e) {
    return Error{ErrorCode::unavailable, std::string("connection: ") + e.what()};
  }
  return {};
}

ZmqClient::ZmqClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqClient::~ZmqClient() = default;

Result<std::unique_ptr<ZmqClient>> ZmqClient::create(ZmqClientOptions options) {
  if (options.endpoint.rfind("tcp://", 0) != 0) {
    return Error{ErrorCode::invalid_argument, "endpoint " + options.endpoint + ": write tcp://HOST:PORT"};
  }
  if (options.secret_key.size() != 32) {
    return Error{ErrorCode::invalid_argument,
                 "CURVE secret key: " + std::to_string(options.secret_key.size()) + " bytes instead of 32"};
  }
  return std::unique_ptr<ZmqClient>(new ZmqClient(std::make_unique<Impl>(std::move(options))));
}

void ZmqClient::set_handlers(Handlers handlers) {
  impl_->handlers_ = std::move(handlers);
}

void ZmqClient::set_server(const ServerAddress& server) {
  impl_->options_.endpoint = server.endpoint;
  impl_->options_.server_key = server.curve;
}

Status ZmqClient::connect() {
  return impl_->connect();
}

void ZmqClient::disconnect() {
  impl_->disconnect();
}

Status ZmqClient::send(Bytes frame) {
  return impl_->send(std::move(frame));
}

Status ZmqClient::poll(std::int64_t wait_ms) {
  return impl_->poll(wait_ms);
}

bool ZmqClient::connected() const {
  return impl_->connected();
}

}  // namespace covey::net
