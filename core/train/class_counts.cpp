#include "core/train/class_counts.h"

#include <algorithm>
#include <numeric>

#include "core/base/assert.h"

namespace covey::train {
namespace {

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

}  // namespace

ClassCounts::ClassCounts(int classes)
    : support_(static_cast<std::size_t>(std::max(classes, 0))),
      predicted_(support_.size()),
      correct_(support_.size()) {}

void ClassCounts::add(std::int32_t truth, std::int32_t predicted) {
  COVEY_ASSERT(truth >= 0 && truth < classes() && predicted >= 0 && predicted < classes());
  ++support_[static_cast<std::size_t>(truth)];
  ++predicted_[static_cast<std::size_t>(predicted)];
  if (truth == predicted) ++correct_[static_cast<std::size_t>(truth)];
  ++examples_;
}

ClassScore ClassCounts::score(int of_class) const {
  const auto i = static_cast<std::size_t>(of_class);
  ClassScore out{.support = support_[i], .predicted = predicted_[i], .correct = correct_[i]};
  out.precision = ratio(out.correct, out.predicted);
  out.recall = ratio(out.correct, out.support);
  out.f1 = ratio(2 * out.correct, out.support + out.predicted);
  return out;
}

double ClassCounts::accuracy() const {
  return ratio(total(correct_), examples_);
}

double ClassCounts::macro_f1() const {
  double sum = 0;
  int seen = 0;
  for (int i = 0; i < classes(); ++i) {
    const ClassScore one = score(i);
    if (one.support + one.predicted == 0) continue;
    sum += one.f1;
    ++seen;
  }
  return seen == 0 ? 0 : sum / seen;
}

double ClassCounts::micro_f1() const {
  return ratio(2 * total(correct_), total(support_) + total(predicted_));
}

}  // namespace covey::train
