#include "core/train/seeded_update.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "core/base/assert.h"
#include "core/base/rng.h"
#include "core/train/direction.h"

namespace covey::train {
namespace {

constexpr int kCandidatesMax = 65536;
constexpr std::size_t kChunk = 1024;

}  // namespace

Status SeedPool::check() const {
  if (count < 1 || count > kCandidatesMax) {
    return Error{ErrorCode::invalid_argument, "seed pool: " + std::to_string(count) + " candidates; it may have 1 to " +
                                                  std::to_string(kCandidatesMax)};
  }
  return {};
}

std::uint64_t SeedPool::candidate(int k) const {
  COVEY_ASSERT(k >= 0 && k < count);
  return derive_seed(seed, static_cast<std::uint64_t>(k));
}

SeededUpdate::SeededUpdate(const SeedPool& pool) : sums_(static_cast<std::size_t>(pool.count)) {}

void SeededUpdate::add(int k, double step) {
  COVEY_ASSERT(k >= 0 && static_cast<std::size_t>(k) < sums_.size());
  sums_[static_cast<std::size_t>(k)] += step;
}

std::vector<float> SeededUpdate::coefficients() const {
  std::vector<float> out(sums_.size());
  std::transform(sums_.begin(), sums_.end(), out.begin(), [](double sum) { return static_cast<float>(sum); });
  return out;
}

Status apply(const SeedPool& pool, std::span<const float> coefficients, std::span<const Piece> values,
             ThreadPool& threads) {
  COVEY_TRY(pool.check());
  if (coefficients.size() != static_cast<std::size_t>(pool.count)) {
    return Error{ErrorCode::invalid_argument, "seeded update: " + std::to_string(coefficients.size()) +
                                                  " scalars for " + std::to_string(pool.count) + " candidates"};
  }
  if (!std::all_of(coefficients.begin(), coefficients.end(), [](float c) { return std::isfinite(c); })) {
    return Error{ErrorCode::invalid_argument, "seeded update: a scalar is not finite"};
  }
  for_tiles(threads, values, [&](const Piece&, std::int64_t offset, std::span<float> tile) {
    std::array<double, kChunk> sum{};
    std::array<float, kChunk> z{};
    for (std::size_t at = 0; at < tile.size(); at += kChunk) {
      const auto part = tile.subspan(at, std::min(kChunk, tile.size() - at));
      sum.fill(0);
      for (int k = 0; k < pool.count; ++k) {
        const auto weight = static_cast<double>(coefficients[static_cast<std::size_t>(k)]);
        if (weight == 0) continue;
        const SeededTerm unit{.seed = pool.candidate(k), .weight = 1};
        combine({&unit, 1}, offset + static_cast<std::int64_t>(at), std::span(z).first(part.size()));
        for (std::size_t i = 0; i < part.size(); ++i) sum[i] += weight * static_cast<double>(z[i]);
      }
      for (std::size_t i = 0; i < part.size(); ++i) part[i] = static_cast<float>(static_cast<double>(part[i]) + sum[i]);
    }
  });
  return {};
}

std::vector<double> draw_probabilities(std::span<const std::vector<double>> seen) {
  constexpr double kCut = 1000;
  std::vector<double> out;
  for (const auto& scalars : seen) {
    double sum = 0;
    for (const double scalar : scalars) sum += std::min(std::abs(scalar), kCut);
    out.push_back(scalars.empty() ? 0 : sum / static_cast<double>(scalars.size()));
  }
  if (out.empty()) return out;
  const auto [least, most] = std::minmax_element(out.begin(), out.end());
  const double low = *least;
  const double range = *most - low;
  double total = 0;
  for (double& p : out) total += p = std::exp(range > 0 ? (p - low) / range : 0);
  for (double& p : out) p /= total;
  return out;
}

}  // namespace covey::train
