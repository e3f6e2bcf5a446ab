#include "aggregation/secagg_server.h"

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <utility>

#include "aggregation/grouped.h"
#include "aggregation/secagg_server_impl.h"
#include "aggregation/secagg_words.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"

namespace covey::aggregation {
namespace {

using wire::SecureReason;

}  // namespace

SecAggServer::Machine::Machine(SecAggSetup s, SecAggRoster r, const SecAggSeam& test_seam)
    : setup(std::move(s)), roster(std::move(r)), seam(test_seam) {
  if (seam.verify) return;
  seam.verify = [](std::string_view domain, const wire::Key& key, ByteSpan message, const wire::Signature& signature) {
    return crypto::verify_in(domain, crypto::PublicKey{key}, message, crypto::Signature{signature});
  };
}

Error SecAggServer::Machine::refuse(SecureReason why, const std::string& what) {
  blame = why;
  return {ErrorCode::permission_denied, "secure aggregation: " + what + " (" + wire::to_string(why) + ")"};
}

Error SecAggServer::Machine::die(SecureReason why, const std::string& what) {
  erase();
  phase = Phase::dead;
  reason = why;
  return {ErrorCode::permission_denied, "secure aggregation: " + what + " (" + wire::to_string(why) + ")"};
}

void SecAggServer::Machine::erase() {
  if (!sum.empty()) explicit_bzero(sum.data(), sum.size() * sizeof sum[0]);
  sum.clear();
  for (auto& [of, points] : shares) explicit_bzero(points.data(), points.size() * sizeof points[0]);
  shares.clear();
  boxes.clear();
  signatures.clear();
  head_changed = boxes_changed = sum_changed = true;
}

bool SecAggServer::Machine::is_dead(std::uint32_t device) const {
  return std::ranges::binary_search(dead, static_cast<std::uint16_t>(device));
}

SecAggServer::SecAggServer(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) {}
SecAggServer::SecAggServer(SecAggServer&&) noexcept = default;
SecAggServer& SecAggServer::operator=(SecAggServer&&) noexcept = default;
SecAggServer::~SecAggServer() {
  if (machine_) machine_->erase();
}

Result<SecAggServer> SecAggServer::create(SecAggSetup setup, SecAggRoster roster) {
  return create_with_seam(std::move(setup), std::move(roster), SecAggSeam{});
}

Result<SecAggServer> SecAggServer::create_with_seam(SecAggSetup setup, SecAggRoster roster, const SecAggSeam& seam) {
  COVEY_TRY(setup.spec.check());
  if (setup.survivors_min < 2 || setup.survivors_min > setup.spec.contributors_max || !roster) {
    return Error{ErrorCode::invalid_argument,
                 "secure aggregation: needs a roster, and survivors_min from 2 to the cohort's size"};
  }
  return SecAggServer(std::make_unique<Machine>(std::move(setup), std::move(roster), seam));
}

// ---- messages ------------------------------------------------------------------------------------------------------

Status SecAggServer::Machine::check_session(RoundId round, const wire::Hash& of) {
  if (!seam.checks.sender_session || (round == setup.round && of == session)) return {};
  return refuse(SecureReason::wrong_round, "a message of another round or session");
}

Result<std::optional<std::uint16_t>> SecAggServer::Machine::admit(const DeviceId& device, Phase expected,
                                                                  const wire::Hash& message) {
  const auto found = index_of.find(device);
  if (found == index_of.end()) {
    return refuse(SecureReason::unknown_device, "device " + device.brief() + " is not in this round's list");
  }
  const std::uint16_t index = found->second;
  if (const auto before = counted.find({expected, index}); before != counted.end()) {
    if (before->second == message) return std::optional<std::uint16_t>();
    if (seam.checks.submit_once || phase != expected) {
      return refuse(SecureReason::conflicting, "a second message that is not the first again");
    }
  }
  if (phase != expected) return refuse(SecureReason::unexpected, "a message out of its phase");
  return std::optional(index);
}

Status SecAggServer::on_advertise(const DeviceId& device, const wire::SecureAdvertise& message) {
  Machine& m = *machine_;
  const auto same = [&](const wire::SecureKeys& keys) { return wire::encode(keys) == wire::encode(message.keys); };
  if (m.phase != Phase::advertise) {
    const auto found = m.index_of.find(device);
    if (found != m.index_of.end() && same(m.list.devices[found->second])) return {};
    return m.refuse(SecureReason::unexpected, "the list is closed");
  }
  if (message.round != m.setup.round) return m.refuse(SecureReason::wrong_round, "keys for another round");
  if (message.version != wire::kSecureVersion) return m.refuse(SecureReason::wrong_version, "another protocol version");
  if (m.seam.checks.plan_equal && message.plan != m.setup.plan)
    return m.refuse(SecureReason::plan_differs, "keys for another plan");
  if (message.roster_epoch != m.setup.roster_epoch) {
    return m.refuse(SecureReason::stale_roster, "keys for another roster epoch");
  }
  if (message.keys.identity != device.key || !m.roster(message.keys.identity)) {
    return m.refuse(SecureReason::unknown_device, "device " + device.brief() + " may not advertise these keys");
  }
  SecAggSetup signing = m.setup;
  if (!m.seam.checks.plan_equal) signing.plan = {};
  if (!m.seam.verify(kSecAggAdvertiseDomain, message.keys.identity, signed_part(signing, message.keys),
                     message.keys.signature)) {
    return m.refuse(SecureReason::bad_signature, "keys that device " + device.brief() + " did not sign");
  }
  if (const auto before = m.advertised.find(device); before != m.advertised.end()) {
    if (same(before->second)) return {};
    return m.refuse(SecureReason::conflicting, "device " + device.brief() + " advertised other keys before");
  }
  if (m.advertised.size() >= std::min<std::size_t>(m.setup.devices_max(), kSecAggDevicesMax)) {
    return m.refuse(SecureReason::too_many_devices, "the cohort is full");
  }
  for (const auto& [other, keys] : m.advertised) {  // every device would refuse such a list
    for (const wire::Key& key : {keys.mask_key, keys.share_key}) {
      if (key == message.keys.mask_key || key == message.keys.share_key) {
        return m.refuse(SecureReason::listed_twice, "device " + device.brief() + " advertised another device's key");
      }
    }
  }
  if (message.keys.mask_key == message.keys.share_key) {
    return m.refuse(SecureReason::listed_twice, "device " + device.brief() + " advertised one key twice");
  }
  m.advertised.emplace(device, message.keys);
  return {};
}

Status SecAggServer::on_boxes(const DeviceId& device, const wire::SecureBoxes& message) {
  Machine& m = *machine_;
  COVEY_TRY(m.check_session(message.round, message.session));
  const wire::Hash content = digest(message);
  COVEY_ASSIGN(const auto index, m.admit(device, Phase::share, content));
  if (!index) return {};
  if (message.boxes.size() != m.neighbours[*index].size()) {
    return m.refuse(SecureReason::malformed,
                    "device " + device.brief() + " sent another number of boxes than neighbours");
  }
  m.counted[{Phase::share, *index}] = content;
  m.boxes[*index] = message;
  m.shared.insert(*index);
  return {};
}

Status SecAggServer::on_masked(const DeviceId& device, const wire::MaskedUpdate& message) {
  Machine& m = *machine_;
  COVEY_TRY(m.check_session(message.round, message.session));
  const wire::Hash content = digest(message);
  COVEY_ASSIGN(const auto index, m.admit(device, Phase::mask, content));
  if (!index) return {};
  if (!m.shared.contains(*index)) {
    return m.refuse(SecureReason::unexpected, "device " + device.brief() + " has dropped out: its boxes did not come");
  }
  const bool shape = message.count == m.setup.words() && message.bits == m.setup.bits;
  if (m.seam.checks.shape && !shape) {
    return m.refuse(SecureReason::wrong_shape, "device " + device.brief() + " sent a masked update of another shape");
  }
  const auto words = std::min<std::size_t>(m.sum.size(), message.count);
  if (message.bits < 1 || message.bits > kModulusBitsMax) {
    return m.refuse(SecureReason::wrong_shape, "device " + device.brief() + " sent words of no possible size");
  }
  if (const auto added = add_packed_words(message.words, message.bits, std::span(m.sum).first(words)); !added.ok()) {
    return m.refuse(SecureReason::wrong_shape, "device " + device.brief() + ": " + added.error().message);
  }
  m.counted[{Phase::mask, *index}] = content;
  m.survivors.insert(*index);
  m.sum_changed = true;
  return {};
}

Status SecAggServer::on_agree(const DeviceId& device, const wire::SecureAgree& message) {
  Machine& m = *machine_;
  COVEY_TRY(m.check_session(message.round, message.session));
  const wire::Hash content = digest(message);
  COVEY_ASSIGN(const auto index, m.admit(device, Phase::agree, content));
  if (!index) return {};
  if (m.is_dead(*index)) return m.refuse(SecureReason::unexpected, "device " + device.brief() + " is no survivor");
  if (!m.seam.verify(kSecAggAgreeDomain, device.key, signed_part(m.session, m.dead), message.signature)) {
    return m.refuse(SecureReason::bad_signature, "device " + device.brief() + " did not sign this survivor set");
  }
  m.counted[{Phase::agree, *index}] = content;
  m.signatures[*index] = message.signature;
  return {};
}

Status SecAggServer::on_shares(const DeviceId& device, const wire::SecureShares& message) {
  Machine& m = *machine_;
  COVEY_TRY(m.check_session(message.round, message.session));
  const wire::Hash content = digest(message);
  COVEY_ASSIGN(const auto index, m.admit(device, Phase::unmask, content));
  if (!index) return {};
  if (!m.signatures.contains(*index)) {
    return m.refuse(SecureReason::unexpected, "device " + device.brief() + " was not asked");
  }
  for (std::size_t i = 0; i < message.shares.size(); ++i) {
    const std::uint16_t of = message.shares[i].of;
    const bool own = of == *index && m.params.complete;
    const bool ascending = i == 0 || message.shares[i - 1].of < of;
    if (!ascending || of >= m.list.devices.size() || !m.shared.contains(of) ||
        !(own || m.graph->adjacent(*index, of))) {
      return m.refuse(SecureReason::malformed, "device " + device.brief() + " sent shares that it does not hold");
    }
  }
  for (const wire::ShareOf& share : message.shares) {
    m.shares[share.of].push_back({m.place_of(*index, share.of), share.share});
  }
  m.counted[{Phase::unmask, *index}] = content;
  return {};
}

std::uint32_t SecAggServer::Machine::place_of(std::uint16_t holder, std::uint16_t of) const {
  if (params.complete) return holder + 1U;  // everyone holds a share, in the order of the list
  const auto& order = neighbours[of];
  return static_cast<std::uint32_t>(std::ranges::lower_bound(order, holder) - order.begin()) + 1;
}

void SecAggServer::on_gone(const DeviceId& device) {
  machine_->gone.insert(device);
}

// ---- phases --------------------------------------------------------------------------------------------------------

void SecAggServer::Machine::take_list(wire::SecureList given) {
  list = std::move(given);
  session = session_hash(list, setup.whole);
  graph.emplace(params, order_seed(session));
  index_of.clear();
  neighbours.clear();
  for (std::uint32_t i = 0; i < list.devices.size(); ++i) neighbours.push_back(graph->neighbours(i));
  for (std::size_t i = 0; i < list.devices.size(); ++i) {
    index_of.emplace(DeviceId{list.devices[i].identity}, static_cast<std::uint16_t>(i));
  }
}

Result<wire::SecureList> SecAggServer::close_list() {
  Machine& m = *machine_;
  if (m.phase != Phase::advertise) return m.refuse(SecureReason::unexpected, "the list is closed");
  const std::size_t n = m.advertised.size();
  if (n < m.setup.devices_min()) {
    return m.die(SecureReason::too_few_devices,
                 std::to_string(n) + " devices advertised, the plan asks for " + std::to_string(m.setup.devices_min()));
  }
  wire::SecureList list{m.setup.round, wire::kSecureVersion, m.setup.plan, m.setup.roster_epoch, 0, 0, {}};
  for (const auto& [device, keys] : m.advertised) list.devices.push_back(keys);  // the map ascends
  auto solved = secagg_params(smallest_group(m.setup, list), m.setup.assumptions);
  if (!solved.ok()) return m.die(SecureReason::parameters_differ, solved.error().message);
  m.params = *solved;
  list.degree = m.params.degree;
  list.threshold = m.params.threshold;
  m.advertised.clear();
  m.phase = Phase::share;
  m.head_changed = true;
  return list;
}

Status SecAggServer::close_advertise() {
  COVEY_ASSIGN(auto list, close_list());
  machine_->take_list(std::move(list));
  return {};
}

Result<SecAggServer> SecAggServer::begin(SecAggSetup setup, SecAggRoster roster, wire::SecureList list) {
  COVEY_ASSIGN(SecAggServer server, create(std::move(setup), std::move(roster)));
  Machine& m = *server.machine_;
  COVEY_ASSIGN(m.params, secagg_params(static_cast<std::uint32_t>(list.devices.size()), m.setup.assumptions));
  m.take_list(std::move(list));
  m.phase = Phase::share;
  m.head_changed = true;
  return server;
}

Status SecAggServer::close_share() {
  Machine& m = *machine_;
  if (m.phase != Phase::share) return m.refuse(SecureReason::unexpected, "not in the share phase");
  if (m.shared.size() < m.setup.survivors_min) {
    return m.die(SecureReason::too_few_devices, std::to_string(m.shared.size()) + " devices shared their secrets");
  }
  m.sum.assign(m.setup.words(), 0);
  m.phase = Phase::mask;
  m.head_changed = m.boxes_changed = m.sum_changed = true;
  return {};
}

Status SecAggServer::close_mask() {
  Machine& m = *machine_;
  if (m.phase != Phase::mask) return m.refuse(SecureReason::unexpected, "not in the mask phase");
  if (m.survivors.size() < m.setup.survivors_min) {
    return m.die(SecureReason::too_few_devices, std::to_string(m.survivors.size()) + " masked updates came");
  }
  for (std::size_t i = 0; i < m.list.devices.size(); ++i) {
    const auto index = static_cast<std::uint16_t>(i);
    if (!m.survivors.contains(index)) m.dead.push_back(index);
  }
  m.boxes.clear();
  m.phase = Phase::agree;
  m.head_changed = m.boxes_changed = m.sum_changed = true;
  return {};
}

Status SecAggServer::close_agree() {
  Machine& m = *machine_;
  if (m.phase != Phase::agree) return m.refuse(SecureReason::unexpected, "not in the agree phase");
  if (m.signatures.size() < m.params.threshold) {
    return m.die(SecureReason::too_few_signatures, std::to_string(m.signatures.size()) + " survivors signed their set");
  }
  m.phase = Phase::unmask;
  m.head_changed = true;
  return {};
}

// ---- what is due ---------------------------------------------------------------------------------------------------

std::vector<std::uint16_t> SecAggServer::Machine::expected_in(Phase in_phase) const {
  std::vector<std::uint16_t> out;
  switch (in_phase) {
    case Phase::share:
      for (std::size_t i = 0; i < list.devices.size(); ++i) out.push_back(static_cast<std::uint16_t>(i));
      break;
    case Phase::mask:
      out.assign(shared.begin(), shared.end());
      break;
    case Phase::agree:
      out.assign(survivors.begin(), survivors.end());
      break;
    case Phase::unmask:
      for (const auto& [index, signature] : signatures) out.push_back(index);
      break;
    default:
      break;
  }
  return out;
}

std::vector<DeviceId> SecAggServer::awaited() const {
  const Machine& m = *machine_;
  std::vector<DeviceId> out;
  for (const std::uint16_t index : m.expected_in(m.phase)) {
    const DeviceId device{m.list.devices[index].identity};
    if (!m.counted.contains({m.phase, index}) && !m.gone.contains(device)) out.push_back(device);
  }
  return out;
}

bool SecAggServer::all_in() const {
  const Machine& m = *machine_;
  if (m.phase != Phase::advertise) return awaited().empty();
  return m.advertised.size() >= m.setup.devices_max();
}

std::uint32_t SecAggServer::counted() const {
  const Machine& m = *machine_;
  if (m.phase == Phase::advertise) return static_cast<std::uint32_t>(m.advertised.size());
  const auto in_phase = [&](const auto& entry) { return entry.first.first == m.phase; };
  return static_cast<std::uint32_t>(std::ranges::count_if(m.counted, in_phase));
}

wire::SecureInbox SecAggServer::Machine::inbox(std::uint16_t device) const {
  wire::SecureInbox out{setup.round, session, {}};
  for (const std::uint32_t peer : neighbours[device]) {
    const auto sent = boxes.find(static_cast<std::uint16_t>(peer));
    if (sent == boxes.end()) continue;
    const auto& order = neighbours[peer];
    const auto place = std::ranges::lower_bound(order, device) - order.begin();
    out.boxes.push_back({static_cast<std::uint16_t>(peer), sent->second.boxes[static_cast<std::size_t>(place)]});
  }
  return out;
}

wire::SecureUnmask SecAggServer::Machine::unmask_request(std::uint16_t device) const {
  wire::SecureUnmask out{setup.round, session, dead, {}};
  for (const std::uint32_t peer : neighbours[device]) {
    const auto signature = signatures.find(static_cast<std::uint16_t>(peer));
    if (signature != signatures.end()) out.signatures.push_back({signature->first, signature->second});
  }
  return out;
}

std::optional<wire::Message> SecAggServer::due(const DeviceId& device) const {
  const Machine& m = *machine_;
  const auto found = m.index_of.find(device);
  if (m.phase == Phase::dead) return wire::Message(wire::SecureAbort{m.setup.round, m.reason});
  if (found == m.index_of.end()) return std::nullopt;
  const std::uint16_t index = found->second;
  switch (m.phase) {
    case Phase::share:
      return wire::Message(m.list);
    case Phase::mask:
      if (m.shared.contains(index)) return wire::Message(m.inbox(index));
      break;
    case Phase::agree:
      if (m.survivors.contains(index)) return wire::Message(wire::SecureSurvivors{m.setup.round, m.session, m.dead});
      break;
    case Phase::unmask:
      if (m.signatures.contains(index)) return wire::Message(m.unmask_request(index));
      break;
    default:
      break;
  }
  return std::nullopt;
}

std::vector<DeviceId> SecAggServer::devices() const {
  std::vector<DeviceId> out;
  for (const wire::SecureKeys& keys : machine_->list.devices) out.push_back(DeviceId{keys.identity});
  return out;
}

SecAggServer::Phase SecAggServer::phase() const {
  return machine_->phase;
}
SecureReason SecAggServer::reason() const {
  return machine_->reason;
}
SecureReason SecAggServer::blame() const {
  return machine_->blame;
}
const SecAggSetup& SecAggServer::setup() const {
  return machine_->setup;
}
const SecAggParams& SecAggServer::params() const {
  return machine_->params;
}
std::uint32_t SecAggServer::survivors() const {
  return static_cast<std::uint32_t>(machine_->survivors.size());
}
const std::vector<DeviceId>& SecAggServer::suspects() const {
  return machine_->suspects;
}

}  // namespace covey::aggregation
