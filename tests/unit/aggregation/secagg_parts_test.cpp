#include <algorithm>
#include <cmath>
#include <limits>

#include "aggregation/secagg_masks.h"
#include "aggregation/secagg_session.h"
#include "aggregation/secagg_words.h"
#include "aggregation/shamir.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

Bytes random_bytes(Rng& rng, std::size_t size) {
  Bytes out(size);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
  return out;
}

UpdateSpec spec_of(std::size_t values, std::uint32_t bits, std::uint32_t weight_max, std::uint32_t n) {
  return {values, 1.0, bits, weight_max, n};
}

RandomBits words_of(std::uint32_t word) {
  return [word](std::span<std::uint32_t> out) { std::ranges::fill(out, word); };
}

}  // namespace

TEST_CASE("any t shares give the secret and t - 1 do not") {
  Rng rng(1);
  for (int repeat = 0; repeat < 60; ++repeat) {
    Bytes secret = random_bytes(rng, 32);
    if (repeat == 0) std::ranges::fill(secret, 0xff);
    if (repeat == 1) std::ranges::fill(secret, 0);
    const std::size_t count = 1 + rng.below(40);
    const std::size_t t = 1 + rng.below(count);
    const auto shares = shamir_split(secret, t, count, random_bytes(rng, 32));
    REQUIRE_OK(shares);
    std::vector<ShamirPoint> points;
    for (std::size_t i = 0; i < count; ++i) points.push_back({static_cast<std::uint32_t>(i + 1), (*shares)[i]});
    rng.shuffle(points);
    const auto secret_again = shamir_combine(std::span(points).first(t));
    REQUIRE_OK(secret_again);
    CHECK(std::ranges::equal(secret_again->span(), secret));
    if (t > 1) {
      const auto too_few = shamir_combine(std::span(points).first(t - 1));
      CHECK_FALSE((too_few.ok() && std::ranges::equal(too_few->span(), secret)));
    }
  }
}

TEST_CASE("one changed share gives another secret or an error") {
  Rng rng(2);
  const Bytes secret = random_bytes(rng, 32);
  const auto shares = shamir_split(secret, 3, 5, random_bytes(rng, 32));
  for (std::size_t byte = 0; byte < kShamirShareBytes; ++byte) {
    std::vector<ShamirPoint> points = {{1, (*shares)[0]}, {2, (*shares)[1]}, {5, (*shares)[4]}};
    points[1].share[byte] ^= 1;
    const auto combined = shamir_combine(points);
    CHECK_FALSE((combined.ok() && std::ranges::equal(combined->span(), secret)));
  }
}

TEST_CASE("shares that cannot be are refused") {
  Rng rng(3);
  const Bytes secret = random_bytes(rng, 32);
  CHECK_FALSE(shamir_split(secret, 0, 5, secret).ok());
  CHECK_FALSE(shamir_split(secret, 6, 5, secret).ok());
  CHECK_FALSE(shamir_split(random_bytes(rng, 31), 2, 5, secret).ok());
  CHECK_FALSE(shamir_split(secret, 2, 5, random_bytes(rng, 31)).ok());
  const auto shares = shamir_split(secret, 2, 2, random_bytes(rng, 32));
  const auto bad = [&](ShamirPoint a, ShamirPoint b) {
    const std::vector<ShamirPoint> points = {a, b};
    return !shamir_combine(points).ok();
  };
  CHECK_FALSE(bad({1, (*shares)[0]}, {2, (*shares)[1]}));
  CHECK(bad({1, (*shares)[0]}, {1, (*shares)[1]}));
  CHECK(bad({0, (*shares)[0]}, {2, (*shares)[1]}));
  CHECK(bad({static_cast<std::uint32_t>(kShamirPrime), (*shares)[0]}, {2, (*shares)[1]}));
  CHECK(bad({static_cast<std::uint32_t>(kShamirPrime + 1), (*shares)[0]}, {1, (*shares)[1]}));
  ShamirShare outside = (*shares)[0];
  std::fill_n(outside.begin(), 4, std::uint8_t{0xff});
  CHECK(bad({1, outside}, {2, (*shares)[1]}));
  CHECK_FALSE(shamir_combine({}).ok());
}

TEST_CASE("packed words come back, and a damaged length or fill bit is refused") {
  Rng rng(4);
  for (std::uint32_t bits = 1; bits <= 32; ++bits) {
    for (const std::size_t count : {1U, 2U, 7U, 8U, 33U, 1000U}) {
      std::vector<std::uint32_t> words(count);
      for (auto& word : words) word = bits == 32 ? rng.next_u32() : rng.next_u32() & ((1U << bits) - 1);
      const Bytes packed = pack_words(words, bits);
      CHECK(packed.size() == (count * bits + 7) / 8);
      const auto back = unpack_words(packed, count, bits);
      REQUIRE_OK(back);
      CHECK(*back == words);
      std::vector<std::uint32_t> sum(count, 5);
      REQUIRE_OK(add_packed_words(packed, bits, sum));
      for (std::size_t i = 0; i < count; ++i) CHECK(sum[i] == words[i] + 5);
      Bytes longer = packed;
      longer.push_back(0);
      CHECK_FALSE(unpack_words(longer, count, bits).ok());
      CHECK_FALSE(unpack_words(ByteSpan(packed).first(packed.size() - 1), count, bits).ok());
      if (count * bits % 8 != 0) {
        Bytes dirty = packed;
        dirty.back() |= 0x80;
        CHECK_FALSE(unpack_words(dirty, count, bits).ok());
        CHECK_FALSE(add_packed_words(dirty, bits, sum).ok());
      }
    }
  }
}

TEST_CASE("b is m plus the bits of n, and the largest sum of either sign fits") {
  CHECK(*modulus_bits(spec_of(10, 16, 1, 1024)) == 26);
  CHECK(*modulus_bits(spec_of(10, 16, 1, 100)) == 23);
  CHECK(*modulus_bits(spec_of(10, 16, 8, 1024)) == 29);
  UpdateSpec noised = spec_of(10, 16, 1, 1024);
  noised.noise_room = 12e6;
  CHECK(*modulus_bits(noised) == 27);  // 33.6e6 + 12e6 passes 2^25
  CHECK_FALSE(modulus_bits(spec_of(10, 24, 16, 1024)).ok());
  noised.noise_room = -1;
  CHECK_FALSE(modulus_bits(noised).ok());
  noised.noise_room = std::numeric_limits<double>::infinity();
  CHECK_FALSE(modulus_bits(noised).ok());
  for (const std::uint32_t n : {2U, 3U, 8U, 100U}) {
    for (const float extreme : {-1.0F, 1.0F}) {
      const UpdateSpec spec = spec_of(1, 5, 3, n);
      const std::uint32_t bits = *modulus_bits(spec);
      std::vector<std::uint32_t> sum(2);
      for (std::uint32_t i = 0; i < n; ++i) {
        const std::vector<float> delta = {extreme};
        const auto words = secagg_contribution(spec, delta, 3, words_of(0), bits);
        REQUIRE_OK(words);
        for (std::size_t j = 0; j < 2; ++j) sum[j] += (*words)[j];
      }
      const auto total = secagg_sum(spec, sum, n, bits);
      REQUIRE_OK(total);
      CHECK(total->weight() == 3 * n);
      CHECK(total->words()[0] == static_cast<std::int64_t>(extreme) * 15 * 3 * n);
    }
  }
}

TEST_CASE("a sum that honest devices cannot give is refused") {
  const UpdateSpec spec = spec_of(2, 8, 4, 10);
  const std::uint32_t bits = *modulus_bits(spec);
  const auto refused = [&](std::vector<std::uint32_t> words, std::uint32_t n) {
    return !secagg_sum(spec, words, n, bits).ok();
  };
  CHECK_FALSE(refused({12, 127 * 12, 0}, 3));
  CHECK(refused({13, 0, 0}, 3));  // weight above w_max each
  CHECK(refused({2, 0, 0}, 3));   // and below 1 each
  CHECK(refused({12, 127 * 12 + 1, 0}, 3));
  CHECK(refused({12, 0, (1U << bits) - (127 * 12 + 1)}, 3));
  CHECK(refused({40, 0, 0}, 11));  // more contributors than the plan
}

TEST_CASE("masks that are added and taken off again leave the words, with any number of threads") {
  Rng rng(5);
  for (const std::size_t count : {1U, 100U, 70000U, 140001U}) {
    std::vector<std::uint32_t> words(count);
    for (auto& word : words) word = rng.next_u32();
    const auto before = words;
    std::vector<MaskTerm> plus;
    std::vector<MaskTerm> minus;
    for (int i = 0; i < 3; ++i) {
      const Bytes seed = random_bytes(rng, 32);
      plus.push_back({SecretBytes(seed), i == 1});
      minus.push_back({SecretBytes(seed), i != 1});
    }
    add_masks(words, plus, nullptr);
    CHECK(words != before);
    auto threaded = before;
    ThreadPool pool(3);
    add_masks(threaded, plus, &pool);
    CHECK(threaded == words);
    add_masks(words, minus, &pool);
    CHECK(words == before);
  }
}

TEST_CASE("a box opens for its two devices, its direction and its session only") {
  const auto a = crypto::ExchangeKey::generate();
  const auto b = crypto::ExchangeKey::generate();
  const auto c = crypto::ExchangeKey::generate();
  const wire::Hash session{1};
  const wire::Hash other{2};
  SharePair pair;
  pair.mask[0] = 7;
  pair.self[35] = 9;
  const auto key = [&](const auto& own, const auto& peer, const wire::Hash& of) {
    return *box_key(own, peer.public_key().bytes, of);
  };
  const auto box = seal_shares(key(a, b, session), session, 3, 4, pair);
  const auto opened = open_shares(key(b, a, session), session, 3, 4, box);
  REQUIRE_OK(opened);
  CHECK(opened->mask == pair.mask);
  CHECK(opened->self == pair.self);
  CHECK_FALSE(open_shares(key(b, a, other), session, 3, 4, box).ok());
  CHECK_FALSE(open_shares(key(b, a, session), other, 3, 4, box).ok());
  CHECK_FALSE(open_shares(key(b, a, session), session, 4, 3, box).ok());
  CHECK_FALSE(open_shares(key(b, a, session), session, 3, 5, box).ok());
  CHECK_FALSE(open_shares(key(c, a, session), session, 3, 4, box).ok());
  CHECK_FALSE(open_shares(key(b, c, session), session, 3, 4, box).ok());
  for (std::size_t i = 0; i < box.size(); ++i) {
    auto damaged = box;
    damaged[i] ^= 1;
    CHECK_FALSE(open_shares(key(b, a, session), session, 3, 4, damaged).ok());
  }
  CHECK_FALSE(box_key(a, wire::Key{}, session).ok());
}

TEST_CASE("both sides derive one pairwise mask, and another session another one") {
  const auto a = crypto::ExchangeKey::generate();
  const auto b = crypto::ExchangeKey::generate();
  const auto seed = [&](const auto& own, const auto& peer, std::uint8_t session, std::uint8_t plan = 0) {
    return to_hex(pair_mask_seed(own, peer.public_key().bytes, wire::Hash{session}, wire::Hash{plan})->span());
  };
  CHECK(seed(a, b, 1) == seed(b, a, 1));
  CHECK(seed(a, b, 1) != seed(a, b, 2));
  CHECK(seed(a, b, 1, 3) != seed(a, b, 1, 4));
  const Bytes self(32, 3);
  CHECK(to_hex(self_mask_seed(self, wire::Hash{1}).span()) != to_hex(self_mask_seed(self, wire::Hash{2}).span()));
  CHECK_FALSE(pair_mask_seed(a, wire::Key{}, wire::Hash{1}, wire::Hash{1}).ok());
}
