/// Which part of an adapter is worth training: how much each linear layer's LoRA contributes, what it costs, and the
/// best part within a memory budget. Sources: contribution against cost under a memory limit, as in "On-Device Training
/// Under 256KB Memory" (Lin et al., NeurIPS 2022); squared gradients, the diagonal of the empirical Fisher information,
/// as the measure of a tensor's importance, as in TinyTrain (Kwon et al., ICML 2024).
///
///   contribution of a tensor = mean over calibration batches of the squared norm of the loss's gradient there
///
/// which is also, to first order, by how much a step of gradient descent on it lowers that batch's loss, per unit of
/// lr. At LoRA's start B is zero, so A has no gradient yet: a layer then stands by its B.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "adapters/adapter.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/train/rows.h"
#include "core/train/train_config.h"

namespace covey::adapters {

struct Contribution {
  int site = 0;  ///< index into Model::linear_sites()
  double a = 0;  ///< of LoRA's A, squared gradient norm
  double b = 0;
  [[nodiscard]] double total() const { return a + b; }
};

/// Parallel to the adapter's spec. Batches of config.batch rows (config.micro_batch at once) in the order that
/// config.seed shuffles them into, at most `batches`.
/// @errors invalid_argument: no row has a target. What the engine reports.
Result<std::vector<Contribution>> contributions(const model::Model& model, const Adapter& adapter,
                                                std::span<const train::TokenRow> rows, const train::TrainConfig& config,
                                                int batches, ThreadPool& pool);

/// A part of an adapter that trains, its sites given as indices into the spec.
struct TrainedSubset {
  std::vector<int> sites;   ///< ascending
  double contribution = 0;  ///< summed
  std::uint64_t bytes = 0;  ///< what training it takes: train::memory_plan()
};

/// Planned peak of training what the spec holds; encoder-decoders' targets count as config says.
std::uint64_t bytes_to_train(const model::Model& model, const model::AdapterSpec& spec,
                             const train::TrainConfig& config, int longest);
/// The part with the largest contribution whose plan fits into `bytes_max` (0: no limit). For each layer that may be
/// the lowest one that trains, sites are taken by contribution as long as they fit: what lies below costs nothing, what
/// lies above costs its own values and inputs.
/// @errors resource_exhausted: not even one site fits (the message says what the least one needs).
/// @cost one memory plan per layer and site at most.
Result<TrainedSubset> best_subset(const model::Model& model, const model::AdapterSpec& spec,
                                  std::span<const Contribution> contributions, const train::TrainConfig& config,
                                  int longest, std::uint64_t bytes_max);

/// `spec` without what is not in the subset (a fresh adapter attaches nothing there).
model::AdapterSpec only(const model::AdapterSpec& spec, std::span<const int> sites);

}  // namespace covey::adapters
