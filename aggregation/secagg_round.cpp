#include "aggregation/secagg_round.h"

#include <algorithm>
#include <utility>

#include "aggregation/grouped.h"
#include "core/wire/codec.h"

namespace covey::aggregation {
namespace {

constexpr const char* kWholeRow = "list";
constexpr const char* kSessionRows[] = {"head", "boxes", "sum"};

}  // namespace

bool SecAggRound::alive(const SecAggServer& session) {
  return session.phase() != Phase::dead;
}

std::string SecAggRound::prefix(std::size_t group) const {
  return setup_.groups == 1 ? std::string() : std::to_string(group) + "/";
}

Status SecAggRound::deal(wire::SecureList whole) {
  COVEY_ASSIGN(auto lists, deal_groups(setup_, whole));
  std::vector<SecAggServer> sessions;
  std::map<DeviceId, std::uint32_t> group_of;
  for (std::uint32_t g = 0; g < setup_.groups; ++g) {
    for (const wire::SecureKeys& keys : lists[g].devices) group_of.emplace(DeviceId{keys.identity}, g);
    COVEY_ASSIGN(auto session, SecAggServer::begin(group_setup(setup_, whole), roster_, std::move(lists[g])));
    sessions.push_back(std::move(session));
  }
  sessions_ = std::move(sessions);
  group_of_ = std::move(group_of);
  whole_ = std::move(whole);
  return {};
}

Result<SecAggRound> SecAggRound::restore(SecAggSetup setup, SecAggRoster roster, std::uint32_t groups_min,
                                         std::span<const SecAggRow> rows) {
  SecAggRound out(std::move(setup), std::move(roster), groups_min);
  const auto whole = std::ranges::find(rows, kWholeRow, &SecAggRow::key);
  if (out.setup_.groups == 1 || whole == rows.end() || !whole->value) {
    const auto own = out.setup_.groups == 1 ? rows : std::span<const SecAggRow>();
    COVEY_ASSIGN(auto session, SecAggServer::restore(out.setup_, out.roster_, own));
    out.sessions_.push_back(std::move(session));
    return out;
  }
  COVEY_ASSIGN(auto list, wire::decode<wire::SecureList>(*whole->value));
  const std::size_t n = list.devices.size();
  if (n < out.setup_.devices_min() || n > out.setup_.devices_max()) {
    return Error{ErrorCode::corrupt_data, "stored secure round: its list is of another plan; restore the last backup"};
  }
  COVEY_TRY(out.deal(std::move(list)));
  const SecAggSetup of_group = group_setup(out.setup_, *out.whole_);
  for (std::size_t g = 0; g < out.sessions_.size(); ++g) {
    std::vector<SecAggRow> own;
    for (const SecAggRow& row : rows) {
      if (row.key.starts_with(out.prefix(g))) own.push_back({row.key.substr(out.prefix(g).size()), row.value});
    }
    COVEY_ASSIGN(out.sessions_[g], SecAggServer::restore(of_group, out.roster_, own));
    if (out.sessions_[g].phase() == Phase::advertise) {
      return Error{ErrorCode::corrupt_data, "stored secure round: a group is missing; restore the last backup"};
    }
  }
  return out;
}

// ---- messages ------------------------------------------------------------------------------------------------------

std::size_t SecAggRound::group_of(const DeviceId& device) const {
  const auto found = group_of_.find(device);
  return found == group_of_.end() ? 0 : found->second;  // who is in no group is told so by any
}

template <typename Call>
Status SecAggRound::in_session(const DeviceId& device, Call&& call) {
  SecAggServer& session = sessions_[group_of(device)];
  const Status taken = call(session);
  if (!taken.ok()) blame_ = session.blame();
  return taken;
}

Status SecAggRound::on(const DeviceId& device, const wire::SecureAdvertise& message) {
  return in_session(device, [&](SecAggServer& session) { return session.on_advertise(device, message); });
}
Status SecAggRound::on(const DeviceId& device, const wire::SecureBoxes& message) {
  return in_session(device, [&](SecAggServer& session) { return session.on_boxes(device, message); });
}
Status SecAggRound::on(const DeviceId& device, const wire::MaskedUpdate& message) {
  return in_session(device, [&](SecAggServer& session) { return session.on_masked(device, message); });
}
Status SecAggRound::on(const DeviceId& device, const wire::SecureAgree& message) {
  return in_session(device, [&](SecAggServer& session) { return session.on_agree(device, message); });
}
Status SecAggRound::on(const DeviceId& device, const wire::SecureShares& message) {
  return in_session(device, [&](SecAggServer& session) { return session.on_shares(device, message); });
}
void SecAggRound::on_gone(const DeviceId& device) {
  for (SecAggServer& session : sessions_) session.on_gone(device);
}

// ---- phases --------------------------------------------------------------------------------------------------------

SecAggRound::Phase SecAggRound::phase() const {
  const auto left = std::ranges::find_if(sessions_, alive);  // all that are left are in one phase
  return left == sessions_.end() ? Phase::dead : left->phase();
}

std::uint32_t SecAggRound::groups_left() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(sessions_, alive));
}

Status SecAggRound::close_phase() {
  const Phase now = phase();
  if (now == Phase::advertise && setup_.groups > 1) {
    COVEY_ASSIGN(auto whole, sessions_.front().close_list());
    whole_changed_ = true;
    return deal(std::move(whole));
  }
  Status failure;
  for (SecAggServer& session : sessions_) {
    if (!alive(session)) continue;
    const Status closed = now == Phase::advertise ? session.close_advertise()
                          : now == Phase::share   ? session.close_share()
                          : now == Phase::mask    ? session.close_mask()
                                                  : session.close_agree();
    if (!closed.ok()) failure = closed;
  }
  return groups_left() >= groups_min_ ? Status() : failure;
}

Result<std::vector<RunningSum>> SecAggRound::finish(ThreadPool* pool) {
  std::vector<RunningSum> out;
  Status failure;
  for (SecAggServer& session : sessions_) {
    if (!alive(session)) continue;
    auto sum = session.finish(pool);
    if (sum.ok()) {
      out.push_back(*std::move(sum));
    } else {
      failure = sum.error();
    }
  }
  if (out.size() >= groups_min_) return out;
  return failure.error();
}

// ---- what can be seen ----------------------------------------------------------------------------------------------

bool SecAggRound::all_in() const {
  return std::ranges::all_of(sessions_, [](const auto& session) { return !alive(session) || session.all_in(); });
}

bool SecAggRound::enough_shares() const {
  return std::ranges::all_of(sessions_, [](const auto& session) { return !alive(session) || session.enough_shares(); });
}

std::optional<wire::Message> SecAggRound::due(const DeviceId& device) const {
  if (!group_of_.empty() && !group_of_.contains(device)) return std::nullopt;
  const SecAggServer& session = sessions_[group_of(device)];
  // A device finds its group itself: it is given the list that all groups were dealt from.
  if (whole_ && session.phase() == Phase::share) return wire::Message(*whole_);
  return session.due(device);
}

bool SecAggRound::in_play(const DeviceId& device) const {
  return group_of_.empty() || (group_of_.contains(device) && alive(sessions_[group_of(device)]));
}

std::vector<DeviceId> SecAggRound::devices() const {
  if (setup_.groups == 1) return sessions_.front().devices();
  std::vector<DeviceId> out;
  for (const auto& [device, group] : group_of_) out.push_back(device);
  return out;
}

std::vector<DeviceId> SecAggRound::awaited() const {
  std::vector<DeviceId> out;
  for (const SecAggServer& session : sessions_) {
    if (!alive(session)) continue;
    const auto some = session.awaited();
    out.insert(out.end(), some.begin(), some.end());
  }
  return out;
}

std::uint32_t SecAggRound::counted() const {
  std::uint32_t out = 0;
  for (const SecAggServer& session : sessions_) out += alive(session) ? session.counted() : 0;
  return out;
}

std::vector<DeviceId> SecAggRound::suspects() const {
  std::vector<DeviceId> out;
  for (const SecAggServer& session : sessions_) {
    out.insert(out.end(), session.suspects().begin(), session.suspects().end());
  }
  return out;
}

std::vector<SecAggRow> SecAggRound::take_rows(bool with_sum) {
  std::vector<SecAggRow> out;
  if (std::exchange(whole_changed_, false)) out.push_back({kWholeRow, wire::encode(*whole_)});
  // Before the groups are dealt there is nothing that must last: devices advertise again.
  if (setup_.groups > 1 && !whole_) return out;
  for (std::size_t g = 0; g < sessions_.size(); ++g) {
    for (SecAggRow& row : sessions_[g].take_rows(with_sum)) {
      out.push_back({prefix(g) + row.key, std::move(row.value)});
    }
  }
  return out;
}

std::vector<std::string> SecAggRound::row_keys() const {
  std::vector<std::string> out;
  if (setup_.groups > 1) out.emplace_back(kWholeRow);
  for (std::uint32_t g = 0; g < setup_.groups; ++g) {
    for (const char* name : kSessionRows) out.push_back(prefix(g) + name);
  }
  return out;
}

}  // namespace covey::aggregation
