/// How often each class was predicted for each true one, and the scores that follow from it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace covey::train {

struct ClassScore {
  std::int64_t support = 0;    ///< examples of this class
  std::int64_t predicted = 0;  ///< how often it was predicted
  std::int64_t correct = 0;
  double precision = 0;  ///< correct / predicted; 0 where it never was
  double recall = 0;     ///< correct / support; 0 where it has none
  double f1 = 0;         ///< 2 correct / (support + predicted); 0 where both are 0
};

class ClassCounts {
 public:
  ClassCounts() = default;
  explicit ClassCounts(int classes);
  /// Both in [0, classes) (asserted).
  void add(std::int32_t truth, std::int32_t predicted);

  [[nodiscard]] int classes() const { return static_cast<int>(support_.size()); }
  [[nodiscard]] std::int64_t examples() const { return examples_; }
  [[nodiscard]] ClassScore score(int of_class) const;
  [[nodiscard]] double accuracy() const;
  /// Mean F1 of the classes that are true or predicted somewhere.
  [[nodiscard]] double macro_f1() const;
  /// F1 of all decisions together. With one class for each example it is the accuracy.
  [[nodiscard]] double micro_f1() const;

 private:
  std::vector<std::int64_t> support_, predicted_, correct_;
  std::int64_t examples_ = 0;
};

}  // namespace covey::train
