/// A TCP relay on loopback between devices and the coordinator that can hold back what devices send: so a test stops an
/// upload between two chunks, wherever it wants.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace covey::test {

/// Relays from its construction on, in a thread of its own. All functions may be called from any thread.
class Proxy {
 public:
  Proxy();
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] int port() const { return port_; }
  /// Where connections go; those that come before are refused.
  void set_target(int port) { target_ = port; }
  /// From now on at most `bytes` more pass from devices to the coordinator; then their connections stand still.
  void hold_after(std::uint64_t bytes) { limit_ = sent_ + bytes; }
  void release() { limit_ = UINT64_MAX; }
  [[nodiscard]] bool holds() const { return sent_ >= limit_; }
  /// Open connections. A dead device's last bytes are dropped with its connection while it is held, and only then.
  [[nodiscard]] int connections() const { return connections_; }
  /// Bytes from devices to the coordinator, all connections together.
  [[nodiscard]] std::uint64_t sent() const { return sent_; }

 private:
  void run();

  int listener_ = -1;
  int port_ = 0;
  std::atomic<int> target_{0};
  std::atomic<std::uint64_t> limit_{UINT64_MAX};
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<int> connections_{0};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace covey::test
