// Sixteen lanes as one value, whatever the registers are: the compiler splits it. Sums are taken in a fixed order, so
// everything in isa_rows.inl has the same bits on every instruction set. Included inside a namespace by isa_body.h.

typedef float V16 __attribute__((vector_size(64), aligned(4)));
typedef std::int32_t I16 __attribute__((vector_size(64), aligned(4)));

static inline V16 load(const float* p) {
  V16 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline void store(float* p, V16 v) {
  __builtin_memcpy(p, &v, sizeof v);
}
static inline V16 splat(float x) {
  return V16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
/// The first n < 16 lanes, `fill` in the others.
static inline V16 load_part(const float* p, long n, float fill) {
  V16 v = splat(fill);
  for (long i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
static inline void store_part(float* p, long n, V16 v) {
  for (long i = 0; i < n; ++i) p[i] = v[i];
}
static inline V16 load_up_to(const float* p, long n) {
  return n >= 16 ? load(p) : load_part(p, n, 0);
}
static inline void store_up_to(float* p, long n, V16 v) {
  if (n >= 16) {
    store(p, v);
  } else {
    store_part(p, n, v);
  }
}
static inline float sum_lanes(V16 v) {
  float s[16];
  __builtin_memcpy(s, &v, sizeof s);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  }
  return s[0];
}
static inline float max_lanes(V16 v) {
  float m = v[0];
  for (int i = 1; i < 16; ++i) m = v[i] > m ? v[i] : m;
  return m;
}
static inline V16 max16(V16 a, V16 b) {
  return a > b ? a : b;
}

/// e^x, relative error below 2e-7; 0 below -87.3, finite above 88.3. Range reduction by ln 2 in two parts, then a
/// polynomial of degree six (coefficients: Taylor's, enough for |r| <= 0.35 in f32).
static inline V16 exp16(V16 x) {
  const V16 kept = x;
  const V16 low = splat(-87.3F);
  const V16 high = splat(88.3F);
  x = x > low ? x : low;
  x = x < high ? x : high;
  const V16 magic = splat(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const V16 t = x * 1.44269504F + magic;
  const V16 n = t - magic;
  const V16 r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  V16 p = splat(1.0F / 720);
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const I16 exponent = ((I16)t - (I16)magic + 127) << 23;
  const V16 y = p * (V16)exponent;
  return kept > low ? y : V16{};
}

static inline V16 sigmoid16(V16 x) {
  return 1.0F / (1.0F + exp16(-x));
}

/// tanh, absolute error below 2e-7 and relative near 0 too: a polynomial there (coefficients: Cephes, tanhf), else by
/// the exponential.
static inline V16 tanh16(V16 x) {
  const V16 x2 = x * x;
  V16 p = splat(-5.70498872745e-3F);
  p = p * x2 + 2.06390887954e-2F;
  p = p * x2 - 5.37397155531e-2F;
  p = p * x2 + 1.33314422036e-1F;
  p = p * x2 - 3.33332819422e-1F;
  const V16 near = x + x * x2 * p;
  const V16 size = x < splat(0) ? -x : x;
  const V16 capped = size < splat(20.0F) ? size : splat(20.0F);
  const V16 far = 1.0F - 2.0F / (exp16(2.0F * capped) + 1.0F);
  return size < splat(0.625F) ? near : (x < splat(0) ? -far : far);
}

/// erf, absolute error below 3e-7. Source: Abramowitz and Stegun, 7.1.26; Maclaurin's series near 0.
static inline V16 erf16(V16 x) {
  const V16 size = x < splat(0) ? -x : x;
  const V16 t = 1.0F / (1.0F + 0.3275911F * size);
  V16 p = splat(1.061405429F);
  p = p * t - 1.453152027F;
  p = p * t + 1.421413741F;
  p = p * t - 0.284496736F;
  p = p * t + 0.254829592F;
  const V16 far = 1.0F - p * t * exp16(-size * size);
  const V16 x2 = x * x;
  V16 q = splat(1.0F / 216);
  q = q * x2 - 1.0F / 42;
  q = q * x2 + 0.1F;
  q = q * x2 - 1.0F / 3;
  q = q * x2 + 1.0F;
  const V16 near = 1.12837917F * x * q;
  return size < splat(0.3F) ? near : (x < splat(0) ? -far : far);
}
