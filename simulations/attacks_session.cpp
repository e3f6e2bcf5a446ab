#include "simulations/attacks_session.h"

#include <algorithm>
#include <cmath>

#include "adapters/layout.h"
#include "client/roster.h"
#include "client/session.h"
#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"
#include "simulations/attack_stage.h"

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

/// An epoch about the three devices of the coordinator's.
wire::SignedRosterEpoch epoch(std::uint64_t number, const wire::Hash& previous, wire::DeviceStatus status,
                              std::uint8_t signer = kRosterKey, std::int64_t issued_ms = 0) {
  wire::RosterEpoch out{number, previous, issued_ms, {}};
  for (std::uint8_t i = 0; i < 3; ++i) {
    out.changes.push_back({key_of(static_cast<std::uint8_t>(kMallory + i)).public_key().bytes, {}, status});
  }
  return wire::sign_epoch(out, key_of(signer));
}

/// What the victim makes of an epoch that comes in a frame.
Status offer(RosterChain& chain, const wire::SignedRosterEpoch& document) {
  COVEY_ASSIGN(const auto frame, wire::encode_frame(wire::RosterReply{{document}, 9}));
  COVEY_ASSIGN(const auto back, wire::decode_frame(frame));
  for (const auto& each : std::get<wire::RosterReply>(back.message).epochs) COVEY_TRY(chain.extend(each));
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

AttackVerdict verdict(const SessionAttack& attack, bool refused, const std::string& why, bool control) {
  AttackVerdict out;
  out.passed = refused && control;
  out.line = std::string(attack.number) + " " + attack.name + (refused ? ": refused (" : ": NOT refused (") + why +
             ")" +
             (control ? "; without the check the victim's vector is recovered" : "; WITHOUT the check it fails too");
  return out;
}

/// `chain` is the victim's; `forgetful` the same device without what stops the attack.
AttackVerdict judge_roster(const SessionAttack& attack, RosterChain chain, RosterChain forgetful,
                           const wire::SignedRosterEpoch& bad) {
  const Status refusal = offer(chain, bad);
  const AttackOutcome with = surround(chain);
  const bool refused = !refusal.ok() && with.refused == wire::SecureReason::unknown_device && with.silent;
  const Status accepted = offer(forgetful, bad);
  const AttackOutcome control = surround(forgetful);
  return verdict(attack, refused, refusal.ok() ? "the epoch was taken" : refusal.error().message,
                 accepted.ok() && control.succeeded);
}

RosterChain chain_of(const std::vector<wire::SignedRosterEpoch>& epochs, std::uint8_t signer = kRosterKey) {
  RosterChain out(key_of(signer).public_key().bytes, key_of(kVictimKey).public_key().bytes);
  for (const auto& document : epochs) (void)offer(out, document);
  return out;
}

/// Epoch 2 revoked the three; the coordinator goes on with epoch 1, where they are active.
AttackVerdict stale_epoch(const SessionAttack& attack) {
  const auto first = epoch(1, {}, wire::DeviceStatus::active);
  const auto second = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked);
  return judge_roster(attack, chain_of({first, second}), chain_of({}), first);
}

/// Another epoch 2 was signed once, and a chain goes on from there. The control believes that it was on that branch.
AttackVerdict forked_roster(const SessionAttack& attack) {
  const auto first = epoch(1, {}, wire::DeviceStatus::active);
  const auto second = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked);
  const auto branch = epoch(2, wire::hash_of(first), wire::DeviceStatus::revoked, kRosterKey, 1);
  const auto third = epoch(3, wire::hash_of(branch), wire::DeviceStatus::active);
  return judge_roster(attack, chain_of({first, second}), chain_of({first, branch}), third);
}

/// The coordinator lists devices of its own invention. The control has one key for both, as in a quickstart: there the
/// claim is "curious coordinator".
AttackVerdict invented_devices(const SessionAttack& attack) {
  const auto forged = epoch(1, {}, wire::DeviceStatus::active, kCoordinatorKey);
  return judge_roster(attack, chain_of({}), chain_of({}, kCoordinatorKey), forged);
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

/// The same device is asked for a clear update in a signed plan. The control's owner has allowed it.
AttackVerdict downgraded_mode(const SessionAttack& attack) {
  const auto coordinator = key_of(kCoordinatorKey);
  const auto signed_offer = wire::sign_plan(wire::encode(clear_plan()), coordinator);
  const auto frame = wire::encode_frame(signed_offer);
  const auto back = frame.ok() ? wire::decode_frame(*frame) : Result<wire::Envelope>(frame.error());
  if (!back.ok()) return verdict(attack, false, back.error().message, false);
  const auto plan = wire::open_plan(std::get<wire::TaskOffer>(back->message), coordinator.public_key().bytes);
  if (!plan.ok()) return verdict(attack, false, plan.error().message, false);

  const auto strict = client::check_plan(*plan, client::SessionPolicy{});
  client::SessionPolicy lax;
  lax.weakest_mode = wire::PrivacyMode::robust;
  bool seen = false;
  if (client::check_plan(*plan, lax).reason == wire::RefusalReason::none) {
    const std::vector<float> delta = {.1F, -.2F, .3F, 0, .05F, -.05F, .2F, .1F};
    const auto hash = wire::plan_hash(signed_offer.plan);
    const auto update = protect(*plan, hash, delta, 1, seeded_bits({1}));
    const auto spec = UpdateSpec::of(*plan, delta.size());
    const auto opened = update.ok() ? open_update(spec, *update) : Result<std::vector<std::int32_t>>(update.error());
    seen = opened.ok();
    for (std::size_t i = 0; seen && i < delta.size(); ++i) {
      const double value = static_cast<double>((*opened)[i]) / spec.scale();
      seen = std::abs(value - static_cast<double>(delta[i])) < 2 / spec.scale();
    }
  }
  return verdict(attack, strict.reason == wire::RefusalReason::mode, strict.detail, seen);
}

}  // namespace

const std::vector<SessionAttack>& session_attacks() {
  static const std::vector<SessionAttack> all = {
      {"5", "stale roster epoch", stale_epoch},
      {"6", "forked roster", forked_roster},
      {"21", "invented devices around a victim, roster key apart", invented_devices},
      {"30", "downgraded privacy mode", downgraded_mode},
  };
  return all;
}

}  // namespace covey::simulations
