/// Where the slots of a segment lie, from when each is written to when it is last read. Internal to core/model.
///
/// A segment's time: step i runs forward at i, and backward at 2 n - 1 - i. Arrays whose times do not meet share
/// memory.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/model/program.h"
#include "core/model/trained.h"

namespace covey::model {

struct PlanOptions {
  bool training = false;
  bool keep = false;  ///< training without checkpoints: what the backward pass reads stays until it runs
  bool tangent = false;
  std::array<std::uint64_t, kStreams> rows{};  ///< most rows of each stream
  std::span<const std::uint8_t> trains{};      ///< training_of() each step; empty: anything may train
  Flowing below{true, true};                   ///< whether something below trains
};

enum class Where : std::uint8_t { nowhere, arena, kept, input, output, memory };

struct Place {
  Where where = Where::nowhere;
  std::uint64_t at = 0;  ///< in floats, for arena and kept
};

/// Parallel to Segment::slots; views have the place of their base.
struct SegmentPlan {
  std::vector<Place> value;
  std::vector<Place> again;             ///< of cheap slots, while the backward pass has them
  std::vector<Place> gradient;          ///< `output`, `input`: the gradient that flows down
  std::vector<std::size_t> home;        ///< the slot whose gradient memory a slot's gradient shares (itself, mostly)
  std::vector<bool> gradient_in_value;  ///< of homes: the gradient overwrites the value
  std::vector<Place> tangent;
  std::uint64_t arena = 0;  ///< floats
  std::uint64_t kept = 0;
  std::uint64_t tangent_arena = 0;
  std::vector<std::uint8_t> again_steps;  ///< per step: whether it must run again before the backward pass
  bool moves = false;                     ///< the output must not lie where the input does
  bool turns = false;                     ///< the gradient of the input must not lie where that of the output does
};

SegmentPlan plan_segment(const Segment& segment, const PlanOptions& options);

/// Slots that a step reads going forward.
std::vector<int> reads_of(const Step& step);
/// Slots whose values its backward pass reads, where it runs; a linear layer or a shift that is frozen reads none.
std::vector<int> backward_reads_of(const Step& step, bool reads_input = true);
/// Whether its backward pass writes the gradients of all that it reads, wanted or not.
bool writes_all_gradients(const Step& step);
/// Whether the step changes `out` in place.
bool in_place(const Step& step);
/// Whether the gradient of the step's base is that of its result, in the same memory.
bool shares_gradient_with_base(const Segment& segment, std::size_t step);

}  // namespace covey::model
