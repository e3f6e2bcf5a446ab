// The activation functions on sixteen lanes. Included inside a namespace by isa_body.h and int8_body.h.

/// f(x) and f'(x).
struct ValueAndSlope {
  V16 value;
  V16 slope;
};

template <Activation kKind>
static inline ValueAndSlope activate(V16 x, float limit) {
  if constexpr (kKind == Activation::identity) {
    return {x, splat(1.0F)};
  } else if constexpr (kKind == Activation::silu) {
    const V16 s = sigmoid16(x);
    return {x * s, s * (1.0F + x * (1.0F - s))};
  } else if constexpr (kKind == Activation::gelu) {
    const V16 cdf = 0.5F * (1.0F + erf16(x * 0.70710678F));
    const V16 density = 0.39894228F * exp16(-0.5F * x * x);
    return {x * cdf, cdf + x * density};
  } else if constexpr (kKind == Activation::gelu_tanh) {
    const V16 x2 = x * x;
    const V16 t = tanh16(0.79788456F * (x + 0.044715F * x * x2));
    const V16 slope = 0.79788456F * (1.0F + 0.134145F * x2);
    return {0.5F * x * (1.0F + t), 0.5F * (1.0F + t) + 0.5F * x * (1.0F - t * t) * slope};
  } else if constexpr (kKind == Activation::quick_gelu) {
    const V16 s = sigmoid16(1.702F * x);
    return {x * s, s * (1.0F + 1.702F * x * (1.0F - s))};
  } else if constexpr (kKind == Activation::relu) {
    return {x > splat(0) ? x : V16{}, x > splat(0) ? splat(1.0F) : V16{}};
  } else if constexpr (kKind == Activation::relu_squared) {
    const V16 r = x > splat(0) ? x : V16{};
    return {r * r, 2.0F * r};
  } else if constexpr (kKind == Activation::tanh) {
    const V16 t = tanh16(x);
    return {t, 1.0F - t * t};
  } else if constexpr (kKind == Activation::sigmoid) {
    const V16 s = sigmoid16(x);
    return {s, s * (1.0F - s)};
  } else if constexpr (kKind == Activation::clip) {
    const V16 low = x > splat(-limit) ? x : splat(-limit);
    const V16 cut = low < splat(limit) ? low : splat(limit);
    return {cut, cut == x ? splat(1.0F) : V16{}};
  } else {
    const V16 t = tanh16(x / limit);
    return {limit * t, 1.0F - t * t};
  }
}

/// Calls f with the activation as a compile-time constant.
template <typename F>
static inline void with_activation(Activation kind, const F& f) {
  switch (kind) {
    case Activation::identity: return f.template operator()<Activation::identity>();
    case Activation::silu: return f.template operator()<Activation::silu>();
    case Activation::gelu: return f.template operator()<Activation::gelu>();
    case Activation::gelu_tanh: return f.template operator()<Activation::gelu_tanh>();
    case Activation::quick_gelu: return f.template operator()<Activation::quick_gelu>();
    case Activation::relu: return f.template operator()<Activation::relu>();
    case Activation::relu_squared: return f.template operator()<Activation::relu_squared>();
    case Activation::tanh: return f.template operator()<Activation::tanh>();
    case Activation::sigmoid: return f.template operator()<Activation::sigmoid>();
    case Activation::soft_cap: return f.template operator()<Activation::soft_cap>();
    case Activation::clip: return f.template operator()<Activation::clip>();
  }
}
