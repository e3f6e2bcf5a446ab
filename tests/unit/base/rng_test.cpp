#include "core/base/rng.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/bytes.h"
#include "support/support.h"

using namespace covey;

TEST_CASE("philox gives the published known answers") {
  // Random123 distribution, kat_vectors: philox4x32 10 rounds, counter and key all zero, and all ones.
  const auto zero = CounterRng(0, 0).block(0);
  CHECK(zero == std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const auto ones = CounterRng(~0ULL, ~0ULL).block(~0ULL);
  CHECK(ones == std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
}

TEST_CASE("normal deviates have the same bits on every machine") {
  std::vector<float> z(1 << 16);
  CounterRng(7, 3).fill_normal(z);
  std::uint64_t hash = 14695981039346656037ULL;
  for (const float v : z) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &v, 4);
    hash = (hash ^ bits) * 1099511628211ULL;
  }
  CHECK(hash == 8108779986089376836ULL);  // printed on x86-64 first; Arm64 must agree
}

TEST_CASE("a scaled direction added in place, in pieces cut anywhere, has the same bits on every machine") {
  std::vector<float> values(50001);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97) * 0.01F;
  const CounterRng rng(0x9E3779B97F4A7C15ULL, 11);
  const auto cut = std::span(values);
  rng.add_normal(cut.first(3), 0.01F, 5);  // element i of the direction is normal(5 + i), whoever adds it
  rng.add_normal(cut.subspan(3, 16383), 0.01F, 8);
  rng.add_normal(cut.subspan(16386), 0.01F, 16391);
  CHECK(values[20000] == 0.01F * static_cast<float>(20000 % 97) + 0.01F * rng.normal(20005));
  std::uint64_t hash = 14695981039346656037ULL;
  for (const float v : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &v, 4);
    hash = (hash ^ bits) * 1099511628211ULL;
  }
  CHECK(hash == 18152456649520019760ULL);  // printed on x86-64 first; Arm64 must agree
}

TEST_CASE("filling from the middle equals filling from the start") {
  const CounterRng rng(42, 9);
  std::vector<float> all(100);
  rng.fill_normal(all);
  std::vector<float> part(50);
  rng.fill_normal(part, 37);
  for (std::size_t i = 0; i < part.size(); ++i) CHECK(part[i] == all[37 + i]);
}

TEST_CASE("normal deviates have mean 0, variance 1 and the right tails") {
  double sum = 0;
  double squares = 0;
  int beyond3 = 0;
  constexpr int n = 1 << 20;
  Rng rng(1);
  for (int i = 0; i < n; ++i) {
    const double z = rng.normal();
    sum += z;
    squares += z * z;
    beyond3 += std::abs(z) > 3;
  }
  CHECK(std::abs(sum / n) < 5.0 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1) < 5.0 * std::sqrt(2.0 / n));
  CHECK(std::abs(beyond3 - n * 0.0026998) < 5 * std::sqrt(n * 0.0027));
}

TEST_CASE("the inverse normal agrees with erfc") {
  for (double p : {1e-9, 1e-4, 0.01, 0.3, 0.5, 0.77, 0.999, 1 - 1e-7}) {
    const double z = inverse_normal(p);
    CHECK(std::abs(0.5 * std::erfc(-z / std::sqrt(2.0)) - p) < 1e-8 * std::max(p, 1e-2));
  }
}

TEST_CASE("below is uniform and a sought position repeats the sequence") {
  Rng rng(5);
  int counts[7] = {};
  for (int i = 0; i < 70000; ++i) ++counts[rng.below(7)];
  for (const int c : counts) CHECK(std::abs(c - 10000) < 500);
  const auto position = rng.position();
  const auto a = rng.next_u64();
  rng.seek(position);
  CHECK(rng.next_u64() == a);
}
