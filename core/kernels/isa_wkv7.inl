// RWKV 7's matrix of one head over one sequence, sixteen keys at a time. Included inside a namespace by isa_body.h.

/// What one position does to the state: S (diag(d) + n b^T) + v k^T.
struct Wkv7Position {
  float d[kWkv7HeadMax];
  float n[kWkv7HeadMax];  ///< minus the key's direction
  float b[kWkv7HeadMax];  ///< rate times the direction
  float k[kWkv7HeadMax];
  float length;  ///< of the scaled key, at least 1e-12
};

static constexpr float kWkv7Decay = 0.60653066F;  // e^(-1/2)
static constexpr float kWkv7Short = 1e-12F;

static inline void wkv7_position(const Wkv7Args& a, long at, long channel, Wkv7Position& p) {
  V16 square{};
  for (long j = 0; j < a.D; j += 16) {
    const V16 u = load(a.k + at + j) * load(a.key_scale + channel + j);
    square += u * u;
  }
  const float length = __builtin_sqrtf(sum_lanes(square));
  p.length = length > kWkv7Short ? length : kWkv7Short;
  for (long j = 0; j < a.D; j += 16) {
    const V16 k = load(a.k + at + j);
    const V16 rate = load(a.a + at + j);
    const V16 direction = k * load(a.key_scale + channel + j) / p.length;
    store(p.d + j, exp16(-kWkv7Decay * sigmoid16(load(a.w + at + j))));
    store(p.n + j, -direction);
    store(p.b + j, rate * direction);
    store(p.k + j, k * (1.0F + (rate - 1.0F) * load(a.key_rate + channel + j)));
  }
}

/// S becomes the next state (`to`, which may be S); y (D) its product with r, nullptr: not wanted.
static inline void wkv7_advance(const Wkv7Position& p, long D, const float* v, const float* r, const float* S,
                                float* to, float* y) {
  for (long i = 0; i < D; ++i) {
    const float* row = S + i * D;
    float* next = to + i * D;
    V16 held{};
    for (long j = 0; j < D; j += 16) held += load(row + j) * load(p.n + j);
    const float under = sum_lanes(held);
    V16 seen{};
    for (long j = 0; j < D; j += 16) {
      const V16 s = load(row + j) * load(p.d + j) + under * load(p.b + j) + v[i] * load(p.k + j);
      store(next + j, s);
      seen += s * load(r + j);
    }
    if (y != nullptr) y[i] = sum_lanes(seen);
  }
}

static inline float* wkv7_kept(const Wkv7Args& a, float* states, long position, long head) {
  const long A = static_cast<long>(a.heads) * a.D;
  return states + position * (A * a.D / kWkv7Chunk) + head * a.D * a.D;
}

/// `scratch` (D,D) holds the state, unless it is carried.
static void wkv7_forward(const Wkv7Args& a, const AttentionRow& row, int head, float* y, float* states,
                         float* scratch) {
  const long D = a.D;
  const long A = a.heads * D;
  float* S = a.carried != nullptr ? a.carried + head * D * D : scratch;
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(D * D);
  if (a.carried == nullptr) __builtin_memset(S, 0, bytes);
  Wkv7Position p;
  for (long t = 0; t < row.q_count; ++t) {
    const long at = (row.q_begin + t) * A + head * D;
    wkv7_position(a, at, head * D, p);
    wkv7_advance(p, D, a.v + at, a.r + at, S, S, y + at);
    if (states != nullptr && (t + 1) % kWkv7Chunk == 0) {
      __builtin_memcpy(wkv7_kept(a, states, row.q_begin + t + 1 - kWkv7Chunk, head), S, bytes);
    }
  }
}

/// Sums over the values of one position, by key.
struct Wkv7Sums {
  float r[kWkv7HeadMax];
  float d[kWkv7HeadMax];
  float n[kWkv7HeadMax];
  float b[kWkv7HeadMax];
  float k[kWkv7HeadMax];
  float v[kWkv7HeadMax];  ///< by value
};

/// G comes as the gradient of `after` from later positions, and leaves as that of `before`.
static inline void wkv7_retreat(const Wkv7Position& p, long D, const float* v, const float* r, const float* dy,
                                const float* before, const float* after, float* G, Wkv7Sums& s) {
  for (long j = 0; j < D; j += 16) {
    store(s.r + j, V16{});
    store(s.d + j, V16{});
    store(s.n + j, V16{});
    store(s.b + j, V16{});
    store(s.k + j, V16{});
  }
  for (long i = 0; i < D; ++i) {
    const float* old = before + i * D;
    float* g = G + i * D;
    V16 held{};
    for (long j = 0; j < D; j += 16) held += load(old + j) * load(p.n + j);
    const float under = sum_lanes(held);
    V16 to_v{};
    V16 to_under{};
    for (long j = 0; j < D; j += 16) {
      const V16 d = load(g + j) + dy[i] * load(r + j);
      store(g + j, d);
      store(s.r + j, load(s.r + j) + dy[i] * load(after + i * D + j));
      store(s.d + j, load(s.d + j) + d * load(old + j));
      store(s.k + j, load(s.k + j) + d * v[i]);
      store(s.b + j, load(s.b + j) + d * under);
      to_v += d * load(p.k + j);
      to_under += d * load(p.b + j);
    }
    s.v[i] = sum_lanes(to_v);
    const float d_under = sum_lanes(to_under);
    for (long j = 0; j < D; j += 16) {
      store(s.n + j, load(s.n + j) + d_under * load(old + j));
      store(g + j, load(g + j) * load(p.d + j) + d_under * load(p.n + j));
    }
  }
}

static inline void wkv7_put(float* to, bool add, long at, V16 value) {
  if (to == nullptr) return;
  store(to + at, add ? load(to + at) + value : value);
}

/// From the gradients of d, n, b and k to those of the inputs.
static inline void wkv7_inputs(const Wkv7Args& a, const Wkv7Position& p, const Wkv7Sums& s, long at, long channel,
                               const Wkv7Backward& g) {
  V16 along{};
  for (long j = 0; j < a.D; j += 16) {
    along += load(p.n + j) * (load(s.n + j) - load(s.b + j) * load(a.a + at + j));
  }
  const float pull = p.length > kWkv7Short ? sum_lanes(along) : 0.0F;
  for (long j = 0; j < a.D; j += 16) {
    const V16 rate = load(a.a + at + j);
    const V16 k = load(a.k + at + j);
    const V16 key_rate = load(a.key_rate + channel + j);
    const V16 scale = load(a.key_scale + channel + j);
    const V16 share = sigmoid16(load(a.w + at + j));
    const V16 dk = load(s.k + j);
    const V16 db = load(s.b + j);
    // The direction is -n: its gradient, less what only changes the length.
    const V16 du = (db * rate - load(s.n + j) + load(p.n + j) * pull) / p.length;
    wkv7_put(g.dr, g.add_r, at + j, load(s.r + j));
    wkv7_put(g.dv, g.add_v, at + j, load(s.v + j));
    wkv7_put(g.dw, g.add_w, at + j, load(s.d + j) * load(p.d + j) * -kWkv7Decay * share * (1.0F - share));
    wkv7_put(g.dk, g.add_k, at + j, dk * (1.0F + (rate - 1.0F) * key_rate) + du * scale);
    wkv7_put(g.da, g.add_a, at + j, dk * k * key_rate - db * load(p.n + j));
    wkv7_put(g.dkey_scale, true, channel + j, du * k);
    wkv7_put(g.dkey_rate, true, channel + j, dk * k * (rate - 1.0F));
  }
}

/// `scratch` (kWkv7Chunk + 2, D, D): the states of a chunk, then the gradient of the one at hand. The parameters'
/// gradients were cleared.
static void wkv7_backward(const Wkv7Args& a, const AttentionRow& row, int head, const Wkv7Backward& g,
                          float* scratch) {
  const long D = a.D;
  const long A = a.heads * D;
  const long size = D * D;
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(size);
  float* G = scratch + (kWkv7Chunk + 1) * size;
  __builtin_memset(G, 0, bytes);
  Wkv7Position p;
  Wkv7Sums s;
  for (long begin = (row.q_count - 1) / kWkv7Chunk * kWkv7Chunk; begin >= 0; begin -= kWkv7Chunk) {
    const long count = row.q_count - begin < kWkv7Chunk ? row.q_count - begin : kWkv7Chunk;
    if (begin == 0) {
      __builtin_memset(scratch, 0, bytes);
    } else {
      const long kept = row.q_begin + begin - kWkv7Chunk;
      __builtin_memcpy(scratch, wkv7_kept(a, const_cast<float*>(g.states), kept, head), bytes);
    }
    for (long t = 0; t < count; ++t) {
      const long at = (row.q_begin + begin + t) * A + head * D;
      wkv7_position(a, at, head * D, p);
      wkv7_advance(p, D, a.v + at, a.r + at, scratch + t * size, scratch + (t + 1) * size, nullptr);
    }
    for (long t = count - 1; t >= 0; --t) {
      const long at = (row.q_begin + begin + t) * A + head * D;
      wkv7_position(a, at, head * D, p);
      wkv7_retreat(p, D, a.v + at, a.r + at, g.dy + at, scratch + t * size, scratch + (t + 1) * size, G, s);
      wkv7_inputs(a, p, s, at, head * D, g);
    }
  }
}

/// The derivative of what one position does.
static inline void wkv7_position_jvp(const Wkv7Args& a, const Wkv7Tangent& x, const Wkv7Position& p, long at,
                                     long channel, Wkv7Position& to) {
  V16 along{};
  for (long j = 0; j < a.D; j += 16) {
    along += load(p.n + j) * load(x.k + at + j) * load(a.key_scale + channel + j);
  }
  const float pull = p.length > kWkv7Short ? sum_lanes(along) : 0.0F;
  for (long j = 0; j < a.D; j += 16) {
    const V16 rate = load(a.a + at + j);
    const V16 rate_t = load(x.a + at + j);
    const V16 k_t = load(x.k + at + j);
    const V16 key_rate = load(a.key_rate + channel + j);
    const V16 share = sigmoid16(load(a.w + at + j));
    const V16 n = load(p.n + j);
    const V16 direction_t = (k_t * load(a.key_scale + channel + j) - n * pull) / p.length;
    store(to.d + j, load(p.d + j) * -kWkv7Decay * share * (1.0F - share) * load(x.w + at + j));
    store(to.n + j, -direction_t);
    store(to.b + j, rate * direction_t - rate_t * n);
    store(to.k + j, k_t * (1.0F + (rate - 1.0F) * key_rate) + load(a.k + at + j) * rate_t * key_rate);
  }
}

/// `scratch` (2, D, D): the state and its tangent.
static void wkv7_jvp(const Wkv7Args& a, const AttentionRow& row, int head, const Wkv7Tangent& x, float* y_t,
                     float* scratch) {
  const long D = a.D;
  const long A = a.heads * D;
  __builtin_memset(scratch, 0, 2 * sizeof(float) * static_cast<std::size_t>(D * D));
  Wkv7Position p;
  Wkv7Position m;
  for (long t = 0; t < row.q_count; ++t) {
    const long at = (row.q_begin + t) * A + head * D;
    wkv7_position(a, at, head * D, p);
    wkv7_position_jvp(a, x, p, at, head * D, m);
    for (long i = 0; i < D; ++i) {
      float* S = scratch + i * D;
      float* T = scratch + (D + i) * D;
      V16 held{};
      V16 held_t{};
      for (long j = 0; j < D; j += 16) {
        held += load(S + j) * load(p.n + j);
        held_t += load(T + j) * load(p.n + j) + load(S + j) * load(m.n + j);
      }
      const float under = sum_lanes(held);
      const float under_t = sum_lanes(held_t);
      const float v = a.v[at + i];
      const float v_t = x.v[at + i];
      V16 seen{};
      for (long j = 0; j < D; j += 16) {
        const V16 moved = load(T + j) * load(p.d + j) + load(S + j) * load(m.d + j) + under_t * load(p.b + j) +
                          under * load(m.b + j) + v_t * load(p.k + j) + v * load(m.k + j);
        const V16 s = load(S + j) * load(p.d + j) + under * load(p.b + j) + v * load(p.k + j);
        store(T + j, moved);
        store(S + j, s);
        seen += moved * load(a.r + at + j) + s * load(x.r + at + j);
      }
      y_t[at + i] = sum_lanes(seen);
    }
  }
}
