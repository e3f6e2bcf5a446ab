#include "core/net/gatekeeper.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/base/log.h"
#include "core/net/socket_info.h"

namespace covey::net::internal {
namespace {

constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr std::size_t kZapPartsMax = 16;
constexpr std::size_t kEventsPerTurn = 4096;
constexpr std::size_t kZapPerTurn = 64;

/// One look at every connection costs about a microsecond each; this keeps it near 4% of a core.
std::int64_t sample_interval_ms(std::size_t connections) {
  return std::max<std::int64_t>(25, static_cast<std::int64_t>(connections / 40));
}

void set_quiet(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::linger, 0);
}

void make_pair(zmq::socket_t& a, zmq::socket_t& b, const std::string& endpoint) {
  a = zmq::socket_t(process_context(), zmq::socket_type::pair);
  b = zmq::socket_t(process_context(), zmq::socket_type::pair);
  set_quiet(a);
  set_quiet(b);
  a.bind(endpoint);
  b.connect(endpoint);
}

}  // namespace

std::string format_peer(const PeerName& peer) {
  return to_hex(peer.curve) + ":" + std::to_string(peer.serial);
}

std::optional<PeerName> parse_peer(const char* text) {
  if (text == nullptr) return std::nullopt;
  const std::string_view view(text);
  PeerName out;
  const std::size_t digits = 2 * out.curve.size();
  if (view.size() < digits + 2 || view[digits] != ':') return std::nullopt;
  const auto key = from_hex(view.substr(0, digits));
  if (!key) return std::nullopt;
  std::copy(key->begin(), key->end(), out.curve.begin());
  const char* const end = view.data() + view.size();
  const auto parsed = std::from_chars(view.data() + digits + 1, end, out.serial);
  if (parsed.ec != std::errc{} || parsed.ptr != end || out.serial == 0) return std::nullopt;
  return out;
}

Gatekeeper::Gatekeeper(const GuardLimits& limits, const KeyDirectory& directory)
    : directory_(directory), guard_(limits) {}

Result<std::unique_ptr<Gatekeeper>> Gatekeeper::start(const GuardLimits& limits, const KeyDirectory& directory,
                                                      zmq::socket_t& listener) {
  static std::atomic<std::uint64_t> instances{0};
  // Serials never repeat within a process, and connection ids are serials.
  static std::atomic<std::uint64_t> serials{1};
  try {
    std::unique_ptr<Gatekeeper> gate(new Gatekeeper(limits, directory));
    const std::string own = "inproc://covey.gate." + std::to_string(instances.fetch_add(1));
    gate->next_serial_ = serials.fetch_add(std::uint64_t{1} << 40);
    gate->zap_ = zmq::socket_t(process_context(), zmq::socket_type::rep);
    set_quiet(gate->zap_);
    gate->zap_.bind(kZapEndpoint);
    if (zmq_socket_monitor(listener.handle(), (own + ".monitor").c_str(),
                           ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED) != 0) {
      return zmq_error("socket monitor");
    }
    gate->monitor_ = zmq::socket_t(process_context(), zmq::socket_type::pair);
    set_quiet(gate->monitor_);
    gate->monitor_.set(zmq::sockopt::rcvhwm, 0);  // a full pipe would stop libzmq's I/O thread
    gate->monitor_.connect(own + ".monitor");
    make_pair(gate->control_, gate->control_peer_, own + ".control");
    make_pair(gate->wake_, gate->wake_peer_, own + ".wake");
    gate->thread_ = std::thread([raw = gate.get()] { raw->run(); });
    return gate;
  } catch (const zmq::error_t& e) {
    return Error{e.num() == EADDRINUSE ? ErrorCode::already_exists : ErrorCode::unavailable,
                 std::string("ZAP handler: ") + e.what() + "; a process runs at most one server"};
  } catch (const std::exception& e) {
    return Error{ErrorCode::resource_exhausted, std::string("ZAP handler: ") + e.what()};
  }
}

Gatekeeper::~Gatekeeper() {
  stop();
  try {
    zap_.unbind(kZapEndpoint);     // at once, so that the next server can bind it; closing alone would do it later
  } catch (const zmq::error_t&) {  // the socket is ending: nothing left to unbind
  }
}

void Gatekeeper::stop() {
  std::call_once(stopped_, [this] {
    zmq::message_t end;
    zmq_msg_send(end.handle(), control_peer_.handle(), ZMQ_DONTWAIT);
    if (thread_.joinable()) thread_.join();
  });
}

void Gatekeeper::run() {
  try {
    serve();
  } catch (const std::exception& e) {
    log_error("net", std::string("the thread that authenticates connections ended: ") + e.what());
  }
  alive_.store(false);
  notify();
}

void Gatekeeper::serve() {
  std::int64_t next_sample_ms = clock_.monotonic_ms();
  while (true) {
    const std::int64_t wait_ms = std::max<std::int64_t>(0, next_sample_ms - clock_.monotonic_ms());
    std::array<zmq_pollitem_t, 3> items{{{control_.handle(), 0, ZMQ_POLLIN, 0},
                                         {monitor_.handle(), 0, ZMQ_POLLIN, 0},
                                         {zap_.handle(), 0, ZMQ_POLLIN, 0}}};
    if (zmq_poll(items.data(), static_cast<int>(items.size()), wait_ms) < 0 && zmq_errno() != EINTR) {
      throw zmq::error_t();
    }
    if ((items[0].revents & ZMQ_POLLIN) != 0) return;
    if ((items[1].revents & ZMQ_POLLIN) != 0) read_events();
    if ((items[2].revents & ZMQ_POLLIN) != 0) answer_zap();
    if (const auto now = clock_.monotonic_ms(); now >= next_sample_ms) {
      sample_and_cut();
      next_sample_ms = now + sample_interval_ms(stats().connections);
    }
  }
}

void Gatekeeper::answer_zap() {
  for (std::size_t turn = 0; turn < kZapPerTurn; ++turn) {
    std::vector<std::string> parts;
    bool more = true;
    while (more) {
      zmq::message_t part;
      if (!zap_.recv(part, parts.empty() ? zmq::recv_flags::dontwait : zmq::recv_flags::none)) return;
      more = part.more();
      if (parts.size() < kZapPartsMax) parts.push_back(part.to_string());
    }
    // version, request id, domain, address, routing id, mechanism, credentials
    PeerName peer;
    std::size_t connections_max = 0;
    bool admitted = parts.size() == 7 && parts[0] == "1.0" && parts[5] == "CURVE" && parts[6].size() == 32;
    if (admitted) {
      std::memcpy(peer.curve.data(), parts[6].data(), peer.curve.size());
      try {
        admitted = directory_.may_connect(peer.curve);
        if (admitted) connections_max = directory_.connections_max(peer.curve);
      } catch (const std::exception& e) {
        log_error("net", std::string("key directory: ") + e.what() + "; the connection is refused");
        admitted = false;
      }
    }
    std::string user;
    {
      const std::lock_guard lock(mutex_);
      admitted = admitted && guard_.admit(next_serial_, peer.curve, connections_max, clock_.monotonic_ms());
      ++(admitted ? stats_.admitted : stats_.refused);
    }
    if (admitted) {
      peer.serial = next_serial_++;
      user = format_peer(peer);
    }
    const std::string request_id = parts.size() > 1 ? parts[1] : "";
    zap_.send(zmq::str_buffer("1.0"), zmq::send_flags::sndmore);
    zap_.send(zmq::buffer(request_id), zmq::send_flags::sndmore);
    zap_.send(admitted ? zmq::str_buffer("200") : zmq::str_buffer("400"), zmq::send_flags::sndmore);
    zap_.send(admitted ? zmq::str_buffer("OK") : zmq::str_buffer("NO"), zmq::send_flags::sndmore);
    zap_.send(zmq::buffer(user), zmq::send_flags::sndmore);
    zap_.send(zmq::message_t(), zmq::send_flags::none);
  }
}

void Gatekeeper::read_events() {
  MonitorEvent event;
  bool gone = false;
  for (std::size_t n = 0; n < kEventsPerTurn && read_monitor(monitor_, event); ++n) {
    const int fd = event.value;
    if (event.event == ZMQ_EVENT_ACCEPTED) {
      const auto cookie = socket_cookie(fd);
      std::optional<Cut> victim;
      {
        const std::lock_guard lock(mutex_);
        ++stats_.accepted;
        victim = guard_.accepted(fd, cookie.value_or(0), clock_.monotonic_ms());
      }
      if (victim) cut(*victim);
    } else if (event.event == ZMQ_EVENT_DISCONNECTED) {
      const std::lock_guard lock(mutex_);
      guard_.disconnected(fd);
      gone = gone || guard_.has_closed();
    }
  }
  if (gone) notify();
}

void Gatekeeper::sample_and_cut() {
  std::vector<Guard::Watched> watched;
  {
    const std::lock_guard lock(mutex_);
    watched = guard_.watched();
  }
  std::vector<Guard::Sample> samples;
  samples.reserve(watched.size());
  for (const auto& [fd, cookie] : watched) {
    if (const auto bytes = received_bytes(fd)) samples.push_back({fd, cookie, *bytes});
  }
  std::vector<Cut> cuts;
  bool gone = false;
  {
    const std::lock_guard lock(mutex_);
    cuts = guard_.judge(samples, clock_.monotonic_ms());
    gone = guard_.has_closed();
  }
  for (const Cut& what : cuts) cut(what);
  if (gone) notify();
}

void Gatekeeper::cut(const Cut& what) {
  if (!shut_down(what.fd, what.cookie)) return;
  {
    const std::lock_guard lock(mutex_);
    ++stats_.cut[what.reason];
  }
  if (what.reason != CutReason::asked) log_debug("net", std::string("connection cut: ") + to_string(what.reason));
}

void Gatekeeper::notify() {
  zmq::message_t token;
  zmq_msg_send(token.handle(), wake_peer_.handle(), ZMQ_DONTWAIT);  // a full pipe wakes the server just as well
}

bool Gatekeeper::bind(std::uint64_t serial, int fd) {
  const auto cookie = socket_cookie(fd);
  if (!cookie) return false;
  const std::lock_guard lock(mutex_);
  guard_.bind(serial, fd, *cookie, clock_.monotonic_ms());
  return true;
}

void Gatekeeper::delivered(std::uint64_t serial, std::size_t payload_bytes) {
  const std::lock_guard lock(mutex_);
  guard_.delivered(serial, wire_bytes(payload_bytes));
}

void Gatekeeper::authenticated(std::uint64_t serial) {
  const std::lock_guard lock(mutex_);
  guard_.authenticated(serial);
}

void Gatekeeper::close(std::uint64_t serial, std::int64_t delay_ms) {
  const std::lock_guard lock(mutex_);
  guard_.close(serial, clock_.monotonic_ms() + delay_ms);
}

std::vector<std::uint64_t> Gatekeeper::take_closed() {
  const std::lock_guard lock(mutex_);
  return guard_.take_closed();
}

Gatekeeper::Stats Gatekeeper::stats() const {
  const std::lock_guard lock(mutex_);
  Stats out = stats_;
  out.connections = guard_.connections();
  return out;
}

}  // namespace covey::net::internal
