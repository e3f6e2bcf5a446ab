#include "aggregation/secagg_client.h"

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "aggregation/grouped.h"
#include "aggregation/secagg_graph.h"
#include "aggregation/secagg_masks.h"
#include "aggregation/secagg_seam.h"
#include "aggregation/secagg_words.h"
#include "aggregation/shamir.h"
#include "core/base/assert.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::aggregation {
namespace {

using wire::SecureReason;

/// The answer to the last message of a phase, for the same message again.
template <class T>
struct Answered {
  wire::Hash question{};
  T answer;
};

}  // namespace

struct SecAggClient::Machine {
  Machine(SecAggClientInputs given, const SecAggSeam& s) : in(std::move(given)), seam(s) {
    if (!seam.verify) {
      seam.verify = [](std::string_view domain, const wire::Key& key, ByteSpan message, const wire::Signature& sig) {
        return crypto::verify_in(domain, crypto::PublicKey{key}, message, crypto::Signature{sig});
      };
    }
  }
  ~Machine() { wipe(); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  SecAggClientInputs in;
  SecAggSeam seam;
  Phase phase = Phase::fresh;
  SecureReason reason = SecureReason::none;

  // secrets of the session
  std::optional<SessionSecrets> secrets;
  std::vector<std::pair<std::uint16_t, SharePair>> held;  ///< shares of others (and of itself), by index

  wire::SecureKeys own;
  std::vector<wire::Key> identities;  ///< of the list
  wire::Hash session{};
  std::uint16_t index = 0;
  SecAggParams params;
  std::optional<SecAggGraph> graph;
  struct Neighbour {
    std::uint16_t index = 0;
    wire::Key mask_key{};
    SecretBytes box_key;
  };
  std::vector<Neighbour> neighbours;  ///< ascending
  std::vector<std::uint16_t> shared;  ///< neighbours whose boxes came, ascending: whom it masks with
  std::vector<std::uint16_t> dead;    ///< complement of the survivor set it signed

  std::optional<Answered<wire::SecureBoxes>> boxes;
  std::optional<Answered<wire::SecureAgree>> agreement;
  std::optional<Answered<wire::SecureShares>> shares;

  [[nodiscard]] const Neighbour& neighbour(std::uint16_t of) const {
    return *std::ranges::lower_bound(neighbours, of, {}, &Neighbour::index);
  }

  void wipe() {
    secrets.reset();
    neighbours.clear();
    for (auto& [of, pair] : held) explicit_bzero(&pair, sizeof pair);
    held.clear();
    if (shares) {
      auto& given = shares->answer.shares;
      if (!given.empty()) explicit_bzero(given.data(), given.size() * sizeof given[0]);
    }
    boxes.reset();
    agreement.reset();
    shares.reset();
    explicit_bzero(in.seed.data(), in.seed.size());
  }

  Error refuse(SecureReason why, const std::string& what) {
    wipe();
    phase = Phase::dead;
    reason = why;
    return {ErrorCode::permission_denied, "secure aggregation: " + what + " (" + wire::to_string(why) + ")"};
  }
  Error over() const {
    return {ErrorCode::cancelled,
            std::string("secure aggregation: the session has ended (") + wire::to_string(reason) + ")"};
  }
  Error out_of_turn() { return refuse(SecureReason::unexpected, "a message out of its turn"); }

  template <class M>
  Status check_session(const M& message) {
    if (!seam.checks.sender_session) return {};
    if (message.round == in.setup.round && message.session == session) return {};
    return refuse(SecureReason::wrong_round, "a message of another round or session");
  }

  Status make_keys();
  Status check_head(const wire::SecureList& given);
  Status check_order(const wire::SecureList& given);
  Status find_itself(const wire::SecureList& given);
  Status check_devices(const wire::SecureList& given);
  Status check_parameters(const wire::SecureList& given);
  Result<wire::SecureList> own_group(const wire::SecureList& given);
  Result<wire::SecureBoxes> join(const wire::SecureList& list);
  Status check_drawn(const wire::SecureList& given);
  Status meet_neighbours(const wire::SecureList& given);
  Result<wire::SecureBoxes> make_boxes();
  Status open_inbox(const wire::SecureInbox& inbox);
  Status check_survivors(const wire::SecureSurvivors& message);
  [[nodiscard]] bool is_dead(std::uint32_t device) const {
    return std::ranges::binary_search(dead, static_cast<std::uint16_t>(device));
  }
  /// Whether devices that hold its shares count it among them: in the complete graph a device holds its own.
  [[nodiscard]] std::uint32_t itself() const { return params.complete ? 1 : 0; }
  /// The direction that a box is bound to.
  [[nodiscard]] std::pair<std::uint16_t, std::uint16_t> way(std::uint16_t from, std::uint16_t to) const {
    return seam.checks.direction_bound ? std::pair(from, to) : std::pair(std::min(from, to), std::max(from, to));
  }
  /// What the signature of an entry covers.
  [[nodiscard]] SecAggSetup signing() const {
    SecAggSetup out = in.setup;
    if (!seam.checks.plan_equal) out.plan = {};
    return out;
  }
  [[nodiscard]] const wire::Hash& bound() const {
    static const wire::Hash kNone{};
    return seam.checks.session_bound ? session : kNone;
  }
};

SecAggClient::SecAggClient(std::unique_ptr<Machine> machine) : machine_(std::move(machine)) {}
SecAggClient::SecAggClient(SecAggClient&&) noexcept = default;
SecAggClient& SecAggClient::operator=(SecAggClient&&) noexcept = default;
SecAggClient::~SecAggClient() = default;

Result<SecAggClient> SecAggClient::create(SecAggClientInputs inputs) {
  return create_with_seam(std::move(inputs), SecAggSeam{});
}

Result<SecAggClient> SecAggClient::create_with_seam(SecAggClientInputs inputs, const SecAggSeam& seam) {
  if (inputs.identity == nullptr || !inputs.roster) {
    return Error{ErrorCode::invalid_argument, "secure aggregation: an identity and a roster are needed"};
  }
  return SecAggClient(std::make_unique<Machine>(std::move(inputs), seam));
}

// ---- advertise -----------------------------------------------------------------------------------------------------

Status SecAggClient::Machine::make_keys() {
  COVEY_ASSIGN(secrets, session_secrets(in.seed));
  explicit_bzero(in.seed.data(), in.seed.size());
  own.identity = in.identity->public_key().bytes;
  own.mask_key = secrets->mask_key.public_key().bytes;
  own.share_key = secrets->share_key.public_key().bytes;
  own.nonce = secrets->nonce;
  own.commitment = commitment_to(secrets->self_seed.span());
  own.signature = in.identity->sign_in(kSecAggAdvertiseDomain, signed_part(signing(), own)).bytes;
  return {};
}

Result<wire::SecureAdvertise> SecAggClient::advertise(SecAggLedger& ledger) {
  Machine& m = *machine_;
  if (m.phase == Phase::dead) return m.over();
  if (m.phase != Phase::fresh) return m.out_of_turn();
  const SecAggSetup& setup = m.in.setup;
  if (m.seam.checks.round_fresh && setup.round.value <= ledger.last_round) {
    return m.refuse(SecureReason::round_seen,
                    "round " + std::to_string(setup.round.value) + " was taken part in before; a round is played once");
  }
  COVEY_TRY(m.make_keys());
  ledger.last_round = std::max(ledger.last_round, setup.round.value);
  m.phase = Phase::advertised;
  return wire::SecureAdvertise{setup.round, wire::kSecureVersion, setup.plan, setup.roster_epoch, m.own};
}

// ---- share ---------------------------------------------------------------------------------------------------------

Status SecAggClient::Machine::check_head(const wire::SecureList& given) {
  const SecAggSetup& setup = in.setup;
  if (seam.checks.sender_session && given.round != setup.round) {
    return refuse(SecureReason::wrong_round, "a list of another round");
  }
  if (given.version != wire::kSecureVersion) return refuse(SecureReason::wrong_version, "another protocol version");
  if (seam.checks.plan_equal && given.plan != setup.plan) {
    return refuse(SecureReason::plan_differs, "the others were given another model or plan");
  }
  if (seam.checks.roster_epoch && given.roster_epoch != setup.roster_epoch) {
    return refuse(SecureReason::stale_roster, "a list of another roster epoch than the plan's");
  }
  const std::size_t n = given.devices.size();
  if (n < 2 * setup.groups || (seam.checks.devices_min && n < setup.devices_min())) {
    return refuse(SecureReason::too_few_devices,
                  std::to_string(n) + " devices advertised, the plan asks for " + std::to_string(setup.devices_min()));
  }
  if (n > setup.devices_max() || n > kSecAggDevicesMax) {
    return refuse(SecureReason::too_many_devices, "more devices advertised than the plan's cohort");
  }
  return {};
}

/// Identities ascend and no key stands twice: a coordinator that lists one device under two places would be told two
/// shares of it by everyone.
Status SecAggClient::Machine::check_order(const wire::SecureList& given) {
  if (!seam.checks.distinct) return {};
  std::set<wire::Key> keys;
  for (std::size_t i = 0; i < given.devices.size(); ++i) {
    const wire::SecureKeys& entry = given.devices[i];
    if (i > 0 && entry.identity == given.devices[i - 1].identity) {
      return refuse(SecureReason::listed_twice, "an identity stands in the list twice");
    }
    if (i > 0 && entry.identity < given.devices[i - 1].identity) {
      return refuse(SecureReason::malformed, "the list is not in the order of identities");
    }
    if (!keys.insert(entry.mask_key).second || !keys.insert(entry.share_key).second) {
      return refuse(SecureReason::listed_twice, "a key stands in the list twice");
    }
  }
  return {};
}

Status SecAggClient::Machine::find_itself(const wire::SecureList& given) {
  const auto same = [](const wire::SecureKeys& a, const wire::SecureKeys& b) {
    return a.mask_key == b.mask_key && a.share_key == b.share_key && a.nonce == b.nonce &&
           a.commitment == b.commitment && a.signature == b.signature;
  };
  bool listed = false;
  for (std::size_t i = 0; i < given.devices.size(); ++i) {
    const wire::SecureKeys& entry = given.devices[i];
    if (entry.identity != own.identity) continue;
    if (seam.checks.self_present && !same(entry, own)) {
      return refuse(SecureReason::self_changed, "this device's own keys were changed in the list");
    }
    if (!listed) index = static_cast<std::uint16_t>(i);
    listed = true;
  }
  if (listed || !seam.checks.self_present) return {};
  return refuse(SecureReason::self_missing, "this device is not in the list");
}

Status SecAggClient::Machine::check_devices(const wire::SecureList& given) {
  for (const wire::SecureKeys& entry : given.devices) {
    if (entry.identity == own.identity) continue;  // compared with what it sent
    if (seam.checks.known_devices && !in.roster(entry.identity)) {
      return refuse(SecureReason::unknown_device,
                    "device " + DeviceId{entry.identity}.brief() + " is not in the roster");
    }
    if (seam.checks.list_signatures &&
        !seam.verify(kSecAggAdvertiseDomain, entry.identity, signed_part(signing(), entry), entry.signature)) {
      return refuse(SecureReason::bad_signature, "the keys of device " + DeviceId{entry.identity}.brief() +
                                                     " are not signed by it for this round and plan");
    }
  }
  return {};
}

/// Everyone in the list was drawn. And enough of the drawn are there: with a threshold that draws (nearly) everyone, or
/// a list that leaves the honest out, the coordinator would choose again.
Status SecAggClient::Machine::check_drawn(const wire::SecureList& given) {
  if (!in.draw || !seam.checks.drawn) return {};
  for (const wire::SecureKeys& entry : given.devices) {
    if (wire::draw_of(in.draw->epoch_root, in.setup.round, entry.identity) < in.draw->below) continue;
    return refuse(SecureReason::not_drawn, "device " + DeviceId{entry.identity}.brief() + " was not drawn");
  }
  const double expected = std::ldexp(static_cast<double>(in.draw->below), -64) * static_cast<double>(in.draw->active);
  if (static_cast<double>(given.devices.size()) >= in.draw->listed_share * expected) return {};
  return refuse(SecureReason::not_drawn, std::to_string(given.devices.size()) + " devices are listed of about " +
                                             std::to_string(static_cast<std::uint64_t>(expected)) + " drawn");
}

Status SecAggClient::Machine::meet_neighbours(const wire::SecureList& given) {
  for (const wire::SecureKeys& entry : given.devices) identities.push_back(entry.identity);
  for (const std::uint32_t peer : graph->neighbours(index)) {
    const wire::SecureKeys& entry = given.devices[peer];
    auto key = box_key(secrets->share_key, entry.share_key, bound());
    if (!key.ok()) return refuse(SecureReason::bad_key, "the share key of a neighbour gives no secret");
    neighbours.push_back({static_cast<std::uint16_t>(peer), entry.mask_key, *std::move(key)});
  }
  return {};
}

Result<wire::SecureBoxes> SecAggClient::Machine::make_boxes() {
  const auto holders = graph->holders(index);
  const SecretBytes mask_secret = secrets->mask_key.secret();
  COVEY_ASSIGN(auto of_mask,
               shamir_split(mask_secret.span(), params.threshold, holders.size(), secrets->split_mask.span()));
  COVEY_ASSIGN(auto of_self,
               shamir_split(secrets->self_seed.span(), params.threshold, holders.size(), secrets->split_self.span()));
  wire::SecureBoxes out{in.setup.round, session, {}};
  for (std::size_t i = 0; i < holders.size(); ++i) {
    const auto to = static_cast<std::uint16_t>(holders[i]);
    SharePair pair{of_mask[i], of_self[i]};
    if (to == index) {
      held.emplace_back(to, pair);
    } else {
      out.boxes.push_back(
          seal_shares(neighbour(to).box_key, bound(), way(index, to).first, way(index, to).second, pair));
    }
    explicit_bzero(&pair, sizeof pair);
  }
  explicit_bzero(of_mask.data(), of_mask.size() * sizeof of_mask[0]);
  explicit_bzero(of_self.data(), of_self.size() * sizeof of_self[0]);
  return out;
}

/// k and t of the session, which follow from the plan and the list's length.
Status SecAggClient::Machine::check_parameters(const wire::SecureList& given) {
  auto solved = secagg_params(smallest_group(in.setup, given), in.setup.assumptions);
  if (!solved.ok()) return refuse(SecureReason::parameters_differ, solved.error().message);
  params = *solved;
  if (!seam.checks.parameters) {
    params.degree = given.degree;
    params.threshold = given.threshold;
  } else if (params.degree != given.degree || params.threshold != given.threshold) {
    return refuse(SecureReason::parameters_differ, "k or t of the list do not follow from the plan");
  }
  return {};
}

/// The part of the list that this device's group got. From here on the session is that of the group alone.
Result<wire::SecureList> SecAggClient::Machine::own_group(const wire::SecureList& given) {
  auto groups = deal_groups(in.setup, given);
  if (!groups.ok()) return refuse(SecureReason::parameters_differ, groups.error().message);
  wire::SecureList& list = (*groups)[group_of_each(in.setup, given)[index]];
  in.setup = group_setup(in.setup, given);
  COVEY_TRY(find_itself(list));
  COVEY_TRY(check_parameters(list));
  return std::move(list);
}

Result<wire::SecureBoxes> SecAggClient::Machine::join(const wire::SecureList& list) {
  session = session_hash(list, in.setup.whole);
  graph.emplace(params, order_seed(session));
  COVEY_TRY(meet_neighbours(list));
  return make_boxes();
}

Result<wire::SecureBoxes> SecAggClient::share(const wire::SecureList& given) {
  Machine& m = *machine_;
  if (m.phase == Phase::dead) return m.over();
  const wire::Hash question = digest(given);
  if (m.boxes) {
    if (m.boxes->question == question) return m.boxes->answer;
    return m.refuse(SecureReason::conflicting, "a second list that is not the first again");
  }
  if (m.phase != Phase::advertised) return m.out_of_turn();
  COVEY_TRY(m.check_head(given));
  COVEY_TRY(m.check_order(given));
  COVEY_TRY(m.find_itself(given));
  COVEY_TRY(m.check_devices(given));
  COVEY_TRY(m.check_drawn(given));
  COVEY_TRY(m.check_parameters(given));
  auto boxes = [&]() -> Result<wire::SecureBoxes> {
    if (m.in.setup.groups == 1) return m.join(given);
    COVEY_ASSIGN(const wire::SecureList own_group, m.own_group(given));
    return m.join(own_group);
  }();
  if (!boxes.ok()) return boxes.error();
  m.phase = Phase::shared;
  m.boxes.emplace(Answered<wire::SecureBoxes>{question, *std::move(boxes)});
  return m.boxes->answer;
}

// ---- mask ----------------------------------------------------------------------------------------------------------

/// A box that does not open leaves its sender in: the mask with it is of public keys alone, so that one bad device
/// cannot make its neighbours' sums wrong. It only cannot be told that device's shares later.
Status SecAggClient::Machine::open_inbox(const wire::SecureInbox& inbox) {
  COVEY_TRY(check_session(inbox));
  for (std::size_t i = 0; i < inbox.boxes.size(); ++i) {
    const std::uint16_t from = inbox.boxes[i].from;
    const bool ascending = i == 0 || inbox.boxes[i - 1].from < from;
    if (!ascending || from >= identities.size() || !graph->adjacent(index, from)) {
      return refuse(SecureReason::malformed, "a box from no neighbour, or two from one");
    }
  }
  for (const wire::BoxFrom& box : inbox.boxes) {
    shared.push_back(box.from);
    auto opened = open_shares(neighbour(box.from).box_key, bound(), way(box.from, index).first,
                              way(box.from, index).second, box.box);
    if (!opened.ok()) continue;
    held.emplace_back(box.from, *opened);
    explicit_bzero(&*opened, sizeof *opened);
  }
  std::ranges::sort(held, {}, [](const auto& entry) { return entry.first; });
  if (held.size() >= params.threshold) return {};
  return refuse(SecureReason::too_few_shares,
                std::to_string(held.size()) + " shares came, " + std::to_string(params.threshold) + " are needed");
}

Result<wire::MaskedUpdate> SecAggClient::mask(const wire::SecureInbox& inbox,
                                              std::span<const std::uint32_t> contribution, SecAggLedger& ledger,
                                              ThreadPool* pool) {
  Machine& m = *machine_;
  if (m.phase == Phase::dead) return m.over();
  const SecAggSetup& setup = m.in.setup;
  if (contribution.size() != setup.words()) {
    return Error{ErrorCode::invalid_argument, "secure aggregation: a contribution of " +
                                                  std::to_string(contribution.size()) + " words instead of " +
                                                  std::to_string(setup.words())};
  }
  if (m.phase == Phase::masked || m.phase == Phase::agreed || m.phase == Phase::unmasked) {
    return Error{ErrorCode::already_exists, "secure aggregation: the masked update was made before; send it again"};
  }
  if (m.phase != Phase::shared) return m.out_of_turn();
  if (ledger.version != m.in.version) {
    ledger.version = m.in.version;
    ledger.masked = 0;
  }
  if (m.seam.checks.masked_once && ledger.masked >= m.in.masked_per_version_max) {
    return m.refuse(SecureReason::already_masked, "a masked update for this model version has left this device before");
  }
  COVEY_TRY(m.open_inbox(inbox));

  std::vector<MaskTerm> terms;
  terms.reserve(m.shared.size() + 1);
  terms.push_back({self_mask_seed(m.secrets->self_seed.span(), m.session), false});
  for (const std::uint16_t peer : m.shared) {
    auto seed = pair_mask_seed(m.secrets->mask_key, m.neighbour(peer).mask_key, m.bound(), setup.plan);
    if (!seed.ok()) return m.refuse(SecureReason::bad_key, "the mask key of a neighbour gives no secret");
    terms.push_back({*std::move(seed), m.index > peer});
  }
  std::vector<std::uint32_t> words(contribution.begin(), contribution.end());
  add_masks(words, terms, pool);
  ++ledger.masked;
  m.phase = Phase::masked;
  return wire::MaskedUpdate{setup.round, m.session, static_cast<std::uint32_t>(words.size()), setup.bits,
                            pack_words(words, setup.bits)};
}

// ---- agree ---------------------------------------------------------------------------------------------------------

Status SecAggClient::Machine::check_survivors(const wire::SecureSurvivors& message) {
  COVEY_TRY(check_session(message));
  const std::size_t n = identities.size();
  const auto& gone = message.dead;
  for (std::size_t i = 0; i < gone.size(); ++i) {
    if (gone[i] >= n || (i > 0 && gone[i - 1] >= gone[i])) {
      return refuse(SecureReason::malformed, "the dead are not ascending indices of the list");
    }
  }
  if (seam.checks.self_alive && std::ranges::binary_search(gone, index)) {
    return refuse(SecureReason::declared_dead, "this device is alive, the survivor set says that it is not");
  }
  if (seam.checks.devices_min && n - gone.size() < in.setup.survivors_min) {
    return refuse(SecureReason::too_few_devices, std::to_string(n - gone.size()) + " survivors, the plan asks for " +
                                                     std::to_string(in.setup.survivors_min));
  }
  std::uint32_t alive = itself();
  for (const Neighbour& peer : neighbours) {
    if (std::ranges::binary_search(gone, peer.index)) continue;
    ++alive;
    if (!std::ranges::binary_search(shared, peer.index)) {
      return refuse(SecureReason::malformed, "a survivor that this device was told had dropped out");
    }
  }
  if (!seam.checks.neighbours_alive || alive >= params.threshold) return {};
  return refuse(SecureReason::too_few_neighbours, std::to_string(alive) + " of its neighbours survive, " +
                                                      std::to_string(params.threshold) + " are needed");
}

Result<wire::SecureAgree> SecAggClient::agree(const wire::SecureSurvivors& survivors) {
  Machine& m = *machine_;
  if (m.phase == Phase::dead) return m.over();
  const wire::Hash question = digest(survivors);
  if (m.agreement) {
    if (m.agreement->question == question) return m.agreement->answer;
    if (m.seam.checks.one_request) {
      return m.refuse(SecureReason::survivors_differ, "a second survivor set in one session");
    }
    m.phase = Phase::masked;
  }
  if (m.phase != Phase::masked) return m.out_of_turn();
  COVEY_TRY(m.check_survivors(survivors));
  m.dead = survivors.dead;
  wire::SecureAgree answer{m.in.setup.round, m.session, {}};
  answer.signature = m.in.identity->sign_in(kSecAggAgreeDomain, signed_part(m.session, m.dead)).bytes;
  m.phase = Phase::agreed;
  m.agreement.emplace(Answered<wire::SecureAgree>{question, answer});
  return answer;
}

// ---- unmask --------------------------------------------------------------------------------------------------------

Result<wire::SecureShares> SecAggClient::unmask(const wire::SecureUnmask& request) {
  Machine& m = *machine_;
  if (m.phase == Phase::dead) return m.over();
  const wire::Hash question = digest(request);
  if (m.shares && m.shares->question == question) return m.shares->answer;
  if (m.shares && m.seam.checks.one_request) {
    return m.refuse(SecureReason::request_differs, "a second unmask request that is not the first again");
  }
  if (m.phase != Phase::agreed && !m.shares) return m.out_of_turn();
  COVEY_TRY(m.check_session(request));
  if (m.seam.checks.survivors_equal && request.dead != m.dead) {
    return m.refuse(SecureReason::survivors_differ,
                    "the unmask request is about another survivor set than the one signed");
  }
  const auto dead = [&](std::uint16_t device) { return std::ranges::find(request.dead, device) != request.dead.end(); };
  const Bytes message = signed_part(m.session, request.dead);
  std::uint32_t valid = m.itself();
  for (std::size_t i = 0; i < request.signatures.size(); ++i) {
    const auto& [from, signature] = request.signatures[i];
    if (from >= m.identities.size() || (i > 0 && request.signatures[i - 1].from >= from)) {
      return m.refuse(SecureReason::malformed, "signatures are not in ascending order of devices");
    }
    const bool neighbour = !m.seam.checks.signers_neighbours || m.graph->adjacent(m.index, from);
    if (from == m.index || !neighbour || dead(from)) continue;
    if (m.seam.verify(kSecAggAgreeDomain, m.identities[from], message, signature)) ++valid;
  }
  if (m.seam.checks.signatures_enough && valid < m.params.threshold) {
    return m.refuse(SecureReason::too_few_signatures, std::to_string(valid) +
                                                          " of its neighbours signed the survivor set, " +
                                                          std::to_string(m.params.threshold) + " are needed");
  }
  wire::SecureShares answer{m.in.setup.round, m.session, {}};
  for (const auto& [of, pair] : m.held) answer.shares.push_back({of, dead(of) ? pair.mask : pair.self});
  m.phase = Phase::unmasked;
  m.shares.emplace(Answered<wire::SecureShares>{question, answer});
  return answer;
}

void SecAggClient::end() {
  Machine& m = *machine_;
  m.wipe();
  m.phase = Phase::dead;
  if (m.reason == SecureReason::none) m.reason = SecureReason::ended;
}

SecAggClient::Phase SecAggClient::phase() const {
  return machine_->phase;
}
SecureReason SecAggClient::reason() const {
  return machine_->reason;
}
const SecAggParams& SecAggClient::params() const {
  return machine_->params;
}

}  // namespace covey::aggregation
