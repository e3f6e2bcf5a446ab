#include "coordinator/registration.h"

#include <algorithm>
#include <limits>

#include "core/base/log.h"
#include "core/crypto/curve.h"
#include "core/wire/codec_impl.h"
#include "core/wire/frame.h"
#include "core/wire/limits.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max();

Bytes key_of_hash(const wire::Hash& hash) {
  return {hash.begin(), hash.end()};
}
DeviceId device_of(const wire::Key& identity) {
  return DeviceId{identity};
}
}  // namespace

Registration::Registration(store::Store& store, const wire::Key& roster_public,
                           std::optional<crypto::IdentityKey> roster_key, const Clock& clock)
    : store_(store), clock_(clock), roster_public_(roster_public), roster_key_(std::move(roster_key)) {}
Registration::~Registration() = default;

Result<std::unique_ptr<Registration>> Registration::open(store::Store& store, const wire::Key& roster_public,
                                                         std::optional<crypto::IdentityKey> roster_key,
                                                         const Clock& clock) {
  if (roster_key && roster_key->public_key().bytes != roster_public) {
    return Error{ErrorCode::invalid_argument, "roster key: the file holds another key than this task's roster"};
  }
  std::unique_ptr<Registration> out(new Registration(store, roster_public, std::move(roster_key), clock));
  COVEY_TRY(out->load());
  if (out->roster_key_ && !out->pending_.empty()) COVEY_TRY(out->sign_pending(*out->roster_key_));
  return out;
}

// ---- store ---------------------------------------------------------------------------------------------------------

Status Registration::load() {
  COVEY_TRY(store_.scan("enrolled", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key));
    COVEY_ASSIGN(devices_[device], wire::decode<EnrolledRow>(value));
    return {};
  }));
  COVEY_TRY(store_.scan("invites", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    wire::Hash hash{};
    if (key.size() != hash.size()) return Error{ErrorCode::corrupt_data, "store: an invite's key is damaged"};
    std::ranges::copy(key, hash.begin());
    COVEY_ASSIGN(invites_[hash], wire::decode<InviteRow>(value));
    return {};
  }));
  COVEY_TRY(store_.scan("roster_pending", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const std::uint64_t number, store::number_in_key(key));
    COVEY_ASSIGN(const auto row, wire::decode<PendingRow>(value));
    pending_[number] = row.change;
    return {};
  }));
  COVEY_TRY(load_chain());
  rebuild_keys();
  return {};
}

Status Registration::load_chain() {
  return store_.scan("roster", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto document, wire::decode<wire::SignedRosterEpoch>(value));
    COVEY_ASSIGN(const auto epoch, wire::open_epoch(document, roster_public_));
    if (epoch.epoch != head_epoch_ + 1 || epoch.previous != head_hash_) {
      return Error{ErrorCode::corrupt_data,
                   "store: roster epoch " + std::to_string(head_epoch_ + 1) + " does not follow the one before"};
    }
    head_epoch_ = epoch.epoch;
    head_hash_ = wire::hash_of(document);
    return {};
  });
}

Registration::Grant Registration::grant_of(const InviteRow& invite) {
  return {invite.expires_ms, std::clamp<std::size_t>(invite.uses_left, 2, 64)};
}

void Registration::rebuild_keys() {
  std::map<wire::Key, Grant> keys;
  for (const auto& [hash, row] : invites_) {
    if (row.uses_left > 0) keys[row.curve] = grant_of(row);
  }
  for (const auto& [device, row] : devices_) {
    if (row.status == wire::DeviceStatus::active) keys[row.curve] = {kForever, 2};
  }
  const std::lock_guard lock(keys_mutex_);
  keys_ = std::move(keys);
}

/// What a new device changes in keys_: enrolling a fleet of N would else cost O(N^2).
void Registration::grant(const wire::Key& device, const std::optional<InviteRow>& invite) {
  const std::lock_guard lock(keys_mutex_);
  if (invite) {
    if (invite->uses_left > 0) {
      keys_[invite->curve] = grant_of(*invite);
    } else {
      keys_.erase(invite->curve);
    }
  }
  keys_[device] = {kForever, 2};
}

bool Registration::may_connect(const wire::Key& curve) const {
  const std::lock_guard lock(keys_mutex_);
  const auto at = keys_.find(curve);
  return at != keys_.end() && clock_.wall_ms() <= at->second.until_ms;
}

std::size_t Registration::connections_max(const wire::Key& curve) const {
  const std::lock_guard lock(keys_mutex_);
  const auto at = keys_.find(curve);
  return at != keys_.end() ? at->second.connections_max : 0;
}

// ---- invites, enrolment --------------------------------------------------------------------------------------------

Result<wire::Invite> Registration::invite(const InviteOptions& options, SecretBytes secret) {
  if (options.uses == 0 || options.uses > 100'000) {
    return Error{ErrorCode::invalid_argument, "invite: --uses is 1 to 100000"};
  }
  COVEY_ASSIGN(const auto pair, crypto::CurveKeyPair::derive(secret.span(), wire::kInviteCurvePurpose));
  const InviteRow row{pair.public_key().bytes, options.expires_ms, options.uses, 0};
  const wire::Hash hash = wire::invite_hash(secret.span());
  COVEY_TRY(store_.put("invites", key_of_hash(hash), wire::encode(row)));
  invites_[hash] = row;
  rebuild_keys();
  wire::Invite out;
  out.endpoint = options.endpoint;
  out.task = options.task;
  out.server_curve = options.server_curve;
  out.coordinator = options.coordinator;
  out.roster = roster_public_;
  out.secret = std::move(secret);
  out.expires_ms = options.expires_ms;
  return out;
}

Result<std::variant<wire::Enrolled, Refusal>> Registration::enroll(const wire::Enroll& message, const wire::Key& curve,
                                                                   const std::string& task) {
  using Answer = std::variant<wire::Enrolled, Refusal>;
  const auto no = [](wire::Complaint complaint, std::string text) {
    return Answer(Refusal{complaint, std::move(text)});
  };
  const auto at = invites_.find(message.invite);
  // The connection's key shows that the device knows the secret; the hash alone shows nothing.
  if (at == invites_.end() || at->second.curve != curve) {
    return no(wire::Complaint::not_enrolled, "this invite is not known here; ask for a new one");
  }
  if (!wire::signature_ok(message)) return no(wire::Complaint::bad_signature, "the enrolment's signature is wrong");
  const DeviceId device = device_of(message.identity);
  if (const auto known = devices_.find(device); known != devices_.end()) {
    if (known->second.status == wire::DeviceStatus::revoked) return no(wire::Complaint::revoked, "revoked");
    if (known->second.curve == message.curve) return Answer(wire::Enrolled{task, known->second.epoch});  // asked again
    return no(wire::Complaint::not_enrolled, "this identity is enrolled with another transport key");
  }
  const bool curve_taken =
      std::ranges::any_of(devices_, [&](const auto& entry) { return entry.second.curve == message.curve; });
  if (curve_taken || message.curve == curve || message.curve == wire::Key{}) {
    return no(wire::Complaint::malformed, "the transport key must be the device's own, and new");
  }
  if (clock_.wall_ms() > at->second.expires_ms) return no(wire::Complaint::not_enrolled, "this invite has expired");
  if (at->second.uses_left == 0) return no(wire::Complaint::not_enrolled, "this invite is used up");

  InviteRow spent = at->second;
  --spent.uses_left;
  ++spent.uses;
  EnrolledRow row;
  row.curve = message.curve;
  row.name = message.name.substr(0, wire::kNameBytesMax);
  row.enrolled_ms = clock_.wall_ms();
  COVEY_TRY(commit_change({device, row}, {{"invites", key_of_hash(message.invite), wire::encode(spent)}}));
  at->second = spent;
  grant(message.curve, spent);
  log_info("roster", "enrolled " + device.brief() + " in epoch " + std::to_string(devices_[device].epoch));
  return Answer(wire::Enrolled{task, devices_[device].epoch});
}

Result<std::uint64_t> Registration::admit(const DeviceId& device, const wire::Key& curve, const std::string& name) {
  EnrolledRow row;
  row.curve = curve;
  row.name = name;
  row.enrolled_ms = clock_.wall_ms();
  const bool known = devices_.contains(device);
  COVEY_TRY(commit_change({device, row}, {}));
  if (known) {
    rebuild_keys();
  } else {
    grant(curve);
  }
  return devices_[device].epoch;
}

Status Registration::revoke(const DeviceId& device) {
  const auto at = devices_.find(device);
  if (at == devices_.end()) return Error{ErrorCode::not_found, "revoke: no such device; `devices` lists them"};
  EnrolledRow row = at->second;
  if (row.status == wire::DeviceStatus::revoked) return {};
  row.status = wire::DeviceStatus::revoked;
  row.epoch = 0;
  COVEY_TRY(commit_change({device, row}, {}));
  rebuild_keys();
  return {};
}

bool Registration::active(const DeviceId& device) const {
  const auto at = devices_.find(device);
  return at != devices_.end() && at->second.status == wire::DeviceStatus::active;
}

bool Registration::listed(const DeviceId& device, std::uint64_t epoch) const {
  const auto at = devices_.find(device);
  return at != devices_.end() && at->second.status == wire::DeviceStatus::active && at->second.epoch > 0 &&
         at->second.epoch <= epoch;
}

DrawRoot Registration::draw_root() const {
  DrawRoot out{head_epoch_, head_hash_, 0};
  for (const auto& [device, row] : devices_) out.active += listed(device, head_epoch_) ? 1 : 0;
  return out;
}

std::optional<Refusal> Registration::refuse_hello(const wire::Hello& message, const wire::Key& curve) const {
  const auto at = devices_.find(device_of(message.identity));
  if (at == devices_.end()) return Refusal{wire::Complaint::not_enrolled, "enrol first"};
  if (message.curve != curve || at->second.curve != curve) {
    return Refusal{wire::Complaint::bad_signature, "the connection has another key than the one enrolled"};
  }
  if (!wire::signature_ok(message)) return Refusal{wire::Complaint::bad_signature, "the hello's signature is wrong"};
  if (at->second.status == wire::DeviceStatus::revoked) return Refusal{wire::Complaint::revoked, "revoked"};
  if (at->second.epoch == 0) {
    return Refusal{wire::Complaint::not_enrolled, "the roster epoch that lists this device is not signed yet"};
  }
  return std::nullopt;
}

std::size_t Registration::open_invites() const {
  const std::int64_t now = clock_.wall_ms();
  return static_cast<std::size_t>(std::ranges::count_if(
      invites_, [&](const auto& entry) { return entry.second.uses_left > 0 && entry.second.expires_ms >= now; }));
}

// ---- roster --------------------------------------------------------------------------------------------------------

Status Registration::commit_change(Change change, std::vector<store::Write> writes) {
  const wire::RosterChange listed{change.device.key, change.row.curve, change.row.status};
  std::optional<wire::SignedRosterEpoch> document;
  if (roster_key_ && pending_.empty()) {
    wire::RosterEpoch epoch{head_epoch_ + 1, head_hash_, clock_.wall_ms(), {listed}};
    document = wire::sign_epoch(epoch, *roster_key_);
    change.row.epoch = epoch.epoch;
    writes.push_back({"roster", store::key_of(epoch.epoch), wire::encode(*document)});
  }
  const std::uint64_t number = pending_.empty() ? 1 : pending_.rbegin()->first + 1;
  if (!document) writes.push_back({"roster_pending", store::key_of(number), wire::encode(PendingRow{listed})});
  writes.push_back({"enrolled", store::key_of(change.device), wire::encode(change.row)});
  COVEY_TRY(store_.commit(writes));
  if (document) {
    head_epoch_ = change.row.epoch;
    head_hash_ = wire::hash_of(*document);
  } else {
    pending_[number] = listed;
  }
  devices_[change.device] = std::move(change.row);
  return {};
}

std::optional<wire::RosterEpoch> Registration::next_epoch() const {
  if (pending_.empty()) return std::nullopt;
  wire::RosterEpoch epoch{head_epoch_ + 1, head_hash_, clock_.wall_ms(), {}};
  for (const auto& [number, change] : pending_) {
    if (epoch.changes.size() >= wire::kRosterChangesMax) break;
    epoch.changes.push_back(change);
  }
  return epoch;
}

Status Registration::append(const wire::SignedRosterEpoch& document) {
  COVEY_ASSIGN(const auto epoch, wire::open_epoch(document, roster_public_));
  bool next = epoch.epoch == head_epoch_ + 1 && epoch.previous == head_hash_ && epoch.changes.size() <= pending_.size();
  auto at = pending_.begin();
  std::vector<store::Write> writes;
  std::map<DeviceId, EnrolledRow> changed;
  for (std::size_t i = 0; next && i < epoch.changes.size(); ++i, ++at) {
    const wire::RosterChange& change = epoch.changes[i];
    next = change.identity == at->second.identity && change.curve == at->second.curve &&
           change.status == at->second.status;
    const DeviceId device = device_of(change.identity);
    changed[device] = devices_[device];
    changed[device].epoch = epoch.epoch;
    writes.push_back({"roster_pending", store::key_of(at->first), std::nullopt});
  }
  if (!next) return Error{ErrorCode::invalid_argument, "roster sign: the roster changed meanwhile; run it again"};
  writes.push_back({"roster", store::key_of(epoch.epoch), wire::encode(document)});
  for (const auto& [device, row] : changed) writes.push_back({"enrolled", store::key_of(device), wire::encode(row)});
  COVEY_TRY(store_.commit(writes));
  pending_.erase(pending_.begin(), at);
  for (auto& [device, row] : changed) devices_[device] = row;
  head_epoch_ = epoch.epoch;
  head_hash_ = wire::hash_of(document);
  return {};
}

Result<std::uint64_t> Registration::sign_pending(const crypto::IdentityKey& roster_key) {
  while (const auto epoch = next_epoch()) COVEY_TRY(append(wire::sign_epoch(*epoch, roster_key)));
  return head_epoch_;
}

Result<wire::RosterReply> Registration::roster_after(std::uint64_t epoch) const {
  constexpr std::size_t kRoom = wire::kFrameBytesMax - 4096;
  wire::RosterReply reply;
  reply.head = head_epoch_;
  std::size_t bytes = 0;
  for (std::uint64_t next = epoch + 1; next <= head_epoch_ && next != 0; ++next) {
    COVEY_ASSIGN(const auto row, store_.get("roster", store::key_of(next)));
    if (!row) return Error{ErrorCode::corrupt_data, "store: roster epoch " + std::to_string(next) + " is missing"};
    bytes += row->size() + 16;
    if (bytes > kRoom || reply.epochs.size() >= wire::kRosterEpochsMax) break;
    COVEY_ASSIGN(auto document, wire::decode<wire::SignedRosterEpoch>(*row));
    reply.epochs.push_back(std::move(document));
  }
  return reply;
}

}  // namespace covey::coordinator

COVEY_WIRE_RECORD(covey::coordinator::EnrolledRow);
COVEY_WIRE_RECORD(covey::coordinator::InviteRow);
COVEY_WIRE_RECORD(covey::coordinator::PendingRow);
