#include <algorithm>
#include <cmath>
#include <functional>

#include "aggregation/clip.h"
#include "aggregation/compress_rotate.h"
#include "aggregation/compress_topk.h"
#include "aggregation/quantize.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

std::vector<float> normal_vector(std::size_t values, std::uint64_t seed) {
  std::vector<float> out(values);
  CounterRng(seed).fill_normal(out);
  return out;
}

RandomBits words(std::uint64_t seed) {
  return [rng = Rng(seed)](std::span<std::uint32_t> out) mutable {
    for (auto& word : out) word = rng.next_u32();
  };
}

double distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum);
}

/// x through rounding to `bits`, with the largest magnitude as the scale.
std::vector<float> rounded(std::span<const float> x, std::uint32_t bits, const RandomBits& random) {
  float top = 0;
  for (const float value : x) top = std::max(top, std::abs(value));
  const std::int32_t largest = (1 << (bits - 1)) - 1;
  const auto q = quantize(x, largest / double{top}, largest, random);
  std::vector<float> out;
  for (const std::int32_t value : q) out.push_back(static_cast<float>(value * double{top} / largest));
  return out;
}

}  // namespace

TEST_CASE("a rotation keeps the norm, adds up, and turns back") {
  for (const std::size_t values : {1U, 2U, 7U, 64U, 1000U}) {
    CAPTURE(values);
    const auto x = normal_vector(values, 1);
    const auto y = normal_vector(values, 2);
    const auto turned = rotate(x, 5);
    CHECK(turned.size() == rotated_size(values));
    CHECK(l2_norm(turned) == doctest::Approx(l2_norm(x)).epsilon(1e-5));
    CHECK(distance(rotate_back(turned, values, 5).value(), x) < 1e-5 * (1 + l2_norm(x)));
    auto sum = rotate(y, 5);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += turned[i];
    auto both = x;
    for (std::size_t i = 0; i < both.size(); ++i) both[i] += y[i];
    CHECK(distance(rotate_back(sum, values, 5).value(), both) < 1e-5 * (1 + l2_norm(both)));
  }
  CHECK_FALSE(rotate_back(std::vector<float>(3), 3, 1).ok());
}

TEST_CASE("rotation makes rounding of a spiky vector to 4 bits much better, and stays unbiased") {
  std::vector<float> x(1024);
  x[17] = 10;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.05F * normal_vector(1, i)[0];
  double plain = 0;
  double turned = 0;
  std::vector<double> mean(x.size());
  constexpr int kTimes = 200;
  for (int time = 0; time < kTimes; ++time) {
    const auto random = words(static_cast<std::uint64_t>(time));
    plain += distance(rounded(x, 4, random), x);
    const auto seed = static_cast<std::uint64_t>(time);
    const auto back = rotate_back(rounded(rotate(x, seed), 4, random), x.size(), seed).value();
    turned += distance(back, x);
    for (std::size_t i = 0; i < x.size(); ++i) mean[i] += double{back[i]} / kTimes;
  }
  CHECK(turned < 0.4 * plain);
  double bias = 0;
  for (std::size_t i = 0; i < x.size(); ++i) bias += (mean[i] - x[i]) * (mean[i] - x[i]);
  // Independent errors fall with the root of their number; a bias would stay.
  CHECK(std::sqrt(bias) < 1.3 * turned / kTimes / std::sqrt(static_cast<double>(kTimes)));
}

TEST_CASE("top-k sends the largest elements, and what it left out comes later: nothing is lost") {
  TopK compressor(4, 1);
  const std::vector<float> delta = {1, -3, 2, 0.5F};
  const auto first = compressor.compress(delta, 16, words(1));
  REQUIRE_OK(first);
  CHECK(first->positions == std::vector<std::uint32_t>{1});
  CHECK(first->values.at(0) == doctest::Approx(-3));
  std::vector<double> sent(4);
  sent[1] += first->values[0];
  const std::vector<float> zero(4);
  for (int round = 0; round < 12; ++round) {
    const auto next = compressor.compress(zero, 16, words(2));
    REQUIRE_OK(next);
    sent[next->positions[0]] += next->values[0];
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(sent[i] == doctest::Approx(delta[i]).epsilon(1e-4));
  CHECK(l2_norm(compressor.residual()) < 1e-3);
}

TEST_CASE("gradient descent with 5% of the elements and 4 bits converges with error feedback, and not without") {
  const std::size_t values = 200;
  const auto target = normal_vector(values, 3);
  const auto descend = [&](bool feedback) {
    std::vector<float> x(values);
    TopK compressor(values, values / 20);
    for (int step = 0; step < 600; ++step) {
      // Two devices' gradients in turn: their largest elements cancel, so a sparse update alone never sees the rest.
      std::vector<float> delta(values);
      for (std::size_t i = 0; i < values; ++i) delta[i] = 0.02F * (target[i] - x[i]);
      const float pull = step % 2 == 0 ? 1.0F : -1.0F;
      for (std::size_t i = 0; i < values / 10; ++i) delta[i] += pull;
      if (!feedback) compressor = TopK(values, values / 20);
      const auto update = compressor.compress(delta, 4, words(static_cast<std::uint64_t>(step))).value();
      for (std::size_t i = 0; i < update.positions.size(); ++i) x[update.positions[i]] += update.values[i];
    }
    double squares = 0;  // over the elements without the pull
    for (std::size_t i = values / 10; i < values; ++i) squares += (x[i] - target[i]) * (x[i] - target[i]);
    return std::sqrt(squares / l2_norm(target) / l2_norm(target));
  };
  const double with = descend(true);
  const double without = descend(false);
  CAPTURE(with);
  CAPTURE(without);
  CHECK(with < 0.5);  // what 4 bits leave of noise
  CHECK(without > 0.8);
}

TEST_CASE("a sparse update survives encoding, and damaged ones are refused") {
  TopK compressor(100, 9);
  const auto update = compressor.compress(normal_vector(100, 4), 12, words(5)).value();
  const Bytes bytes = encode_sparse(update, 12);
  CHECK(bytes.size() == 12 + 36 + packed_size(9, 12));
  const auto dense = decode_sparse(bytes, 100, 9);
  REQUIRE_OK(dense);
  for (std::size_t i = 0; i < 9; ++i) CHECK((*dense)[update.positions[i]] == doctest::Approx(update.values[i]));
  CHECK_FALSE(decode_sparse(bytes, 100, 8).ok());
  CHECK_FALSE(decode_sparse(bytes, update.positions.back(), 9).ok());
  for (std::size_t cut = 0; cut < bytes.size(); ++cut)
    CHECK_FALSE(decode_sparse(ByteSpan(bytes).first(cut), 100, 9).ok());
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {  // whatever it answers, it answers
    Bytes damaged = bytes;
    damaged[rng.below(damaged.size())] = static_cast<std::uint8_t>(rng.next_u32());
    if (const auto read = decode_sparse(damaged, 100, 9); read.ok()) CHECK(read->size() == 100);
  }
  Bytes twice = bytes;
  std::copy(twice.begin() + 12, twice.begin() + 16, twice.begin() + 16);
  CHECK(decode_sparse(twice, 100, 9).error().message.find("do not grow") != std::string::npos);
}

TEST_CASE("a residual survives a restart and a damaged one is refused") {
  TopK compressor(10, 2);
  static_cast<void>(compressor.compress(normal_vector(10, 4), 12, words(5)).value());
  TopK other(10, 2);
  REQUIRE_OK(other.restore(compressor.serialize()));
  CHECK(std::ranges::equal(other.residual(), compressor.residual()));
  CHECK_FALSE(other.restore(Bytes(39)).ok());
  CHECK_FALSE(other.restore(Bytes(40, 0xff)).ok());
  CHECK(std::ranges::equal(other.residual(), compressor.residual()));
  CHECK_FALSE(compressor.compress(std::vector<float>(10, NAN), 12, words(1)).ok());
}
