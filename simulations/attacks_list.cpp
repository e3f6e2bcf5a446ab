// Attacks through the list: who stands in it, with which keys, for which round (1, 2, 3, 4, 7, 9, 10, 11, 29).
#include <algorithm>
#include <limits>

#include "core/wire/signing.h"
#include "simulations/attack_stage.h"
#include "simulations/attacks_internal.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else

/// The entries of the three honest devices beside the victim.
template <typename Each>
void for_honest(SecAggWorld& world, wire::SecureList& list, Each&& each) {
  for (std::uint32_t i = kPuppets + 1; i < kStageDevices; ++i) {
    each(i, *std::ranges::find(list.devices, world.devices[i].key(), &wire::SecureKeys::identity));
  }
}

void drop_honest(SecAggWorld& world, wire::SecureList& list) {
  std::erase_if(list.devices, [&](const wire::SecureKeys& keys) {
    for (std::uint32_t i = kPuppets + 1; i < kStageDevices; ++i) {
      if (world.devices[i].key() == keys.identity) return true;
    }
    return false;
  });
}

/// Keys of the honest devices from a round before, whose mask secrets the coordinator rebuilt when they dropped out
/// there.
void replay_old_keys(SecAggWorld& world, wire::SecureList& list, Knowledge& known, std::uint64_t old_round) {
  auto options = world.options;
  options.round = old_round;
  SecAggWorld old(options);
  for_honest(world, list, [&](std::uint32_t i, wire::SecureKeys& entry) {
    const auto secrets = old.secrets(500 + i);
    entry = signed_keys(old, *old.devices[i].identity, secrets);
    known.add(secrets);
  });
}

crypto::IdentityKey invented_identity(std::uint8_t number) {
  return *crypto::IdentityKey::from_seed(Bytes(32, static_cast<std::uint8_t>(200 + number)));
}

}  // namespace

AttackOutcome swapped_mask_key(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           for_honest(world, list, [&](std::uint32_t i, wire::SecureKeys& entry) {
                             const auto own = world.secrets(100 + i);
                             entry.mask_key = own.mask_key.public_key().bytes;
                             known.add(own);
                           });
                         },
                         {}});
}

AttackOutcome swapped_share_key(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           for_honest(world, list, [&](std::uint32_t i, wire::SecureKeys& entry) {
                             const auto own = world.secrets(100 + i);
                             entry.share_key = own.share_key.public_key().bytes;
                             known.add(own);
                           });
                         },
                         {}});
}

AttackOutcome replayed_advertise(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           replay_old_keys(world, list, known, world.options.round + 7);
                         },
                         {}});
}

/// The first time the round was broken off for the victim alone; the honest ones dropped out of it, so their secrets of
/// this round are known, and their signatures on them are good.
AttackOutcome round_offered_twice(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           replay_old_keys(world, list, known, world.options.round);
                         },
                         [](SecAggWorld& world) {
                           SecAggWorld::Device& victim = world.devices[kVictim];
                           (void)victim.client->advertise(victim.ledger);
                           world.make_client(victim, world.setup, kVictim + 300);
                         }});
}

AttackOutcome unknown_device(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           drop_honest(world, list);
                           for (std::uint8_t i = 0; i < 3; ++i) {
                             const auto own = world.secrets(100U + i);
                             list.devices.push_back(signed_keys(world, invented_identity(i), own));
                             known.add(own);
                           }
                           finish_list(world, list);
                         },
                         {}});
}

/// Devices that were enrolled once, and whose keys fell into the coordinator's hands before they were revoked.
AttackOutcome revoked_device(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           for_honest(world, list, [&](std::uint32_t i, wire::SecureKeys& entry) {
                             const auto own = world.secrets(100 + i);
                             entry = signed_keys(world, *world.devices[i].identity, own);
                             known.add(own);
                             world.revoke(world.devices[i].key());
                           });
                         },
                         {}});
}

/// Puppets stand in the list under several keys, so that n_min seems reached. The victim itself twice is refused for
/// the same reason.
AttackOutcome device_twice(const SecAggChecks& checks) {
  if (checks.distinct) {
    const auto itself = ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge&) {
                                          std::erase_if(list.devices, [&](const wire::SecureKeys& keys) {
                                            return keys.identity == world.devices[kStageDevices - 1].key();
                                          });
                                          list.devices.push_back(*std::ranges::find(
                                              list.devices, world.devices[kVictim].key(), &wire::SecureKeys::identity));
                                          finish_list(world, list);
                                        },
                                        {}});
    if (itself.refused != wire::SecureReason::listed_twice || !itself.silent) {
      return {itself.refused, itself.silent, false, "itself twice"};
    }
  }
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           drop_honest(world, list);
                           for (std::uint32_t i = 1; i <= 3; ++i) {
                             const auto own = world.secrets(100 + i);
                             list.devices.push_back(signed_keys(world, *world.devices[i].identity, own));
                             known.add(own);
                           }
                           finish_list(world, list);
                         },
                         {}});
}

AttackOutcome below_n_min(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge&) {
                           drop_honest(world, list);
                           finish_list(world, list);
                         },
                         {}});
}

/// Three more devices of the coordinator's, enrolled and in the roster, stand in the places of the honest ones. The lot
/// drew the nine of the stage and none of these three.
AttackOutcome stuffed_cohort(const SecAggChecks& checks) {
  const auto draw_stage = [](SecAggWorld& world) {
    SecAggDraw draw;
    draw.epoch_root = {22};
    draw.active = 12;
    for (const auto& device : world.devices) {
      draw.below = std::max(draw.below, wire::draw_of(draw.epoch_root, world.setup.round, device.key()) + 1);
    }
    world.draw = draw;
    for (std::uint32_t i = 0; i < kStageDevices; ++i) world.make_client(world.devices[i], world.setup, i);
  };
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           drop_honest(world, list);
                           for (std::uint32_t stuffed = 0, number = 0; stuffed < 3; ++number) {
                             Bytes seed(32, 22);
                             for (std::size_t byte = 0; byte < 4; ++byte)
                               seed[byte] = static_cast<std::uint8_t>(number >> 8 * byte);
                             const auto identity = *crypto::IdentityKey::from_seed(seed);
                             const wire::Key key = identity.public_key().bytes;
                             const auto lot = wire::draw_of(world.draw->epoch_root, world.setup.round, key);
                             if (lot < world.draw->below) continue;  // it has many, and takes those that suit it
                             world.admit(key);
                             const auto secrets = world.secrets(700U + stuffed++);
                             list.devices.push_back(signed_keys(world, identity, secrets));
                             known.add(secrets);
                           }
                           finish_list(world, list);
                         },
                         draw_stage});
}

/// The lot draws everyone of a roster of a hundred, and the coordinator lists those that it likes.
AttackOutcome drawn_left_out(const SecAggChecks& checks) {
  return ambush(checks, {[](SecAggWorld& world, wire::SecureList& list, Knowledge& known) {
                           drop_honest(world, list);
                           for (std::uint8_t i = 0; i < 3; ++i) {
                             const auto identity =
                                 *crypto::IdentityKey::from_seed(Bytes(32, static_cast<std::uint8_t>(90 + i)));
                             world.admit(identity.public_key().bytes);
                             const auto secrets = world.secrets(710U + i);
                             list.devices.push_back(signed_keys(world, identity, secrets));
                             known.add(secrets);
                           }
                           finish_list(world, list);
                         },
                         [](SecAggWorld& world) {
                           world.draw = SecAggDraw{{22}, std::numeric_limits<std::uint64_t>::max(), 100};
                           for (std::uint32_t i = 0; i < kStageDevices; ++i) {
                             world.make_client(world.devices[i], world.setup, i);
                           }
                         }});
}

/// A lowered k is refused for the same reason; among nine the graph is complete, so that only t is worth a control.
AttackOutcome lowered_threshold(const SecAggChecks& checks) {
  if (checks.parameters) {
    const auto degree =
        ambush(checks, {[](SecAggWorld&, wire::SecureList& list, Knowledge&) { list.degree -= 2; }, {}});
    if (degree.refused != wire::SecureReason::parameters_differ || !degree.silent) {
      return {degree.refused, degree.silent, false, "k lowered"};
    }
  }
  return ambush(checks, {[](SecAggWorld&, wire::SecureList& list, Knowledge&) { list.threshold = 3; }, {}});
}

}  // namespace covey::simulations
