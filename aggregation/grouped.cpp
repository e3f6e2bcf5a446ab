#include "aggregation/grouped.h"

#include <algorithm>
#include <numeric>

#include "core/crypto/hash.h"
#include "core/wire/codec.h"

namespace covey::aggregation {
namespace {

wire::Hash hash_of_whole(const wire::SecureList& whole) {
  return crypto::hash_in("covey secagg groups 1", wire::encode(whole)).bytes;
}

}  // namespace

std::uint32_t smallest_group(const SecAggSetup& setup, const wire::SecureList& whole) {
  return static_cast<std::uint32_t>(whole.devices.size() / setup.groups);
}

std::vector<std::uint32_t> group_of_each(const SecAggSetup& setup, const wire::SecureList& whole) {
  const wire::Hash seed = hash_of_whole(whole);
  const std::size_t n = whole.devices.size();
  std::vector<crypto::Hash256> keys(n);
  for (std::size_t i = 0; i < n; ++i) {
    keys[i] = crypto::Hasher("covey secagg deal 1").update(seed).update_u64(i).finish();
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return keys[i]; });
  std::vector<std::uint32_t> out(n);
  for (std::size_t place = 0; place < n; ++place) {
    out[order[place]] = static_cast<std::uint32_t>(place % setup.groups);
  }
  return out;
}

Result<std::vector<wire::SecureList>> deal_groups(const SecAggSetup& setup, const wire::SecureList& whole) {
  wire::SecureList empty = whole;
  empty.devices.clear();
  std::vector<wire::SecureList> out(setup.groups, empty);
  const auto groups = group_of_each(setup, whole);
  for (std::size_t i = 0; i < groups.size(); ++i) out[groups[i]].devices.push_back(whole.devices[i]);
  for (wire::SecureList& list : out) {
    COVEY_ASSIGN(const auto params, secagg_params(static_cast<std::uint32_t>(list.devices.size()), setup.assumptions));
    list.degree = params.degree;
    list.threshold = params.threshold;
  }
  return out;
}

SecAggSetup group_setup(const SecAggSetup& setup, const wire::SecureList& whole) {
  SecAggSetup out = setup;
  out.groups = 1;
  out.whole = hash_of_whole(whole);
  return out;
}

Result<std::vector<float>> aggregate_groups(const RuleConfig& config, std::span<const RunningSum> groups) {
  std::vector<std::vector<float>> means;
  for (const RunningSum& group : groups) {
    COVEY_ASSIGN(auto mean, group.mean());
    means.push_back(std::move(mean));
  }
  if (config.rule == Strategy::mean) return trimmed_mean(means, 0);
  return aggregate(config, means);
}

}  // namespace covey::aggregation
