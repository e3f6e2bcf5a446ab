/// "did you mean": the known word nearest to a misspelt one.
#pragma once

#include <cstddef>
#include <set>
#include <string>
#include <string_view>

namespace covey::config {

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). O(a b).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// "did you mean `x`?" where some known word is near enough, else the known words.
std::string advice(std::string_view word, const std::set<std::string>& known);

}  // namespace covey::config
