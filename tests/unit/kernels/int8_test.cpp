#include "core/kernels/int8.h"

#include <cstring>

#include "core/base/cpu.h"
#include "core/kernels/int8_isa.h"
#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

std::vector<const Int8Table*> variants() {
  std::vector<const Int8Table*> all;
  for (const Int8Isa isa : kInt8Isas) {
    if (const Int8Table* table = int8_table(isa); table != nullptr) all.push_back(table);
  }
  return all;
}

using Bytes = std::vector<std::int8_t>;

std::size_t size(int rows, int columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

/// All 256 values, or the extremes alone.
Bytes random_bytes(std::size_t n, std::uint64_t stream, bool extremes) {
  Bytes values(n);
  const CounterRng rng(11, stream);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = rng.bits(i);
    values[i] = extremes ? ((bits & 1) != 0 ? std::int8_t{127} : std::int8_t{-128}) : static_cast<std::int8_t>(bits);
  }
  return values;
}

Int8Weights packed(int out, int in, const Bytes& w) {
  Int8Weights weights(out, in);
  weights.set_rows(0, out, w.data(), std::vector<float>(static_cast<std::size_t>(out), 1.0F).data());
  return weights;
}

std::vector<std::int32_t> plain_product(int M, int out, int in, bool backward, const Bytes& x, const Bytes& w) {
  const int terms = backward ? out : in;
  const int results = backward ? in : out;
  std::vector<std::int32_t> y(size(M, results));
  for (int m = 0; m < M; ++m) {
    for (int r = 0; r < results; ++r) {
      std::int32_t sum = 0;
      for (int t = 0; t < terms; ++t) {
        sum += x[size(m, terms) + static_cast<std::size_t>(t)] *
               w[backward ? size(t, in) + static_cast<std::size_t>(r) : size(r, in) + static_cast<std::size_t>(t)];
      }
      y[size(m, results) + static_cast<std::size_t>(r)] = sum;
    }
  }
  return y;
}

struct Shape {
  int M, out, in;
};
constexpr Shape kShapes[] = {{1, 1, 1},    {1, 77, 33},   {2, 16, 16},  {3, 48, 20},   {5, 17, 300},  {6, 64, 64},
                             {7, 33, 129}, {12, 80, 100}, {13, 31, 65}, {29, 260, 36}, {100, 50, 70}, {9, 20, 1030}};

float cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return static_cast<float>(ab / std::sqrt(aa * bb));
}

struct Layer {
  std::vector<float> w;  ///< (out, in), what the int8 weights stand for
  Int8Weights int8;
};

Layer random_layer(int out, int in) {
  const auto w = reference::random(size(out, in), 21);
  Layer layer{std::vector<float>(w.size()), Int8Weights(out, in)};
  Bytes q(static_cast<std::size_t>(in));
  for (int n = 0; n < out; ++n) {
    float scale = 0;
    quantize_channel(in, w.data() + size(n, in), q.data(), &scale);
    layer.int8.set_rows(n, 1, q.data(), &scale);
    for (int k = 0; k < in; ++k) {
      layer.w[size(n, in) + static_cast<std::size_t>(k)] = scale * static_cast<float>(q[static_cast<std::size_t>(k)]);
    }
  }
  return layer;
}

}  // namespace

TEST_CASE("Every int8 variant of this machine gives the same exact int32 products, for odd shapes and extreme values") {
  ThreadPool pool(2);
  MESSAGE("variants: " << variants().size() << ", chosen: " << std::string(to_string(chosen_int8_isa())));
  for (const Shape& s : kShapes) {
    for (const bool extremes : {false, true}) {
      const Bytes w = random_bytes(size(s.out, s.in), 1, extremes);
      const Int8Weights weights = packed(s.out, s.in, w);
      for (const bool backward : {false, true}) {
        const Bytes x = random_bytes(size(s.M, backward ? s.out : s.in), 2, extremes);
        const auto expected = plain_product(s.M, s.out, s.in, backward, x, w);
        for (const Int8Table* isa : variants()) {
          CAPTURE(s.M);
          CAPTURE(s.out);
          CAPTURE(s.in);
          CAPTURE(backward);
          std::vector<std::int32_t> y(expected.size());
          int8_products(pool, *isa, s.M, weights, backward, x.data(), y.data());
          CHECK(y == expected);
        }
      }
    }
  }
}

TEST_CASE("Int8 products of nothing but -128, or of -128 and 127, do not saturate") {
  ThreadPool pool(1);
  constexpr int kIn = 4096;
  for (const int a : {-128, 127}) {
    for (const int b : {-128, 127}) {
      const Bytes w(size(17, kIn), static_cast<std::int8_t>(b));
      const Bytes x(size(3, kIn), static_cast<std::int8_t>(a));
      const Int8Weights weights = packed(17, kIn, w);
      for (const Int8Table* isa : variants()) {
        std::vector<std::int32_t> y(size(3, 17));
        int8_products(pool, *isa, 3, weights, false, x.data(), y.data());
        CHECK(y == std::vector<std::int32_t>(y.size(), a * b * kIn));
      }
    }
  }
}

TEST_CASE("Quantized activations have the same bits on every instruction set, nearest or stochastic") {
  constexpr int kWidth = 45;
  constexpr int kRows = 3;
  auto x = reference::random(kRows * kWidth, 3, 5);
  for (int k = 0; k < kWidth; ++k) x[static_cast<std::size_t>(kWidth + k)] = 0;  // one row of zeros
  const auto fold = reference::random(kWidth, 4);
  for (const bool stochastic : {false, true}) {
    for (const float* factors : {static_cast<const float*>(nullptr), fold.data()}) {
      std::vector<std::int32_t> first;
      for (const Int8Table* isa : variants()) {
        std::vector<std::uint8_t> q(static_cast<std::size_t>(kRows * kWidth * isa->element_bytes));
        float scales[kRows];
        const Int8Quantize args{kWidth, x.data(),   kWidth, factors, q.data(), kWidth * isa->element_bytes,
                                scales, stochastic, 5};
        isa->quantize(0, kRows, args);
        std::vector<std::uint8_t> zero(static_cast<std::size_t>(isa->element_bytes));
        const std::int8_t nothing = 0;
        isa->take(1, &nothing, zero.data());
        std::vector<std::int32_t> values;
        for (std::size_t i = 0; i < q.size(); i += zero.size()) {
          values.push_back(zero.size() == 1 ? static_cast<std::int8_t>(q[i] - zero[0])
                                            : static_cast<std::int16_t>(q[i] | q[i + 1] << 8));
        }
        for (const float scale : scales) {
          std::int32_t bits = 0;
          std::memcpy(&bits, &scale, sizeof bits);
          values.push_back(bits);
        }
        if (first.empty()) first = values;
        CHECK(values == first);
        CHECK(scales[1] == 0);
      }
    }
  }
}

TEST_CASE("An int8 layer is within its rounding of the f32 layer it stands for, forward and backward") {
  ThreadPool pool(2);
  constexpr int M = 19, kOut = 70, kIn = 130;
  const Layer layer = random_layer(kOut, kIn);
  const auto bias = reference::random(kOut, 22);
  const auto x = reference::random(size(M, kIn + 2), 23);
  const auto dy = reference::random(size(M, kOut), 24);
  Int8Scratch scratch;
  const auto start = reference::random(size(M, kOut + 3), 25);
  auto y = start;
  int8_forward(pool, M, layer.int8, x.data(), y.data(), scratch,
               {.accumulate = true, .x_row = kIn + 2, .y_row = kOut + 3, .bias = bias.data()});
  std::vector<float> got, expected;
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < kOut + 3; ++n) {
      const auto at = size(m, kOut + 3) + static_cast<std::size_t>(n);
      if (n >= kOut) {
        CHECK(y[at] == start[at]);
        continue;
      }
      float sum = bias[static_cast<std::size_t>(n)];
      for (int k = 0; k < kIn; ++k) {
        sum += x[size(m, kIn + 2) + static_cast<std::size_t>(k)] * layer.w[size(n, kIn) + static_cast<std::size_t>(k)];
      }
      expected.push_back(sum);
      got.push_back(y[at] - start[at]);
    }
  }
  CHECK(cosine(got, expected) > 0.9999F);
  for (const bool stochastic : {false, true}) {
    std::vector<float> dx(size(M, kIn)), exact(size(M, kIn));
    int8_backward(pool, M, layer.int8, dy.data(), dx.data(), scratch, {.stochastic = stochastic, .seed = 3});
    for (int m = 0; m < M; ++m) {
      for (int n = 0; n < kOut; ++n) {
        for (int k = 0; k < kIn; ++k) {
          exact[size(m, kIn) + static_cast<std::size_t>(k)] +=
              dy[size(m, kOut) + static_cast<std::size_t>(n)] * layer.w[size(n, kIn) + static_cast<std::size_t>(k)];
        }
      }
    }
    CHECK(cosine(dx, exact) > 0.9999F);
  }
}

TEST_CASE("A head's int8 gradient by parts keeps what one scale for a row would round away") {
  // A softmax minus its target: one value near -1, thousands that are small, in channels of unlike scales.
  constexpr int M = 27, kOut = 1100, kIn = 70, kGap = 3;
  const Layer layer = random_layer(kOut, kIn);
  auto dy = reference::random(size(M, kOut), 31);
  for (int m = 0; m < M; ++m) {
    float* row = dy.data() + size(m, kOut);
    float sum = 0;
    for (int n = 0; n < kOut; ++n) sum += row[n] = std::exp(2 * row[n]);
    for (int n = 0; n < kOut; ++n) row[n] /= sum;
    row[m * 37 % kOut] -= 1;
  }
  std::vector<float> exact(size(M, kIn));
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < kOut; ++n) {
      for (int k = 0; k < kIn; ++k) {
        exact[size(m, kIn) + static_cast<std::size_t>(k)] +=
            dy[size(m, kOut) + static_cast<std::size_t>(n)] * layer.w[size(n, kIn) + static_cast<std::size_t>(k)];
      }
    }
  }
  const auto start = reference::random(size(M, kIn + kGap), 32);
  const auto error_of = [&](const std::vector<float>& dx, int width, bool added) {
    double error = 0, length = 0;
    for (int m = 0; m < M; ++m) {
      for (int k = 0; k < kIn; ++k) {
        const auto at = size(m, width) + static_cast<std::size_t>(k);
        const float value = exact[size(m, kIn) + static_cast<std::size_t>(k)];
        error += std::pow(dx[at] - (added ? start[at] : 0.0F) - value, 2);
        length += value * value;
      }
    }
    return std::sqrt(error / length);
  };
  Int8Scratch scratch;
  std::vector<float> one_scale(size(M, kIn));
  ThreadPool alone(1);
  int8_backward(alone, M, layer.int8, dy.data(), one_scale.data(), scratch);
  std::vector<float> first;
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    auto dx = start;
    int8_backward_by_parts(pool, M, layer.int8, dy.data(), dx.data(), scratch,
                           {.accumulate = true, .y_row = kIn + kGap});
    CHECK(error_of(dx, kIn + kGap, true) < 0.01);
    for (int m = 0; m < M; ++m) CHECK(dx[size(m, kIn + kGap) + kIn] == start[size(m, kIn + kGap) + kIn]);
    if (first.empty()) first = dx;
    CHECK(dx == first);
  }
  CHECK(error_of(one_scale, kIn, false) > 0.03);
  std::vector<float> noisy(size(M, kIn)), mean(size(M, kIn));
  constexpr int kSeeds = 100;
  for (int seed = 0; seed < kSeeds; ++seed) {
    int8_backward_by_parts(alone, M, layer.int8, dy.data(), noisy.data(), scratch,
                           {.stochastic = true, .seed = static_cast<std::uint32_t>(seed * 1000003)});
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += noisy[i] / kSeeds;
  }
  MESSAGE("one scale " << error_of(one_scale, kIn, false) << ", by parts " << error_of(first, kIn + kGap, true)
                       << ", stochastic " << error_of(noisy, kIn, false) << ", mean of 100 "
                       << error_of(mean, kIn, false));
  CHECK(error_of(noisy, kIn, false) < 0.02);
  CHECK(error_of(mean, kIn, false) < 0.15 * error_of(noisy, kIn, false));  // a tenth is noise
}

TEST_CASE("By parts, a row with one value is exact, a row of zeros is zero, and NaN stays in its row") {
  ThreadPool pool(2);
  constexpr int M = 3, kOut = 1030, kIn = 20;
  const Layer layer = random_layer(kOut, kIn);
  std::vector<float> dy(size(M, kOut)), dx(size(M, kIn), 7.0F);
  dy[kOut - 1] = -0.75F;
  dy[2 * kOut + 600] = std::nanf("");
  Int8Scratch scratch;
  int8_backward_by_parts(pool, M, layer.int8, dy.data(), dx.data(), scratch);
  for (int k = 0; k < kIn; ++k) {
    CHECK(dx[static_cast<std::size_t>(k)] ==
          doctest::Approx(-0.75 * layer.w[size(kOut - 1, kIn) + static_cast<std::size_t>(k)]).epsilon(1e-6));
    CHECK(dx[static_cast<std::size_t>(kIn + k)] == 0.0F);
    CHECK(std::isnan(dx[static_cast<std::size_t>(2 * kIn + k)]));
  }
}

TEST_CASE("An activation in the int8 layer's epilogue is the activation of its result, and NaN stays NaN in its row") {
  ThreadPool pool(1);
  constexpr int M = 4, kOut = 21, kIn = 40;
  const Layer layer = random_layer(kOut, kIn);
  auto x = reference::random(size(M, kIn), 26);
  Int8Scratch scratch;
  std::vector<float> y(size(M, kOut)), fused(y.size()), after(y.size());
  int8_forward(pool, M, layer.int8, x.data(), y.data(), scratch);
  activation_forward(pool, {.kind = Activation::gelu_tanh, .N = M, .width = kOut}, y.data(), nullptr, after.data());
  int8_forward(pool, M, layer.int8, x.data(), fused.data(), scratch, {.activation = Activation::gelu_tanh});
  CHECK(std::memcmp(fused.data(), after.data(), y.size() * sizeof(float)) == 0);
  x[kIn + 3] = std::nanf("");
  std::vector<float> other(y.size());
  int8_forward(pool, M, layer.int8, x.data(), other.data(), scratch);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK((i / kOut == 1 ? std::isnan(other[i]) : other[i] == y[i]));
}

TEST_CASE("Stochastic rounding has no bias: the mean over many seeds is the value itself") {
  const std::vector<float> x{127, 0.25F, -0.7F, 3.5F, -127};
  double sums[5] = {};
  constexpr int kTimes = 4000;
  for (int i = 0; i < kTimes; ++i) {
    std::int8_t q[5];
    float scale = 0;
    const Int8Quantize args{5,
                            x.data(),
                            5,
                            nullptr,
                            reinterpret_cast<std::uint8_t*>(q),
                            5,
                            &scale,
                            true,
                            static_cast<std::uint32_t>(i * 1000)};
    int8_table(Int8Isa::portable)->quantize(0, 1, args);
    for (int k = 0; k < 5; ++k) sums[k] += q[k];
  }
  for (std::size_t k = 0; k < 5; ++k) {
    // Four standard errors of a coin with p = 1/2.
    CHECK(std::abs(sums[k] / kTimes - static_cast<double>(x[k])) < 4 * 0.5 / std::sqrt(kTimes));
  }
}

TEST_CASE("Packed int8 weights give their rows back") {
  const Bytes w = random_bytes(size(37, 50), 5, false);
  const Int8Weights weights = packed(37, 50, w);
  Bytes row(50);
  for (int n = 0; n < 37; ++n) {
    weights.get_row(n, row.data());
    CHECK(std::memcmp(row.data(), w.data() + size(n, 50), 50) == 0);
  }
}

}  // namespace covey::kernels
