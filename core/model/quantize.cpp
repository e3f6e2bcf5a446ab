// Model::use_int8: the f32 weights of the blocks' linear layers, rounded and packed.
#include <new>
#include <set>

#include "core/model/weights.h"

namespace covey::model {
namespace {

/// Indices of linears that the blocks use. The head is not among them: its inputs are few, and its outputs' small
/// differences are the loss.
std::set<std::size_t> block_linears(const Model::Impl& impl) {
  std::set<std::size_t> out;
  for (const Segment& segment : impl.program.body) {
    for (const Step& step : segment.steps) {
      if (step.kind == StepKind::linear) out.insert(static_cast<std::size_t>(step.weight));
    }
  }
  return out;
}

std::unique_ptr<kernels::Int8Weights> packed(const Linear& linear) {
  auto weights = std::make_unique<kernels::Int8Weights>(linear.out, linear.in);
  const auto in = static_cast<std::size_t>(linear.in);
  std::vector<float> row(in);
  std::vector<std::int8_t> q(in);
  for (int n = 0; n < linear.out; ++n) {
    const float* values = linear.w + static_cast<std::size_t>(n) * in;
    if (linear.in_out) {
      for (std::size_t k = 0; k < in; ++k) {
        row[k] = linear.w[k * static_cast<std::size_t>(linear.out) + static_cast<std::size_t>(n)];
      }
      values = row.data();
    }
    float scale = 0;
    kernels::quantize_channel(linear.in, values, q.data(), &scale);
    weights->set_rows(n, 1, q.data(), &scale);
  }
  return weights;
}

}  // namespace

Status Model::use_int8() {
  if (!impl_->int8.empty()) return {};
  const std::set<std::size_t> chosen = block_linears(*impl_);
  for (const std::size_t index : chosen) {
    const Linear& linear = impl_->linears[index];
    if (linear.in > kernels::kInt8TermsMax || linear.out > kernels::kInt8TermsMax) {
      return Error{ErrorCode::unsupported, "w8a8: a layer of " + std::to_string(linear.in) + " x " +
                                               std::to_string(linear.out) + " is too wide for int32 sums; at most " +
                                               std::to_string(kernels::kInt8TermsMax)};
    }
  }
  try {
    for (const std::size_t index : chosen) impl_->int8.push_back(packed(impl_->linears[index]));
  } catch (const std::bad_alloc&) {
    impl_->int8.clear();
    return Error{ErrorCode::resource_exhausted, "w8a8: no memory for the int8 weights"};
  }
  auto next = impl_->int8.begin();
  for (const std::size_t index : chosen) impl_->linears[index].int8 = (next++)->get();
  return {};
}

std::uint64_t Model::int8_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& w : impl_->int8) {
    bytes += static_cast<std::uint64_t>(w->block_bytes()) * static_cast<std::uint64_t>(w->padded(w->out()) / 16);
  }
  return bytes;
}

}  // namespace covey::model
