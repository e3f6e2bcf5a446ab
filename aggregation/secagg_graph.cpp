#include "aggregation/secagg_graph.h"

#include <algorithm>
#include <numeric>

#include "core/base/assert.h"
#include "core/crypto/hash.h"

namespace covey::aggregation {

SecAggGraph::SecAggGraph(const SecAggParams& params, const crypto::Hash256& order_seed) : params_(params) {
  if (params_.complete) return;
  std::vector<crypto::Hash256> keys(params_.devices);
  for (std::uint32_t i = 0; i < params_.devices; ++i) {
    keys[i] = crypto::Hasher("covey secagg ring 1").update(order_seed.span()).update_u64(i).finish();
  }
  ring_.resize(params_.devices);
  std::iota(ring_.begin(), ring_.end(), 0U);
  std::ranges::sort(ring_, {}, [&](std::uint32_t i) { return keys[i]; });
  place_.resize(params_.devices);
  for (std::uint32_t place = 0; place < params_.devices; ++place) place_[ring_[place]] = place;
}

std::vector<std::uint32_t> SecAggGraph::holders(std::uint32_t device) const {
  COVEY_ASSERT(device < params_.devices);
  std::vector<std::uint32_t> out;
  if (params_.complete) {
    out.resize(params_.devices);
    std::iota(out.begin(), out.end(), 0U);
    return out;
  }
  const std::uint32_t n = params_.devices;
  out.reserve(params_.degree);
  for (std::uint32_t step = 1; step <= params_.degree / 2; ++step) {
    out.push_back(ring_[(place_[device] + step) % n]);
    out.push_back(ring_[(place_[device] + n - step) % n]);
  }
  std::ranges::sort(out);
  return out;
}

std::vector<std::uint32_t> SecAggGraph::neighbours(std::uint32_t device) const {
  auto out = holders(device);
  std::erase(out, device);
  return out;
}

bool SecAggGraph::adjacent(std::uint32_t a, std::uint32_t b) const {
  COVEY_ASSERT(a < params_.devices && b < params_.devices);
  if (a == b) return false;
  if (params_.complete) return true;
  const std::uint32_t n = params_.devices;
  const std::uint32_t way = (place_[a] + n - place_[b]) % n;
  return std::min(way, n - way) <= params_.degree / 2;
}

}  // namespace covey::aggregation
