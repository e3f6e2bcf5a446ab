/// What of a model trains, step by step: where gradients flow, and what they need. The memory plan and the backward
/// pass ask the same functions, so that what is not planned is never computed. Internal to core/model.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/result.h"
#include "core/model/engine.h"
#include "core/model/program.h"
#include "core/model/weights.h"

namespace covey::model {

struct Pass;

/// Where gradients flow within a segment.
struct Flowing {
  bool input = false;   ///< something below is trained
  bool memory = false;  ///< something in the first stack is
};

constexpr std::uint8_t kTrains = 1;      ///< the step has a gradient of its own
constexpr std::uint8_t kReadsInput = 2;  ///< and that gradient needs the step's input

/// Flags of a step for what the pass's spec, or its tensors, train. 0: nothing here.
std::uint8_t training_of(const Pass& pass, const Step& step);

struct TrainedSteps {
  /// training_of() per segment and step, last that of the bottleneck behind the block; empty: anything may train.
  std::vector<std::vector<std::uint8_t>> body;
  std::vector<std::uint8_t> head;
  std::vector<Flowing> below;  ///< per segment of the body
  bool body_trains = true;     ///< the head's input wants a gradient
  /// Whether segment i of the body has a backward pass.
  [[nodiscard]] bool has_backward(std::size_t i) const;
  /// Fills this for what the pass's spec, or tensors, train. A second time it asks for no memory.
  void find(const Pass& pass);
};

/// What runs backward for a part that is known before there is a pass. @errors invalid_argument: it does not fit the
/// model.
Result<TrainedSteps> trained_steps(const Model::Impl& model, const TrainedPart& part);
/// Whether `wanted` trains nothing that `planned` left out.
bool covers(const TrainedSteps& planned, const TrainedSteps& wanted);

/// Which slots' gradients (or tangents) there are: of what something trained flows into. `trains`: of step i.
template <typename Trains>
void mark_needs(const Segment& segment, const Flowing& flowing, const Trains& trains, std::vector<std::uint8_t>& need) {
  const auto root = [&](int slot) { return static_cast<std::size_t>(segment.root(slot)); };
  const auto needed = [&](int slot) { return slot >= 0 && need[root(slot)] != 0; };
  need.assign(segment.slots.size(), 0);
  if (segment.input >= 0) need[root(segment.input)] = flowing.input ? 1 : 0;
  if (segment.memory >= 0) need[root(segment.memory)] = flowing.memory ? 1 : 0;
  for (std::size_t i = 0; i < segment.steps.size(); ++i) {
    const Step& s = segment.steps[i];
    bool moves = trains(i);
    for (const int slot : {s.in, s.in2, s.in3, s.in4, s.in5, s.base}) moves = moves || needed(slot);
    if (moves) need[root(s.out)] = 1;
  }
}

}  // namespace covey::model
