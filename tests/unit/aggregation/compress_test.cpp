#include <algorithm>
#include <cmath>
#include <cstdio>
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

namespace {

UpdateSpec sparse_spec(std::size_t values, std::size_t kept, std::uint32_t bits, double clip_norm = 1e4) {
  UpdateSpec out{values, clip_norm, bits, 1, 1};
  out.kept = kept;
  return out;
}

/// What the coordinator reads of the words, in units of the delta.
std::vector<double> read_back(const UpdateSpec& spec, const SparseWords& words) {
  const auto dense =
      unpack_sparse(pack_sparse(words, spec.values, spec.value_bits), spec.kept, spec.values, spec.value_bits);
  REQUIRE_OK(dense);
  std::vector<double> out;
  for (const std::int32_t q : *dense) out.push_back(q / spec.scale());
  return out;
}

}  // namespace

TEST_CASE("top-k sends the largest elements, and what it left out comes later: nothing is lost") {
  const auto spec = sparse_spec(4, 1, 20, 10);
  std::vector<float> delta = {1, -3, 2, 0.5F};
  const auto whole = delta;
  std::vector<float> residual;
  std::vector<double> sent(4);
  for (int round = 0; round < 12; ++round) {
    auto next = sparsify(spec, delta, residual, words(2)).value();
    if (round == 0) CHECK(next.words.positions == std::vector<std::uint32_t>{1});
    const auto read = read_back(spec, next.words);
    for (std::size_t i = 0; i < 4; ++i) sent[i] += read[i];
    residual = std::move(next.residual);
    delta.assign(4, 0);
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(sent[i] == doctest::Approx(whole[i]).epsilon(1e-4));
  CHECK(l2_norm(residual) < 1e-3);
}

TEST_CASE("what clipping takes from a sparse update stays in the residual") {
  const auto spec = sparse_spec(3, 2, 20, 1);
  const auto made = sparsify(spec, std::vector<float>{3, 4, 0.5F}, {}, words(1)).value();
  const auto read = read_back(spec, made.words);
  CHECK(read[0] == doctest::Approx(0.6).epsilon(1e-4));
  CHECK(read[1] == doctest::Approx(0.8).epsilon(1e-4));
  CHECK(made.residual[0] == doctest::Approx(2.4).epsilon(1e-4));
  CHECK(made.residual[1] == doctest::Approx(3.2).epsilon(1e-4));
  CHECK(made.residual[2] == 0.5F);
}

TEST_CASE("gradient descent with 5% of the elements and 4 bits converges with error feedback, and not without") {
  const std::size_t values = 200;
  const auto spec = sparse_spec(values, values / 20, 4, 6);
  const auto target = normal_vector(values, 3);
  const auto descend = [&](bool feedback) {
    std::vector<float> x(values);
    std::vector<float> residual;
    for (int step = 0; step < 1200; ++step) {
      // Two devices' gradients in turn: their largest elements cancel, so a sparse update alone never sees the rest.
      std::vector<float> delta(values);
      for (std::size_t i = 0; i < values; ++i) delta[i] = 0.02F * (target[i] - x[i]);
      const float pull = step % 2 == 0 ? 1.0F : -1.0F;
      for (std::size_t i = 0; i < values / 10; ++i) delta[i] += pull;
      auto update = sparsify(spec, delta, residual, words(static_cast<std::uint64_t>(step))).value();
      const auto read = read_back(spec, update.words);
      for (std::size_t i = 0; i < values; ++i) x[i] += static_cast<float>(read[i]);
      if (feedback) residual = std::move(update.residual);
    }
    double squares = 0;  // over the elements without the pull
    for (std::size_t i = values / 10; i < values; ++i) squares += (x[i] - target[i]) * (x[i] - target[i]);
    return std::sqrt(squares / l2_norm(target) / l2_norm(target));
  };
  const double with = descend(true);
  const double without = descend(false);
  std::printf("distance left: %.3f with error feedback, %.3f without\n", with, without);
  CHECK(with < 0.6);  // what 4 bits leave of noise
  CHECK(without > 0.8);
}

TEST_CASE("a sparse update survives encoding, and damaged ones are refused") {
  const auto spec = sparse_spec(100, 9, 12, 10);
  const auto made = sparsify(spec, normal_vector(100, 4), {}, words(5)).value();
  const Bytes bytes = pack_sparse(made.words, 100, 12);
  CHECK(bytes.size() == 8 + 14);  // nine positions of 7 bits, nine values of 12
  CHECK(bytes.size() == sparse_size(9, 100, 12));
  const auto dense = unpack_sparse(bytes, 9, 100, 12);
  REQUIRE_OK(dense);
  for (std::size_t i = 0; i < 9; ++i) CHECK((*dense)[made.words.positions[i]] == made.words.q[i]);
  CHECK_FALSE(unpack_sparse(bytes, 8, 100, 12).ok());
  CHECK_FALSE(unpack_sparse(bytes, 9, made.words.positions.back(), 12).ok());
  for (std::size_t cut = 0; cut < bytes.size(); ++cut)
    CHECK_FALSE(unpack_sparse(ByteSpan(bytes).first(cut), 9, 100, 12).ok());
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {  // whatever it answers, it answers
    Bytes damaged = bytes;
    damaged[rng.below(damaged.size())] = static_cast<std::uint8_t>(rng.next_u32());
    if (const auto read = unpack_sparse(damaged, 9, 100, 12); read.ok()) CHECK(read->size() == 100);
  }
  SparseWords twice = made.words;
  twice.positions[1] = twice.positions[0];
  CHECK(unpack_sparse(pack_sparse(twice, 100, 12), 9, 100, 12).error().message.find("do not grow") !=
        std::string::npos);
  SparseWords beyond = made.words;
  beyond.positions[8] = 100;  // seven bits hold it, the update does not
  CHECK_FALSE(unpack_sparse(pack_sparse(beyond, 100, 12), 9, 100, 12).ok());
}

TEST_CASE("top-k refuses lengths that differ, and what is not finite") {
  const auto spec = sparse_spec(10, 2, 12);
  CHECK_FALSE(sparsify(spec, std::vector<float>(9), {}, words(1)).ok());
  CHECK_FALSE(sparsify(spec, std::vector<float>(10), std::vector<float>(9), words(1)).ok());
  CHECK_FALSE(sparsify(spec, std::vector<float>(10, NAN), {}, words(1)).ok());
  CHECK_FALSE(sparsify(spec, std::vector<float>(10), std::vector<float>(10, NAN), words(1)).ok());
  CHECK_FALSE(sparsify(sparse_spec(10, 0, 12), std::vector<float>(10), {}, words(1)).ok());
  CHECK_FALSE(sparsify(sparse_spec(10, 11, 12), std::vector<float>(10), {}, words(1)).ok());
}
