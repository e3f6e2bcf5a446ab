/// An update as K scalars, one for each of K candidate directions that everyone can make from their seeds: kilobytes
/// for a model of any size. Source: FedKSeed (Qin et al., ICML 2024). Pure: no engine, no optimizer.
///
///   device: SeededUpdate update(pool);  update.add(k, -lr * g);      // for every local step along candidate k
///   server: sum of updates, weighted, as of any vector of K numbers
///   device: apply(pool, sum.coefficients(), w, threads);             // w += sum_k c_k z_k, the same bits everywhere
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/train/parameters.h"

namespace covey::train {

/// K candidate seeds, named by one. K = 1024 to 4096 in the paper.
struct SeedPool {
  std::uint64_t seed = 0;
  int count = 0;  ///< K

  /// @errors invalid_argument: K outside [1, 65536].
  [[nodiscard]] Status check() const;
  /// Seed of candidate k in [0, K): direction.h makes z_k from it.
  [[nodiscard]] std::uint64_t candidate(int k) const;
};

class SeededUpdate {
 public:
  SeededUpdate() = default;
  /// All zero.
  explicit SeededUpdate(const SeedPool& pool);
  /// coefficient k += step; sums are kept in double.
  void add(int k, double step);
  [[nodiscard]] std::span<const double> sums() const { return sums_; }
  [[nodiscard]] std::span<double> sums() { return sums_; }
  /// (K), rounded to float once: what travels.
  [[nodiscard]] std::vector<float> coefficients() const;

 private:
  std::vector<double> sums_;
};

/// values += sum_k coefficients[k] z_k: rebuilds weights from w0 and the sums. Candidates are added in their order, in
/// double, and rounded once: the same bits with any number of threads and on every machine. Zero coefficients cost
/// nothing. @errors invalid_argument: not K coefficients, or one is not finite; the values are unchanged then.
/// @cost O(K P) normal deviates, no memory of size P.
[[nodiscard]] Status apply(const SeedPool& pool, std::span<const float> coefficients, std::span<const Piece> values,
                           ThreadPool& threads);

/// FedKSeed-Pro: how likely each candidate should be drawn: softmax of min-max of the mean size of the scalars seen
/// along it, each cut at 1000. `seen[k]` may be empty: counts as size 0.
std::vector<double> draw_probabilities(std::span<const std::vector<double>> seen);

}  // namespace covey::train
