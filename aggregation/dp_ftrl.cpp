#include "aggregation/dp_ftrl.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_noise.h"
#include "aggregation/serial.h"
#include "core/base/assert.h"
#include "core/crypto/hash.h"

namespace covey::aggregation::dp {

std::size_t Participation::times() const {
  return std::min(times_max, (rounds + separation - 1) / separation);
}

double tree_sensitivity(const Participation& participation) {
  const std::size_t k = participation.times();
  double squares = 0;
  for (std::size_t level = 0; level < tree_levels(participation.rounds); ++level) {
    const std::size_t leaves = std::size_t{1} << level;
    squares += static_cast<double>(k * std::min(k, (leaves + participation.separation - 1) / participation.separation));
  }
  return std::sqrt(squares);
}

TreeNoise::TreeNoise(ByteSpan seed, double sigma, std::size_t values)
    : seed_(seed.size()), sigma_(sigma), values_(values) {
  COVEY_ASSERT(seed.size() == 32);
  std::copy(seed.begin(), seed.end(), seed_.data());
}

void TreeNoise::add_node(std::vector<std::int64_t>& out, unsigned level, std::uint64_t index, std::int64_t sign) const {
  const std::uint64_t place = std::uint64_t{level} << 56 | index;
  const auto key = crypto::derive_key(ByteSpan(seed_.data(), seed_.size()), "dptree", place);
  COVEY_ASSERT(key.ok());
  NoiseBits bits(ByteSpan(key->data(), key->size()));
  const DiscreteGaussian gaussian(sigma_);
  for (std::int64_t& value : out) value += sign * gaussian.draw(bits);
}

/// The prefix of `count` rounds is the sum of one node per bit that is set: of 2^level leaves, behind the larger ones.
std::vector<std::int64_t> TreeNoise::between(std::uint64_t from, std::uint64_t to) const {
  std::vector<std::int64_t> out(values_);
  for (unsigned level = 0; level < 56; ++level) {
    const bool before = (from >> level & 1) != 0;
    const bool after = (to >> level & 1) != 0;
    if (before && after && from >> level == to >> level) continue;  // one node of both
    if (after) add_node(out, level, (to >> level) - 1, 1);
    if (before) add_node(out, level, (from >> level) - 1, -1);
  }
  return out;
}

Blt Blt::fitted(std::size_t buffers, std::size_t rounds) {
  // The i-th coefficient of 1 / sqrt(1 - x) is the mean of x^i under the arcsine law, i.e. of sin^2 on a quarter turn:
  // decays spread geometrically towards 1, each with the law's mass around it, then one scale so that c_1 = 1/2.
  Blt out;
  const double slowest = 1.0 / static_cast<double>(std::max<std::size_t>(rounds, 2));
  const auto mass_below = [](double gap) { return std::asin(std::sqrt(std::min(gap, 1.0))); };
  const double ratio = std::pow(slowest, 1.0 / static_cast<double>(buffers));
  double edge = 1;
  double total = 0;
  for (std::size_t j = 0; j < buffers; ++j) {
    const double next = j + 1 == buffers ? 0 : edge * ratio;
    const double theta = 1 - (j + 1 == buffers ? edge / 3 : std::sqrt(edge * next));
    out.theta.push_back(theta);
    out.omega.push_back((mass_below(edge) - mass_below(next)) * theta);
    total += out.omega.back();
    edge = next;
  }
  for (double& omega : out.omega) omega *= 0.5 / total;
  return out;
}

Status Blt::check() const {
  const auto bad = [](const char* what) { return Error{ErrorCode::invalid_argument, std::string("BLT: ") + what}; };
  if (theta.empty() || theta.size() != omega.size()) return bad("needs one omega for each theta");
  double first = 0;
  for (std::size_t j = 0; j < theta.size(); ++j) {
    if (!(theta[j] >= 0 && theta[j] < 1)) return bad("theta: write numbers from 0 to below 1");
    if (!(omega[j] >= 0)) return bad("omega: write numbers of 0 or more");
    first += omega[j];
  }
  if (first > 1) return bad("omega: their sum must be at most 1");
  return {};
}

std::vector<double> Blt::coefficients(std::size_t rounds) const {
  std::vector<double> out(rounds);
  std::vector<double> power = omega;
  for (std::size_t i = 0; i < rounds; ++i) {
    if (i == 0) {
      out[0] = 1;
      continue;
    }
    for (std::size_t j = 0; j < theta.size(); ++j) {
      out[i] += power[j];
      power[j] *= theta[j];
    }
  }
  return out;
}

double Blt::sensitivity(const Participation& participation) const {
  // Column sums by recursion: a participation enters every b rounds, and after k of them none follows.
  const auto c = coefficients(participation.rounds);
  const std::size_t b = participation.separation;
  const std::size_t window = participation.times() * b;
  std::vector<double> sum(c);
  double squares = 0;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    if (i >= b) sum[i] += sum[i - b];
    if (i >= window) sum[i] -= c[i - window];
    squares += sum[i] * sum[i];
  }
  return std::sqrt(squares);
}

double Blt::worst_prefix_deviation(std::size_t rounds) const {
  // C^-1 is Toeplitz too: its first column is what comes out of 1, 0, 0, ...; prefix sums of it are the rows' elements.
  BltNoise inverse(*this, 1);
  double prefix = 0;
  double squares = 0;
  for (std::size_t t = 0; t < rounds; ++t) {
    double z = t == 0 ? 1 : 0;
    inverse.correlate(std::span(&z, 1));
    prefix += z;
    squares += prefix * prefix;
  }
  return std::sqrt(squares);
}

BltNoise::BltNoise(Blt blt, std::size_t values)
    : blt_(std::move(blt)), buffers_(blt_.theta.size(), std::vector<double>(values)) {
  COVEY_ASSERT(blt_.check().ok());
}

void BltNoise::correlate(std::span<double> z) {
  for (std::size_t i = 0; i < z.size(); ++i) {
    for (std::size_t j = 0; j < buffers_.size(); ++j) z[i] -= blt_.omega[j] * buffers_[j][i];
    for (std::size_t j = 0; j < buffers_.size(); ++j) buffers_[j][i] = blt_.theta[j] * buffers_[j][i] + z[i];
  }
}

Bytes BltNoise::serialize() const {
  Bytes out;
  for (const auto& buffer : buffers_) {
    for (const double value : buffer) put_u64(out, std::bit_cast<std::uint64_t>(value));
  }
  return out;
}

Status BltNoise::restore(ByteSpan bytes) {
  const auto corrupt = [] {
    return Error{ErrorCode::corrupt_data, "stored noise buffers: damaged; restore the backup"};
  };
  if (bytes.size() != 8 * buffers_.size() * buffers_.front().size()) return corrupt();
  auto read = buffers_;
  StateReader in(bytes);
  for (auto& buffer : read) {
    for (double& value : buffer) {
      if (!std::isfinite(value = std::bit_cast<double>(in.u64()))) return corrupt();
    }
  }
  buffers_ = std::move(read);
  return {};
}

}  // namespace covey::aggregation::dp
