#include "core/data/partition.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "core/base/rng.h"

namespace covey::data {
namespace {

constexpr std::size_t kNameBytesMax = 64;

std::vector<Part> numbered(std::size_t parts) {
  std::vector<Part> out(parts);
  for (std::size_t p = 0; p < parts; ++p) out[p].key = std::to_string(p);
  return out;
}

std::vector<std::size_t> shuffled(std::size_t n, std::uint64_t seed) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(seed);
  rng.shuffle(order);
  return order;
}

bool is_name(std::string_view line) {
  return line.size() >= 2 && line.size() <= kNameBytesMax && line.ends_with(':');
}

}  // namespace

Result<std::vector<Example>> parse_play(std::string_view content, const std::string& where) {
  std::vector<Example> examples;
  std::string speaker;
  std::string text;
  bool block_start = true;
  const auto finish = [&] {
    if (!text.empty()) examples.push_back({{}, std::move(text), speaker});
    text.clear();
    block_start = true;
  };
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) {
      finish();
    } else if (block_start && is_name(line)) {
      speaker = line.substr(0, line.size() - 1);
      block_start = false;
    } else {
      if (speaker.empty()) {
        return Error{ErrorCode::corrupt_data, where + ":" + std::to_string(number) +
                                                  ": text before the first speaker; a block starts with NAME:"};
      }
      if (!text.empty()) text += '\n';
      text += line;
      block_start = false;
    }
  }
  finish();
  if (examples.empty()) return Error{ErrorCode::invalid_argument, where + ": holds no speech"};
  return examples;
}

std::vector<Part> partition_by_key(std::span<const Example> examples) {
  std::vector<Part> parts;
  std::unordered_map<std::string, std::size_t> index;
  for (const Example& example : examples) {
    const auto [it, is_new] = index.emplace(example.key, parts.size());
    if (is_new) parts.push_back({example.key, {}});
    parts[it->second].examples.push_back(example);
  }
  return parts;
}

Result<std::vector<Part>> partition_iid(std::span<const Example> examples, std::size_t parts, std::uint64_t seed) {
  if (parts < 1 || parts > examples.size()) {
    return Error{ErrorCode::invalid_argument, "cannot divide " + std::to_string(examples.size()) + " examples into " +
                                                  std::to_string(parts) + " parts"};
  }
  std::vector<Part> result = numbered(parts);
  const auto order = shuffled(examples.size(), seed);
  for (std::size_t i = 0; i < order.size(); ++i) result[i % parts].examples.push_back(examples[order[i]]);
  return result;
}

namespace {

/// Gamma(shape, 1): Marsaglia and Tsang 2000; below 1 by their boost, Gamma(shape + 1) U^(1 / shape).
double draw_gamma(Rng& rng, double shape) {
  if (shape < 1) {
    const double grown = draw_gamma(rng, shape + 1);
    return grown * std::pow(1 - rng.uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = rng.normal();
    const double root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    const double u = 1 - rng.uniform();  // in (0, 1]
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

/// Proportions from a symmetric Dirichlet distribution, not normalized.
std::vector<double> draw_mass(Rng& rng, std::size_t parts, double alpha) {
  std::vector<double> mass(parts);
  double total = 0;
  for (double& m : mass) total += m = draw_gamma(rng, alpha);
  if (!(total > 0)) mass[rng.below(parts)] = 1;  // all underflowed: one part has everything
  return mass;
}

/// Where each part's share of n things ends.
std::vector<std::size_t> ends_of(const std::vector<double>& mass, std::size_t n) {
  const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
  std::vector<std::size_t> ends(mass.size());
  double sum = 0;
  for (std::size_t p = 0; p < mass.size(); ++p) {
    sum += mass[p];
    ends[p] = std::min(n, static_cast<std::size_t>(std::llround(sum / total * static_cast<double>(n))));
  }
  ends.back() = n;
  return ends;
}

std::vector<std::size_t> dirichlet_ends(Rng& rng, std::size_t parts, double alpha, std::size_t n) {
  return ends_of(draw_mass(rng, parts, alpha), n);
}

/// (1 - share) of the first proportions and `share` of the second.
std::vector<double> mixed(const std::vector<double>& first, const std::vector<double>& second, double share) {
  const double first_total = std::accumulate(first.begin(), first.end(), 0.0);
  const double second_total = std::accumulate(second.begin(), second.end(), 0.0);
  std::vector<double> out(first.size());
  for (std::size_t p = 0; p < out.size(); ++p) {
    out[p] = (1 - share) * first[p] / first_total + share * second[p] / second_total;
  }
  return out;
}

Status check_uneven(std::size_t examples, std::size_t parts, double alpha) {
  if (parts < 1 || parts > examples) {
    return Error{ErrorCode::invalid_argument,
                 "cannot divide " + std::to_string(examples) + " examples into " + std::to_string(parts) + " parts"};
  }
  if (!(alpha > 0)) return Error{ErrorCode::invalid_argument, "alpha must be above 0"};
  return {};
}

/// Nobody is left without an example: the largest part gives one.
void feed_the_empty(std::vector<Part>& parts) {
  for (Part& part : parts) {
    if (!part.examples.empty()) continue;
    auto& largest = std::ranges::max_element(parts, {}, [](const Part& p) { return p.examples.size(); })->examples;
    part.examples.push_back(std::move(largest.back()));
    largest.pop_back();
  }
}

/// Deals `order` out to the parts.
void deal(std::span<const Example> examples, std::span<const std::size_t> order, std::span<const std::size_t> ends,
          std::vector<Part>& parts) {
  std::size_t at = 0;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    for (; at < ends[p]; ++at) parts[p].examples.push_back(examples[order[at]]);
  }
}

}  // namespace

namespace {

using ByLabel = std::map<std::string, std::vector<std::size_t>>;

Result<ByLabel> labelled(std::span<const Example> examples) {
  ByLabel out;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    if (!examples[i].label) {
      return Error{ErrorCode::invalid_argument, "example " + std::to_string(examples[i].line) + " has no label"};
    }
    out[*examples[i].label].push_back(i);
  }
  return out;
}

}  // namespace

Result<std::vector<Part>> partition_by_label(std::span<const Example> examples, std::size_t parts, double alpha,
                                             std::uint64_t seed) {
  COVEY_TRY(check_uneven(examples.size(), parts, alpha));
  COVEY_ASSIGN(auto by_label, labelled(examples));
  std::vector<Part> out = numbered(parts);
  Rng rng(seed, 1);
  for (auto& [label, members] : by_label) {
    rng.shuffle(members);
    deal(examples, members, dirichlet_ends(rng, parts, alpha, members.size()), out);
  }
  feed_the_empty(out);
  return out;
}

Result<std::vector<std::vector<Part>>> partition_drifting(std::span<const Example> examples, const DriftOptions& drift,
                                                          std::uint64_t seed) {
  if (drift.phases < 2) return Error{ErrorCode::invalid_argument, "drift needs at least 2 phases"};
  COVEY_TRY(check_uneven(examples.size() / drift.phases, drift.parts, drift.alpha));
  COVEY_ASSIGN(auto by_label, labelled(examples));
  std::vector<std::vector<Part>> out(drift.phases, numbered(drift.parts));
  Rng rng(seed, 3);
  std::size_t dealt = 0;  // of all labels: phases take turns, so that rare labels do not all go to the same ones
  for (auto& [label, members] : by_label) {
    rng.shuffle(members);
    const auto first = draw_mass(rng, drift.parts, drift.alpha);
    const auto last = draw_mass(rng, drift.parts, drift.alpha);
    std::vector<std::vector<std::size_t>> slices(drift.phases);
    for (const std::size_t member : members) slices[dealt++ % drift.phases].push_back(member);
    for (std::size_t k = 0; k < drift.phases; ++k) {
      const double share = static_cast<double>(k) / static_cast<double>(drift.phases - 1);
      deal(examples, slices[k], ends_of(mixed(first, last, share), slices[k].size()), out[k]);
    }
  }
  for (auto& phase : out) feed_the_empty(phase);
  return out;
}

Result<std::vector<Part>> partition_by_quantity(std::span<const Example> examples, std::size_t parts, double alpha,
                                                std::uint64_t seed) {
  COVEY_TRY(check_uneven(examples.size(), parts, alpha));
  std::vector<Part> out = numbered(parts);
  Rng rng(seed, 2);
  deal(examples, shuffled(examples.size(), seed), dirichlet_ends(rng, parts, alpha, examples.size()), out);
  feed_the_empty(out);
  return out;
}

Result<Split> hold_out(std::size_t n, double fraction, std::uint64_t seed) {
  if (!(fraction >= 0 && fraction < 1)) {
    return Error{ErrorCode::invalid_argument, "the fraction held out must lie in [0, 1)"};
  }
  std::size_t count = static_cast<std::size_t>(std::llround(static_cast<double>(n) * fraction));
  if (n >= 2 && fraction > 0) count = std::clamp<std::size_t>(count, 1, n - 1);
  count = std::min(count, n);
  auto order = shuffled(n, seed);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(count);
  Split split;
  split.held_out.assign(order.begin(), middle);
  split.train.assign(middle, order.end());
  std::ranges::sort(split.held_out);
  std::ranges::sort(split.train);
  return split;
}

}  // namespace covey::data
