/// A whole device session, unmodified, whose coordinator is an attack: what both say goes through encoded frames, what
/// the device persists is committed, what it trains is a given delta. Time stands still.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "client/session.h"
#include "core/store/memory_store.h"
#include "core/wire/messages.h"

namespace covey::simulations {

class AttackVictim {
 public:
  /// What the coordinator answers to a message of the device's.
  using Coordinator = std::function<std::vector<wire::Message>(const wire::Message& said)>;

  /// @param config  its identity_key is borrowed.
  AttackVictim(client::SessionConfig config, std::vector<float> delta);

  /// One connection: Welcome at `roster_epoch`, then question and answer until nobody says anything or the device
  /// leaves. @return what the device said, in order.
  std::vector<wire::Message> meet(std::uint64_t roster_epoch, const Coordinator& coordinator);

  [[nodiscard]] const client::Session& session() const { return session_; }
  [[nodiscard]] bool left() const { return !connected_; }  ///< the device ended the last connection

 private:
  client::Session session_;
  store::MemoryStore store_;
  std::vector<float> delta_;
  bool started_ = false;
  bool connected_ = false;
  std::int64_t now_ = 1'000'000;
};

}  // namespace covey::simulations
