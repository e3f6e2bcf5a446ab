/// Optimizers over flat spans of P floats: SGD (momentum) and AdamW (Loshchilov and Hutter 2019), with the formulas and
/// the float32 order of operations of torch.optim, so that trajectories can be compared step by step; and AdamW with
/// its two moments in 8 bits each, in blocks that share a scale (after Dettmers et al., ICLR 2022).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::train {

enum class OptimizerKind { sgd, adamw, adamw8bit };

/// "sgd", "adamw", "adamw8bit": as configurations spell them, in the order above.
const std::vector<std::string>& optimizer_names();
std::optional<OptimizerKind> optimizer_named(std::string_view name);

/// Values that share a scale in adamw8bit; blocks are cut at multiples of it in [0, P).
constexpr std::int64_t kOptimizerBlock = 256;

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::adamw;
  double momentum = 0;      ///< sgd
  double beta1 = 0.9;       ///< adamw
  double beta2 = 0.999;     ///< adamw
  double epsilon = 1e-8;    ///< adamw
  double weight_decay = 0;  ///< adamw: decoupled; sgd: added to the gradient

  /// @errors invalid_argument, naming the field.
  [[nodiscard]] Status check() const;
  /// State floats per parameter, rounded up: 2 (adamw), 1 (sgd with momentum, adamw8bit), 0.
  [[nodiscard]] int floats_per_parameter() const;
  /// Bytes of state: 8 P (adamw), 4 P (sgd with momentum), 2 P and 8 per block (adamw8bit), 0.
  [[nodiscard]] std::uint64_t state_bytes(std::int64_t parameters) const;
};

/// Not thread-safe. Holds the state of P parameters; the values stay the caller's.
class Optimizer {
 public:
  /// `config` must pass check() (asserted).
  Optimizer(const OptimizerConfig& config, std::int64_t parameters);

  /// One step on all P values. `gradient` is (P).
  void step(std::span<float> values, std::span<const float> gradient, double lr);

  /// The same in pieces, for parameters that lie apart: begin_step() once, then update() for each piece, where `offset`
  /// is the piece's place in [0, P). `decay` off leaves weight decay out (norms, embeddings). Pieces may be updated in
  /// parallel where no two of them touch the same block of kOptimizerBlock values.
  void begin_step() { ++steps_; }
  void update(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
              bool decay = true);

  [[nodiscard]] std::int64_t steps() const { return steps_; }
  [[nodiscard]] std::int64_t parameters() const { return parameters_; }
  /// State vectors and step count, little-endian; restore() continues bit-exactly.
  [[nodiscard]] Bytes serialize() const;
  /// @errors corrupt_data: size or kind differ; the state is unchanged then.
  [[nodiscard]] Status restore(ByteSpan bytes);

 private:
  void update_sgd(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
                  double weight_decay);
  void update_adamw8bit(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
                        double weight_decay);

  OptimizerConfig config_;
  std::int64_t parameters_ = 0;
  std::int64_t steps_ = 0;
  std::vector<float> first_;         ///< adamw: exp_avg; sgd: momentum buffer; adamw8bit: a scale for each block of it
  std::vector<float> second_;        ///< adamw: exp_avg_sq; adamw8bit: its scales
  std::vector<std::uint8_t> codes_;  ///< adamw8bit: P of the first moment, then P of the second
};

/// sqrt(sum of squares), summed in double in index order.
double l2_norm(std::span<const float> values);
/// Scales `gradient` down to norm `max_norm` (torch's clip_grad_norm_: factor max_norm / (norm + 1e-6), never above 1).
/// @return the norm before.
double clip_by_norm(std::span<float> gradient, double max_norm);
/// FedProx (Li et al. 2020): gradient += mu (values - reference).
void add_proximal(std::span<float> gradient, std::span<const float> values, std::span<const float> reference,
                  double mu);

}  // namespace covey::train
