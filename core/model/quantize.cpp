// W8A8: the blocks' linear layers rounded and packed, or packed as a file keeps them.
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <set>

#include "core/model/weights.h"

namespace covey::model {
namespace {

/// The matrix that makes logits of words. -1: a classifier's model has none.
std::ptrdiff_t word_head(const Model::Impl& impl) {
  for (const Step& step : impl.program.head.steps) {
    if (step.kind != StepKind::linear) continue;
    if (impl.linears[static_cast<std::size_t>(step.weight)].out == impl.config.vocab_size) return step.weight;
  }
  return -1;
}

/// The file's pages need not stay in memory once they are packed; they are read again should anyone ask.
void let_go(const Int8Source& source, std::size_t size) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(source.rows) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(source.rows) + size) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // NOLINT: mapped, read-only
}

std::unique_ptr<kernels::Int8Weights> packed(const Model::Impl& impl, const Linear& linear) {
  auto weights = std::make_unique<kernels::Int8Weights>(linear.out, linear.in);
  if (const auto source = impl.int8_sources.find(linear.w_at); source != impl.int8_sources.end()) {
    weights->set_rows(0, linear.out, source->second.rows, source->second.scales.data());
    let_go(source->second, static_cast<std::size_t>(linear.out) * static_cast<std::size_t>(linear.in));
    return weights;
  }
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

std::set<std::size_t> block_linears(const Model::Impl& impl) {
  std::set<std::size_t> out;
  for (const Segment& segment : impl.program.body) {
    for (const Step& step : segment.steps) {
      if (step.kind == StepKind::linear) out.insert(static_cast<std::size_t>(step.weight));
    }
  }
  return out;
}

std::set<std::int64_t> block_matrices(const Model::Impl& model) {
  std::set<std::int64_t> out;
  for (const std::size_t index : block_linears(model)) {
    if (!model.linears[index].in_out) out.insert(model.linears[index].w_at);
  }
  return out;
}

Status Model::use_int8() {
  if (!impl_->int8.empty()) return {};
  std::set<std::size_t> chosen = block_linears(*impl_);
  if (!impl_->int8_sources.empty()) {  // the file says which
    std::erase_if(chosen, [&](std::size_t index) { return !impl_->int8_sources.contains(impl_->linears[index].w_at); });
  }
  const std::ptrdiff_t head = word_head(*impl_);
  if (head >= 0) {
    chosen.insert(static_cast<std::size_t>(head));
    impl_->linears[static_cast<std::size_t>(head)].word_head = true;
  }
  for (const std::size_t index : chosen) {
    const Linear& linear = impl_->linears[index];
    if (linear.in > kernels::kInt8TermsMax || (!linear.word_head && linear.out > kernels::kInt8TermsMax)) {
      return Error{ErrorCode::unsupported, "w8a8: a layer of " + std::to_string(linear.in) + " x " +
                                               std::to_string(linear.out) + " is too wide for int32 sums; at most " +
                                               std::to_string(kernels::kInt8TermsMax)};
    }
  }
  try {
    for (const std::size_t index : chosen) impl_->int8.push_back(packed(*impl_, impl_->linears[index]));
  } catch (const std::bad_alloc&) {
    impl_->int8.clear();
    return Error{ErrorCode::resource_exhausted, "w8a8: no memory for the int8 weights"};
  }
  auto next = impl_->int8.begin();
  for (const std::size_t index : chosen) {
    Linear& linear = impl_->linears[index];
    linear.int8 = (next++)->get();
    const auto large = impl_->outliers.find(linear.w_at);
    if (large != impl_->outliers.end()) linear.outliers = &large->second;
  }
  return {};
}

bool Model::is_int8_file() const {
  return impl_->from_int8;
}

std::uint64_t Model::int8_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& w : impl_->int8) {
    bytes += static_cast<std::uint64_t>(w->block_bytes()) * static_cast<std::uint64_t>(w->padded(w->out()) / 16);
  }
  return bytes;
}

std::uint64_t Model::weight_bytes() const {
  std::uint64_t bytes = int8_bytes();
  for (const auto& [at, large] : impl_->outliers) bytes += large.values.size() * sizeof(float);
  for (const Parameter& p : impl_->parameters) {
    if (p.values != nullptr) bytes += static_cast<std::uint64_t>(p.count) * sizeof(float);
  }
  return bytes;
}

}  // namespace covey::model
