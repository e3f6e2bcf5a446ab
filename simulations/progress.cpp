#include "simulations/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace covey::simulations {
namespace {

constexpr std::size_t kMarksKept = 6;

}  // namespace

std::string duration_words(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  char text[64];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
  } else if (whole >= 60) {
    std::snprintf(text, sizeof text, "%lld min %02lld s", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld s", whole);
  }
  return text;
}

void Eta::update(std::uint64_t done, double now_s) {
  if (!marks_.empty() && marks_.back().done >= done) return;
  marks_.push_back({done, now_s});
  if (marks_.size() > kMarksKept) marks_.pop_front();
}

std::optional<double> Eta::left_s() const {
  if (marks_.size() < 2) return std::nullopt;
  const Mark& first = marks_.front();
  const Mark& last = marks_.back();
  const double per_step = (last.now_s - first.now_s) / static_cast<double>(last.done - first.done);
  return per_step * static_cast<double>(steps_ - std::min(steps_, last.done));
}

void show_progress_line(const std::string& line) {
  if (::isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r\033[K%s", line.c_str());
}

void clear_progress_line() {
  show_progress_line("");
}

}  // namespace covey::simulations
