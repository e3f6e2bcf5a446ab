/// The engine's memory: one block of it, laid out before the first step by the same function that plan_memory asks.
/// Internal to core/model.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/result.h"
#include "core/model/engine.h"
#include "core/model/plan.h"

namespace covey::model {

/// Where each slot of a segment lies; parallel to Segment::slots, views included.
struct SegmentMemory {
  std::vector<float*> value;
  std::vector<float*> again;  ///< where the backward pass finds it: cheap slots are made again elsewhere
  std::vector<float*> gradient;
  std::vector<float*> tangent;
  std::vector<std::uint8_t> again_steps;  ///< SegmentPlan's
};

struct Buffers {
  std::vector<SegmentMemory> body;  ///< parallel to Program::body
  SegmentMemory head;
  int chunk = 0;  ///< C: rows of the head at a time
  std::array<std::uint64_t, kStreams> rows{};

  double* head_loss = nullptr;  ///< (C)
  double* head_loss_t = nullptr;
  std::uint8_t* head_correct = nullptr;

  float* cosine = nullptr;  ///< (positions, R/2), twice that many with longrope: short factors, then long ones
  float* sine = nullptr;
  float* slopes = nullptr;                       ///< ALiBi, (heads)
  float* distance_bias[2] = {nullptr, nullptr};  ///< T5: per stack (heads, 2 * reach - 1)
  int reach[2] = {0, 0};

  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> memory;
  std::uint64_t bytes = 0;
};

/// `trained`: what alone will train. @errors resource_exhausted.
Result<Buffers> make_buffers(const Program& program, const ModelConfig& config, const EngineOptions& options,
                             const TrainedSteps& trained = {});
/// (positions, R/2) each, twice with longrope.
void fill_rope_tables(const ModelConfig& config, int positions, float* cosine, float* sine);
std::uint64_t rope_table_floats(const ModelConfig& config, int positions);
/// Of these: activations that wait for the backward pass (kept slots, and what flows between segments).
std::uint64_t stash_bytes(const Program& program, const EngineOptions& options, const TrainedSteps& trained = {});
std::uint64_t buffer_bytes(const Program& program, const ModelConfig& config, const EngineOptions& options,
                           const TrainedSteps& trained = {});

}  // namespace covey::model
