#include "core/config/suggest.h"

#include <algorithm>
#include <vector>

namespace covey::config {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replaced, last[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string advice(std::string_view word, const std::set<std::string>& known) {
  const std::string_view compared = word.substr(0, 64);
  const std::string* nearest = nullptr;
  std::size_t distance = 2 + compared.size() / 5;  // longer words may have more slips
  for (const std::string& candidate : known) {
    const std::size_t d = edit_distance(compared, candidate);
    const bool is_whole_change = d >= std::max(compared.size(), candidate.size());
    const bool same_letters = nearest != nullptr && d == distance && candidate.size() == compared.size();
    if ((d < distance || same_letters) && !is_whole_change) {
      nearest = &candidate;
      distance = d;
    }
  }
  if (nearest != nullptr) return "did you mean `" + *nearest + "`?";
  if (known.empty()) return "no keys are read here";
  std::string out = "known here:";
  std::size_t shown = 0;
  for (const std::string& candidate : known) {
    if (++shown > 12) return out + " and " + std::to_string(known.size() - 12) + " more";
    out += (shown == 1 ? " " : ", ") + candidate;
  }
  return out;
}

}  // namespace covey::config
