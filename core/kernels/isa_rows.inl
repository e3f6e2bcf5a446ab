// Row-wise loops. Included inside a namespace by isa_body.h.

/// Weights of one group; a missing weight is 1, a missing bias 0.
struct NormWeights {
  const float* weight;
  const float* bias;
  float offset;

  V16 w16(long i, long n) const {
    if (weight == nullptr) return splat(1.0F);
    return (n == 16 ? load(weight + i) : load_part(weight + i, n, 0)) + offset;
  }
};

static inline NormWeights weights_of(const NormArgs& a, long head) {
  const long at = a.own_weights ? head * a.H : 0;
  return {a.weight == nullptr ? nullptr : a.weight + at, a.bias == nullptr ? nullptr : a.bias + at, a.weight_offset};
}

/// y = (x - mean) * inverse * w + bias.
static inline void norm_write(const NormWeights& w, long H, const float* x, float mean, float inverse, float* y) {
  if (w.weight != nullptr && w.bias == nullptr && w.offset == 0 && mean == 0) {  // llama's: the most frequent
    for (long i = 0; i < H; ++i) y[i] = (x[i] * inverse) * w.weight[i];
    return;
  }
  for (long i = 0; i < H; ++i) {
    const float normed = (x[i] - mean) * inverse;
    const float scaled = w.weight == nullptr ? normed : normed * (w.weight[i] + w.offset);
    y[i] = w.bias == nullptr ? scaled : scaled + w.bias[i];
  }
}

static inline float mean_of(const float* x, long H) {
  V16 sum{};
  long i = 0;
  for (; i + 16 <= H; i += 16) sum += load(x + i);
  sum += load_part(x + i, H - i, 0);
  return sum_lanes(sum) / static_cast<float>(H);
}

/// Mean of the squares of x - mean.
static inline float spread_of(const float* x, long H, float mean) {
  V16 sum{};
  long i = 0;
  for (; i + 16 <= H; i += 16) {
    const V16 d = load(x + i) - mean;
    sum += d * d;
  }
  const V16 d = load_part(x + i, H - i, mean) - mean;
  sum += d * d;
  return sum_lanes(sum) / static_cast<float>(H);
}

static void norm_forward(int begin, int end, const NormArgs& a, const float* x, float* y, const NormStats& stats,
                         bool measure) {
  for (long n = begin; n < end; ++n) {
    for (long h = 0; h < a.heads; ++h) {
      const float* xn = x + n * a.x_row + h * a.H;
      const long row = n * a.heads + h;
      float mean = 0;
      float inverse = 1;
      if (a.kind != NormKind::affine) {
        if (measure) {
          if (a.kind == NormKind::layer) stats.mean[row] = mean_of(xn, a.H);
          const float center = a.kind == NormKind::layer ? stats.mean[row] : 0;
          stats.inverse[row] = 1.0F / __builtin_sqrtf(spread_of(xn, a.H, center) + a.eps);
        }
        if (a.kind == NormKind::layer) mean = stats.mean[row];
        inverse = stats.inverse[row];
      }
      norm_write(weights_of(a, h), a.H, xn, mean, inverse, y + n * a.y_row + h * a.H);
    }
  }
}

/// With g = dy * w: layer: dx = inverse (g - mean(g) - xhat mean(g xhat)); rms: without the first mean.
static void norm_backward(int begin, int end, const NormArgs& a, const float* dy, const float* x,
                          const NormStats& stats, bool accumulate, float* dx) {
  for (long n = begin; n < end; ++n) {
    for (long h = 0; h < a.heads; ++h) {
      const float* xn = x + n * a.x_row + h * a.H;
      const float* dyn = dy + n * a.y_row + h * a.H;
      float* dxn = dx + n * a.x_row + h * a.H;
      const long row = n * a.heads + h;
      const NormWeights w = weights_of(a, h);
      const float inverse = a.kind == NormKind::affine ? 1.0F : stats.inverse[row];
      const float mean = a.kind == NormKind::layer ? stats.mean[row] : 0.0F;
      float shift = 0;
      float pull = 0;  // times (x - mean)
      if (a.kind != NormKind::affine) {
        V16 sum{};
        V16 moved{};
        for (long i = 0; i < a.H; i += 16) {
          const long left = a.H - i < 16 ? a.H - i : 16;
          const V16 g = (left == 16 ? load(dyn + i) : load_part(dyn + i, left, 0)) * w.w16(i, left);
          sum += g;
          moved += g * ((left == 16 ? load(xn + i) : load_part(xn + i, left, mean)) - mean);
        }
        if (a.kind == NormKind::layer) shift = sum_lanes(sum) * inverse / static_cast<float>(a.H);
        pull = sum_lanes(moved) * inverse * inverse * inverse / static_cast<float>(a.H);
      }
      for (long i = 0; i < a.H; ++i) {
        const float g = w.weight == nullptr ? dyn[i] : dyn[i] * (w.weight[i] + w.offset);
        const float d = g * inverse - shift - (xn[i] - mean) * pull;
        dxn[i] = accumulate ? dxn[i] + d : d;
      }
    }
  }
}

static void norm_jvp(int begin, int end, const NormArgs& a, const float* x, const NormStats& stats, const float* x_t,
                     float* y_t) {
  for (long n = begin; n < end; ++n) {
    for (long h = 0; h < a.heads; ++h) {
      const float* xn = x + n * a.x_row + h * a.H;
      const float* tn = x_t + n * a.x_row + h * a.H;
      float* yn = y_t + n * a.y_row + h * a.H;
      const long row = n * a.heads + h;
      const NormWeights w = weights_of(a, h);
      const float inverse = a.kind == NormKind::affine ? 1.0F : stats.inverse[row];
      const float mean = a.kind == NormKind::layer ? stats.mean[row] : 0.0F;
      const float drift = a.kind == NormKind::layer ? mean_of(tn, a.H) : 0.0F;
      float pull = 0;
      if (a.kind != NormKind::affine) {
        V16 moved{};
        for (long i = 0; i < a.H; i += 16) {
          const long left = a.H - i < 16 ? a.H - i : 16;
          moved += load_part(tn + i, left, 0) * (load_part(xn + i, left, mean) - mean);
        }
        pull = sum_lanes(moved) * inverse * inverse * inverse / static_cast<float>(a.H);
      }
      for (long i = 0; i < a.H; ++i) {
        const float t = (tn[i] - drift) * inverse - (xn[i] - mean) * pull;
        yn[i] = w.weight == nullptr ? t : t * (w.weight[i] + w.offset);
      }
    }
  }
}

static void rope(int begin, int end, const RopeArgs& args, float sign, float* x) {
  const long half = args.D / 2;
  const long step = args.neighbours ? 2 : 1;
  const long other = args.neighbours ? 1 : half;
  for (long n = begin; n < end; ++n) {
    const float* c = args.cosine + args.position[n] * half;
    const float* s = args.sine + args.position[n] * half;
    for (long h = 0; h < args.heads; ++h) {
      float* x1 = x + n * args.row + h * args.head;
      float* x2 = x1 + other;
      if (step == 1) {
        for (long i = 0; i < half; ++i) {
          const float a = x1[i];
          const float b = x2[i];
          const float turn = s[i] * sign;
          x1[i] = a * c[i] - b * turn;
          x2[i] = b * c[i] + a * turn;
        }
        continue;
      }
      for (long i = 0; i < half; ++i) {
        const float a = x1[i * step];
        const float b = x2[i * step];
        const float turn = s[i] * sign;
        x1[i * step] = a * c[i] - b * turn;
        x2[i * step] = b * c[i] + a * turn;
      }
    }
  }
}

static void activation_forward(const ActivationArgs& args, std::size_t count, const float* gate, const float* up,
                               float* h) {
  with_activation(args.kind, [&]<Activation kKind>() {
    const long n = static_cast<long>(count);
    for (long i = 0; i < n; i += 16) {
      const V16 f = activate<kKind>(load_up_to(gate + i, n - i), args.limit).value;
      store_up_to(h + i, n - i, up == nullptr ? f : f * load_up_to(up + i, n - i));
    }
  });
}

static void activation_backward(const ActivationArgs& args, std::size_t count, const float* dh, const float* gate,
                                const float* up, float* dgate, float* dup) {
  with_activation(args.kind, [&]<Activation kKind>() {
    const long n = static_cast<long>(count);
    for (long i = 0; i < n; i += 16) {
      const V16 d = load_up_to(dh + i, n - i);
      const ValueAndSlope f = activate<kKind>(load_up_to(gate + i, n - i), args.limit);
      if (up == nullptr) {
        store_up_to(dgate + i, n - i, d * f.slope);
        continue;
      }
      const V16 u = load_up_to(up + i, n - i);
      store_up_to(dgate + i, n - i, d * u * f.slope);
      store_up_to(dup + i, n - i, d * f.value);
    }
  });
}

static void activation_jvp(const ActivationArgs& args, std::size_t count, const float* gate, const float* up,
                           const float* gate_t, const float* up_t, float* h_t) {
  with_activation(args.kind, [&]<Activation kKind>() {
    const long n = static_cast<long>(count);
    for (long i = 0; i < n; i += 16) {
      const ValueAndSlope f = activate<kKind>(load_up_to(gate + i, n - i), args.limit);
      V16 t = f.slope * load_up_to(gate_t + i, n - i);
      if (up != nullptr) t = t * load_up_to(up + i, n - i) + f.value * load_up_to(up_t + i, n - i);
      store_up_to(h_t + i, n - i, t);
    }
  });
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
