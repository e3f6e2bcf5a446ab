/// How a corpus is divided among devices, and what is held out. Counter-based randomness: the same on every machine
/// (Dirichlet draws: as far as the C library's log and pow are).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/data/examples.h"

namespace covey::data {

/// What one owner has.
struct Part {
  std::string key;
  std::vector<Example> examples;
};

/// A play as tinyshakespeare writes it: blocks between blank lines, the first line of each `NAME:`. One example per
/// block, its key the name, its text the lines after it (the name is not part of it). A block without a name goes on
/// for the speaker before it.
/// @errors corrupt_data: text before the first name; invalid_argument: no block.
Result<std::vector<Example>> parse_play(std::string_view content, const std::string& where);

/// By natural key: parts in the order in which keys first come, examples in their order.
std::vector<Part> partition_by_key(std::span<const Example> examples);

/// Shuffled and dealt out evenly: sizes differ by at most one. Keys are "0", "1", ... @errors invalid_argument: parts
/// below 1 or above the number of examples.
Result<std::vector<Part>> partition_iid(std::span<const Example> examples, std::size_t parts, std::uint64_t seed);

/// Unequal label mixes: the examples of each label are divided among all parts by proportions drawn from a symmetric
/// Dirichlet distribution (Yurochkin et al. 2019, section 4.1). alpha = 100 is nearly even; at 0.1 most parts have few
/// labels. Keys are "0", "1", ...; each part has at least one example, taken from the largest part where need be.
/// @errors invalid_argument: as partition_iid; alpha not positive; an example without a label (named by its line).
Result<std::vector<Part>> partition_by_label(std::span<const Example> examples, std::size_t parts, double alpha,
                                             std::uint64_t seed);

struct DriftOptions {
  std::size_t parts = 1;
  double alpha = 0.5;
  std::size_t phases = 2;
};
/// Label mixes that move with time: every label's examples are dealt out to the phases in turn, and within phase k of K
/// to the parts, by proportions that go in equal steps from one draw of partition_by_label's distribution to another.
/// @return [phase][part]; keys as there, every part has at least one example in every phase. @errors as
/// partition_by_label; invalid_argument: fewer than 2 phases, or fewer examples than parts in a phase.
Result<std::vector<std::vector<Part>>> partition_drifting(std::span<const Example> examples, const DriftOptions& drift,
                                                          std::uint64_t seed);

/// Unequal amounts of the same mix: shuffled, and divided by proportions drawn from a symmetric Dirichlet distribution.
/// @errors as partition_by_label, but for labels.
Result<std::vector<Part>> partition_by_quantity(std::span<const Example> examples, std::size_t parts, double alpha,
                                                std::uint64_t seed);

struct Split {
  std::vector<std::size_t> train;     ///< indices, ascending
  std::vector<std::size_t> held_out;  ///< indices, ascending
};
/// Holds out round(n * fraction) of n, at least one and at most n - 1 where n >= 2 and fraction > 0. Whether an index
/// is held out depends on n, fraction and seed only. @errors invalid_argument: fraction outside [0, 1).
Result<Split> hold_out(std::size_t n, double fraction, std::uint64_t seed);

}  // namespace covey::data
