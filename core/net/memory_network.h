/// A network inside the process, for the simulator and the tests: no threads, no clock, the same order every time.
///
/// Whatever travels is handed to the owner as a Delivery: the owner runs it at once, later, or never, and so makes
/// latency, loss and partitions. Running it puts the frame into the receiver's inbox, which poll() empties without
/// waiting. Without an owner's function every delivery runs at once.
///
/// Frames of one connection must be run in the order they were posted; connections are independent. A delivery for a
/// connection that has ended does nothing. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/net/transport.h"

namespace covey::net {

class MemoryNetwork {
 public:
  struct Delivery {
    std::uint64_t client = 0;   ///< the label given to make_client()
    bool to_server = false;     ///< who has to poll() after run()
    bool opens = false;         ///< a connection attempt
    bool closes = false;        ///< news of an end
    std::size_t bytes = 0;      ///< of the frame
    std::function<void()> run;  ///< safe to call after the network is gone
  };
  using Post = std::function<void(Delivery)>;

  /// `directory` may be null (every key may connect) and outlives the network.
  explicit MemoryNetwork(Post post = nullptr, const KeyDirectory* directory = nullptr);
  ~MemoryNetwork();
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  /// Lives as long as the network.
  [[nodiscard]] ServerTransport& server();
  /// May outlive the network; it then only fails.
  [[nodiscard]] std::unique_ptr<ClientTransport> make_client(const wire::Key& curve, std::uint64_t label);

  /// False: the server is down. Its connections end, its inbox and handlers are forgotten, attempts are refused.
  void set_listening(bool listening);
  /// Breaks the client's connection, if it has one; both ends hear of it.
  void break_connection(std::uint64_t label);

 private:
  class Impl;
  class Server;
  class Client;
  std::shared_ptr<Impl> impl_;
  std::unique_ptr<Server> server_;
};

}  // namespace covey::net
