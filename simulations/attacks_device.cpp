// Attacks of a hostile device on the coordinator (25, 26, 27, 28, 32). Refused means here: the message is not counted,
// and the round goes on or ends without publishing what it would have made of it.
#include <algorithm>

#include "aggregation/secagg_words.h"
#include "simulations/attack_stage.h"
#include "simulations/attacks_internal.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else

constexpr std::uint32_t kLiar = 3;

std::unique_ptr<SecAggWorld> device_stage(const SecAggChecks& checks) {
  auto options = stage_options();
  options.survivors_min = 5;
  options.weight_max = 4;
  auto world = std::make_unique<SecAggWorld>(options);
  SecAggSeam seam = world->seam;
  seam.checks = checks;
  world->server.emplace(*SecAggServer::create_with_seam(world->setup, world->roster(), seam));
  return world;
}

/// Up to the masks; the liar's masked update is made and kept back.
wire::MaskedUpdate up_to_masks(SecAggWorld& world) {
  world.advertise();
  (void)world.close_advertise();
  world.share();
  (void)world.server->close_share();
  SecAggWorld::Device& liar = world.devices[kLiar];
  world.mask_all_but(liar.id());
  const auto inbox = std::get<wire::SecureInbox>(*world.server->due(liar.id()));
  return *liar.client->mask(world.deliver(inbox), liar.contribution, liar.ledger);
}

Result<RunningSum> rest(SecAggWorld& world) {
  COVEY_TRY(world.server->close_mask());
  world.agree();
  COVEY_TRY(world.server->close_agree());
  world.unmask();
  return world.server->finish(nullptr);
}

/// Whether the published sum is other than that of the given devices.
bool wrong(const SecAggWorld& world, const Result<RunningSum>& sum, const std::vector<std::uint32_t>& of) {
  const auto clear = world.clear_sum(of);
  return sum.ok() && !(clear.ok() && *sum == *clear);
}

/// Sends a bad masked update, or one beside the good one, and lets the round go on.
AttackOutcome send_masked(SecAggWorld& world, const wire::MaskedUpdate& bad, const wire::MaskedUpdate* good) {
  SecAggWorld::Device& liar = world.devices[kLiar];
  std::vector<std::uint32_t> honest = world.counted_masked();
  if (good != nullptr) {
    (void)world.server->on_masked(liar.id(), *good);
    honest.push_back(kLiar);
  }
  AttackOutcome out;
  const Status status = world.server->on_masked(liar.id(), bad);
  if (!status.ok()) out.refused = world.server->blame();
  const auto sum = rest(world);
  if (!status.ok()) {
    out.silent = sum.ok() && !wrong(world, sum, honest);  // the others' sum is untouched
    if (!sum.ok()) out.detail = sum.error().message;
    return out;
  }
  if (good == nullptr) honest.push_back(kLiar);
  out.succeeded = wrong(world, sum, honest);
  return out;
}

}  // namespace

/// Exactly t devices answer, and one of them gives wrong shares.
AttackOutcome bad_share(const SecAggChecks& checks) {
  const auto world = device_stage(checks);
  world->advertise();
  (void)world->close_advertise();
  world->share();
  (void)world->server->close_share();
  world->mask();
  (void)world->server->close_mask();
  world->agree();
  (void)world->server->close_agree();
  const std::uint32_t t = world->server->params().threshold;
  for (std::uint32_t i = 0; i < t; ++i) {
    auto& device = world->devices[i];
    const auto request = std::get<wire::SecureUnmask>(*world->server->due(device.id()));
    auto shares = device.client->unmask(world->deliver(request));
    if (!shares.ok()) return {{}, true, false, shares.error().message};
    if (i == kLiar) {
      for (wire::ShareOf& share : shares->shares) share.share[4] ^= 1;
    }
    (void)world->server->on_shares(device.id(), world->deliver(*shares));
  }
  const auto sum = world->server->finish(nullptr);
  if (!sum.ok() && checks.rebuilt_secrets) return {world->server->reason(), true, false, ""};
  return {{}, true, wrong(*world, sum, world->counted_masked()), sum.ok() ? "" : sum.error().message};
}

AttackOutcome wrong_length(const SecAggChecks& checks) {
  const auto world = device_stage(checks);
  auto bad = up_to_masks(*world);
  const auto words = unpack_words(bad.words, bad.count, bad.bits);
  if (!words.ok()) return {{}, true, false, words.error().message};
  bad.count -= 4;
  bad.words = pack_words(std::span(*words).first(bad.count), bad.bits);
  return send_masked(*world, bad, nullptr);
}

AttackOutcome wrong_modulus(const SecAggChecks& checks) {
  const auto world = device_stage(checks);
  auto bad = up_to_masks(*world);
  const auto words = unpack_words(bad.words, bad.count, bad.bits);
  if (!words.ok()) return {{}, true, false, words.error().message};
  bad.bits -= 3;
  bad.words = pack_words(*words, bad.bits);  // the upper bits are lost: the masks no longer cancel
  return send_masked(*world, bad, nullptr);
}

/// What the device sent in another round, masks of that round included.
AttackOutcome other_round(const SecAggChecks& checks) {
  auto options = stage_options();
  options.survivors_min = 5;
  options.weight_max = 4;
  options.round = 2;
  SecAggWorld other(options);
  const auto old = up_to_masks(other);
  const auto world = device_stage(checks);
  (void)up_to_masks(*world);
  return send_masked(*world, old, nullptr);
}

AttackOutcome submitted_twice(const SecAggChecks& checks) {
  const auto world = device_stage(checks);
  const auto good = up_to_masks(*world);
  auto other = good;
  other.words[0] ^= 1;
  return send_masked(*world, other, &good);
}

/// Its numbers count as those of a thousand devices. Only the sum can show that; a weight that the others leave room
/// for stays unseen.
AttackOutcome weight_too_high(const SecAggChecks& checks) {
  const auto world = device_stage(checks);
  auto& liar = world->devices[kLiar];
  liar.contribution[0] = 1000;
  const auto masked = up_to_masks(*world);
  (void)world->server->on_masked(liar.id(), masked);
  auto everyone = world->counted_masked();
  everyone.push_back(kLiar);
  const auto sum = rest(*world);
  if (!sum.ok()) return {world->server->reason(), true, false, ""};
  return {{}, true, wrong(*world, sum, everyone), ""};
}

}  // namespace covey::simulations
