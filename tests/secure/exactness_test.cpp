// Secure aggregation is exact: over many random rounds with dropouts at every phase, a round completes if and only if
// an independent oracle says so, and then its sum is the sum in the clear, bit for bit.
//
// Every 500 rounds: 480 with n log-uniform in 2 ... 64, 18 in 65 ... 300, 2 at 1,000.
// COVEY_SECURE_ROUNDS=10000 runs more of them, COVEY_SECURE_FIRST=s others. One seed replays one round.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

#include "aggregation/secagg_graph.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

using Devices = std::set<std::uint32_t>;

std::uint32_t size_of_round(std::uint64_t number, Rng& rng) {
  const std::uint64_t place = number % 500;
  if (place < 2) return 1000;
  if (place < 20) return static_cast<std::uint32_t>(65 + rng.below(236));
  const double log_n = std::log(2.0) + rng.uniform() * (std::log(65.0) - std::log(2.0));
  return std::min<std::uint32_t>(64, static_cast<std::uint32_t>(std::exp(log_n)));
}

SecAggWorldOptions random_round(std::uint64_t number) {
  Rng rng(number, 0x65786163);
  SecAggWorldOptions options;
  options.seed = number;
  options.round = 1 + number;
  options.devices = size_of_round(number, rng);
  options.values = 1 + rng.below(24);
  options.value_bits = static_cast<std::uint32_t>(2 + rng.below(15));
  options.weight_max = static_cast<std::uint32_t>(1 + rng.below(4) * rng.below(10));
  constexpr std::array<SecAggAssumptions, 3> kAssumptions = {{{.1, .2}, {.05, .05}, {.05, .33}}};
  options.assumptions = options.devices == 1000 ? kAssumptions[number % 2] : kAssumptions[rng.below(3)];
  options.survivors_min = static_cast<std::uint32_t>(2 + rng.below(std::max<std::uint32_t>(1, options.devices / 2)));
  options.survivors_min = std::min(options.survivors_min, options.devices);
  // A quarter of the rounds lose nobody, half what the plan assumes at most, a quarter up to nearly all; at all phases.
  const std::uint64_t kind = rng.below(4);
  const double lost = kind == 0 ? 0 : rng.uniform() * (kind < 3 ? options.assumptions.dropout_fraction : 0.95);
  options.drops.assign(options.devices, DropAt::never);
  for (DropAt& drop : options.drops) {
    if (rng.uniform() < lost) drop = static_cast<DropAt>(rng.below(5));
  }
  return options;
}

/// What the protocol must do, said once more over plain sets and without the machines' code.
struct Verdict {
  bool completes = false;
  Devices counted;  ///< whose updates are in the sum
  const char* why = "completes";
};

class Oracle {
 public:
  explicit Oracle(const SecAggWorld& world) : world_(world) {}

  Verdict ask() {
    const auto& options = world_.options;
    const Devices advertised = staying({}, DropAt::advertise, true);
    if (advertised.size() < options.survivors_min) return {false, {}, "too few advertise"};
    list_.assign(advertised.begin(), advertised.end());
    std::ranges::sort(list_, {}, [&](std::uint32_t i) { return world_.devices[i].key(); });
    meet();
    const Devices shared = staying(advertised, DropAt::share);
    if (shared.size() < options.survivors_min) return {false, {}, "too few share"};
    Devices masked = staying(shared, DropAt::mask);
    std::erase_if(masked, [&](std::uint32_t i) { return with_itself(i, shared) < t_; });
    if (masked.size() < options.survivors_min) return {false, {}, "too few mask"};
    Devices agreed = staying(masked, DropAt::agree);
    std::erase_if(agreed, [&](std::uint32_t i) { return with_itself(i, masked) < t_; });
    if (agreed.size() < t_) return {false, {}, "too few agree"};
    Devices answered = staying(agreed, DropAt::unmask);
    std::erase_if(answered, [&](std::uint32_t i) { return with_itself(i, agreed) < t_; });
    for (const std::uint32_t i : shared) {
      const bool alive = masked.contains(i);
      if (!alive && among(i, masked) == 0) continue;  // nobody's mask is with it
      const std::uint32_t shares = among(i, answered) + (complete_ && answered.contains(i) ? 1 : 0);
      if (shares < t_) return {false, {}, "too few shares"};
    }
    return {true, masked};
  }

 private:
  [[nodiscard]] Devices staying(const Devices& from, DropAt phase, bool all = false) const {
    Devices out;
    for (std::uint32_t i = 0; i < world_.devices.size(); ++i) {
      if ((all || from.contains(i)) && world_.options.drops[i] != phase) out.insert(i);
    }
    return out;
  }
  /// Who shares with whom: everyone, or the ring that the list gives.
  void meet() {
    const auto n = static_cast<std::uint32_t>(list_.size());
    complete_ = n <= 64;
    if (complete_) {
      t_ = static_cast<std::uint32_t>(std::floor(n * (1 + world_.options.assumptions.corrupt_fraction) / 2 + 1e-9)) + 1;
      return;
    }
    const auto params = solve_sparse(n, world_.options.assumptions, SecAggRule::semi_malicious);
    t_ = params->threshold;
    // The ring's order is a hash of the list, which only the machines have: taken from the list that was sent.
    const auto list = std::get<wire::SecureList>(*world_.server->due(world_.devices[list_[0]].id()));
    const SecAggGraph graph(*params, order_seed(session_hash(list)));
    peers_.resize(world_.devices.size());
    for (std::uint32_t place = 0; place < n; ++place) {
      for (const std::uint32_t other : graph.neighbours(place)) peers_[list_[place]].push_back(list_[other]);
      if (graph.neighbours(place).size() != params->degree) t_ = n;  // shows as a mismatch
    }
  }
  /// Neighbours of i in a set.
  [[nodiscard]] std::uint32_t among(std::uint32_t i, const Devices& set) const {
    if (complete_) return static_cast<std::uint32_t>(set.size() - (set.contains(i) ? 1 : 0));
    return static_cast<std::uint32_t>(
        std::ranges::count_if(peers_[i], [&](std::uint32_t j) { return set.contains(j); }));
  }
  [[nodiscard]] std::uint32_t with_itself(std::uint32_t i, const Devices& set) const {
    return among(i, set) + (complete_ ? 1 : 0);
  }

  const SecAggWorld& world_;
  std::vector<std::uint32_t> list_;  ///< devices in the list's order
  std::vector<std::vector<std::uint32_t>> peers_;
  bool complete_ = true;
  std::uint32_t t_ = 0;
};

struct Outcome {
  bool completed = false;
  bool agrees = false;  ///< with the oracle, and the sum is right
  std::string what;
};

Outcome play(std::uint64_t number) {
  SecAggWorld world(random_round(number));
  Outcome out;
  if (!world.server) return {false, false, "the world was not made"};
  Verdict verdict{false, {}, "too few advertise"};
  Result<RunningSum> sum = Error{ErrorCode::internal, "no list"};
  world.advertise();
  if (const auto closed = world.close_advertise(); closed.ok()) {
    verdict = Oracle(world).ask();
    sum = world.finish_from_share();
  } else {
    sum = closed.error();
    verdict = Oracle(world).ask();
  }
  out.completed = sum.ok();
  out.what = verdict.why;
  out.agrees = sum.ok() == verdict.completes;
  if (!sum.ok() || !verdict.completes) {
    if (!out.agrees) out.what += sum.ok() ? " but it completed" : " but: " + sum.error().message;
    return out;
  }
  const std::vector<std::uint32_t> counted(verdict.counted.begin(), verdict.counted.end());
  const auto clear = world.clear_sum(counted);
  out.agrees = clear.ok() && *sum == *clear;
  if (!out.agrees) out.what = "another sum than in the clear";
  return out;
}

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace

TEST_CASE("secure rounds complete exactly when they must, with exactly the sum in the clear") {
  const std::uint64_t rounds = number_from("COVEY_SECURE_ROUNDS", 500);
  const std::uint64_t first = number_from("COVEY_SECURE_FIRST", 0);
  std::vector<Outcome> outcomes(rounds);
  const auto begin = std::chrono::steady_clock::now();
  ThreadPool pool(2);
  pool.parallel_for(rounds, [&](std::size_t i) { outcomes[i] = play(first + i); });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;

  std::uint64_t completed = 0;
  std::uint64_t mismatches = 0;
  std::map<std::string, int> ends;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    completed += outcomes[i].completed ? 1 : 0;
    ++ends[outcomes[i].what];
    if (outcomes[i].agrees) continue;
    ++mismatches;
    std::printf("round %llu: %s\n", static_cast<unsigned long long>(first + i), outcomes[i].what.c_str());
  }
  for (const auto& [what, count] : ends) std::printf("  %5d %s\n", count, what.c_str());
  std::printf("%llu rounds, %llu completed, %llu mismatches, %.1f s\n", static_cast<unsigned long long>(rounds),
              static_cast<unsigned long long>(completed), static_cast<unsigned long long>(mismatches), took.count());
  CHECK(mismatches == 0);
  CHECK(completed * 10 >= rounds * 7);
  // A statement about dropouts says nothing where none end a round.
  CHECK(completed < rounds);
}
