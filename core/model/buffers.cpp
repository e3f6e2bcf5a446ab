#include "core/model/buffers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "core/model/parts.h"
#include "core/model/weights.h"

namespace covey::model {
namespace {

/// Hands out consecutive 64-byte aligned pieces of a block, or only counts them where there is no block yet.
class Layout {
 public:
  explicit Layout(void* memory) : memory_(static_cast<std::uint8_t*>(memory)) {}

  template <typename T = float>
  T* take(std::uint64_t count) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  [[nodiscard]] std::uint64_t used() const { return used_; }

 private:
  std::uint8_t* memory_;
  std::uint64_t used_ = 0;
};

/// What segments share, and what flows between them.
struct Ground {
  float* arena = nullptr;
  float* kept = nullptr;
  float* tangents = nullptr;
  float* input = nullptr;
  float* output = nullptr;
  float* memory = nullptr;
  float* input_gradient = nullptr;
  float* output_gradient = nullptr;
  float* memory_gradient = nullptr;
  float* input_tangent = nullptr;
  float* output_tangent = nullptr;
  float* memory_tangent = nullptr;
};

float* at(const Place& place, const Ground& g, float* input, float* output, float* memory) {
  switch (place.where) {
    case Where::arena:
      return g.arena == nullptr ? nullptr : g.arena + place.at;
    case Where::kept:
      return g.kept == nullptr ? nullptr : g.kept + place.at;
    case Where::input:
      return input;
    case Where::output:
      return output;
    case Where::memory:
      return memory;
    case Where::nowhere:
      break;
  }
  return nullptr;
}

SegmentMemory bind(const Segment& segment, const SegmentPlan& plan, const Ground& g) {
  const std::size_t n = segment.slots.size();
  SegmentMemory m{std::vector<float*>(n), std::vector<float*>(n), std::vector<float*>(n), std::vector<float*>(n),
                  plan.again_steps};
  Ground tangents = g;
  tangents.arena = g.tangents;
  const auto value = [&](std::size_t i) { return at(plan.value[i], g, g.input, g.output, g.memory); };
  for (std::size_t i = 0; i < n; ++i) {
    const int offset = segment.slots[i].offset;
    const auto moved = [offset](float* p) { return p == nullptr ? nullptr : p + offset; };
    const std::size_t home = plan.home[i];
    m.value[i] = moved(value(i));
    m.again[i] = segment.slots[static_cast<std::size_t>(segment.root(static_cast<int>(i)))].cheap
                     ? moved(at(plan.again[i], g, g.input, g.output, g.memory))
                     : m.value[i];
    m.gradient[i] = moved(plan.gradient_in_value[home]
                              ? value(home)
                              : at(plan.gradient[i], g, g.input_gradient, g.output_gradient, g.memory_gradient));
    m.tangent[i] = moved(at(plan.tangent[i], tangents, g.input_tangent, g.output_tangent, g.memory_tangent));
  }
  return m;
}

std::uint64_t unsigned_of(int value) {
  return static_cast<std::uint64_t>(std::max(value, 0));
}

std::uint64_t width_of_output(const Segment& segment) {
  return unsigned_of(segment.slots[static_cast<std::size_t>(segment.output)].width);
}

/// Two buffers per stack for what flows between segments; the second only where one cannot take both.
struct Flow {
  float* buffer[2] = {nullptr, nullptr};
  int now = 0;
  void turn(bool really) { now = really ? 1 - now : now; }
  [[nodiscard]] float* get() const { return buffer[now]; }
};

class Plans {
 public:
  Plans(const Program& program, const EngineOptions& options, int chunk, const TrainedSteps& trained)
      : program_(program) {
    const std::uint64_t positions = unsigned_of(options.seq_max) + unsigned_of(options.prompt_tokens_max);
    plan_options_.training = options.training;
    plan_options_.keep = options.training && !options.checkpoint;
    plan_options_.tangent = options.tangent;
    plan_options_.rows = {unsigned_of(options.batch_max) * positions,
                          unsigned_of(options.batch_max) * unsigned_of(options.target_seq_max), unsigned_of(chunk)};
    for (std::size_t i = 0; i < program.body.size(); ++i) {
      PlanOptions of = plan_options_;
      of.training = options.training && trained.has_backward(i);
      backward.push_back(of.training);
      forward.push_back(!of.training);
      all.push_back(true);
      of.keep = of.keep && of.training;
      if (!trained.body.empty()) {
        of.trains = trained.body[i];
        of.below = trained.below[i];
      }
      body.push_back(plan_segment(program.body[i], of));
    }
    PlanOptions of = plan_options_;
    of.trains = trained.head;
    of.below.input = trained.body_trains;
    head = plan_segment(program.head, of);
    for (const SegmentPlan& plan : body) {
      arena = std::max(arena, plan.arena);
      tangents = std::max(tangents, plan.tangent_arena);
    }
  }
  [[nodiscard]] const std::array<std::uint64_t, kStreams>& rows() const { return plan_options_.rows; }
  /// Floats of the widest output of those of a stack's segments, and whether any of them needs the second buffer.
  [[nodiscard]] std::uint64_t flow_size(Stream stream, const std::vector<bool>& those, bool SegmentPlan::*turn,
                                        bool& twice) const {
    std::uint64_t width = 0;
    for (std::size_t i = 0; i < body.size(); ++i) {
      if (program_.body[i].stream != stream || !those[i]) continue;
      width = std::max(width, width_of_output(program_.body[i]));
      twice = twice || body[i].*turn;
    }
    return rows()[static_cast<std::size_t>(stream)] * width;
  }

  std::vector<SegmentPlan> body;
  std::vector<bool> backward, forward, all;  ///< segments with a backward pass, without one, both
  SegmentPlan head;
  std::uint64_t arena = 0;
  std::uint64_t tangents = 0;

 private:
  const Program& program_;
  PlanOptions plan_options_;
};

Flow take_flow(Layout& layout, const Plans& plans, Stream stream, const std::vector<bool>& those,
               bool SegmentPlan::*turn) {
  Flow flow;
  bool twice = false;
  const std::uint64_t size = plans.flow_size(stream, those, turn, twice);
  flow.buffer[0] = layout.take(size);
  if (twice) flow.buffer[1] = layout.take(size);
  return flow;
}

void lay_out_body(Layout& layout, const Program& program, const EngineOptions& options, const Plans& plans,
                  Buffers& b) {
  Ground ground;
  ground.arena = layout.take(plans.arena);
  if (options.tangent) ground.tangents = layout.take(plans.tangents);
  std::vector<Ground> grounds(program.body.size(), ground);
  Flow value[2];
  Flow tangent[2];
  Flow gradient[2];
  const int stacks = static_cast<std::size_t>(program.first_segments) < program.body.size() ? 2 : 1;
  for (int stack = 0; stack < stacks; ++stack) {
    const auto stream = static_cast<Stream>(stack);
    value[stack] = take_flow(layout, plans, stream, plans.forward, &SegmentPlan::moves);
    if (options.tangent) tangent[stack] = take_flow(layout, plans, stream, plans.all, &SegmentPlan::moves);
    gradient[stack] = take_flow(layout, plans, stream, plans.backward, &SegmentPlan::turns);
  }
  for (std::size_t i = 0; i < program.body.size(); ++i) {
    const Segment& segment = program.body[i];
    const auto stack = static_cast<std::size_t>(segment.stream);
    Ground& g = grounds[i];
    g.kept = layout.take(plans.body[i].kept);
    const bool first = i == 0 || program.body[i - 1].stream != segment.stream;
    if (!first) g.input = grounds[i - 1].output;
    g.input_tangent = tangent[stack].get();
    if (plans.backward[i]) {
      g.output = layout.take(plans.rows()[stack] * width_of_output(segment));
    } else {
      value[stack].turn(!first && plans.body[i].moves);
      g.output = value[stack].get();
    }
    tangent[stack].turn(!first && plans.body[i].moves);
    g.output_tangent = tangent[stack].get();
    if (segment.memory >= 0) {
      const auto last = static_cast<std::size_t>(program.first_segments) - 1;
      g.memory = grounds[last].output;
      g.memory_tangent = grounds[last].output_tangent;
      g.memory_gradient = gradient[0].buffer[0];
    }
  }
  for (std::size_t i = program.body.size(); i-- > 0;) {
    const auto stack = static_cast<std::size_t>(program.body[i].stream);
    grounds[i].output_gradient = gradient[stack].get();
    gradient[stack].turn(plans.body[i].turns);
    grounds[i].input_gradient = gradient[stack].get();
  }
  b.body.clear();
  for (std::size_t i = 0; i < program.body.size(); ++i) {
    b.body.push_back(bind(program.body[i], plans.body[i], grounds[i]));
  }
}

void lay_out(Layout& layout, const Program& program, const ModelConfig& config, const EngineOptions& options,
             const TrainedSteps& trained, Buffers& b) {
  // Few enough rows that the logits stay small, enough of them that the head's weights are read seldom; multiples of
  // what the kernels take at a time.
  std::uint64_t rows =
      std::clamp<std::uint64_t>((std::uint64_t{8} << 20) / unsigned_of(config.outputs()) / 24 * 24, 72, 240);
  if (options.tangent && !options.training) rows /= 2;  // logits and their tangents in the memory of logits
  const std::uint64_t positions = unsigned_of(options.seq_max) + unsigned_of(options.prompt_tokens_max);
  const std::uint64_t target_rows = config.two_stacks() ? unsigned_of(options.target_seq_max) : positions;
  b.chunk = static_cast<int>(std::min(rows, unsigned_of(options.batch_max) * target_rows));
  const Plans plans(program, options, b.chunk, trained);
  b.rows = plans.rows();
  lay_out_body(layout, program, options, plans, b);

  const std::uint64_t C = unsigned_of(b.chunk);
  Ground head;
  head.arena = layout.take(plans.head.arena);
  if (options.tangent) head.tangents = layout.take(plans.head.tangent_arena);
  const std::uint64_t in = C * unsigned_of(program.head.slots[static_cast<std::size_t>(program.head.input)].width);
  head.input = layout.take(in);
  if (options.training && trained.body_trains) head.input_gradient = layout.take(in);
  b.head = bind(program.head, plans.head, head);
  b.head_loss = layout.take<double>(C);
  if (options.tangent) b.head_loss_t = layout.take<double>(C);
  b.head_correct = layout.take<std::uint8_t>(C);
  if (config.position == PositionKind::rope) {
    const std::uint64_t table = rope_table_floats(config, static_cast<int>(positions));
    b.cosine = layout.take(table);
    b.sine = layout.take(table);
  }
  if (program.slopes) b.slopes = layout.take(unsigned_of(config.heads));
  if (program.relative) {
    b.reach[0] = static_cast<int>(positions);
    b.reach[1] = options.target_seq_max + options.prompt_tokens_max;
    b.distance_bias[0] = layout.take(unsigned_of(config.heads) * (2 * positions));
    b.distance_bias[1] = layout.take(unsigned_of(config.decoder_heads) * (2 * unsigned_of(b.reach[1])));
  }
}

/// Press et al., 2022: powers of 2^(-8/n); for other than powers of two, every other one of the next finer series.
void fill_slopes(int heads, float* slopes) {
  int n = 1;
  while (2 * n <= heads) n *= 2;
  const double base = std::pow(2.0, -8.0 / n);
  const double finer = std::pow(2.0, -4.0 / n);
  for (int h = 0; h < heads; ++h) {
    slopes[h] = static_cast<float>(h < n ? std::pow(base, h + 1) : std::pow(finer, 2 * (h - n) + 1));
  }
}

}  // namespace

void Buffers::Free::operator()(void* block) const {
  std::free(block);
}

std::uint64_t buffer_bytes(const Program& program, const ModelConfig& config, const EngineOptions& options,
                           const TrainedSteps& trained) {
  Layout layout(nullptr);
  Buffers buffers;
  lay_out(layout, program, config, options, trained, buffers);
  return layout.used();
}

std::uint64_t stash_bytes(const Program& program, const EngineOptions& options, const TrainedSteps& trained) {
  const Plans plans(program, options, 1, trained);
  std::uint64_t floats = 0;
  for (std::size_t i = 0; i < program.body.size(); ++i) {
    if (!plans.backward[i]) continue;
    const auto stack = static_cast<std::size_t>(program.body[i].stream);
    floats += plans.body[i].kept + plans.rows()[stack] * width_of_output(program.body[i]);
  }
  return floats * sizeof(float);
}

Result<Buffers> make_buffers(const Program& program, const ModelConfig& config, const EngineOptions& options,
                             const TrainedSteps& trained) {
  Buffers b;
  b.bytes = buffer_bytes(program, config, options, trained);
  b.memory.reset(std::aligned_alloc(64, b.bytes));
  if (b.memory == nullptr) {
    return Error{ErrorCode::resource_exhausted, "no memory for " + std::to_string(b.bytes) +
                                                    " bytes of buffers; take a smaller batch or shorter sequences"};
  }
  Layout layout(b.memory.get());
  lay_out(layout, program, config, options, trained, b);
  if (b.cosine != nullptr) {
    fill_rope_tables(config, options.seq_max + options.prompt_tokens_max, b.cosine, b.sine);
  }
  if (b.slopes != nullptr) fill_slopes(config.heads, b.slopes);
  return b;
}

std::uint64_t rope_table_floats(const ModelConfig& config, int positions) {
  const int turning = config.rope.rotary_dim > 0 ? config.rope.rotary_dim : config.head_dim;
  return unsigned_of(positions) * unsigned_of(turning / 2) * (config.rope.scaling == RopeScaling::longrope ? 2 : 1);
}

void fill_rope_tables(const ModelConfig& config, int positions, float* cosine, float* sine) {
  const bool both = config.rope.scaling == RopeScaling::longrope;
  const double factor = config.rope.attention_factor;
  for (int part = 0; part < (both ? 2 : 1); ++part) {
    const std::vector<float> angles = rope_angles(config, positions, part == 1);
    for (const float angle : angles) {
      *cosine++ = static_cast<float>(std::cos(static_cast<double>(angle)) * factor);
      *sine++ = static_cast<float>(std::sin(static_cast<double>(angle)) * factor);
    }
  }
}

MemoryPlan plan_memory(const ModelConfig& config, const AdapterSpec& spec, const std::vector<LinearSite>& sites,
                       const EngineOptions& options, int optimizer_floats_per_parameter) {
  MemoryPlan plan;
  Model::Impl model;
  model.config = config;
  list_parameters(model);
  std::uint64_t adapter = unsigned_of(spec.prompt_tokens) * unsigned_of(config.embedding_width());
  if (spec.head_values > 0) adapter += static_cast<std::uint64_t>(spec.head_values);
  std::uint64_t rank = 0;
  for (const LoraSite& lora : spec.lora) {
    if (lora.site < 0 || static_cast<std::size_t>(lora.site) >= sites.size()) continue;
    const LinearSite& site = sites[static_cast<std::size_t>(lora.site)];
    adapter += unsigned_of(lora.rank) * (unsigned_of(site.in) + unsigned_of(site.out));
    rank = std::max(rank, unsigned_of(lora.rank));
  }
  for (const AdapterPart& part : spec.parts) adapter += static_cast<std::uint64_t>(part.size());
  const std::uint64_t copies = 1 + (options.training ? 1 + unsigned_of(optimizer_floats_per_parameter) : 0);
  plan.weights_bytes = static_cast<std::uint64_t>(model.parameter_count) * sizeof(float);
  plan.adapter_bytes = adapter * copies * sizeof(float);
  const std::uint64_t N =
      unsigned_of(options.batch_max) * std::max(unsigned_of(options.seq_max) + unsigned_of(options.prompt_tokens_max),
                                                unsigned_of(options.target_seq_max));
  TrainedSteps trained;
  if (options.training && options.trained) {
    auto known = trained_steps(model, *options.trained);
    if (known.ok()) trained = *std::move(known);
  }
  plan.buffers_bytes = buffer_bytes(model.program, config, options, trained) +
                       (2 * N * rank + part_floats(model, spec, options, N)) * sizeof(float);
  if (options.training) plan.stash_bytes = stash_bytes(model.program, options, trained);
  return plan;
}

}  // namespace covey::model
