#include "simulations/attacks_session.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "adapters/layout.h"
#include "aggregation/dp_correlated.h"
#include "aggregation/secagg_words.h"
#include "client/roster.h"
#include "client/session.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "simulations/attack_stage.h"
#include "simulations/attack_victim.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else
using client::RosterChain;

crypto::IdentityKey key_of(std::uint8_t number) {
  return *crypto::IdentityKey::from_seed(Bytes(32, number));
}

constexpr std::uint8_t kRosterKey = 210;
constexpr std::uint8_t kCoordinatorKey = 211;
constexpr std::uint8_t kVictimKey = 212;
constexpr std::uint8_t kMallory = 220;  ///< and the two after it: devices whose keys the coordinator has

/// An epoch about the three devices of the coordinator's; the victim is active in each.
wire::SignedRosterEpoch epoch(std::uint64_t number, const wire::Hash& previous, wire::DeviceStatus status,
                              std::uint8_t signer = kRosterKey, std::int64_t issued_ms = 0) {
  wire::RosterEpoch out{number, previous, issued_ms, {}};
  out.changes.push_back({key_of(kVictimKey).public_key().bytes, {}, wire::DeviceStatus::active});
  for (std::uint8_t i = 0; i < 3; ++i) {
    out.changes.push_back({key_of(static_cast<std::uint8_t>(kMallory + i)).public_key().bytes, {}, status});
  }
  return wire::sign_epoch(out, key_of(signer));
}

const std::vector<float> kVictimDelta = {.1F, -.2F, .3F, 0, .05F, -.05F, .2F, .1F};

client::SessionConfig victim_config(const client::SessionPolicy& policy = {}) {
  static const crypto::IdentityKey identity = key_of(kVictimKey);
  client::SessionConfig config;
  config.task = "task";
  config.coordinator = key_of(kCoordinatorKey).public_key().bytes;
  config.roster = key_of(kRosterKey).public_key().bytes;
  config.identity = identity.public_key().bytes;
  config.identity_key = &identity;
  config.policy = policy;
  return config;
}

/// A coordinator that shows these epochs to whoever asks, and answers everything else through `more`.
AttackVictim::Coordinator showing(std::vector<wire::SignedRosterEpoch> epochs, AttackVictim::Coordinator more = {}) {
  return [epochs = std::move(epochs), more = std::move(more)](const wire::Message& said) -> std::vector<wire::Message> {
    if (std::holds_alternative<wire::RosterRequest>(said)) return {wire::RosterReply{epochs, epochs.size()}};
    return more ? more(said) : std::vector<wire::Message>();
  };
}

template <class M>
const M* first_of(const std::vector<wire::Message>& said) {
  for (const auto& message : said) {
    if (const auto* found = std::get_if<M>(&message)) return found;
  }
  return nullptr;
}

Status extend(RosterChain& chain, const wire::SignedRosterEpoch& document) {
  COVEY_TRY(chain.extend(document));
  return {};
}

/// The three devices in the places of the honest ones around a victim that believes in this roster.
AttackOutcome surround(const RosterChain& chain) {
  return ambush(SecAggChecks{}, {[&](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                                   std::erase_if(list.devices, [&](const wire::SecureKeys& keys) {
                                     for (std::uint32_t i = kPuppets + 1; i < kStageDevices; ++i) {
                                       if (world.devices[i].key() == keys.identity) return true;
                                     }
                                     return false;
                                   });
                                   for (std::uint8_t i = 0; i < 3; ++i) {
                                     const auto identity = key_of(static_cast<std::uint8_t>(kMallory + i));
                                     const auto secrets = world.secrets(600U + i);
                                     list.devices.push_back(signed_keys(world, identity, secrets));
                                     known.add(secrets);
                                     if (chain.active(identity.public_key().bytes)) {
                                       world.admit(identity.public_key().bytes);
                                     }
                                   }
                                   finish_list(world, list);
                                 },
                                 {}});
}

AttackVerdict verdict(const SessionAttack& attack, bool refused, const std::string& why, bool control,
                      const char* goal = "the victim's vector is recovered") {
  AttackVerdict out;
  out.passed = refused && control;
  out.line = std::string(attack.number) + " " + attack.name + (refused ? ": refused (" : ": NOT refused (") + why +
             ")" + (control ? "; without the check " + std::string(goal) : "; WITHOUT the check it fails too");
  return out;
}

RosterChain chain_of(const std::vector<wire::SignedRosterEpoch>& epochs, std::uint8_t signer = kRosterKey) {
  RosterChain out(key_of(signer).public_key().bytes, key_of(kVictimKey).public_key().bytes);
  for (const auto& document : epochs) (void)extend(out, document);
  return out;
}

/// A whole session that has followed `known` meets a coordinator at epoch `number`, with `bad` to show for it. The
/// control is a device whose belief about the roster, `forgetful`, lacks what stops the attack.
AttackVerdict judge_roster(const SessionAttack& attack, const std::vector<wire::SignedRosterEpoch>& known,
                           RosterChain forgetful, std::uint64_t number, const wire::SignedRosterEpoch& bad) {
  AttackVictim victim(victim_config(), kVictimDelta);
  if (!known.empty()) {
    const auto honest = victim.meet(known.size(), showing(known));
    if (first_of<wire::CheckIn>(honest) == nullptr) {
      return verdict(attack, false, "the honest epochs were not taken: " + victim.session().last_problem(), false);
    }
  }
  const auto said = victim.meet(number, showing({bad}));
  const bool silent = std::ranges::all_of(
      said, [](const auto& message) { return std::holds_alternative<wire::RosterRequest>(message); });
  const AttackOutcome with = surround(chain_of(known));
  const bool refused = victim.left() && silent && victim.session().roster_epoch() == known.size() &&
                       with.refused == wire::SecureReason::unknown_device && with.silent;
  const Status accepted = extend(forgetful, bad);
  const AttackOutcome control = surround(forgetful);
  return verdict(attack, refused, victim.session().last_problem(), accepted.ok() && control.succeeded);
}

/// Epoch 2 revoked the three; the coordinator goes on with epoch 1, where they are active.
AttackVerdict stale_epoch(const SessionAttack& attack) {
  const auto first = epoch(1, {}, wire::DeviceStatus::active);
  const auto second = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked);
  return judge_roster(attack, {first, second}, chain_of({}), 1, first);
}

/// Another epoch 2 was signed once, and a chain goes on from there. The control believes that it was on that branch.
AttackVerdict forked_roster(const SessionAttack& attack) {
  const auto first = epoch(1, {}, wire::DeviceStatus::active);
  const auto second = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked);
  const auto branch = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked, kRosterKey, 1);
  const auto third = epoch(3, wire::hash_of(branch), wire::DeviceStatus::active);
  return judge_roster(attack, {first, second}, chain_of({first, branch}), 3, third);
}

/// The coordinator lists devices of its own invention. The control has one key for both, as in a quickstart: there the
/// claim is "curious coordinator".
AttackVerdict invented_devices(const SessionAttack& attack) {
  const auto forged = epoch(1, {}, wire::DeviceStatus::active, kCoordinatorKey);
  return judge_roster(attack, {}, chain_of({}, kCoordinatorKey), 1, forged);
}

wire::RoundPlan clear_plan() {
  adapters::AdapterLayout layout;
  layout.lora.push_back({"model.layers.0.self_attn.q_proj", 4, 4, 1, 4.0, false, 0});
  layout.size = 8;
  wire::RoundPlan plan;
  plan.task = "task";
  plan.round = RoundId{1};
  plan.model = {{"model.safetensors", {1}, 1000}};
  plan.adapter_layout = layout.canonical();
  plan.adapter = {"adapter.f32", {2}, 32};
  plan.learning_rate = 0.01;
  plan.local_steps = 4;
  plan.local_steps_max = 100;
  plan.batch = 2;
  plan.seq = 16;
  plan.mode = wire::PrivacyMode::robust;
  plan.clip_norm = 1;
  plan.value_bits = 16;
  plan.cohort_invited = 4;
  plan.goal_count = 3;
  plan.min_count = 2;
  plan.update_bytes_max = 1 << 20;
  plan.deadline_ms = 600'000;
  plan.roster_epoch = 1;
  return plan;
}

/// The victim, enrolled in epoch 1, is offered a signed plan; `more` answers what it says then.
std::vector<wire::Message> offered(AttackVictim& victim, const wire::RoundPlan& plan,
                                   const AttackVictim::Coordinator& more = {}) {
  auto offer = wire::sign_plan(wire::encode(plan), key_of(kCoordinatorKey));
  offer.left_ms = plan.deadline_ms;
  return victim.meet(1, showing({epoch(1, {}, wire::DeviceStatus::active)},
                                [&](const wire::Message& said) -> std::vector<wire::Message> {
                                  if (std::holds_alternative<wire::CheckIn>(said)) return {offer};
                                  return more ? more(said) : std::vector<wire::Message>();
                                }));
}

/// Refused for `reason`, and nothing of an update or of secure aggregation said.
bool refused_for(const std::vector<wire::Message>& said, wire::RefusalReason reason) {
  const auto* answer = first_of<wire::TaskAnswer>(said);
  return answer != nullptr && !answer->accepted && answer->reason == reason &&
         first_of<wire::SubmitBegin>(said) == nullptr && first_of<wire::SecureAdvertise>(said) == nullptr;
}

/// A device is asked for a clear update in a signed plan. The control's owner has allowed it: the coordinator takes the
/// upload and reads it.
AttackVerdict downgraded_mode(const SessionAttack& attack) {
  const auto plan = clear_plan();
  AttackVictim strict(victim_config(), kVictimDelta);
  const bool refused = refused_for(offered(strict, plan), wire::RefusalReason::mode);

  client::SessionPolicy lax;
  lax.weakest_mode = wire::PrivacyMode::robust;
  AttackVictim trusting(victim_config(lax), kVictimDelta);
  const auto said = offered(trusting, plan, [](const wire::Message& message) -> std::vector<wire::Message> {
    const auto* begin = std::get_if<wire::SubmitBegin>(&message);
    return begin == nullptr ? std::vector<wire::Message>()
                            : std::vector<wire::Message>{wire::SubmitNext{begin->round, 0}};
  });
  bool seen = false;
  if (const auto* chunk = first_of<wire::SubmitChunk>(said); chunk != nullptr) {
    const auto spec = UpdateSpec::of(plan, kVictimDelta.size());
    const auto update = wire::decode<wire::ClearUpdate>(chunk->bytes);
    const auto opened = update.ok() ? open_update(spec, *update) : Result<std::vector<std::int32_t>>(update.error());
    seen = opened.ok();
    for (std::size_t i = 0; seen && i < kVictimDelta.size(); ++i) {
      const double value = static_cast<double>((*opened)[i]) / spec.scale();
      seen = std::abs(value - static_cast<double>(kVictimDelta[i])) < 2 / spec.scale();
    }
  }
  return verdict(attack, refused, strict.session().last_problem(), seen);
}

/// What the plan's noise leaves visible of a device's update to those who know all others': the largest error.
double hidden_by(const wire::RoundPlan& plan) {
  const auto setup = SecAggSetup::of(plan, {}, kVictimDelta.size());
  if (!setup.ok()) return 0;
  const std::array<std::uint8_t, 32> seed = {7};
  dp::NoiseBits bits(seed);
  const auto words = secagg_noised_contribution(setup->spec, dp::distributed_of(plan), kVictimDelta, seeded_bits(seed),
                                                bits, setup->bits);
  const auto alone = words.ok() ? secagg_sum(setup->spec, *words, 1, setup->bits) : Result<RunningSum>(words.error());
  const auto values = alone.ok() ? alone->mean() : Result<std::vector<float>>(alone.error());
  double worst = 0;
  for (std::size_t i = 0; values.ok() && i < kVictimDelta.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>((*values)[i]) - static_cast<double>(kVictimDelta[i])));
  }
  return worst;
}

/// The owner allows an epsilon of 8 in all; a signed plan asks for a two-hundredth of the noise. The control's owner
/// has set no bound.
AttackVerdict raised_epsilon(const SessionAttack& attack) {
  auto honest = clear_plan();
  honest.mode = wire::PrivacyMode::secure;
  honest.secure = {.corrupt_fraction = 0.1, .dropout_fraction = 0.2, .survivors_min = 3, .phase_ms = 10'000};
  honest.noise = {wire::NoiseKind::discrete_gaussian, 4};
  auto weak = honest;
  weak.noise.multiplier = 0.02;
  client::SessionPolicy policy;
  policy.survivors_min = 3;
  policy.epsilon_max = 8;
  AttackVictim content(victim_config(policy), kVictimDelta);
  const bool fair = first_of<wire::SecureAdvertise>(offered(content, honest)) != nullptr;
  AttackVictim bounded(victim_config(policy), kVictimDelta);
  const bool refused = refused_for(offered(bounded, weak), wire::RefusalReason::budget);
  policy.epsilon_max = 0;
  AttackVictim careless(victim_config(policy), kVictimDelta);
  const bool goes_on = first_of<wire::SecureAdvertise>(offered(careless, weak)) != nullptr;
  return verdict(attack, fair && refused, bounded.session().last_problem(),
                 goes_on && hidden_by(weak) < 0.1 && hidden_by(honest) > 1,
                 "it takes part, and those who know the others' updates read its own within a tenth of the clip norm");
}

/// A coordinator that takes uploads to their end.
std::vector<wire::Message> taken(AttackVictim& victim, const wire::RoundPlan& plan) {
  wire::Hash content{};
  return offered(victim, plan, [&](const wire::Message& said) -> std::vector<wire::Message> {
    if (const auto* begin = std::get_if<wire::SubmitBegin>(&said)) {
      content = begin->content;
      return {wire::SubmitNext{begin->round, 0}};
    }
    if (!std::holds_alternative<wire::SubmitChunk>(said)) return {};
    return {wire::Receipt{plan.round, content, wire::ReceiptStatus::accepted}};
  });
}

/// What those who know the other updates read of the victim's in `rounds` rounds' noised sum, where `times` of its
/// updates are in it: the largest error.
double hidden_over_rounds(const wire::RoundPlan& plan, std::uint64_t rounds, int times) {
  dp::CorrelatedNoise noise(plan.correlated, Bytes(32, 9), UpdateSpec::of(plan, kVictimDelta.size()));
  const double unit = UpdateSpec::of(plan, kVictimDelta.size()).scale() * times;
  double worst = 0;
  for (const std::int64_t value : noise.between(0, rounds)) {
    worst = std::max(worst, std::abs(static_cast<double>(value)) / unit);
  }
  return worst;
}

/// The device has agreed to a separation of 200 rounds and sent an update; the same coordinator calls it round after
/// round with a signed plan that says 1, and then with the old one. The control has no memory of what it agreed to.
AttackVerdict lowered_separation(const SessionAttack& attack) {
  constexpr std::uint64_t kRounds = 200;
  auto honest = clear_plan();
  honest.correlated = {wire::CorrelatedKind::tree, 2, kRounds, 0, 0, 0};
  auto lowered = honest;
  lowered.correlated.separation = 1;
  client::SessionPolicy policy;
  policy.weakest_mode = wire::PrivacyMode::robust;
  AttackVictim victim(victim_config(policy), kVictimDelta);
  bool refused = first_of<wire::SubmitChunk>(taken(victim, honest)) != nullptr;
  std::string why;
  for (std::uint64_t round = 2; round <= 5; ++round) {
    honest.round = lowered.round = RoundId{round};
    refused = refused && refused_for(taken(victim, lowered), wire::RefusalReason::mode);
    why = victim.session().last_problem();
    refused = refused && refused_for(taken(victim, honest), wire::RefusalReason::policy);
  }
  AttackVictim forgetful(victim_config(policy), kVictimDelta);
  int sent = 0;
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    lowered.round = RoundId{round};
    sent += first_of<wire::SubmitChunk>(taken(forgetful, lowered)) != nullptr ? 1 : 0;
  }
  const bool read = sent > 0 && hidden_over_rounds(lowered, kRounds, sent) < 0.1;
  return verdict(attack, refused, why, read && hidden_over_rounds(honest, kRounds, 1) > 1,
                 "it sends in all 200 rounds, and those who see the adapters and know the others' updates read its own "
                 "within a tenth of the clip norm");
}

}  // namespace

const std::vector<SessionAttack>& session_attacks() {
  static const std::vector<SessionAttack> all = {
      {"5", "stale roster epoch", stale_epoch},
      {"6", "forked roster", forked_roster},
      {"21", "invented devices around a victim, roster key apart", invented_devices},
      {"30", "downgraded privacy mode", downgraded_mode},
      {"31", "raised local epsilon: a plan with less noise", raised_epsilon},
      {"31", "lowered separation under correlated noise", lowered_separation},
  };
  return all;
}

}  // namespace covey::simulations
