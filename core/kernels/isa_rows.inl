// Row-wise loops. Included inside a namespace by isa_body.h.

static void rmsnorm_forward(int begin, int end, int H, const float* x, const float* weight, float eps, float* y,
                            float* inverse) {
  for (long n = begin; n < end; ++n) {
    const float* xn = x + n * H;
    float* yn = y + n * H;
    V16 sum{};
    long i = 0;
    for (; i + 16 <= H; i += 16) sum += load(xn + i) * load(xn + i);
    const V16 rest = load_part(xn + i, H - i, 0);
    sum += rest * rest;
    const float inv = 1.0F / __builtin_sqrtf(sum_lanes(sum) / static_cast<float>(H) + eps);
    inverse[n] = inv;
    for (i = 0; i < H; ++i) yn[i] = (xn[i] * inv) * weight[i];
  }
}

static void rmsnorm_recompute(int begin, int end, int H, const float* x, const float* weight, const float* inverse,
                              float* y) {
  for (long n = begin; n < end; ++n) {
    const float* xn = x + n * H;
    float* yn = y + n * H;
    const float inv = inverse[n];
    for (long i = 0; i < H; ++i) yn[i] = (xn[i] * inv) * weight[i];
  }
}

static void rmsnorm_backward(int begin, int end, int H, const float* dy, const float* x, const float* weight,
                             const float* inverse, float* dx) {
  for (long n = begin; n < end; ++n) {
    const float* xn = x + n * H;
    const float* dyn = dy + n * H;
    float* dxn = dx + n * H;
    V16 sum{};
    long i = 0;
    for (; i + 16 <= H; i += 16) sum += load(dyn + i) * load(weight + i) * load(xn + i);
    sum += load_part(dyn + i, H - i, 0) * load_part(weight + i, H - i, 0) * load_part(xn + i, H - i, 0);
    const float inv = inverse[n];
    const float c = sum_lanes(sum) * inv * inv * inv / static_cast<float>(H);
    for (i = 0; i < H; ++i) dxn[i] += (dyn[i] * weight[i]) * inv - xn[i] * c;
  }
}

static void rmsnorm_jvp(int begin, int end, int H, const float* x, const float* weight, const float* inverse,
                        const float* x_t, float* y_t) {
  for (long n = begin; n < end; ++n) {
    const float* xn = x + n * H;
    const float* tn = x_t + n * H;
    float* yn = y_t + n * H;
    V16 sum{};
    long i = 0;
    for (; i + 16 <= H; i += 16) sum += load(xn + i) * load(tn + i);
    sum += load_part(xn + i, H - i, 0) * load_part(tn + i, H - i, 0);
    const float inv = inverse[n];
    const float c = sum_lanes(sum) * inv * inv * inv / static_cast<float>(H);
    for (i = 0; i < H; ++i) yn[i] = (tn[i] * inv - xn[i] * c) * weight[i];
  }
}

static void rope(int begin, int end, const RopeArgs& args, float sign, float* x) {
  const long half = args.D / 2;
  for (long n = begin; n < end; ++n) {
    const float* c = args.cosine + args.position[n] * half;
    const float* s = args.sine + args.position[n] * half;
    for (long h = 0; h < args.heads; ++h) {
      float* x1 = x + (n * args.heads + h) * args.D;
      float* x2 = x1 + half;
      for (long i = 0; i < half; ++i) {
        const float a = x1[i];
        const float b = x2[i];
        const float turn = s[i] * sign;
        x1[i] = a * c[i] - b * turn;
        x2[i] = b * c[i] + a * turn;
      }
    }
  }
}

static inline V16 sigmoid16(V16 x) {
  return 1.0F / (1.0F + exp16(-x));
}

static void swiglu_forward(std::size_t begin, std::size_t end, const float* gate, const float* up, float* h) {
  std::size_t i = begin;
  for (; i + 16 <= end; i += 16) {
    const V16 g = load(gate + i);
    store(h + i, g * sigmoid16(g) * load(up + i));
  }
  const long rest = static_cast<long>(end - i);
  const V16 g = load_part(gate + i, rest, 0);
  store_part(h + i, rest, g * sigmoid16(g) * load_part(up + i, rest, 0));
}

static void swiglu_backward(std::size_t begin, std::size_t end, const float* dh, float* gate, float* up) {
  for (std::size_t i = begin; i < end; i += 16) {
    const bool whole = i + 16 <= end;
    const long rest = static_cast<long>(end - i);
    const V16 d = whole ? load(dh + i) : load_part(dh + i, rest, 0);
    const V16 g = whole ? load(gate + i) : load_part(gate + i, rest, 0);
    const V16 u = whole ? load(up + i) : load_part(up + i, rest, 0);
    const V16 s = sigmoid16(g);
    const V16 dg = d * u * s * (1.0F + g * (1.0F - s));
    const V16 du = d * g * s;
    if (whole) {
      store(gate + i, dg);
      store(up + i, du);
    } else {
      store_part(gate + i, rest, dg);
      store_part(up + i, rest, du);
    }
  }
}

static void swiglu_jvp(std::size_t begin, std::size_t end, const float* gate, const float* up, const float* gate_t,
                       const float* up_t, float* h_t) {
  for (std::size_t i = begin; i < end; i += 16) {
    const long n = end - i < 16 ? static_cast<long>(end - i) : 16;
    const V16 g = load_part(gate + i, n, 0);
    const V16 s = sigmoid16(g);
    const V16 slope = s * (1.0F + g * (1.0F - s));
    const V16 t = slope * load_part(gate_t + i, n, 0) * load_part(up + i, n, 0) + g * s * load_part(up_t + i, n, 0);
    store_part(h_t + i, n, t);
  }
}

/// Sum over the vocabulary of softmax(logits) logits_t, less the target's logits_t.
static double cross_entropy_jvp_row(int V, int target, const float* logits, const float* logits_t) {
  const float lowest = -__builtin_inff();
  V16 top = splat(lowest);
  for (long i = 0; i < V; i += 16) top = max16(top, load_part(logits + i, V - i < 16 ? V - i : 16, lowest));
  const float largest = max_lanes(top);
  V16 sum{};
  V16 moved{};
  for (long i = 0; i < V; i += 16) {
    const long n = V - i < 16 ? V - i : 16;
    const V16 p = exp16(load_part(logits + i, n, lowest) - largest);
    sum += p;
    moved += p * load_part(logits_t + i, n, 0);
  }
  return static_cast<double>(sum_lanes(moved)) / static_cast<double>(sum_lanes(sum)) -
         static_cast<double>(logits_t[target]);
}

static double cross_entropy_row(int V, int target, float* logits, float grad_scale, bool backward,
                                std::uint8_t* correct) {
  const float lowest = -__builtin_inff();
  V16 top = splat(lowest);
  long i = 0;
  for (; i + 16 <= V; i += 16) top = max16(top, load(logits + i));
  const float largest = max_lanes(max16(top, load_part(logits + i, V - i, lowest)));
  V16 sum{};
  for (i = 0; i + 16 <= V; i += 16) sum += exp16(load(logits + i) - largest);
  sum += exp16(load_part(logits + i, V - i, lowest) - largest);
  const float total = sum_lanes(sum);

  const float at_target = logits[target];
  bool first = at_target == largest;
  for (long j = 0; first && j < target; ++j) first = logits[j] != largest;
  *correct = first ? 1 : 0;

  if (backward) {
    const float factor = grad_scale / total;
    for (i = 0; i + 16 <= V; i += 16) store(logits + i, exp16(load(logits + i) - largest) * factor);
    store_part(logits + i, V - i, exp16(load_part(logits + i, V - i, lowest) - largest) * factor);
    logits[target] -= grad_scale;
  }
  return ::log(static_cast<double>(total)) + static_cast<double>(largest) - static_cast<double>(at_target);
}
