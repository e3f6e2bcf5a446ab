#include "core/model/plan.h"

#include <algorithm>
#include <numeric>

#include "core/base/assert.h"

namespace covey::model {
namespace {

/// An array that lives from time `begin` to time `end`, both included.
struct Life {
  int begin = -1;
  int end = -1;
  std::uint64_t size = 0;

  void touch(int time) {
    if (begin < 0) begin = time;
    begin = std::min(begin, time);
    end = std::max(end, time);
  }
  [[nodiscard]] bool lives() const { return begin >= 0; }
  [[nodiscard]] bool meets(const Life& other) const { return begin <= other.end && other.begin <= end; }
};

/// Places arrays one by one, the largest first, each at the lowest offset where it meets nobody.
class Arena {
 public:
  void add(const Life& life, Place& place) {
    if (!life.lives() || life.size == 0) return;
    pieces_.push_back({life, &place});
  }
  /// @return floats needed.
  std::uint64_t place() {
    std::stable_sort(pieces_.begin(), pieces_.end(),
                     [](const Piece& a, const Piece& b) { return a.life.size > b.life.size; });
    std::uint64_t needed = 0;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
      for (std::size_t j = 0; j < i; ++j) {
        if (pieces_[j].life.meets(pieces_[i].life)) {
          taken.emplace_back(pieces_[j].to->at, pieces_[j].to->at + pieces_[j].life.size);
        }
      }
      std::sort(taken.begin(), taken.end());
      std::uint64_t at = 0;
      for (const auto& [begin, end] : taken) {
        if (at + pieces_[i].life.size <= begin) break;
        at = std::max(at, end);
      }
      *pieces_[i].to = {Where::arena, at};
      needed = std::max(needed, at + pieces_[i].life.size);
    }
    return needed;
  }

 private:
  struct Piece {
    Life life;
    Place* to;
  };
  std::vector<Piece> pieces_;
};

std::uint64_t aligned(std::uint64_t floats) {
  return (floats + 15) / 16 * 16;
}

class Planner {
 public:
  Planner(const Segment& segment, const PlanOptions& options)
      : s_(segment), o_(options), n_(static_cast<int>(segment.steps.size())), slots_(segment.slots.size()) {}

  SegmentPlan run() {
    plan_.value.resize(slots_);
    plan_.again.resize(slots_);
    plan_.gradient.resize(slots_);
    plan_.tangent.resize(slots_);
    plan_.gradient_in_value.assign(slots_, false);
    find_needs();
    measure_values();
    if (o_.training) measure_gradients();
    place_values();
    if (o_.training) place_gradients();
    plan_.arena = arena_.place();
    if (o_.tangent) place_tangents();
    plan_.home.resize(slots_);
    for (std::size_t i = 0; i < slots_; ++i) {
      plan_.home[i] = o_.training ? home(root(static_cast<int>(i))) : i;
      plan_.gradient[i] = plan_.gradient[plan_.home[i]];
    }
    find_moves();
    if (o_.training) find_again();
    for (std::size_t i = 0; i < slots_; ++i) {
      const auto base = static_cast<std::size_t>(s_.root(static_cast<int>(i)));
      plan_.value[i] = plan_.value[base];
      plan_.again[i] = plan_.again[base];
      plan_.tangent[i] = plan_.tangent[base];
    }
    return std::move(plan_);
  }

 private:
  [[nodiscard]] int back(int step) const { return 2 * n_ - 1 - step; }
  [[nodiscard]] std::size_t root(int slot) const { return static_cast<std::size_t>(s_.root(slot)); }
  [[nodiscard]] std::uint64_t size(std::size_t slot) const {
    const Slot& x = s_.slots[slot];
    return aligned(o_.rows[static_cast<std::size_t>(x.stream)] * static_cast<std::uint64_t>(x.width));
  }

  void find_needs() {
    if (o_.trains.empty()) {
      need_.assign(slots_, 1);
    } else {
      mark_needs(
          s_, o_.below, [&](std::size_t i) { return o_.trains[i] != 0; }, need_);
    }
  }
  /// Whether step i has a backward pass, and whether that reads the step's input for gradients of its own.
  [[nodiscard]] bool runs_backward(int step) const { return need_[root(steps(step).out)] != 0; }
  [[nodiscard]] bool reads_input(int step) const {
    return o_.trains.empty() || (o_.trains[static_cast<std::size_t>(step)] & kReadsInput) != 0;
  }
  [[nodiscard]] const Step& steps(int step) const { return s_.steps[static_cast<std::size_t>(step)]; }

  void measure_values() {
    forward_.assign(slots_, {});
    backward_.assign(slots_, {});
    writer_.assign(slots_, n_);
    for (int i = 0; i < n_; ++i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      for (const int slot : reads_of(step)) forward_[root(slot)].touch(i);
      forward_[root(step.out)].touch(i);
      writer_[root(step.out)] = std::min(writer_[root(step.out)], i);
      if (step.stats >= 0) forward_[root(step.stats)].touch(i);
      if (!o_.training || !runs_backward(i)) continue;
      for (const int slot : backward_reads_of(step, reads_input(i))) backward_[root(slot)].touch(back(i));
    }
    for (std::size_t i = 0; i < slots_; ++i) {
      forward_[i].size = backward_[i].size = size(i);
    }
    // A cheap slot is made again when it is first read: what its step reads must be there by then.
    for (int i = n_ - 1; o_.training && i >= 0; --i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      const std::size_t out = root(step.out);
      if (!s_.slots[out].cheap || !backward_[out].lives()) continue;
      COVEY_ASSERT(!in_place(step) && backward_[out].end <= back(i));
      for (const int slot : reads_of(step)) backward_[root(slot)].touch(backward_[out].begin);
      if (step.stats >= 0) backward_[root(step.stats)].touch(backward_[out].begin);
    }
    if (s_.output >= 0) forward_[root(s_.output)].touch(n_ - 1);
  }

  /// The gradient that a slot's gradient shares its memory with.
  std::size_t home(std::size_t slot) const {
    while (home_[slot] != slot) slot = home_[slot];
    return slot;
  }

  void measure_gradients() {
    home_.resize(slots_);
    std::iota(home_.begin(), home_.end(), std::size_t{0});
    for (std::size_t i = 0; i < s_.steps.size(); ++i) {
      const Step& step = s_.steps[i];
      if (step.base >= 0 && shares_gradient_with_base(s_, i)) home_[root(step.base)] = root(step.out);
    }
    for (int i = 0; i < n_; ++i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      if (step.kind == StepKind::activation) {
        keep_gradient_in_value(step.in, i);
        if (step.in2 >= 0) keep_gradient_in_value(step.in2, i);
      }
    }
    if (s_.stream == Stream::chunk) plan_.gradient_in_value[root(s_.output)] = true;  // logits become their gradient
    gradient_.assign(slots_, {});
    for (int i = 0; i < n_; ++i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      if (!runs_backward(i)) continue;
      for (const int slot : reads_of(step)) {
        if (need_[root(slot)] != 0 || writes_all_gradients(step)) gradient_[home(root(slot))].touch(back(i));
      }
      gradient_[home(root(step.out))].touch(back(i));
    }
    for (std::size_t i = 0; i < slots_; ++i) {
      gradient_[i].size = size(i);
      if (!plan_.gradient_in_value[i] || !gradient_[i].lives()) continue;
      COVEY_ASSERT(home_[i] == i && !s_.slots[i].cheap);
      backward_[i].touch(gradient_[i].begin);
      backward_[i].touch(gradient_[i].end);
    }
  }

  /// Where an activation is its input's only reader, and nothing reads the value after it in the backward pass.
  void keep_gradient_in_value(int slot, int at) {
    const std::size_t of = root(slot);
    if (s_.slots[of].cheap || home_[of] != of || static_cast<int>(of) == s_.input) return;
    for (int i = 0; i < n_; ++i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      const auto touches = [&](const std::vector<int>& read) {
        return std::any_of(read.begin(), read.end(), [&](int other) { return root(other) == of; });
      };
      if (i != at && (touches(reads_of(step)) || touches(backward_reads_of(step)))) return;
    }
    plan_.gradient_in_value[of] = true;
  }

  void place_values() {
    std::uint64_t kept = 0;
    for (std::size_t i = 0; i < slots_; ++i) {
      if (s_.slots[i].base >= 0) continue;
      const int slot = static_cast<int>(i);
      if (slot == s_.input || slot == s_.output || slot == s_.memory) {
        const bool own = s_.stream == Stream::chunk && slot == s_.output;
        plan_.value[i].where = slot == s_.input ? Where::input : (slot == s_.memory ? Where::memory : Where::output);
        if (!own) continue;
      }
      if (o_.training && s_.slots[i].cheap) {
        arena_.add(forward_[i], plan_.value[i]);
        arena_.add(backward_[i], plan_.again[i]);
      } else if (o_.keep && backward_[i].lives() && s_.stream != Stream::chunk) {
        plan_.value[i] = {Where::kept, kept};
        kept += size(i);
      } else {
        Life whole = forward_[i];
        if (backward_[i].lives()) whole.touch(backward_[i].end);
        arena_.add(whole, plan_.value[i]);
      }
    }
    plan_.kept = kept;
  }

  void place_gradients() {
    const std::size_t in = s_.input >= 0 ? home(root(s_.input)) : slots_;
    const std::size_t out = home(root(s_.output));
    for (std::size_t i = 0; i < slots_; ++i) {
      if (s_.slots[i].base >= 0 || plan_.gradient_in_value[i] || home_[i] != i) continue;
      if (i == out) {
        plan_.gradient[i].where = Where::output;
      } else if (i == in) {
        plan_.gradient[i].where = Where::input;
        plan_.turns = gradient_[in].lives() && gradient_[in].begin <= gradient_[out].end;
      } else if (static_cast<int>(i) == s_.memory) {
        plan_.gradient[i].where = Where::memory;
      } else {
        arena_.add(gradient_[i], plan_.gradient[i]);
      }
    }
  }

  /// Where nothing was kept: steps that make what the backward pass reads, and what those read. (Not the last matrix of
  /// a block, whose result only the block above wants.)
  void find_again() {
    std::vector<std::uint8_t> wanted(slots_);
    for (std::size_t i = 0; i < slots_; ++i) wanted[i] = backward_[i].lives() && !s_.slots[i].cheap ? 1 : 0;
    plan_.again_steps.assign(s_.steps.size(), 0);
    for (std::size_t i = s_.steps.size(); i-- > 0;) {
      const Step& step = s_.steps[i];
      if (wanted[root(step.out)] == 0 && (step.stats < 0 || wanted[root(step.stats)] == 0)) continue;
      plan_.again_steps[i] = 1;
      for (const int slot : reads_of(step)) wanted[root(slot)] = 1;
    }
  }

  /// Whether the input is still read when the output is written, other than to be added to.
  void find_moves() {
    for (int i = 0; i < n_ && s_.input >= 0; ++i) {
      const Step& step = s_.steps[static_cast<std::size_t>(i)];
      const int written = writer_[root(s_.output)];
      const auto is_input = [&](int slot) { return slot >= 0 && root(slot) == root(s_.input); };
      const bool read = is_input(step.in) || is_input(step.in2) || is_input(step.in3);
      if ((read && i >= written) || (is_input(step.base) && i > written)) plan_.moves = true;
    }
  }

  void place_tangents() {
    Arena arena;
    for (std::size_t i = 0; i < slots_; ++i) {
      if (s_.slots[i].base >= 0) continue;
      const int slot = static_cast<int>(i);
      if (s_.stream != Stream::chunk && (slot == s_.input || slot == s_.output || slot == s_.memory)) {
        plan_.tangent[i].where = slot == s_.input ? Where::input : (slot == s_.memory ? Where::memory : Where::output);
      } else {
        arena.add(forward_[i], plan_.tangent[i]);
      }
    }
    plan_.tangent_arena = arena.place();
  }

  const Segment& s_;
  const PlanOptions& o_;
  int n_;
  std::size_t slots_;
  SegmentPlan plan_;
  std::vector<std::uint8_t> need_;
  std::vector<Life> forward_, backward_, gradient_;
  std::vector<int> writer_;
  std::vector<std::size_t> home_;
  Arena arena_;
};

}  // namespace

std::vector<int> reads_of(const Step& step) {
  std::vector<int> slots;
  for (const int slot : {step.in, step.in2, step.in3, step.in4, step.in5, step.base}) {
    if (slot >= 0) slots.push_back(slot);
  }
  return slots;
}

std::vector<int> backward_reads_of(const Step& step, bool reads_input) {
  switch (step.kind) {
    case StepKind::linear:
    case StepKind::shift:
      return reads_input ? std::vector<int>{step.in} : std::vector<int>{};
    case StepKind::norm:
      return step.stats >= 0 ? std::vector<int>{step.in, step.stats} : std::vector<int>{step.in};
    case StepKind::attention:
      return {step.in, step.in2, step.in3, step.out, step.stats};
    case StepKind::activation:
      return step.in2 >= 0 ? std::vector<int>{step.in, step.in2} : std::vector<int>{step.in};
    case StepKind::wkv:
      return {step.in, step.in2, step.out, step.stats};
    case StepKind::wkv7:
      return {step.in, step.in2, step.in3, step.in4, step.in5, step.stats};
    case StepKind::bonus:
      return {step.in, step.in2, step.in3, step.in4};
    case StepKind::lerp:
      return {step.in, step.in2, step.in3};
    default:
      return {};
  }
}

bool writes_all_gradients(const Step& step) {
  switch (step.kind) {
    case StepKind::attention:
    case StepKind::activation:
    case StepKind::wkv:
    case StepKind::trigram:
      return true;
    default:
      return false;
  }
}

bool in_place(const Step& step) {
  switch (step.kind) {
    case StepKind::positions:
    case StepKind::types:
    case StepKind::rope:
    case StepKind::scale:
      return true;
    default:
      return false;
  }
}

bool shares_gradient_with_base(const Segment& segment, std::size_t at) {
  const int base = segment.root(segment.steps[at].base);
  for (std::size_t i = at + 1; i < segment.steps.size(); ++i) {
    const auto read = reads_of(segment.steps[i]);
    if (std::any_of(read.begin(), read.end(), [&](int slot) { return segment.root(slot) == base; })) return false;
  }
  // A slot that is the segment's input or output on both sides still has one gradient: it flows down.
  return base != segment.memory;
}

SegmentPlan plan_segment(const Segment& segment, const PlanOptions& options) {
  Planner planner(segment, options);
  return planner.run();
}

}  // namespace covey::model
