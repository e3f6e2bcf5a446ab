// Attention with a prefix: keys and values of each row are gathered behind the prefix's, since every row has its own
// copy of them to look at.
#include <cstring>

#include "core/model/parts.h"

namespace covey::model {
namespace {

/// Keys (or values) of one attention, as steps have them: rows some distance apart, heads some distance apart.
struct Strided {
  long row = 0;
  long head = 0;
};

class Prefixed {
 public:
  Prefixed(const Work& w, const Step& s, int part)
      : w_(w), s_(s), tokens_(w.pass.part(part).count), width_(w.pass.part(part).width), shape_(attention_shape(w, s)) {
    rows_ = shape_.rows;
    auto& rows = w.pass.prefixed_rows;
    rows.assign(rows_.begin(), rows_.end());
    int next = 0;
    for (auto& row : rows) {
      row.kv_begin = next;
      row.kv_count += tokens_;
      next += row.kv_count;
    }
    size_ = static_cast<std::size_t>(next) * static_cast<std::size_t>(width_);
    shape_.rows = rows;
    shape_.k_at = shape_.v_at = {};
  }

  [[nodiscard]] const kernels::AttentionShape& shape() const { return shape_; }

  /// Into pass.prefixed[buffer]; @param which 0: keys, 1: values, of the part's values and of `rows`.
  const float* gather(std::size_t buffer, int which, const float* part, const float* rows) {
    float* to = room(buffer);
    const std::size_t head = static_cast<std::size_t>(s_.head_dim) * sizeof(float);
    const auto prefix = static_cast<std::ptrdiff_t>(tokens_) * width_;
    const Strided at = strided(which);
    for (const auto& row : rows_) {
      std::memcpy(to, part + which * prefix, static_cast<std::size_t>(prefix) * sizeof(float));
      to += prefix;
      for (long n = row.kv_begin; n < row.kv_begin + row.kv_count; ++n, to += width_) {
        for (long h = 0; h < s_.kv_heads; ++h) std::memcpy(to + h * s_.head_dim, rows + n * at.row + h * at.head, head);
      }
    }
    return w_.pass.prefixed[buffer].data();
  }

  /// The way back of a gradient: the part's is added to, the rows' overwritten.
  void scatter(std::size_t buffer, int which, float* part, float* rows) {
    const float* from = w_.pass.prefixed[buffer].data();
    const std::size_t head = static_cast<std::size_t>(s_.head_dim) * sizeof(float);
    const auto prefix = static_cast<std::ptrdiff_t>(tokens_) * width_;
    const Strided at = strided(which);
    for (const auto& row : rows_) {
      for (std::ptrdiff_t i = 0; part != nullptr && i < prefix; ++i) part[which * prefix + i] += from[i];
      from += prefix;
      for (long n = row.kv_begin; n < row.kv_begin + row.kv_count; ++n, from += width_) {
        for (long h = 0; h < s_.kv_heads; ++h)
          std::memcpy(rows + n * at.row + h * at.head, from + h * s_.head_dim, head);
      }
    }
  }

  float* room(std::size_t buffer) {
    std::vector<float>& to = w_.pass.prefixed[buffer];
    if (to.size() < size_) to.resize(size_);
    return to.data();
  }

 private:
  [[nodiscard]] Strided strided(int which) const {
    return {w_.row(which == 0 ? s_.in2 : s_.in3), s_.head_row[which == 0 ? 1 : 2]};
  }

  const Work& w_;
  const Step& s_;
  int tokens_;
  int width_;
  kernels::AttentionShape shape_;
  std::span<const kernels::AttentionRow> rows_;  ///< without the prefix
  std::size_t size_ = 0;
};

}  // namespace

void prefixed_attention_forward(const Work& w, const Step& s, int part) {
  Prefixed prefixed(w, s, part);
  const float* values = w.pass.values_of(part);
  const float* k = prefixed.gather(0, 0, values, w.value(s.in2));
  const float* v = prefixed.gather(1, 1, values, w.value(s.in3));
  kernels::attention_forward(*w.pass.pool, prefixed.shape(), w.value(s.in), k, v, w.value(s.out), w.value(s.stats));
}

void prefixed_attention_backward(const Work& w, const Step& s, int part, kernels::AttentionBackward args) {
  Prefixed prefixed(w, s, part);
  const float* values = w.pass.values_of(part);
  args.k = prefixed.gather(0, 0, values, args.k);
  args.v = prefixed.gather(1, 1, values, args.v);
  float* dk = args.dk;
  float* dv = args.dv;
  args.dk = prefixed.room(2);
  args.dv = prefixed.room(3);
  kernels::attention_backward(*w.pass.pool, prefixed.shape(), args);
  prefixed.scatter(2, 0, w.pass.gradient_of(part), dk);
  prefixed.scatter(3, 1, w.pass.gradient_of(part), dv);
}

void prefixed_attention_jvp(const Work& w, const Step& s, int part) {
  Prefixed prefixed(w, s, part);
  const float* values = w.pass.values_of(part);
  const float* direction = w.pass.direction_of(part);
  const float* k = prefixed.gather(0, 0, values, w.value(s.in2));
  const float* v = prefixed.gather(1, 1, values, w.value(s.in3));
  const float* k_t = prefixed.gather(2, 0, direction, w.tangent(s.in2));
  const float* v_t = prefixed.gather(3, 1, direction, w.tangent(s.in3));
  kernels::attention_jvp(
      *w.pass.pool, prefixed.shape(),
      {w.value(s.in), k, v, w.value(s.out), w.value(s.stats), w.tangent(s.in), k_t, v_t, w.tangent(s.out)});
}

}  // namespace covey::model
