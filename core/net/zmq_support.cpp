#include "core/net/zmq_support.h"

#include <cstring>
#include <memory>
#include <utility>

namespace covey::net::internal {

zmq::context_t& process_context() {
  static auto* const context = [] {
    auto made = std::make_unique<zmq::context_t>();
    made->set(zmq::ctxopt::max_sockets, 16384);
    made->set(zmq::ctxopt::io_threads, 1);
    return made.release();
  }();
  return *context;
}

Error zmq_error(const std::string& what) {
  const int number = zmq_errno();
  return {number == EADDRINUSE ? ErrorCode::already_exists : ErrorCode::unavailable,
          what + ": " + zmq_strerror(number)};
}

zmq::message_t message_of(Bytes frame) {
  auto owned = std::make_unique<Bytes>(std::move(frame));
  auto* const raw = owned.release();  // ZeroMQ calls the function below when it is done with the bytes
  return zmq::message_t(
      raw->data(), raw->size(), [](void*, void* hint) { delete static_cast<Bytes*>(hint); }, raw);
}

bool read_monitor(zmq::socket_t& monitor, MonitorEvent& event) {
  zmq::message_t head;
  zmq::message_t address;
  if (!monitor.recv(head, zmq::recv_flags::dontwait)) return false;
  if (head.more()) (void)monitor.recv(address, zmq::recv_flags::none);  // both parts come at once
  if (head.size() < 6) return false;
  std::memcpy(&event.event, head.data(), sizeof event.event);
  std::memcpy(&event.value, static_cast<const char*>(head.data()) + 2, sizeof event.value);
  return true;
}

}  // namespace covey::net::internal
