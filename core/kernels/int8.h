/// Linear layers with int8 weights (W8A8): a scale per output channel, activations quantized per token as they come,
/// sums in int32. One packed copy of the weights serves y = W x and dX = dY W. Every instruction set gives the same
/// int32 sums, and the same f32 results.
/// Sources: Jacob et al., CVPR 2018 (integer arithmetic); Dettmers et al., NeurIPS 2022 (per-token scales).
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/activation.h"

namespace covey::kernels {

/// Sums stay exact in int32 up to this many terms: 2^31 / 2^14.
constexpr int kInt8TermsMax = (1 << 17) - 1;
/// Channels that share a scale in int8_backward_by_parts.
constexpr int kInt8Part = 512;

/// Weights (out, in), packed as blocks [out/16][in/4][16][4], both padded with zeros to multiples of 16. Movable;
/// immutable once filled, then thread-safe.
class Int8Weights {
 public:
  Int8Weights() = default;
  /// Zeros with scales of 1. @param in  at most kInt8TermsMax; @param out  too, where int8_backward is called
  Int8Weights(int out, int in);

  /// Rows [first, first + count) of w (out, in), row-major, and their scales. Each row once.
  void set_rows(int first, int count, const std::int8_t* rows, const float* scales);
  /// w (in) of one output channel.
  void get_row(int channel, std::int8_t* row) const;

  [[nodiscard]] int out() const { return out_; }
  [[nodiscard]] int in() const { return in_; }
  [[nodiscard]] bool empty() const { return out_ == 0; }
  [[nodiscard]] const std::int8_t* blocks() const { return blocks_.get(); }
  /// Bytes from one block of 16 channels to the next.
  [[nodiscard]] long block_bytes() const { return 16L * padded(in_); }
  [[nodiscard]] std::span<const float> scales() const { return scales_; }             ///< (out)
  [[nodiscard]] std::span<const std::int32_t> out_sums() const { return out_sums_; }  ///< (out, padded): over a row
  [[nodiscard]] std::span<const std::int32_t> in_sums() const { return in_sums_; }    ///< (in, padded): over a column
  /// Of channels [kInt8Part i, kInt8Part (i + 1)): (in, padded), over a column.
  [[nodiscard]] const std::int32_t* part_sums(int i) const {
    return part_sums_.data() + static_cast<std::ptrdiff_t>(i) * padded(in_);
  }
  [[nodiscard]] int parts() const { return (out_ + kInt8Part - 1) / kInt8Part; }
  [[nodiscard]] static int padded(int width) { return (width + 15) / 16 * 16; }

 private:
  struct Free {
    void operator()(std::int8_t* p) const { std::free(p); }  // NOLINT: of aligned_alloc
  };
  int out_ = 0;
  int in_ = 0;
  std::unique_ptr<std::int8_t, Free> blocks_;
  std::vector<float> scales_;
  std::vector<std::int32_t> out_sums_, in_sums_, part_sums_;
};

/// Rounds w (out, in) to the nearest of 255 steps: scale = largest absolute value of the row / 127.
void quantize_channel(int in, const float* w, std::int8_t* q, float* scale);

/// What the products need besides; grown on first use, then reused. Not thread-safe.
struct Int8Scratch {
  /// The largest of a row, which int8_backward_by_parts keeps as it is.
  struct Peak {
    int at;
    float value;
  };
  std::vector<Peak> peaks;         ///< (M)
  std::vector<std::uint8_t> rows;  ///< quantized activations, in the form of the instruction set
  std::vector<float> scales;       ///< (M)
  /// Makes room for M rows of `width`, so that no later call allocates.
  void reserve(int M, int width);
};

struct Int8Options {
  bool accumulate = false;                       ///< add to what the result holds
  long x_row = 0;                                ///< floats from one row of the operand to the next; 0: contiguous
  long y_row = 0;                                ///< of the result
  const float* bias = nullptr;                   ///< (out); forward only
  Activation activation = Activation::identity;  ///< of the sum; not together with accumulate
  float limit = 0;                               ///< of soft_cap and clip
  bool stochastic = false;  ///< rounds up with the probability of the remainder: no bias, more noise
  std::uint32_t seed = 0;   ///< of the stochastic rounding
};

/// y (M,out) = f(x (M,in) W^T + bias).
void int8_forward(ThreadPool& pool, int M, const Int8Weights& w, const float* x, float* y, Int8Scratch& scratch,
                  const Int8Options& options = {});
/// dx (M,in) = dy (M,out) W. Channel scales are folded into dy before it is quantized.
void int8_backward(ThreadPool& pool, int M, const Int8Weights& w, const float* dy, float* dx, Int8Scratch& scratch,
                   const Int8Options& options = {});
/// The same for a language model's head, whose dy (a softmax minus the target) has one or a few large values among
/// thousands of small ones: the largest of a row is multiplied as it is, and the rest has a scale for every kInt8Part
/// channels. w.out() may be anything.
void int8_backward_by_parts(ThreadPool& pool, int M, const Int8Weights& w, const float* dy, float* dx,
                            Int8Scratch& scratch, const Int8Options& options = {});

}  // namespace covey::kernels
