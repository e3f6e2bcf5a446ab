// Attacks on shares: survivor sets that differ between devices, signatures that do not count, boxes sent astray (14,
// 17, 18, 23, 24).
#include <algorithm>

#include "aggregation/secagg_graph.h"
#include "simulations/attack_stage.h"
#include "simulations/attacks_internal.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else

std::uint16_t index_in(const wire::SecureList& list, const wire::Key& identity) {
  return static_cast<std::uint16_t>(std::ranges::find(list.devices, identity, &wire::SecureKeys::identity) -
                                    list.devices.begin());
}

enum class Signers : std::uint8_t { none, genuine, genuine_and_far };

/// A sparse cohort. Of the ten that hold the victim's shares four are puppets, three are told that it survived and
/// three that it died: with the puppets' shares each half is enough. The second half must ask who else signed its set.
class SplitView {
 public:
  explicit SplitView(const SecAggChecks& checks) : world_(stage(checks, options())) {}

  AttackOutcome play(Signers signers) {
    world_->advertise();
    if (const auto closed = world_->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
    list_ = std::get<wire::SecureList>(*world_->server->due(world_->devices[kVictim].id()));
    world_->share();
    (void)world_->server->close_share();
    for (std::uint32_t i = 0; i < world_->devices.size(); ++i) {
      by_index_[index_in(list_, world_->devices[i].key())] = i;
    }
    world_->tamper = [this](std::uint32_t device, std::optional<wire::Message>& message) {
      if (const auto* inbox = message ? std::get_if<wire::SecureInbox>(&*message) : nullptr) inboxes_[device] = *inbox;
    };
    world_->mask();
    world_->tamper = {};
    victim_ = index_in(list_, world_->devices[kVictim].key());
    session_ = world_->devices[kVictim].masked->session;
    const SecAggParams& params = world_->server->params();
    graph_.emplace(params, order_seed(session_));
    holders_ = graph_->holders(victim_);
    read_puppets();
    agree();
    return ask(signers, params.threshold);
  }

 private:
  static SecAggWorldOptions options() {
    SecAggWorldOptions out = stage_options();
    out.devices = 70;
    out.assumptions = {.05, .05};
    out.survivors_min = 60;
    return out;
  }
  SecAggWorld::Device& device(std::uint32_t index) { return world_->devices[by_index_.at(index)]; }
  [[nodiscard]] bool is_puppet(std::size_t place) const { return place < 4; }
  [[nodiscard]] bool is_told_dead(std::size_t place) const { return place >= 7; }
  [[nodiscard]] bool told_dead(std::uint32_t index) const {
    const auto found = std::ranges::find(holders_, index);
    return found != holders_.end() && is_told_dead(static_cast<std::size_t>(found - holders_.begin()));
  }

  void read_puppets() {
    for (std::size_t place = 0; place < holders_.size(); ++place) {
      if (!is_puppet(place)) continue;
      const std::uint32_t i = by_index_.at(holders_[place]);
      const auto key = box_key(world_->secrets(i).share_key, list_.devices[victim_].share_key, session_);
      for (const wire::BoxFrom& box : inboxes_[i].boxes) {
        if (box.from != victim_) continue;
        const auto opened = open_shares(*key, session_, victim_, static_cast<std::uint16_t>(holders_[place]), box.box);
        if (!opened.ok()) continue;
        collect(known_.of_mask, static_cast<std::uint32_t>(place + 1), opened->mask);
        collect(known_.of_self, static_cast<std::uint32_t>(place + 1), opened->self);
      }
    }
  }
  void agree() {
    for (const auto& [index, i] : by_index_) {
      const bool dead = told_dead(index);
      const wire::SecureSurvivors told{world_->setup.round, session_,
                                       dead ? std::vector<std::uint16_t>{victim_} : std::vector<std::uint16_t>{}};
      const auto agreed = world_->devices[i].client->agree(world_->deliver(told));
      if (agreed.ok())
        (dead ? signed_dead_ : signed_alive_).push_back({static_cast<std::uint16_t>(index), agreed->signature});
    }
    for (std::size_t place = 0; place < holders_.size(); ++place) {  // puppets sign whatever is wanted
      if (is_puppet(place)) sign_dead(holders_[place]);
    }
  }
  void sign_dead(std::uint32_t index) {
    const std::vector<std::uint16_t> dead = {victim_};
    signed_dead_.push_back({static_cast<std::uint16_t>(index),
                            device(index).identity->sign_in(kSecAggAgreeDomain, signed_part(session_, dead)).bytes});
  }
  /// Puppets that stand nowhere near those who are to be fooled.
  void add_far_signers() {
    int wanted = 7;
    for (const auto& [index, i] : by_index_) {
      const auto near = [&](std::uint32_t holder) { return holder == index || graph_->adjacent(holder, index); };
      if (index == victim_ || wanted == 0 || std::ranges::any_of(holders_, near)) continue;
      sign_dead(index);
      --wanted;
    }
  }

  AttackOutcome ask(Signers signers, std::uint32_t threshold) {
    if (signers == Signers::genuine_and_far) add_far_signers();
    std::ranges::sort(signed_dead_, {}, &wire::SignatureFrom::from);
    AttackOutcome out;
    for (std::size_t place = 0; place < holders_.size(); ++place) {
      if (is_puppet(place)) continue;
      const bool dead = is_told_dead(place);
      wire::SecureUnmask request{world_->setup.round, session_, {}, dead ? signed_dead_ : signed_alive_};
      if (dead) request.dead = {victim_};
      if (dead && signers == Signers::none) request.signatures.clear();
      std::erase_if(request.signatures, [&](const auto& s) { return s.from == holders_[place]; });
      auto& asked = device(holders_[place]);
      const auto shares = asked.client->unmask(world_->deliver(request));
      if (!shares.ok()) {
        if (dead)
          out = {asked.client->reason(), out.silent && silent_after(asked), false, ""};
        else
          out.detail = shares.error().message;
        continue;
      }
      for (const wire::ShareOf& share : shares->shares) {
        if (share.of == victim_)
          collect(dead ? known_.of_mask : known_.of_self, static_cast<std::uint32_t>(place + 1), share.share);
      }
    }
    Unmasking about;
    about.masked = &*world_->devices[kVictim].masked;
    about.list = &list_;
    about.index = victim_;
    for (const std::uint32_t peer : holders_) about.peers.push_back(static_cast<std::uint16_t>(peer));
    about.plan = world_->setup.plan;
    about.bound = session_;
    about.threshold = threshold;
    const auto words = unmask_one(about, known_);
    out.succeeded = words && *words == world_->devices[kVictim].contribution;
    return out;
  }

  std::unique_ptr<SecAggWorld> world_;
  wire::SecureList list_;
  std::map<std::uint32_t, std::uint32_t> by_index_;
  std::map<std::uint32_t, wire::SecureInbox> inboxes_;
  std::uint16_t victim_ = 0;
  wire::Hash session_{};
  std::optional<SecAggGraph> graph_;
  std::vector<std::uint32_t> holders_;
  std::vector<wire::SignatureFrom> signed_alive_;
  std::vector<wire::SignatureFrom> signed_dead_;
  Knowledge known_;
};

}  // namespace

AttackOutcome two_survivor_sets(const SecAggChecks& checks) {
  return SplitView(checks).play(Signers::genuine);
}

AttackOutcome too_few_signatures(const SecAggChecks& checks) {
  return SplitView(checks).play(Signers::none);
}

AttackOutcome foreign_signatures(const SecAggChecks& checks) {
  return SplitView(checks).play(Signers::genuine_and_far);
}

/// The victim gets the boxes that it made for others back as if they came from them. Taken for theirs, it would tell
/// its own shares: of its mask secret for a device that died, of b for the others.
AttackOutcome retargeted_box(const SecAggChecks& checks) {
  const auto world = stage(checks);
  world->advertise();
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  SecAggWorld::Device& victim = world->devices[kVictim];
  const auto list = std::get<wire::SecureList>(*world->server->due(victim.id()));
  const auto boxes = victim.client->share(world->deliver(list));
  if (!boxes.ok()) return {victim.client->reason(), silent_after(victim), false, ""};
  const std::uint16_t index = index_in(list, victim.key());
  const wire::Hash session = boxes->session;

  Knowledge known;
  Unmasking about;
  wire::SecureInbox inbox{world->setup.round, session, {}};
  for (std::uint16_t peer = 0; peer < list.devices.size(); ++peer) {
    if (peer == index) continue;
    const auto& box = boxes->boxes[about.peers.size()];
    about.peers.push_back(peer);
    inbox.boxes.push_back({peer, box});
    for (std::uint32_t i = 1; i <= kPuppets; ++i) {
      if (world->devices[i].key() != list.devices[peer].identity) continue;
      const auto key = box_key(world->secrets(i).share_key, list.devices[index].share_key, session);
      const auto way =
          checks.direction_bound ? std::pair(index, peer) : std::pair(std::min(index, peer), std::max(index, peer));
      const auto opened = open_shares(*key, session, way.first, way.second, box);
      if (!opened.ok()) continue;
      collect(known.of_mask, peer + 1U, opened->mask);
      collect(known.of_self, peer + 1U, opened->self);
    }
  }
  const auto masked = victim.client->mask(world->deliver(inbox), victim.contribution, victim.ledger);
  if (!masked.ok()) return {victim.client->reason(), silent_after(victim), false, ""};
  const std::uint16_t dead = index_in(list, world->devices[kPuppets + 1].key());
  const std::vector<std::uint16_t> gone = {dead};
  (void)victim.client->agree(world->deliver(wire::SecureSurvivors{world->setup.round, session, gone}));
  wire::SecureUnmask request{world->setup.round, session, gone, {}};
  for (std::uint32_t i = 1; i <= kPuppets; ++i) {
    request.signatures.push_back(
        {index_in(list, world->devices[i].key()),
         world->devices[i].identity->sign_in(kSecAggAgreeDomain, signed_part(session, gone)).bytes});
  }
  std::ranges::sort(request.signatures, {}, &wire::SignatureFrom::from);
  const auto shares = victim.client->unmask(world->deliver(request));
  if (!shares.ok()) return {victim.client->reason(), silent_after(victim), false, ""};
  for (const wire::ShareOf& share : shares->shares) {
    collect(share.of == dead ? known.of_mask : known.of_self, share.of + 1U, share.share);
  }
  about.masked = &*masked;
  about.list = &list;
  about.index = index;
  about.plan = world->setup.plan;
  about.bound = session;
  about.threshold = list.threshold;
  const auto words = unmask_one(about, known);
  return {{}, true, words && *words == victim.contribution, ""};
}

/// A device whose generator repeats itself makes the same keys in two rounds. In the first it survives, so its b is
/// known; in the second it is absent, and its boxes of the first are passed off as new to have it declared dead.
AttackOutcome replayed_box(const SecAggChecks& checks) {
  const std::uint32_t target = kPuppets + 1;
  auto options = stage_options();
  const auto first = stage(checks, options);
  std::map<std::uint32_t, wire::ShareBox> old_boxes;
  wire::SecureList old_list;
  first->tamper = [&](std::uint32_t device, std::optional<wire::Message>& message) {
    if (!message) return;
    if (const auto* list = std::get_if<wire::SecureList>(&*message)) old_list = *list;
    const auto* inbox = std::get_if<wire::SecureInbox>(&*message);
    if (inbox == nullptr) return;
    for (const auto& box : inbox->boxes) {
      if (box.from == index_in(old_list, first->devices[target].key())) old_boxes[device] = box.box;
    }
  };
  if (const auto sum = first->run(); !sum.ok()) return {{}, true, false, sum.error().message};

  options.round = 2;
  options.drops.assign(kStageDevices, DropAt::never);
  options.drops[target] = DropAt::share;
  const auto second = stage(checks, options);
  second->advertise();
  if (const auto closed = second->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  const std::uint16_t index = index_in(old_list, second->devices[target].key());
  second->share();
  (void)second->server->close_share();
  second->tamper = [&](std::uint32_t device, std::optional<wire::Message>& message) {
    auto* inbox = message ? std::get_if<wire::SecureInbox>(&*message) : nullptr;
    if (inbox == nullptr) return;
    inbox->boxes.push_back({index, old_boxes[device]});
    std::ranges::sort(inbox->boxes, {}, &wire::BoxFrom::from);
  };
  second->mask();
  second->tamper = {};
  (void)second->server->close_mask();
  second->agree();
  (void)second->server->close_agree();

  Knowledge known;
  for (std::uint32_t i = 0; i < kStageDevices; ++i) {
    auto& device = second->devices[i];
    const auto due = second->server->due(device.id());
    if (i == target || !due || !std::holds_alternative<wire::SecureUnmask>(*due)) continue;
    const auto shares = device.client->unmask(second->deliver(std::get<wire::SecureUnmask>(*due)));
    if (!shares.ok()) continue;
    for (const wire::ShareOf& share : shares->shares) {
      if (share.of == index) collect(known.of_mask, index_in(old_list, device.key()) + 1U, share.share);
    }
  }
  if (known.of_mask.empty()) return {wire::SecureReason::too_few_shares, true, false, ""};
  // b of the first round was unmasked there as it should be.
  const auto b =
      shamir_split(first->secrets(target).self_seed.span(), old_list.threshold, old_list.threshold, Bytes(32));
  for (std::uint32_t i = 0; i < b->size(); ++i) collect(known.of_self, i + 1, (*b)[i]);
  Unmasking about;
  about.masked = &*first->devices[target].masked;
  about.list = &old_list;
  about.index = index;
  for (std::uint16_t peer = 0; peer < old_list.devices.size(); ++peer) {
    if (peer != index) about.peers.push_back(peer);
  }
  about.plan = first->setup.plan;
  about.bound = checks.session_bound ? about.masked->session : wire::Hash{};
  about.threshold = old_list.threshold;
  const auto words = unmask_one(about, known);
  return {{}, true, words && *words == first->devices[target].contribution, ""};
}

}  // namespace covey::simulations
