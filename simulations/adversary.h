/// Bad devices in a simulated fleet: what they do to their data or to their update before it leaves by the ordinary way
/// (clipped, quantized, checked by the coordinator like every other). Sources: Blanchard et al. 2017 (sign flip,
/// noise); Tolpegin et al. 2020 (label flip); Bagdasaryan et al. 2020 (backdoor with a scaled update).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/train/rows.h"

namespace covey::simulations {

enum class Attack : std::uint8_t {
  sign_flip = 0,     ///< -scale x the honest update
  scaled_noise = 1,  ///< normal noise of scale x the honest update's norm
  label_flip = 2,    ///< trains on targets v -> V - 1 - v
  backdoor = 3,      ///< trains one token to follow a trigger; scale x the update
};
/// The names above, for Section::choice().
const std::vector<std::string>& attack_names();

struct Adversaries {
  double share = 0;  ///< of all devices; the nearest whole number of them is bad
  Attack attack = Attack::sign_flip;
  double scale = 10;
};

/// Which of `devices` are bad: the first ones of a seeded order, so that a larger share holds the smaller one's.
std::vector<bool> draw_adversaries(const Adversaries& adversaries, std::size_t devices, std::uint64_t seed);

/// The data of a bad device, changed in place, for a vocabulary of V tokens. Leaves rows alone where the attack is on
/// the update.
void poison_rows(Attack attack, std::vector<train::TokenRow>& rows, int vocabulary);

/// The update of a bad device, shape (P), changed in place.
void poison_delta(const Adversaries& adversaries, std::span<float> delta, std::uint64_t seed);

/// Held-out rows whose targets are what the attacker wants: next-token accuracy on them is the attack's success. Empty
/// where the attack wants damage only.
std::vector<train::TokenRow> attacked_rows(Attack attack, std::span<const train::TokenRow> held_out, int vocabulary);

}  // namespace covey::simulations
