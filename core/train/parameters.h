/// The P values that are trained, whichever they are: an adapter beside a frozen model, or all of a model's tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"

namespace covey::train {

/// Values that lie together. `offset` is the first one's place in [0, P).
struct Piece {
  std::int64_t offset = 0;
  std::span<float> values;
  bool decay = true;  ///< whether weight decay may touch it (not norms, not biases)
};

/// Values per tile of whatever runs over all of them. Tiles are cut at multiples of it in [0, P), so that they neither
/// depend on the number of threads nor share one of an optimizer's blocks (optimizer.h).
constexpr std::int64_t kTile = std::int64_t{1} << 14;

/// Borrows the model. Movable; the values stay where they are.
class Parameters {
 public:
  /// Takes the adapter's P values in flat_view.h's layout. What the spec freezes counts in P, and lies in no piece: it
  /// is never moved. @errors invalid_argument: another number of values, or all of them are frozen.
  static Result<Parameters> of_adapter(const model::Model& model, const model::AdapterSpec& spec,
                                       std::vector<float> values);
  /// Tensors of a writable model, in place: all, or those that are chosen, one after the other in [0, P). Weight decay
  /// spares those of one dimension. A choice must have one flag per tensor (asserted).
  static Parameters of_model(model::Model& model, model::TensorChoice choice = {});

  [[nodiscard]] std::int64_t size() const { return size_; }  ///< P
  [[nodiscard]] bool is_adapter() const { return adapter_; }
  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }
  [[nodiscard]] const model::Model& model() const { return *model_; }
  [[nodiscard]] const model::AdapterSpec& spec() const { return spec_; }
  /// For EngineOptions.
  [[nodiscard]] model::TrainedPart trained() const {
    return {.adapter = spec_, .model = !adapter_, .tensors = choice_};
  }
  /// Values that train: fewer than P where an adapter's spec freezes some.
  [[nodiscard]] std::int64_t trained_size() const;
  /// The adapter's values (P); empty where the model's own are trained.
  [[nodiscard]] std::span<const float> values() const { return values_; }

  /// The engine's calls on these values. @errors as the engine's.
  Result<model::LossResult> loss(model::Engine& engine, const model::TokenBatch& batch) const;
  /// Adds grad_scale times the gradient of the batch's mean loss to `gradient` (P).
  Result<model::LossResult> add_gradient(model::Engine& engine, const model::TokenBatch& batch,
                                         std::span<float> gradient, float grad_scale) const;
  /// Adapters only (asserted). `direction` is (P).
  Result<model::JvpResult> jvp(model::Engine& engine, const model::TokenBatch& batch,
                               std::span<const float> direction) const;

 private:
  Parameters() = default;
  const model::Model* model_ = nullptr;
  model::AdapterSpec spec_;
  model::TensorChoice choice_;
  bool adapter_ = false;
  std::vector<float> values_;
  std::vector<Piece> pieces_;
  std::int64_t size_ = 0;
};

/// fn(piece, offset, values) for each tile, tiles of one piece in parallel: `values` begin at `offset` in [0, P).
template <typename F>
void for_tiles(ThreadPool& pool, std::span<const Piece> pieces, F&& fn) {
  for (const Piece& piece : pieces) {
    const auto size = static_cast<std::int64_t>(piece.values.size());
    if (size == 0) continue;
    const std::int64_t first = piece.offset / kTile;
    const std::int64_t last = (piece.offset + size - 1) / kTile;
    pool.parallel_for(static_cast<std::size_t>(last - first + 1), [&](std::size_t tile) {
      const std::int64_t begin = std::max(piece.offset, (first + static_cast<std::int64_t>(tile)) * kTile);
      const std::int64_t end = std::min(piece.offset + size, (first + static_cast<std::int64_t>(tile) + 1) * kTile);
      fn(piece, begin,
         piece.values.subspan(static_cast<std::size_t>(begin - piece.offset), static_cast<std::size_t>(end - begin)));
    });
  }
}

}  // namespace covey::train
