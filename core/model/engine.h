/// Runs a model: logits, loss, gradients, decoding. Layer-wise hand-written forward and backward over planned buffers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/adapter_spec.h"
#include "core/model/model.h"

namespace covey::model {

constexpr std::int32_t kNoTarget = -100;

/// One batch of token rows, right-padded. Borrowed for the call. Classification: `targets` are (B), the class of each
/// row, or kNoTarget.
struct TokenBatch {
  int B = 0;
  int T = 0;
  std::span<const std::int32_t> ids;  ///< (B, T)
  std::span<const std::int32_t>
      targets;  ///< (B, T): the token to predict at each position (already shifted), or kNoTarget
  std::span<const std::int32_t> lengths;  ///< (B): tokens of each row that are not padding; empty = all T
  /// (B), soft prompts only: the token that the last virtual token should predict (each row's first), or kNoTarget;
  /// empty = none.
  std::span<const std::int32_t> first_targets = {};
  std::span<const std::int32_t> types = {};  ///< (B, T): token types of models that have them; empty = all 0
  /// Encoder-decoders: what the second stack reads, (B, T2) row by row, and then `targets` are (B, T2) too. Its rows
  /// have no padding (positions without a target cost nothing but time).
  std::span<const std::int32_t> second_ids = {};
  int T2 = 0;
};

struct LossResult {
  double loss_sum = 0;       ///< nats, summed over targets
  std::int64_t targets = 0;  ///< how many positions had one
  std::int64_t correct = 0;  ///< at how many of them the largest logit is the target
  [[nodiscard]] double mean() const { return targets > 0 ? loss_sum / static_cast<double>(targets) : 0; }
};

/// Which of the model's own tensors train: a flag for each of Model::parameters(). Empty: all of them.
using TensorChoice = std::vector<std::uint8_t>;

/// The part of an adapter, or of a model, that trains (sparse backward).
struct TrainedPart {
  AdapterSpec adapter = {};   ///< an adapter's, beside a frozen model; or
  bool model = false;         ///< the model's own tensors:
  TensorChoice tensors = {};  ///< these
};

struct EngineOptions {
  int batch_max = 1;          ///< B
  int seq_max = 1;            ///< T, virtual prompt tokens not included
  bool training = false;      ///< keep what the backward pass needs
  bool checkpoint = false;    ///< keep block inputs only, recompute the rest in the backward pass
  int prompt_tokens_max = 0;  ///< most of AdapterSpec::virtual_tokens()
  bool tangent = false;       ///< room for jvp(); needs no `training`
  int target_seq_max = 0;     ///< T2, encoder-decoders only
  /// What will train, where that is known beforehand: nothing is kept below the lowest trained layer, and above it only
  /// what the gradients need. Other gradients are refused then. Unset: anything may train.
  std::optional<TrainedPart> trained = {};
  /// W8A8: gradients that pass through int8 weights are rounded up with the probability of the remainder, which has no
  /// bias but more noise, instead of to the nearest. The noise follows from this seed, how many gradients the engine
  /// gave before, the layer and the element: not from threads or checkpoints. No effect without int8 weights.
  std::optional<std::uint64_t> stochastic_seed = {};
};

struct JvpResult {
  LossResult loss;
  double derivative = 0;  ///< of the mean loss, along the direction
};

/// Not thread-safe; borrows the model and the pool, which must outlive it. All buffers are made by create().
class Engine {
 public:
  /// @errors invalid_argument (T above the model's context), resource_exhausted.
  static Result<std::unique_ptr<Engine>> create(const Model& model, const EngineOptions& options, ThreadPool& pool);
  ~Engine();

  /// @param out (B, prompt + T, V); classification: (B, classes); encoder-decoders: (B, T2, V). Small models and tests
  /// only: training never makes this tensor.
  [[nodiscard]] Status logits(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                              std::span<float> out);
  /// Loss by the fused chunked head; no [B,T,V].
  Result<LossResult> loss(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter);
  /// Loss, and the gradient of the **mean** loss over this batch's targets times `grad_scale`, **added** to `gradient`.
  /// The backward pass stops at the lowest layer that trains. @errors also invalid_argument: something trains that
  /// EngineOptions::trained left out.
  Result<LossResult> gradient(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                              const AdapterGradView& gradient, float grad_scale = 1);
  /// The same for the model's own tensors, or those that are chosen; `gradient` holds theirs alone, one after the other
  /// in the order of Model::parameters(). What is computed is computed as for all of them: the same bits.
  Result<LossResult> full_gradient(const TokenBatch& batch, std::span<float> gradient, float grad_scale = 1,
                                   const TensorChoice& choice = {});
  /// Forward mode: the loss, and the exact derivative of its mean along `direction` (same shapes as the adapter). Takes
  /// the memory of two forward passes, whatever the depth.
  Result<JvpResult> jvp(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                        const AdapterView& direction);

  /// Once `*stop` is true, a loss, gradient or derivative that is being computed ends soon with `cancelled` (within a
  /// few tiles of work, whatever the model's size), and so do those that are asked for while it stays true. A gradient
  /// that was added to is then unknown. nullptr: never.
  void stop_when(const std::atomic<bool>* stop);
  /// From now on another seed takes the place of EngineOptions::stochastic_seed, and gradients are counted from the
  /// start: so a run that goes on from a checkpoint rounds as one that never ended. No effect where none was set.
  void seed_rounding(std::uint64_t seed);

  /// Forward passes raise `*peaks` to the largest inputs that each linear layer saw. For calibration: one pass over the
  /// inputs more. Borrowed; nullptr: no longer.
  void record_inputs(InputPeaks* peaks);

  struct Impl;

 private:
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Token by token with a key/value cache, one row. Not thread-safe; borrows the model, the adapter and the pool.
class Decoder {
 public:
  /// Encoder-decoders: reads the source once and keeps what the second stack sees of it; feed() then takes the second
  /// stack's tokens, the first of them ModelConfig::decoder_start_id.
  /// @errors invalid_argument: an empty source, a token out of range, more positions than the model has; unsupported:
  /// a model with one stack.
  static Result<std::unique_ptr<Decoder>> create_for_source(const Model& model, std::span<const std::int32_t> source,
                                                            int context_max, const AdapterSpec& spec,
                                                            const AdapterView& adapter, ThreadPool& pool);
  static Result<std::unique_ptr<Decoder>> create(const Model& model, int context_max, const AdapterSpec& spec,
                                                 const AdapterView& adapter, ThreadPool& pool);
  ~Decoder();
  /// Appends one token; @return logits (V) after it, valid until the next call. @errors resource_exhausted: context
  /// full.
  Result<std::span<const float>> feed(std::int32_t token);

  struct Impl;

 private:
  friend Result<std::vector<std::vector<float>>> prefix_of_tokens(const Model&, std::span<const std::int32_t>,
                                                                  ThreadPool&);
  explicit Decoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Rows of the token embedding table, (ids, E). @errors invalid_argument: an id outside the vocabulary.
Result<std::vector<float>> embeddings_of(const Model& model, std::span<const std::int32_t> ids);

/// The prefix that these tokens would leave: of every attention, in the order of Model::attentions(), the keys and
/// values that the model computes for them, as a PartKind::prefix part holds them. Li and Liang 2021, section 7.4,
/// begin their training there ("activations of real words").
/// @errors as Decoder's; unsupported: an RWKV model, or one that does not generate.
Result<std::vector<std::vector<float>>> prefix_of_tokens(const Model& model, std::span<const std::int32_t> ids,
                                                         ThreadPool& pool);

/// What a program takes before it has a model: code, libraries, stacks (measured on covey-model, x86-64).
constexpr std::uint64_t kProcessBytes = std::uint64_t{7} << 20;

/// Peak resident bytes of a process that runs one Engine. The measured peak stays within 10% of it
/// (tests/bench/engine_bench).
struct MemoryPlan {
  std::uint64_t process_bytes = kProcessBytes;
  std::uint64_t weights_bytes = 0;
  std::uint64_t buffers_bytes = 0;
  std::uint64_t adapter_bytes = 0;  ///< values, gradient and optimizer state
  std::uint64_t stash_bytes = 0;    ///< part of buffers_bytes: activations kept from the forward to the backward pass
  [[nodiscard]] std::uint64_t total() const { return process_bytes + weights_bytes + buffers_bytes + adapter_bytes; }
};
MemoryPlan plan_memory(const ModelConfig& config, const AdapterSpec& spec, const std::vector<LinearSite>& sites,
                       const EngineOptions& options, int optimizer_floats_per_parameter);

}  // namespace covey::model
