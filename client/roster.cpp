#include "client/roster.h"

#include <string>

#include "core/wire/signing.h"

namespace covey::client {

Result<std::vector<wire::RosterChange>> RosterChain::extend(const wire::SignedRosterEpoch& document) {
  COVEY_ASSIGN(auto next, wire::open_epoch(document, roster_));
  const auto no = [&](const std::string& why) {
    return Error{ErrorCode::permission_denied, "roster epoch " + std::to_string(next.epoch) + ": " + why};
  };
  if (next.epoch <= head_.epoch) return no("not newer than epoch " + std::to_string(head_.epoch) + ", known here");
  if (next.epoch - head_.epoch > 1) return no("leaves a gap after epoch " + std::to_string(head_.epoch));
  if (next.previous != head_.hash) return no("a fork: it does not extend the epoch known here");
  if (head_.epoch > 0) head_.before.insert(head_.before.begin(), head_.hash);
  if (head_.before.size() > kRootsKept) head_.before.resize(kRootsKept);
  head_.epoch = next.epoch;
  head_.hash = wire::hash_of(document);
  if (active_.use_count() > 1) active_ = std::make_shared<std::set<wire::Key>>(*active_);
  for (const auto& change : next.changes) {
    if (change.status == wire::DeviceStatus::active) {
      active_->insert(change.identity);
    } else {
      active_->erase(change.identity);
    }
    if (change.identity != identity_) continue;
    head_.listing = change.status == wire::DeviceStatus::active ? RosterListing::active : RosterListing::revoked;
    head_.curve = change.curve;
  }
  return std::move(next.changes);
}

std::optional<wire::Hash> RosterChain::root(std::uint64_t epoch) const {
  if (epoch == 0 || epoch > head_.epoch) return std::nullopt;
  const std::uint64_t back = head_.epoch - epoch;
  if (back == 0) return head_.hash;
  return back <= head_.before.size() ? std::optional(head_.before[back - 1]) : std::nullopt;
}

Status RosterChain::check_listed(const wire::Key& curve) const {
  const auto no = [&](const std::string& why) {
    return Error{ErrorCode::permission_denied, "epoch " + std::to_string(head_.epoch) + " " + why};
  };
  if (head_.listing == RosterListing::absent) return no("does not list this device");
  if (head_.listing == RosterListing::revoked) return no("lists this device as revoked");
  if (head_.curve != curve) return no("lists this device with another transport key");
  return {};
}

}  // namespace covey::client
