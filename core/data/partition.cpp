#include "core/data/partition.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "core/base/rng.h"

namespace covey::data {
namespace {

constexpr std::size_t kNameBytesMax = 64;

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
  std::vector<Part> result(parts);
  for (std::size_t p = 0; p < parts; ++p) result[p].key = std::to_string(p);
  const auto order = shuffled(examples.size(), seed);
  for (std::size_t i = 0; i < order.size(); ++i) result[i % parts].examples.push_back(examples[order[i]]);
  return result;
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
