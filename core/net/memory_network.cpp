#include "core/net/memory_network.h"

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/wire/frame.h"

namespace covey::net {
namespace {

Status check_size(const Bytes& frame) {
  if (frame.size() <= wire::kFrameBytesMax) return {};
  return Error{ErrorCode::invalid_argument, "a frame of " + std::to_string(frame.size()) + " bytes; at most " +
                                                std::to_string(wire::kFrameBytesMax) + " pass"};
}

}  // namespace

/// Both inboxes and the links between them. Deliveries hold it weakly.
class MemoryNetwork::Impl {
 public:
  struct Item {
    std::uint64_t link = 0;
    bool closes = false;
    Bytes frame;
  };
  struct Link {
    std::uint64_t label = 0;
    wire::Key curve{};
    bool server_end = false;    ///< the attempt arrived and was let in
    bool server_knows = false;  ///< a frame was delivered, so on_closed will be called
    bool closing = false;       ///< the server closed it: what still comes is ignored
    bool client_end = true;
  };
  struct ClientState {
    ClientTransport::Handlers handlers;
    std::uint64_t link = 0;  ///< 0: none
    std::deque<Item> inbox;
  };

  void post(Delivery delivery) { post_ ? post_(std::move(delivery)) : delivery.run(); }
  void forget_if_over(std::uint64_t id) {
    const auto it = links_.find(id);
    if (it != links_.end() && !it->second.server_end && !it->second.client_end) links_.erase(it);
  }
  void news_to_client(const std::shared_ptr<Impl>& self, std::uint64_t id);
  void news_to_server(const std::shared_ptr<Impl>& self, std::uint64_t id);

  Post post_;
  const KeyDirectory* directory_ = nullptr;
  bool listening_ = true;
  std::uint64_t next_link_ = 1;
  std::map<std::uint64_t, Link> links_;
  std::map<std::uint64_t, std::shared_ptr<ClientState>> clients_;  ///< by label
  ServerTransport::Handlers server_handlers_;
  std::deque<Item> server_inbox_;
};

void MemoryNetwork::Impl::news_to_client(const std::shared_ptr<Impl>& self, std::uint64_t id) {
  const std::uint64_t label = links_.at(id).label;
  post({.client = label, .closes = true, .run = [weak = std::weak_ptr(self), id, label] {
          const auto net = weak.lock();
          if (!net) return;
          const auto link = net->links_.find(id);
          const auto client = net->clients_.find(label);
          if (link == net->links_.end() || !link->second.client_end || client == net->clients_.end()) return;
          if (client->second->link == id) client->second->inbox.push_back({id, true, {}});
        }});
}

void MemoryNetwork::Impl::news_to_server(const std::shared_ptr<Impl>& self, std::uint64_t id) {
  post({.client = links_.at(id).label, .to_server = true, .closes = true, .run = [weak = std::weak_ptr(self), id] {
          const auto net = weak.lock();
          if (!net) return;
          const auto link = net->links_.find(id);
          if (link != net->links_.end() && link->second.server_end) net->server_inbox_.push_back({id, true, {}});
        }});
}

class MemoryNetwork::Server final : public ServerTransport {
 public:
  explicit Server(std::shared_ptr<Impl> net) : net_(std::move(net)) {}

  void set_handlers(Handlers handlers) override { net_->server_handlers_ = std::move(handlers); }

  Status send(ConnectionId connection, Bytes frame) override {
    COVEY_TRY(check_size(frame));
    const auto it = net_->links_.find(connection.value);
    if (it == net_->links_.end() || !it->second.server_end || it->second.closing) {
      return Error{ErrorCode::unavailable, "the connection is gone"};
    }
    const std::size_t size = frame.size();
    net_->post({.client = it->second.label,
                .bytes = size,
                .run = [weak = std::weak_ptr(net_), id = connection.value, label = it->second.label,
                        sent = std::move(frame)]() mutable {
                  const auto net = weak.lock();
                  if (!net) return;
                  const auto client = net->clients_.find(label);
                  if (client == net->clients_.end() || client->second->link != id) return;
                  client->second->inbox.push_back({id, false, std::move(sent)});
                }});
    return {};
  }

  void mark_authenticated(ConnectionId) override {}

  void close(ConnectionId connection) override {
    const auto it = net_->links_.find(connection.value);
    if (it == net_->links_.end() || !it->second.server_end || it->second.closing) return;
    it->second.closing = true;
    net_->server_inbox_.push_back({connection.value, true, {}});
    net_->news_to_client(net_, connection.value);
  }

  Status poll(std::int64_t) override {
    for (std::size_t due = net_->server_inbox_.size(); due > 0 && !net_->server_inbox_.empty(); --due) {
      Impl::Item item = std::move(net_->server_inbox_.front());
      net_->server_inbox_.pop_front();
      const auto it = net_->links_.find(item.link);
      if (it == net_->links_.end() || !it->second.server_end) continue;
      const auto handlers = net_->server_handlers_;  // a handler may replace them
      if (item.closes) {
        const bool known = it->second.server_knows;
        it->second.server_end = false;
        net_->forget_if_over(item.link);
        if (known && handlers.on_closed) handlers.on_closed({item.link});
      } else if (!it->second.closing) {
        it->second.server_knows = true;
        const wire::Key curve = it->second.curve;
        if (handlers.on_frame) handlers.on_frame({item.link}, curve, item.frame);
      }
    }
    return {};
  }

 private:
  std::shared_ptr<Impl> net_;
};

class MemoryNetwork::Client final : public ClientTransport {
 public:
  Client(std::weak_ptr<Impl> net, const wire::Key& curve, std::uint64_t label)
      : net_(std::move(net)), state_(std::make_shared<Impl::ClientState>()), curve_(curve), label_(label) {
    if (const auto live = net_.lock()) live->clients_[label_] = state_;
  }
  ~Client() override {
    disconnect();
    if (const auto net = net_.lock(); net && net->clients_[label_] == state_) net->clients_.erase(label_);
  }

  void set_handlers(Handlers handlers) override { state_->handlers = std::move(handlers); }

  Status connect() override {
    disconnect();
    const auto net = net_.lock();
    if (!net) return Error{ErrorCode::unavailable, "the network is gone"};
    const std::uint64_t id = net->next_link_++;
    net->links_[id] = {.label = label_, .curve = curve_};
    state_->link = id;
    net->post({.client = label_, .to_server = true, .opens = true, .run = [weak = net_, id] { arrive(weak, id); }});
    return {};
  }

  void disconnect() override {
    const std::uint64_t id = std::exchange(state_->link, 0);
    state_->inbox.clear();
    const auto net = net_.lock();
    if (!net || id == 0) return;
    const auto it = net->links_.find(id);
    if (it == net->links_.end()) return;
    it->second.client_end = false;
    net->news_to_server(net, id);
    net->forget_if_over(id);
  }

  Status send(Bytes frame) override {
    COVEY_TRY(check_size(frame));
    const auto net = net_.lock();
    if (!net || state_->link == 0) return Error{ErrorCode::unavailable, "not connected"};
    const std::size_t size = frame.size();
    net->post({.client = label_,
               .to_server = true,
               .bytes = size,
               .run = [weak = net_, id = state_->link, sent = std::move(frame)]() mutable {
                 const auto live = weak.lock();
                 if (!live) return;
                 const auto link = live->links_.find(id);
                 if (link == live->links_.end() || !link->second.server_end) return;
                 live->server_inbox_.push_back({id, false, std::move(sent)});
               }});
    return {};
  }

  Status poll(std::int64_t) override {
    const auto state = state_;
    for (std::size_t due = state->inbox.size(); due > 0 && !state->inbox.empty(); --due) {
      Impl::Item item = std::move(state->inbox.front());
      state->inbox.pop_front();
      if (item.link != state->link) continue;
      const auto handlers = state->handlers;
      if (!item.closes) {
        if (handlers.on_frame) handlers.on_frame(item.frame);
        continue;
      }
      state->link = 0;
      if (const auto net = net_.lock()) {
        if (const auto it = net->links_.find(item.link); it != net->links_.end()) it->second.client_end = false;
        net->forget_if_over(item.link);
      }
      if (handlers.on_closed) handlers.on_closed();
    }
    return {};
  }

 private:
  static void arrive(const std::weak_ptr<Impl>& weak, std::uint64_t id) {
    const auto net = weak.lock();
    if (!net) return;
    const auto it = net->links_.find(id);
    if (it == net->links_.end()) return;
    const bool admitted = net->directory_ == nullptr || net->directory_->may_connect(it->second.curve);
    if (net->listening_ && admitted) {
      it->second.server_end = true;
    } else {
      net->news_to_client(net, id);
    }
  }

  std::weak_ptr<Impl> net_;
  std::shared_ptr<Impl::ClientState> state_;
  wire::Key curve_{};
  std::uint64_t label_;
};

MemoryNetwork::MemoryNetwork(Post post, const KeyDirectory* directory) : impl_(std::make_shared<Impl>()) {
  impl_->post_ = std::move(post);
  impl_->directory_ = directory;
  server_ = std::make_unique<Server>(impl_);
}
MemoryNetwork::~MemoryNetwork() = default;

ServerTransport& MemoryNetwork::server() {
  return *server_;
}

std::unique_ptr<ClientTransport> MemoryNetwork::make_client(const wire::Key& curve, std::uint64_t label) {
  return std::make_unique<Client>(impl_, curve, label);
}

void MemoryNetwork::set_listening(bool listening) {
  impl_->listening_ = listening;
  if (listening) return;
  impl_->server_inbox_.clear();
  impl_->server_handlers_ = {};
  std::vector<std::uint64_t> open;
  for (const auto& [id, link] : impl_->links_) {
    if (link.server_end) open.push_back(id);
  }
  for (const auto id : open) {
    impl_->links_.at(id).server_end = false;
    if (impl_->links_.at(id).client_end) impl_->news_to_client(impl_, id);
    impl_->forget_if_over(id);
  }
}

void MemoryNetwork::break_connection(std::uint64_t label) {
  const auto client = impl_->clients_.find(label);
  if (client == impl_->clients_.end() || !impl_->links_.contains(client->second->link)) return;
  const std::uint64_t id = client->second->link;
  impl_->news_to_server(impl_, id);
  if (impl_->links_.contains(id)) impl_->news_to_client(impl_, id);
}

}  // namespace covey::net
