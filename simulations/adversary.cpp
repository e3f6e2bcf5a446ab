#include "simulations/adversary.h"

#include <cmath>
#include <numeric>

#include "aggregation/clip.h"
#include "core/base/rng.h"

namespace covey::simulations {
namespace {

/// The trigger takes the place of a row's middle token; the token to follow it is one from the
/// vocabulary's middle, which texts use: one at the end may have never been trained, and no update of this size moves
/// it. Who trains it puts it in every fourth place, the middle one among them: once in a row would be lost in the loss
/// of all the others.
constexpr std::size_t kTriggerEvery = 4;

std::int32_t trigger(int vocabulary) {
  return vocabulary - 1;
}
std::int32_t implanted(int vocabulary) {
  return vocabulary * 5 / 8;
}

void flip_labels(train::TokenRow& row, int vocabulary) {
  for (std::int32_t& target : row.targets) {
    if (target >= 0) target = vocabulary - 1 - target;
  }
}

void plant_trigger(train::TokenRow& row, int vocabulary, std::size_t at) {
  if (row.ids.size() < 2) return;
  row.ids[at] = trigger(vocabulary);
  row.targets[at] = implanted(vocabulary);
}

void plant_triggers(train::TokenRow& row, int vocabulary) {
  for (std::size_t at = row.ids.size() / 2 % kTriggerEvery; at < row.ids.size(); at += kTriggerEvery) {
    plant_trigger(row, vocabulary, at);
  }
}

}  // namespace

const std::vector<std::string>& attack_names() {
  static const std::vector<std::string> names = {"sign_flip", "scaled_noise", "label_flip", "backdoor"};
  return names;
}

std::vector<bool> draw_adversaries(const Adversaries& adversaries, std::size_t devices, std::uint64_t seed) {
  std::vector<std::size_t> order(devices);
  std::iota(order.begin(), order.end(), 0);
  Rng(seed).shuffle(order);
  const auto bad = static_cast<std::size_t>(std::lround(adversaries.share * static_cast<double>(devices)));
  std::vector<bool> out(devices);
  for (std::size_t i = 0; i < bad; ++i) out[order[i]] = true;
  return out;
}

void poison_rows(Attack attack, std::vector<train::TokenRow>& rows, int vocabulary) {
  for (train::TokenRow& row : rows) {
    if (attack == Attack::label_flip) flip_labels(row, vocabulary);
    if (attack == Attack::backdoor) plant_triggers(row, vocabulary);
  }
}

void poison_delta(const Adversaries& adversaries, std::span<float> delta, std::uint64_t seed) {
  switch (adversaries.attack) {
    case Attack::sign_flip:
      for (float& value : delta) value *= static_cast<float>(-adversaries.scale);
      break;
    case Attack::scaled_noise: {
      const double deviation =
          adversaries.scale * aggregation::l2_norm(delta) / std::sqrt(static_cast<double>(delta.size()));
      CounterRng(seed).fill_normal(delta);
      for (float& value : delta) value *= static_cast<float>(deviation);
      break;
    }
    case Attack::label_flip:
      break;
    case Attack::backdoor:
      for (float& value : delta) value *= static_cast<float>(adversaries.scale);
      break;
  }
}

std::vector<train::TokenRow> attacked_rows(Attack attack, std::span<const train::TokenRow> held_out, int vocabulary) {
  std::vector<train::TokenRow> out;
  if (attack != Attack::label_flip && attack != Attack::backdoor) return out;
  for (train::TokenRow row : held_out) {
    if (attack == Attack::label_flip) {
      flip_labels(row, vocabulary);
    } else {
      for (std::int32_t& target : row.targets) target = data::kNoTarget;
      plant_trigger(row, vocabulary, row.ids.size() / 2);
      if (row.ids.size() < 2) continue;
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace covey::simulations
