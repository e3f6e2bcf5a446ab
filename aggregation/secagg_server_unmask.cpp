// The end of a session: secrets are rebuilt from shares, each compared with what was advertised, and the masks taken
// off the sum. The sum is the only vector of P words.
#include <algorithm>
#include <mutex>
#include <utility>

#include "aggregation/secagg_masks.h"
#include "aggregation/secagg_server_impl.h"
#include "aggregation/secagg_words.h"
#include "core/base/rng.h"
#include "core/crypto/exchange.h"
#include "core/wire/codec.h"

namespace covey::aggregation {
namespace {

using wire::SecureReason;

constexpr int kSubsetsMax = 64;  ///< tried beyond those that leave out one share

std::vector<ShamirPoint> without(std::span<const ShamirPoint> points, std::size_t left_out) {
  std::vector<ShamirPoint> out(points.begin(), points.end());
  out.erase(out.begin() + static_cast<std::ptrdiff_t>(left_out));
  return out;
}

/// Subsets of t shares in the order in which they are tried: the first t; each t of the first t + 1; then random ones.
template <typename Try>
bool try_subsets(std::vector<ShamirPoint> points, std::size_t t, Try&& attempt) {
  if (points.size() < t) return false;
  if (attempt(std::span(points).first(t))) return true;
  if (points.size() == t) return false;
  for (std::size_t left_out = 0; left_out < t; ++left_out) {
    if (attempt(std::span<const ShamirPoint>(without(std::span(points).first(t + 1), left_out)))) return true;
  }
  Rng rng(1);
  for (int i = 0; points.size() > t + 1 && i < kSubsetsMax; ++i) {
    rng.shuffle(points);
    if (attempt(std::span(points).first(t))) return true;
  }
  return false;
}

/// What a coordinator would publish that does not look at the sum: it is held to what can be, not refused.
Result<RunningSum> unchecked_sum(const SecAggSetup& setup, std::span<const std::uint32_t> words, std::uint32_t count) {
  const std::uint64_t weight_max = std::uint64_t{count} * setup.spec.weight_max;
  const std::uint64_t weight = std::clamp<std::uint64_t>(words[0], count, weight_max);
  const auto bound = static_cast<std::int64_t>(weight) * setup.spec.magnitude_max();
  const std::uint32_t shift = 32 - setup.bits;
  std::vector<std::int64_t> sum;
  for (const std::uint32_t word : words.subspan(1)) {
    const std::int64_t value = static_cast<std::int32_t>(word << shift) >> shift;
    sum.push_back(std::clamp(value, -bound, bound));
  }
  return RunningSum::from_parts(setup.spec, std::move(sum), weight, count);
}

template <typename Each>
void for_all(ThreadPool* pool, std::size_t count, Each&& each) {
  if (pool != nullptr) {
    pool->parallel_for(count, each);
  } else {
    for (std::size_t i = 0; i < count; ++i) each(i);
  }
}

}  // namespace

bool SecAggServer::Machine::secret_needed(std::uint16_t device) const {
  if (survivors.contains(device)) return true;
  if (!shared.contains(device)) return false;
  const auto& peers = neighbours[device];
  return std::ranges::any_of(peers, [&](std::uint32_t i) { return survivors.contains(static_cast<std::uint16_t>(i)); });
}

bool SecAggServer::enough_shares() const {
  const Machine& m = *machine_;
  if (m.phase != Phase::unmask) return false;
  for (std::uint16_t i = 0; i < m.list.devices.size(); ++i) {
    if (!m.secret_needed(i)) continue;
    const auto found = m.shares.find(i);
    if (found == m.shares.end() || found->second.size() < m.params.threshold) return false;
  }
  return true;
}

/// b of a survivor, the mask secret of a dead device. With more than t shares, wrong ones are worked around.
Result<SecretBytes> SecAggServer::Machine::rebuild(std::uint16_t device, std::vector<DeviceId>& found_suspects) const {
  const wire::SecureKeys& keys = list.devices[device];
  const bool alive = survivors.contains(device);
  const auto matches = [&](ByteSpan secret) {
    if (!seam.checks.rebuilt_secrets) return true;
    if (alive) return commitment_to(secret) == keys.commitment;
    const auto pair = crypto::ExchangeKey::from_secret(secret);
    return pair.ok() && pair->public_key().bytes == keys.mask_key;
  };
  const auto found = shares.find(device);
  const std::vector<ShamirPoint> points = found == shares.end() ? std::vector<ShamirPoint>{} : found->second;
  const std::size_t t = params.threshold;
  if (points.size() < t) {
    return Error{ErrorCode::permission_denied, "secure aggregation: " + std::to_string(points.size()) + " of " +
                                                   std::to_string(t) + " shares of a secret came"};
  }
  SecretBytes secret;
  std::vector<ShamirPoint> good;
  int tries = 0;
  const bool rebuilt = try_subsets(points, t, [&](std::span<const ShamirPoint> subset) {
    ++tries;
    auto combined = shamir_combine(subset);
    if (!combined.ok() || !matches(combined->span())) return false;
    secret = *std::move(combined);
    good.assign(subset.begin(), subset.end());
    return true;
  });
  if (!rebuilt) {
    return Error{ErrorCode::corrupt_data, "secure aggregation: a rebuilt secret is not the advertised one"};
  }
  if (tries == 1) return secret;
  const auto holders = graph->holders(device);
  for (const ShamirPoint& point : points) {
    if (std::ranges::any_of(good, [&](const ShamirPoint& p) { return p.x == point.x; })) continue;
    auto probe = good;
    probe.back() = point;
    const auto combined = shamir_combine(probe);
    if (combined.ok() && matches(combined->span())) continue;
    found_suspects.push_back(DeviceId{list.devices[holders[point.x - 1]].identity});
  }
  return secret;
}

Result<std::vector<MaskTerm>> SecAggServer::Machine::mask_terms(ThreadPool* pool) {
  std::vector<std::uint16_t> needed;
  for (std::uint16_t i = 0; i < list.devices.size(); ++i) {
    if (secret_needed(i)) needed.push_back(i);
  }
  std::vector<std::vector<MaskTerm>> terms(needed.size());
  std::mutex mutex;
  std::optional<Error> failure;
  const wire::Hash unbound{};
  const wire::Hash& bound = seam.checks.session_bound ? session : unbound;
  const auto fail = [&](Error error) {
    const std::scoped_lock lock(mutex);
    if (!failure) failure = std::move(error);
  };
  for_all(pool, needed.size(), [&](std::size_t i) {
    const std::uint16_t device = needed[i];
    std::vector<DeviceId> found;
    auto secret = rebuild(device, found);
    {
      const std::scoped_lock lock(mutex);
      suspects.insert(suspects.end(), found.begin(), found.end());
    }
    if (!secret.ok()) return fail(secret.error());
    if (survivors.contains(device)) {
      terms[i].push_back({self_mask_seed(secret->span(), session), true});
      return;
    }
    const auto key = crypto::ExchangeKey::from_secret(secret->span());
    if (!key.ok()) return fail(key.error());
    for (const std::uint32_t peer : neighbours[device]) {
      if (!survivors.contains(static_cast<std::uint16_t>(peer))) continue;
      auto seed = pair_mask_seed(*key, list.devices[peer].mask_key, bound, setup.plan);
      if (!seed.ok()) return fail(seed.error());
      // The survivor added it where its index is the smaller one.
      terms[i].push_back({*std::move(seed), peer < device});
    }
  });
  if (failure) return *failure;
  std::vector<MaskTerm> out;
  for (auto& some : terms) std::ranges::move(some, std::back_inserter(out));
  return out;
}

Result<RunningSum> SecAggServer::finish(ThreadPool* pool) {
  Machine& m = *machine_;
  if (m.phase != Phase::unmask) return m.refuse(SecureReason::unexpected, "not in the unmask phase");
  auto terms = m.mask_terms(pool);
  std::ranges::sort(m.suspects);
  const auto repeated = std::ranges::unique(m.suspects);
  m.suspects.erase(repeated.begin(), repeated.end());
  if (!terms.ok()) {
    const bool few = terms.error().code == ErrorCode::permission_denied;
    return m.die(few ? SecureReason::too_few_shares : SecureReason::bad_share, terms.error().message);
  }
  add_masks(m.sum, *terms, pool);
  const auto count = static_cast<std::uint32_t>(m.survivors.size());
  auto out = secagg_sum(m.setup.spec, m.sum, count, m.setup.bits);
  if (!out.ok() && !m.seam.checks.sum_bounds) out = unchecked_sum(m.setup, m.sum, count);
  if (!out.ok()) return m.die(SecureReason::wrong_shape, out.error().message);
  m.erase();
  m.phase = Phase::finished;
  return out;
}

}  // namespace covey::aggregation
