/// A roster as a coordinator holds it: signed epochs on top of each other, served in pages.
#pragma once

#include <vector>

#include "core/crypto/identity.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "support/support.h"

namespace covey::test {

inline crypto::IdentityKey key_of_seed(std::uint8_t seed) {
  return *crypto::IdentityKey::from_seed(Bytes(32, seed));
}

struct TestRoster {
  std::uint8_t key_seed = 9;
  std::vector<wire::SignedRosterEpoch> epochs;
  std::size_t page = 1024;

  [[nodiscard]] std::uint64_t head() const { return epochs.size(); }
  [[nodiscard]] wire::Hash head_hash() const { return epochs.empty() ? wire::Hash{} : wire::hash_of(epochs.back()); }
  void add(std::vector<wire::RosterChange> changes) {
    const wire::RosterEpoch epoch{head() + 1, head_hash(), 1'700'000'000'000, std::move(changes)};
    epochs.push_back(wire::sign_epoch(epoch, key_of_seed(key_seed)));
  }
  /// An epoch about the device of this seed, whose transport key is all zero.
  void add(std::uint8_t device, wire::DeviceStatus status = wire::DeviceStatus::active) {
    add({{key_of_seed(device).public_key().bytes, wire::Key{}, status}});
  }
  [[nodiscard]] wire::RosterReply after(std::uint64_t epoch) const {
    wire::RosterReply reply;
    reply.head = head();
    for (std::size_t i = epoch; i < epochs.size() && reply.epochs.size() < page; ++i) reply.epochs.push_back(epochs[i]);
    return reply;
  }
};

}  // namespace covey::test
