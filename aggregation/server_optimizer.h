/// The coordinator's step from the mean delta to the next adapter. Source: Reddi et al. 2021, "Adaptive federated
/// optimization", Algorithm 2 (FedAdagrad, FedAdam, FedYogi: no bias correction, v starts at tau^2); Hsu et al. 2019
/// (FedAvgM). With D the mean delta (trained minus received, so the step goes along +D):
///
///   fedavg      x += lr D
///   fedavgm     m = momentum m + D;                     x += lr m
///   fedadagrad  m = beta1 m + (1 - beta1) D;  v += D^2;                              x += lr m / (sqrt(v) + tau)
///   fedadam     m as above;  v = beta2 v + (1 - beta2) D^2;                          x as above
///   fedyogi     m as above;  v -= (1 - beta2) D^2 sign(v - D^2);                     x as above
///
/// These and others are files in server_rules/ (server_rule.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation {

/// A rule's place in the list of CMakeLists.txt, which stores keep: new rules go to its end. Code names these five.
enum class ServerOptimizerKind : std::uint8_t { fedavg = 0, fedavgm = 1, fedadagrad = 2, fedadam = 3, fedyogi = 4 };
const char* to_string(ServerOptimizerKind kind);
/// All names, for Section::choice().
const std::vector<std::string>& server_optimizer_names();
/// @errors invalid_argument: names the known ones.
Result<ServerOptimizerKind> server_optimizer_kind(std::string_view name);

struct ServerOptimizerConfig {
  ServerOptimizerKind kind = ServerOptimizerKind::fedavg;
  double learning_rate = 1;  ///< [0, 1000]; 0 leaves the adapter unchanged
  double momentum = 0.9;     ///< fedavgm; [0, 1)
  double beta1 = 0.9;        ///< [0, 1)
  double beta2 = 0.99;       ///< [0, 1)
  double tau = 1e-3;         ///< adaptivity; [1e-12, 1000]

  /// @errors invalid_argument: names the field and its range.
  [[nodiscard]] Status check() const;
};

/// A value: copyable, not thread-safe. State is f32, arithmetic f64, elements in order: the same bits everywhere.
class ServerOptimizer {
 public:
  /// @errors those of config.check(); invalid_argument: no values.
  static Result<ServerOptimizer> create(const ServerOptimizerConfig& config, std::size_t values);

  /// @param adapter  shape (P), changed in place.   @param mean  shape (P), the mean delta.
  /// @errors invalid_argument: another shape, or a result that is not finite; neither adapter nor state changes.
  /// @cost O(P) time and memory.
  Status step(std::span<float> adapter, std::span<const float> mean);
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

  /// For the store, with the version it led to.
  [[nodiscard]] Bytes serialize() const;
  /// @errors corrupt_data: damaged. invalid_argument: state of another optimizer or shape.
  static Result<ServerOptimizer> restore(const ServerOptimizerConfig& config, std::size_t values, ByteSpan bytes);

 private:
  ServerOptimizer(const ServerOptimizerConfig& config, std::size_t values);

  ServerOptimizerConfig config_;
  std::size_t values_ = 0;
  std::uint64_t steps_ = 0;
  std::vector<float> m_;  ///< (P); empty where the rule keeps none
  std::vector<float> v_;  ///< (P); likewise
};

}  // namespace covey::aggregation
