// Attacks on the course of a round: another plan, itself missing, declared dead, asked twice, run again
// (8, 12, 13, 15, 16, 19, 20).
#include <algorithm>

#include "aggregation/secagg_words.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "simulations/attack_stage.h"
#include "simulations/attacks_internal.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else

/// Whether a round ended with something else than the sum of those that took part.
bool sum_is_wrong(const SecAggWorld& world, const Result<RunningSum>& sum) {
  const auto clear = world.clear_sum(world.counted_masked());
  return !sum.ok() || !clear.ok() || !(*sum == *clear);
}

/// Runs the rest of a round against a coordinator that looks at nothing; the outcome for the victim.
AttackOutcome play_on(SecAggWorld& world) {
  const auto sum = world.finish_from_share();
  const SecAggWorld::Device& victim = world.devices[kVictim];
  const bool refused = victim.client->phase() == SecAggClient::Phase::dead;
  if (refused) return {victim.client->reason(), silent_after(world.devices[kVictim]), false, ""};
  return {{}, true, sum_is_wrong(world, sum), ""};
}

/// A coordinator that takes whatever comes; `plan_equal` says what the devices sign.
SecAggServer hostile_server(const SecAggWorld& world, bool plan_equal) {
  SecAggSeam seam;
  seam.verify = world.seam.verify;
  seam.checks.sum_bounds = seam.checks.rebuilt_secrets = seam.checks.sender_session = false;
  seam.checks.plan_equal = plan_equal;
  return *SecAggServer::create_with_seam(world.setup, world.roster(), seam);
}

/// The victim trained on another plan than the others, which the coordinator mixes into one session.
AttackOutcome other_plan(const SecAggChecks& checks, void (*change)(wire::RoundPlan&)) {
  const auto world = stage(checks);
  SecAggWorld::Device& victim = world->devices[kVictim];
  wire::RoundPlan plan = world->plan;
  change(plan);
  auto setup = world->setup;
  setup.plan = wire::plan_hash(wire::encode(plan));
  world->make_client(victim, setup, kVictim);
  world->server.emplace(hostile_server(*world, checks.plan_equal));
  // A hostile coordinator lists the victim whatever it signed.
  if (checks.plan_equal) {
    auto made = victim.client->advertise(victim.ledger);
    if (!made.ok()) return {{}, true, false, made.error().message};
    const auto keys = made->keys;
    world->advertise_others(kVictim);
    if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
    auto list = std::get<wire::SecureList>(*world->server->due(world->devices[1].id()));
    list.devices.push_back(keys);
    finish_list(*world, list);
    (void)victim.client->share(world->deliver(list));
    return {victim.client->reason(), silent_after(victim), false, ""};
  }
  world->advertise();
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  return play_on(*world);
}

/// All devices but one agree and answer a request about these dead; their shares of the victim are collected.
void harvest(SecAggWorld& world, const std::vector<std::uint16_t>& dead, bool ask_agree, Knowledge& known,
             std::uint16_t victim_index, AttackOutcome& out) {
  const auto session = world.devices[1].masked->session;
  std::vector<wire::SignatureFrom> signatures;
  const auto place = [&](std::uint32_t i) {
    const auto devices = world.server->devices();
    return static_cast<std::uint16_t>(std::ranges::find(devices, world.devices[i].id()) - devices.begin());
  };
  const bool victim_is_dead = !dead.empty();
  for (std::uint32_t i = 0; i < world.devices.size(); ++i) {
    if (victim_is_dead && i == kVictim) continue;
    auto& device = world.devices[i];
    if (ask_agree) {
      const auto agreed = device.client->agree(world.deliver(wire::SecureSurvivors{world.setup.round, session, dead}));
      if (!agreed.ok()) {
        out = {device.client->reason(), silent_after(device), false, ""};
        continue;
      }
      signatures.push_back({place(i), agreed->signature});
    } else {
      signatures.push_back({place(i), device.identity->sign_in(kSecAggAgreeDomain, signed_part(session, dead)).bytes});
    }
  }
  std::ranges::sort(signatures, {}, &wire::SignatureFrom::from);
  for (std::uint32_t i = 0; i < world.devices.size(); ++i) {
    if (victim_is_dead && i == kVictim) continue;
    auto& device = world.devices[i];
    if (device.client->phase() == SecAggClient::Phase::dead) continue;
    wire::SecureUnmask request{world.setup.round, session, dead, signatures};
    std::erase_if(request.signatures, [&](const auto& s) { return s.from == place(i); });
    const auto shares = device.client->unmask(world.deliver(request));
    if (!shares.ok()) {
      out = {device.client->reason(), silent_after(device), false, ""};
      continue;
    }
    for (const wire::ShareOf& share : shares->shares) {
      if (share.of == victim_index) collect(victim_is_dead ? known.of_mask : known.of_self, place(i) + 1U, share.share);
    }
  }
}

/// Everybody answers for the survivors with the victim, then without it: with b and the mask secret nothing is hidden.
AttackOutcome two_sets_in_turn(const SecAggChecks& checks, bool unmask_between) {
  const auto world = stage(checks);
  world->advertise();
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  auto list = std::get<wire::SecureList>(*world->server->due(world->devices[kVictim].id()));
  world->share();
  (void)world->server->close_share();
  world->mask();
  const auto devices = world->server->devices();
  const auto index =
      static_cast<std::uint16_t>(std::ranges::find(devices, world->devices[kVictim].id()) - devices.begin());
  AttackOutcome out;
  Knowledge known;
  if (unmask_between) {
    harvest(*world, {}, true, known, index, out);
    // With the check in place the second request comes without another agreement, which would be refused already.
    harvest(*world, {index}, !checks.one_request, known, index, out);
  } else {
    const auto session = world->devices[1].masked->session;
    for (auto& device : world->devices) {
      (void)device.client->agree(world->deliver(wire::SecureSurvivors{world->setup.round, session, {}}));
    }
    if (!checks.one_request) harvest(*world, {}, true, known, index, out);
    harvest(*world, {index}, true, known, index, out);
  }
  if (out.refused != wire::SecureReason::none) return out;
  Unmasking about;
  about.masked = &*world->devices[kVictim].masked;
  about.list = &list;
  about.index = index;
  for (std::uint16_t i = 0; i < list.devices.size(); ++i) {
    if (i != index) about.peers.push_back(i);
  }
  about.plan = world->setup.plan;
  about.bound = about.masked->session;
  about.threshold = list.threshold;
  const auto words = unmask_one(about, known);
  out.succeeded = words && *words == world->devices[kVictim].contribution;
  return out;
}

}  // namespace

/// The victim gets the list of a cohort that it is not in, and its masked update is handed in for the first device
/// there.
AttackOutcome self_missing(const SecAggChecks& checks) {
  auto options = stage_options();
  options.assumptions.corrupt_fraction = 0;
  options.drops.assign(kStageDevices, DropAt::never);
  options.drops[kVictim] = DropAt::advertise;
  const auto world = stage(checks, options);
  SecAggWorld::Device& victim = world->devices[kVictim];
  world->server.emplace(hostile_server(*world, true));
  world->advertise();
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  const auto advertised = victim.client->advertise(victim.ledger);
  if (!advertised.ok()) return {{}, true, false, advertised.error().message};
  const auto devices = world->server->devices();
  const auto list = std::get<wire::SecureList>(*world->server->due(devices[0]));
  const auto boxes = victim.client->share(world->deliver(list));
  if (!boxes.ok()) return {victim.client->reason(), silent_after(victim), false, ""};
  wire::SecureInbox inbox{world->setup.round, boxes->session, {}};
  for (std::uint16_t from = 1; from < devices.size(); ++from) {
    inbox.boxes.push_back({from, {}});
    for (std::uint32_t i = 1; i <= kPuppets; ++i) {
      if (world->devices[i].id() != devices[from]) continue;
      const auto key = box_key(world->secrets(i).share_key, advertised->keys.share_key, boxes->session);
      inbox.boxes.back().box = seal_shares(*key, boxes->session, from, 0, SharePair{});
    }
  }
  const auto masked = victim.client->mask(world->deliver(inbox), victim.contribution, victim.ledger);
  if (!masked.ok()) return {victim.client->reason(), silent_after(victim), false, "mask"};
  world->share();
  (void)world->server->close_share();
  world->mask_all_but(devices[0]);
  auto counted = world->counted_masked();
  for (std::uint32_t i = 0; i < kStageDevices; ++i) {
    if (world->devices[i].id() == devices[0]) counted.push_back(i);
  }
  (void)world->server->on_masked(devices[0], *masked);
  (void)world->server->close_mask();
  world->agree();
  (void)world->server->close_agree();
  world->unmask();
  const auto sum = world->server->finish(nullptr);
  if (!sum.ok()) return {{}, true, false, sum.error().message};
  return {{}, true, !(*sum == *world->clear_sum(counted)), ""};
}

AttackOutcome different_models(const SecAggChecks& checks) {
  return other_plan(checks, [](wire::RoundPlan& plan) { plan.adapter.blob[0] ^= 1; });
}

AttackOutcome different_plans(const SecAggChecks& checks) {
  return other_plan(checks, [](wire::RoundPlan& plan) { plan.learning_rate = 0.5; });
}

/// The victim's update has arrived, and the coordinator leaves it out; the victim is to put its name to that.
AttackOutcome declared_dead(const SecAggChecks& checks) {
  const auto world = stage(checks);
  world->advertise();
  if (const auto closed = world->close_advertise(); !closed.ok()) return {{}, true, false, closed.error().message};
  world->share();
  (void)world->server->close_share();
  SecAggWorld::Device& victim = world->devices[kVictim];
  world->mask_all_but(victim.id());
  const auto inbox = std::get<wire::SecureInbox>(*world->server->due(victim.id()));
  const auto masked = victim.client->mask(world->deliver(inbox), victim.contribution, victim.ledger);
  if (!masked.ok()) return {{}, true, false, masked.error().message};
  (void)world->server->close_mask();
  const auto survivors = std::get<wire::SecureSurvivors>(*world->server->due(world->devices[1].id()));
  const auto agreed = victim.client->agree(world->deliver(survivors));
  if (!agreed.ok()) return {victim.client->reason(), silent_after(victim), false, ""};
  world->agree();
  (void)world->server->close_agree();
  world->unmask();
  const auto sum = world->server->finish(nullptr);
  std::vector<std::uint32_t> everyone;
  for (std::uint32_t i = 0; i < kStageDevices; ++i) everyone.push_back(i);
  return {{}, true, sum.ok() && !(*sum == *world->clear_sum(everyone)), sum.ok() ? "" : sum.error().message};
}

AttackOutcome both_secrets(const SecAggChecks& checks) {
  return two_sets_in_turn(checks, false);
}

AttackOutcome unmask_twice(const SecAggChecks& checks) {
  return two_sets_in_turn(checks, true);
}

/// A finished round is called aborted and run again for the same model version without the victim: the difference of
/// the sums is its update. It is the others that must refuse.
AttackOutcome rerun_without_one(const SecAggChecks& checks) {
  const auto first = stage(checks);
  const auto with = first->run();
  if (!with.ok()) return {{}, true, false, with.error().message};
  auto options = stage_options();
  options.round = 2;
  options.drops.assign(kStageDevices, DropAt::never);
  options.drops[kVictim] = DropAt::advertise;
  const auto second = stage(checks, options);
  for (std::uint32_t i = 0; i < kStageDevices; ++i) second->devices[i].ledger = first->devices[i].ledger;
  const auto without = second->run();
  if (!without.ok()) return {second->devices[1].client->reason(), silent_after(second->devices[1]), false, ""};
  const auto& victim = first->devices[kVictim];
  AttackOutcome out;
  out.succeeded = true;
  const std::uint32_t mask = ~std::uint32_t{0} >> (32 - first->setup.bits);
  for (std::size_t j = 0; j < options.values; ++j) {
    const auto difference = static_cast<std::uint32_t>(with->words()[j] - without->words()[j]) & mask;
    if (difference != victim.contribution[1 + j]) out.succeeded = false;
  }
  return out;
}

}  // namespace covey::simulations
