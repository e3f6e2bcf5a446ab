#include "core/model/trained.h"

#include <algorithm>

#include "core/model/pass.h"

namespace covey::model {

std::uint8_t training_of(const Pass& pass, const Step& s) {
  const Model::Impl& m = *pass.model;
  const auto flags = [](bool trains, bool reads = false) {
    return static_cast<std::uint8_t>((trains || reads ? kTrains : 0) | (reads ? kReadsInput : 0));
  };
  const auto table = [&](int index) { return pass.trains(m.tables[static_cast<std::size_t>(index)].at); };
  switch (s.kind) {
    case StepKind::tokens:
      return flags(pass.spec->prompt_tokens > 0 || table(s.weight));
    case StepKind::positions:
    case StepKind::types:
      return flags(table(s.weight));
    case StepKind::linear: {
      const Linear& linear = m.linears[static_cast<std::size_t>(s.weight)];
      const bool bias = Pass::part_at(pass.part_of_bias, linear.bias) >= 0 || pass.trains(linear.b_at);
      return flags(bias, pass.trained(linear));
    }
    case StepKind::norm: {
      const NormWeights& n = m.norms[static_cast<std::size_t>(s.weight)];
      return flags(Pass::part_at(pass.part_of_bias, n.bias) >= 0 || pass.trains(n.w_at) || pass.trains(n.b_at));
    }
    case StepKind::attention:
      return flags(Pass::part_at(pass.part_of_attention, s.attention) >= 0 || (s.relative && table(s.weight)));
    case StepKind::shift:
      return flags(false, table(s.weight));
    case StepKind::wkv:
    case StepKind::wkv7:
    case StepKind::bonus:
      return flags(table(s.weight) || table(s.weight2));
    default:
      return 0;
  }
}

bool TrainedSteps::has_backward(std::size_t i) const {
  if (body.empty()) return true;
  const auto& steps = body[i];
  return below[i].input || below[i].memory || std::any_of(steps.begin(), steps.end(), [](auto s) { return s != 0; });
}

void TrainedSteps::find(const Pass& pass) {
  const Program& program = pass.model->program;
  const auto fill = [&](const Segment& segment, std::vector<std::uint8_t>& flags) {
    flags.clear();
    for (const Step& s : segment.steps) flags.push_back(training_of(pass, s));
    flags.push_back(Pass::part_at(pass.part_of_block, segment.block) >= 0 ? kTrains : 0);
  };
  bool stack[2] = {false, false};
  body.resize(program.body.size());
  below.resize(program.body.size());
  for (std::size_t i = 0; i < program.body.size(); ++i) {
    const Segment& segment = program.body[i];
    bool& flows = stack[static_cast<std::size_t>(segment.stream)];
    fill(segment, body[i]);
    below[i] = {flows, segment.memory >= 0 && stack[0]};
    flows = has_backward(i);
  }
  fill(program.head, head);
  body_trains = stack[static_cast<std::size_t>(program.body.back().stream)];
}

Result<TrainedSteps> trained_steps(const Model::Impl& model, const TrainedPart& part) {
  Pass pass;
  pass.model = &model;
  COVEY_TRY(set_spec(pass, part.adapter));
  if (part.model) {
    COVEY_ASSIGN([[maybe_unused]] const auto size, set_tensors(pass, part.tensors));
  }
  TrainedSteps out;
  out.find(pass);
  return out;
}

bool covers(const TrainedSteps& planned, const TrainedSteps& wanted) {
  if (planned.body.empty()) return true;
  const auto within = [](const std::vector<std::uint8_t>& all, const std::vector<std::uint8_t>& some) {
    return std::equal(all.begin(), all.end(), some.begin(), some.end(),
                      [](std::uint8_t a, std::uint8_t s) { return (s & ~a) == 0; });
  };
  return within(planned.head, wanted.head) &&
         std::equal(planned.body.begin(), planned.body.end(), wanted.body.begin(), wanted.body.end(), within);
}

}  // namespace covey::model
