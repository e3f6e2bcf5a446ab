#include "core/model/smooth.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/model/plan.h"
#include "core/model/weights.h"

namespace covey::model {
namespace {

std::string module_path(const Model::Impl& impl, std::int64_t weight_at) {
  for (const Parameter& p : impl.parameters) {
    if (p.at == weight_at) return p.name.substr(0, p.name.rfind('.'));
  }
  return "?";
}

/// Linear layers that read the same norm's result, and nothing else does.
struct FoldGroup {
  int norm = -1;
  std::set<std::size_t> linears;
};

/// How often the program uses each tensor.
std::map<std::int64_t, int> uses_of_tensors(const Model::Impl& impl) {
  std::map<std::int64_t, int> uses;
  const auto add = [&](const Segment& segment) {
    for (const Step& step : segment.steps) {
      const auto weight = static_cast<std::size_t>(step.weight);
      if (step.kind == StepKind::linear) ++uses[impl.linears[weight].w_at];
      if (step.kind == StepKind::norm) ++uses[impl.norms[weight].w_at];
    }
  };
  for (const Segment& segment : impl.program.body) add(segment);
  add(impl.program.head);
  return uses;
}

/// Finds the groups, and says of the blocks' other linear layers why they are in none.
class FoldGroups {
 public:
  explicit FoldGroups(const Model::Impl& impl) : impl_(impl), uses_(uses_of_tensors(impl)) {
    for (const std::size_t linear : block_linears(impl)) why_not_[linear] = "no norm stands before it";
    for (const Segment& segment : impl.program.body) {
      for (const Step& step : segment.steps) {
        if (step.kind == StepKind::norm) consider(segment, step);
      }
    }
  }
  [[nodiscard]] const std::vector<FoldGroup>& groups() const { return groups_; }
  [[nodiscard]] const std::map<std::size_t, std::string>& why_not() const { return why_not_; }

 private:
  void consider(const Segment& segment, const Step& norm) {
    FoldGroup group{.norm = norm.weight, .linears = {}};
    const char* hindrance = weights_hinder(impl_.norms[static_cast<std::size_t>(norm.weight)]);
    const int result = segment.root(norm.out);
    const auto is_result = [&](int slot) { return slot >= 0 && segment.root(slot) == result; };
    for (const Step& step : segment.steps) {
      if (&step == &norm) continue;
      const bool whole = step.kind == StepKind::linear && step.in == norm.out && !is_result(step.base);
      if (whole) {
        const auto linear = static_cast<std::size_t>(step.weight);
        group.linears.insert(linear);
        if (uses_[impl_.linears[linear].w_at] > 1) hindrance = "several places share its weights";
      } else if (is_result(step.out) || std::ranges::any_of(reads_of(step), is_result)) {
        hindrance = "its norm's result is read elsewhere, too";
      }
    }
    if (is_result(segment.output) || is_result(segment.memory)) hindrance = "its norm's result is read elsewhere, too";
    if (group.linears.empty()) return;
    for (const std::size_t linear : group.linears) {
      if (hindrance != nullptr) {
        why_not_[linear] = hindrance;
      } else {
        why_not_.erase(linear);
      }
    }
    if (hindrance == nullptr) groups_.push_back(std::move(group));
  }

  [[nodiscard]] const char* weights_hinder(const NormWeights& norm) {
    if (norm.w_at < 0 || norm.w == nullptr) return "its norm has no weights";
    if (norm.heads != 1 || norm.own) return "its norm is one of heads";
    return uses_[norm.w_at] > 1 ? "several places share its norm" : nullptr;
  }

  const Model::Impl& impl_;
  std::map<std::int64_t, int> uses_;
  std::vector<FoldGroup> groups_;
  std::map<std::size_t, std::string> why_not_;
};

/// Element (n, k) of W (out, in).
std::size_t element(const Linear& linear, int n, int k) {
  return linear.in_out
             ? static_cast<std::size_t>(k) * static_cast<std::size_t>(linear.out) + static_cast<std::size_t>(n)
             : static_cast<std::size_t>(n) * static_cast<std::size_t>(linear.in) + static_cast<std::size_t>(k);
}

/// s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) (Xiao et al. 2023, equation 4); 1 where a column is 0.
std::vector<float> smoothing_scales(const Model::Impl& impl, const FoldGroup& group, const InputPeaks& peaks,
                                    double alpha) {
  const std::vector<float>& x = peaks.of_layer[*group.linears.begin()];
  std::vector<float> scales(x.size(), 1.0F);
  for (std::size_t k = 0; k < x.size(); ++k) {
    float w = 0;
    for (const std::size_t index : group.linears) {
      const Linear& linear = impl.linears[index];
      for (int n = 0; n < linear.out; ++n) w = std::max(w, std::abs(linear.w[element(linear, n, static_cast<int>(k))]));
    }
    const double scale = std::pow(static_cast<double>(x[k]), alpha) / std::pow(static_cast<double>(w), 1 - alpha);
    if (x[k] > 0 && w > 0 && std::isfinite(scale)) scales[k] = static_cast<float>(std::clamp(scale, 1e-5, 1e5));
  }
  return scales;
}

/// The norm's result becomes its s-th part, the layers' columns s times as large: their product stays.
void fold(Model::Impl& impl, const FoldGroup& group, std::span<const float> scales, InputPeaks& peaks) {
  const NormWeights& norm = impl.norms[static_cast<std::size_t>(group.norm)];
  float* memory = impl.memory.get();
  for (std::size_t k = 0; k < scales.size(); ++k) {
    float& w = memory[static_cast<std::size_t>(norm.w_at) + k];
    w = (norm.offset + w) / scales[k] - norm.offset;
    if (norm.b_at >= 0) memory[static_cast<std::size_t>(norm.b_at) + k] /= scales[k];
  }
  for (const std::size_t index : group.linears) {
    const Linear& linear = impl.linears[index];
    for (int n = 0; n < linear.out; ++n) {
      for (std::size_t k = 0; k < scales.size(); ++k) {
        memory[static_cast<std::size_t>(linear.w_at) + element(linear, n, static_cast<int>(k))] *= scales[k];
      }
    }
    for (std::size_t k = 0; k < scales.size(); ++k) peaks.of_layer[index][k] /= scales[k];
  }
}

Status check_peaks(const Model::Impl& impl, const InputPeaks& peaks, const char* who) {
  bool fits = peaks.of_layer.size() == impl.linears.size();
  for (const std::size_t index : block_linears(impl)) {
    fits = fits && peaks.of_layer[index].size() == static_cast<std::size_t>(impl.linears[index].in);
  }
  if (fits) return {};
  return Error{ErrorCode::invalid_argument, std::string(who) + ": the peaks are not those of this model's layers"};
}

}  // namespace

Result<SmoothReport> Model::smooth(InputPeaks& peaks, double alpha) {
  if (!impl_->writable || !impl_->int8.empty()) {
    return Error{ErrorCode::invalid_argument, "smooth: needs a writable model in f32"};
  }
  if (!(alpha >= 0 && alpha <= 1)) return Error{ErrorCode::invalid_argument, "smooth: alpha must be in [0, 1]"};
  COVEY_TRY(check_peaks(*impl_, peaks, "smooth"));
  const FoldGroups found(*impl_);
  SmoothReport report;
  for (const FoldGroup& group : found.groups()) {
    fold(*impl_, group, smoothing_scales(*impl_, group, peaks, alpha), peaks);
    report.norms.push_back(module_path(*impl_, impl_->norms[static_cast<std::size_t>(group.norm)].w_at));
    for (const std::size_t index : group.linears) {
      report.layers.push_back(module_path(*impl_, impl_->linears[index].w_at));
    }
  }
  for (const auto& [index, why] : found.why_not()) {
    report.left.push_back(module_path(*impl_, impl_->linears[index].w_at) + " (" + why + ")");
  }
  return report;
}

Status Model::keep_outliers(const InputPeaks& peaks, int count) {
  if (!impl_->int8.empty()) return Error{ErrorCode::invalid_argument, "keep_outliers: the model is in int8 already"};
  if (count < 1) return Error{ErrorCode::invalid_argument, "keep_outliers: at least one column"};
  COVEY_TRY(check_peaks(*impl_, peaks, "keep_outliers"));
  std::map<std::int64_t, OutlierColumns> all;
  for (const std::size_t index : block_linears(*impl_)) {
    const Linear& linear = impl_->linears[index];
    if (count >= linear.in) {
      return Error{ErrorCode::invalid_argument, "keep_outliers: " + std::to_string(count) + " columns of " +
                                                    module_path(*impl_, linear.w_at) + ", which has " +
                                                    std::to_string(linear.in) + "; keep fewer"};
    }
    const std::vector<float>& x = peaks.of_layer[index];
    std::vector<int> order(x.size());
    for (std::size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int>(k);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return x[static_cast<std::size_t>(a)] > x[static_cast<std::size_t>(b)]; });
    OutlierColumns& kept = all[linear.w_at];
    kept.values.clear();  // layers may share a matrix
    kept.columns.assign(order.begin(), order.begin() + count);
    std::sort(kept.columns.begin(), kept.columns.end());
    for (int n = 0; n < linear.out; ++n) {
      for (const int k : kept.columns) kept.values.push_back(linear.w[element(linear, n, k)]);
    }
  }
  impl_->outliers = std::move(all);
  return {};
}

}  // namespace covey::model
