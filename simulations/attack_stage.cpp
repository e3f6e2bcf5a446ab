#include "simulations/attack_stage.h"

#include <algorithm>
#include <utility>

#include "aggregation/secagg_graph.h"
#include "aggregation/secagg_masks.h"
#include "aggregation/secagg_words.h"

namespace covey::simulations {

using namespace aggregation;  // NOLINT: this file is about nothing else

SecAggWorldOptions stage_options() {
  SecAggWorldOptions options;
  options.devices = kStageDevices;
  options.values = 12;
  options.assumptions = {.25, .1};
  options.survivors_min = 8;
  options.shuffle = false;
  return options;
}

std::unique_ptr<SecAggWorld> stage(const SecAggChecks& checks, SecAggWorldOptions options) {
  auto world = std::make_unique<SecAggWorld>(options);
  world->seam.checks = checks;
  for (std::uint32_t i = 0; i < world->devices.size(); ++i) world->make_client(world->devices[i], world->setup, i);
  return world;
}

void Knowledge::add(const SessionSecrets& secrets) {
  const auto copy = [](const crypto::ExchangeKey& key) {
    return *crypto::ExchangeKey::from_secret(key.secret().span());
  };
  mask_keys_.emplace(secrets.mask_key.public_key().bytes, copy(secrets.mask_key));
  share_keys_.emplace(secrets.share_key.public_key().bytes, copy(secrets.share_key));
}

const crypto::ExchangeKey* Knowledge::mask_key(const wire::Key& public_key) const {
  const auto found = mask_keys_.find(public_key);
  return found == mask_keys_.end() ? nullptr : &found->second;
}

const crypto::ExchangeKey* Knowledge::share_key(const wire::Key& public_key) const {
  const auto found = share_keys_.find(public_key);
  return found == share_keys_.end() ? nullptr : &found->second;
}

void collect(std::vector<ShamirPoint>& points, std::uint32_t place, const wire::SecretShare& share) {
  if (std::ranges::none_of(points, [&](const ShamirPoint& p) { return p.x == place; }))
    points.push_back({place, share});
}

std::optional<std::vector<std::uint32_t>> unmask_one(const Unmasking& about, const Knowledge& known) {
  const wire::SecureKeys& victim = about.list->devices[about.index];
  const auto rebuilt = [&](const std::vector<ShamirPoint>& points) -> std::optional<SecretBytes> {
    if (points.size() < about.threshold) return std::nullopt;
    auto secret = shamir_combine(std::span(points).first(about.threshold));
    if (!secret.ok()) return std::nullopt;
    return *std::move(secret);
  };
  const auto self = rebuilt(known.of_self);
  if (!self || commitment_to(self->span()) != victim.commitment) return std::nullopt;
  std::optional<crypto::ExchangeKey> own;
  if (const auto secret = rebuilt(known.of_mask); secret)
    own.emplace(*crypto::ExchangeKey::from_secret(secret->span()));

  std::vector<MaskTerm> terms;
  terms.push_back({self_mask_seed(self->span(), about.masked->session), true});
  for (const std::uint16_t peer : about.peers) {
    const wire::Key& theirs = about.list->devices[peer].mask_key;
    const crypto::ExchangeKey* key = known.mask_key(theirs);
    if (key == nullptr && !own) return std::nullopt;
    auto seed = key != nullptr ? pair_mask_seed(*key, victim.mask_key, about.bound, about.plan)
                               : pair_mask_seed(*own, theirs, about.bound, about.plan);
    if (!seed.ok()) return std::nullopt;
    terms.push_back({*std::move(seed), about.index < peer});
  }
  auto words = unpack_words(about.masked->words, about.masked->count, about.masked->bits);
  if (!words.ok()) return std::nullopt;
  add_masks(*words, terms, nullptr);
  for (std::uint32_t& word : *words) word &= ~std::uint32_t{0} >> (32 - about.masked->bits);
  return *std::move(words);
}

void finish_list(const SecAggWorld& world, wire::SecureList& list) {
  std::ranges::stable_sort(list.devices, {}, &wire::SecureKeys::identity);
  const auto params = secagg_params(static_cast<std::uint32_t>(list.devices.size()), world.setup.assumptions);
  if (!params.ok()) return;
  list.degree = params->degree;
  list.threshold = params->threshold;
}

wire::SecureKeys signed_keys(const SecAggWorld& world, const crypto::IdentityKey& identity,
                             const SessionSecrets& secrets) {
  wire::SecureKeys keys;
  keys.identity = identity.public_key().bytes;
  keys.mask_key = secrets.mask_key.public_key().bytes;
  keys.share_key = secrets.share_key.public_key().bytes;
  keys.nonce = secrets.nonce;
  keys.commitment = commitment_to(secrets.self_seed.span());
  keys.signature = identity.sign_in(kSecAggAdvertiseDomain, signed_part(world.setup, keys)).bytes;
  return keys;
}

bool silent_after(SecAggWorld::Device& device) {
  SecAggClient& client = *device.client;
  SecAggLedger ledger;
  return !client.advertise(ledger).ok() && !client.share({}).ok() &&
         !client.mask({}, device.contribution, ledger).ok() && !client.agree({}).ok() && !client.unmask({}).ok();
}

namespace {

/// One ambush from the list on. The coordinator answers for every peer: with a true box where it knows the share key,
/// with an empty one where it does not.
class Trap {
 public:
  Trap(SecAggWorld& world, const SecAggChecks& checks, wire::SecureList list, Knowledge& known)
      : world_(world), checks_(checks), list_(std::move(list)), known_(known), victim_(world.devices[kVictim]) {}

  AttackOutcome spring() {
    AttackOutcome out;
    const auto boxes = victim_.client->share(world_.deliver(list_));
    if (!boxes.ok()) return refusal();
    session_ = boxes->session;
    bound_ = checks_.session_bound ? session_ : wire::Hash{};
    find_victim();
    const SecAggParams params{static_cast<std::uint32_t>(list_.devices.size()), true, list_.degree, list_.threshold};
    graph_.emplace(params, order_seed(session_));
    read_boxes(*boxes);
    const auto masked = victim_.client->mask(world_.deliver(inbox()), victim_.contribution, victim_.ledger);
    if (!masked.ok()) return refusal();
    if (const Status status = ask_for_shares(); !status.ok()) return refusal();

    Unmasking about;
    about.masked = &*masked;
    about.list = &list_;
    about.index = index_;
    for (const std::uint32_t peer : graph_->neighbours(index_)) about.peers.push_back(static_cast<std::uint16_t>(peer));
    about.plan = world_.setup.plan;
    about.bound = bound_;
    about.threshold = list_.threshold;
    const auto words = unmask_one(about, known_);
    out.succeeded = words && *words == victim_.contribution;
    return out;
  }

 private:
  AttackOutcome refusal() { return {victim_.client->reason(), silent_after(victim_), false, ""}; }

  void find_victim() {
    const auto found = std::ranges::find(list_.devices, victim_.key(), &wire::SecureKeys::identity);
    index_ = static_cast<std::uint16_t>(found - list_.devices.begin());
  }
  void read_boxes(const wire::SecureBoxes& boxes) {
    const auto neighbours = graph_->neighbours(index_);
    for (std::size_t i = 0; i < neighbours.size(); ++i) {
      const auto to = static_cast<std::uint16_t>(neighbours[i]);
      const auto* key = known_.share_key(list_.devices[to].share_key);
      if (key == nullptr) continue;
      const auto pair_key = box_key(*key, own_share_key(), bound_);
      const auto opened = open_shares(*pair_key, bound_, index_, to, boxes.boxes[i]);
      if (!opened.ok()) continue;
      collect(known_.of_mask, to + 1U, opened->mask);
      collect(known_.of_self, to + 1U, opened->self);
    }
  }
  [[nodiscard]] wire::Key own_share_key() const { return list_.devices[index_].share_key; }
  [[nodiscard]] wire::SecureInbox inbox() const {
    wire::SecureInbox out{world_.setup.round, session_, {}};
    for (const std::uint32_t peer : graph_->neighbours(index_)) {
      const auto from = static_cast<std::uint16_t>(peer);
      wire::ShareBox box{};
      if (const auto* key = known_.share_key(list_.devices[from].share_key); key != nullptr) {
        box = seal_shares(*box_key(*key, own_share_key(), bound_), bound_, from, index_, SharePair{});
      }
      out.boxes.push_back({from, box});
    }
    return out;
  }
  /// All are said to have survived; whoever the coordinator runs signs that.
  Status ask_for_shares() {
    COVEY_TRY(victim_.client->agree(world_.deliver(wire::SecureSurvivors{world_.setup.round, session_, {}})));
    wire::SecureUnmask request{world_.setup.round, session_, {}, {}};
    const Bytes message = signed_part(session_, {});
    for (std::uint32_t i = 1; i <= kPuppets; ++i) {
      const auto found = std::ranges::find(list_.devices, world_.devices[i].key(), &wire::SecureKeys::identity);
      if (found == list_.devices.end()) continue;
      request.signatures.push_back({static_cast<std::uint16_t>(found - list_.devices.begin()),
                                    world_.devices[i].identity->sign_in(kSecAggAgreeDomain, message).bytes});
    }
    std::ranges::sort(request.signatures, {}, &wire::SignatureFrom::from);
    COVEY_ASSIGN(const auto shares, victim_.client->unmask(world_.deliver(request)));
    for (const wire::ShareOf& share : shares.shares) {
      if (share.of == index_) collect(known_.of_self, index_ + 1U, share.share);
    }
    return {};
  }
  SecAggWorld& world_;
  SecAggChecks checks_;
  wire::SecureList list_;
  Knowledge& known_;
  SecAggWorld::Device& victim_;
  wire::Hash session_{};
  wire::Hash bound_{};
  std::uint16_t index_ = 0;
  std::optional<SecAggGraph> graph_;
};

}  // namespace

AttackOutcome ambush(const SecAggChecks& checks, const Ambush& plan) {
  const auto world = stage(checks);
  Knowledge known;
  for (std::uint32_t i = 1; i <= kPuppets; ++i) known.add(world->secrets(i));
  if (plan.before) plan.before(*world);
  world->advertise();
  SecAggWorld::Device& victim = world->devices[kVictim];
  if (victim.client->phase() != SecAggClient::Phase::advertised) {
    return {victim.client->reason(), silent_after(victim), false, ""};
  }
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  auto list = std::get<wire::SecureList>(*world->server->due(victim.id()));
  plan.alter(*world, list, known);
  Trap trap(*world, checks, std::move(list), known);
  return trap.spring();
}

}  // namespace covey::simulations
