// RWKV's average over the past, sixteen channels of one sequence at a time. Included inside a namespace by isa_body.h.

/// Before anything was seen: nothing, at a weight that every key exceeds.
static constexpr float kWkvNothing = -1e38F;

/// What one step does to the state, with e^.. relative to the larger exponent.
struct WkvStep {
  V16 old_share, new_share;    ///< of the average at this position
  V16 old_weight, new_weight;  ///< of the next state
  V16 p;                       ///< the average's exponent
  V16 next;                    ///< the next state's
};

static inline WkvStep wkv_step(V16 w, V16 u, V16 k, V16 p) {
  const V16 here = u + k;
  const V16 top = max16(p, here);
  const V16 faded = p + w;
  const V16 next = max16(faded, k);
  return {exp16(p - top), exp16(here - top), exp16(faded - next), exp16(k - next), top, next};
}

struct WkvTile {
  long width, channel, n;  ///< n: channels of this tile
  V16 w, u;

  WkvTile(const WkvArgs& a, int at)
      : width(a.width), channel(at), n(a.width - at < 16 ? a.width - at : 16),
        w(-exp16(load_up_to(a.decay + at, n))), u(load_up_to(a.first + at, n)) {}
  V16 get(const float* p, long row) const { return load_up_to(p + row * width + channel, n); }
  void put(float* p, long row, V16 v) const { store_up_to(p + row * width + channel, n, v); }
};

static void wkv_forward(const WkvArgs& a, const AttentionRow& r, int channel, float* y, float* states) {
  const WkvTile t(a, channel);
  V16 A{};
  V16 B{};
  V16 p = splat(kWkvNothing);
  if (a.carried != nullptr) {
    A = t.get(a.carried, 0);
    B = t.get(a.carried, 1);
    p = t.get(a.carried, 2);
  }
  for (long n = r.q_begin; n < r.q_begin + r.q_count; ++n) {
    const V16 k = t.get(a.k, n);
    const V16 v = t.get(a.v, n);
    if (states != nullptr) {
      t.put(states, 3 * n, A);
      t.put(states, 3 * n + 1, B);
      t.put(states, 3 * n + 2, p);
    }
    const WkvStep s = wkv_step(t.w, t.u, k, p);
    t.put(y, n, (s.old_share * A + s.new_share * v) / (s.old_share * B + s.new_share));
    A = s.old_weight * A + s.new_weight * v;
    B = s.old_weight * B + s.new_weight;
    p = s.next;
  }
  if (a.carried != nullptr) {
    t.put(a.carried, 0, A);
    t.put(a.carried, 1, B);
    t.put(a.carried, 2, p);
  }
}

/// Gradients of the states flow back as (gA, gB) e^-q; q never falls below the state's own exponent, so all
/// exponentials here are at most 1.
static void wkv_backward(const WkvArgs& a, const AttentionRow& r, int channel, const WkvBackward& g) {
  const WkvTile t(a, channel);
  V16 gA{};
  V16 gB{};
  V16 q = splat(-kWkvNothing);
  V16 dw{};
  V16 du{};
  for (long n = r.q_begin + r.q_count - 1; n >= r.q_begin; --n) {
    const V16 k = t.get(a.k, n);
    const V16 v = t.get(a.v, n);
    const V16 A = t.get(g.states, 3 * n);
    const V16 B = t.get(g.states, 3 * n + 1);
    const V16 p = t.get(g.states, 3 * n + 2);
    const V16 y = t.get(g.y, n);
    const V16 dy = t.get(g.dy, n);
    const WkvStep s = wkv_step(t.w, t.u, k, p);
    const V16 d = dy / (s.old_share * B + s.new_share);  // times e^-s.p: the gradient of this average's A
    const V16 here = s.new_share * d;
    const V16 past = exp16(k - q);
    t.put(g.dv, n, here + past * gA);
    t.put(g.dk, n, here * (v - y) + past * (v * gA + gB));
    du += here * (v - y);
    dw += exp16(t.w + p - q) * (A * gA + B * gB);
    const V16 faded = q - t.w;
    const V16 next = faded < s.p ? faded : s.p;
    const V16 keep = exp16(next - faded);
    const V16 add = exp16(next - s.p);
    gA = keep * gA + add * d;
    gB = keep * gB - add * (y * d);
    q = next;
  }
  if (g.ddecay != nullptr) t.put(g.ddecay, 0, dw * t.w);  // w = -e^decay
  if (g.dfirst != nullptr) t.put(g.dfirst, 0, du);
}

static void wkv_jvp(const WkvArgs& a, const AttentionRow& r, int channel, const float* k_t, const float* v_t, float* y_t) {
  const WkvTile t(a, channel);
  V16 A{};
  V16 B{};
  V16 At{};
  V16 Bt{};
  V16 p = splat(kWkvNothing);
  for (long n = r.q_begin; n < r.q_begin + r.q_count; ++n) {
    const V16 k = t.get(a.k, n);
    const V16 v = t.get(a.v, n);
    const V16 kt = t.get(k_t, n);
    const V16 moved = t.get(v_t, n) + v * kt;
    const WkvStep s = wkv_step(t.w, t.u, k, p);
    const V16 below = s.old_share * B + s.new_share;
    const V16 y = (s.old_share * A + s.new_share * v) / below;
    t.put(y_t, n, (s.old_share * At + s.new_share * moved - y * (s.old_share * Bt + s.new_share * kt)) / below);
    At = s.old_weight * At + s.new_weight * moved;
    Bt = s.old_weight * Bt + s.new_weight * kt;
    A = s.old_weight * A + s.new_weight * v;
    B = s.old_weight * B + s.new_weight;
    p = s.next;
  }
}
