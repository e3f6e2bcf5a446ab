// Matrix products. Included inside a namespace by isa_body.h, after isa_repeat.inl.
//
// The columns of a tile of the result are cut into panels, the inner dimension into stretches. A stretch of all panels is
// packed (in L2), then one panel (in L1) is multiplied with all rows, which are read where they lie: a register tile of kRows
// rows and one panel, its sums kept in registers for the whole stretch. (Goto, van de Geijn: Anatomy of high-performance matrix
// multiplication, 2008.) Two other shapes have their own ways: results of few columns are dot products, and where there are
// few rows the second operand is read where it lies, as packing it would cost as much as the product.

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 12, kVectors = 2;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRows = 6, kVectors = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRows = 6, kVectors = 4;
#else
constexpr int kLanes = 4, kRows = 6, kVectors = 2;
#endif
typedef float Wide __attribute__((vector_size(kLanes * 4), aligned(4)));

constexpr long kPanel = kLanes * kVectors;  ///< columns of a register tile
constexpr long kStretch = 288;              ///< of the inner dimension at a time, at most; fixed, as it decides the bits
constexpr long kNarrow = 8;                 ///< dot products at a time
constexpr long kDots = kLanes > kNarrow ? kLanes : kNarrow;
constexpr long kLongStretch = 2048;  ///< for dot products, whose sums cost more to finish
static_assert(kGemmColumns % kPanel == 0);

static inline Wide multiply_add(Wide a, Wide b, Wide c) {
#if defined(__AVX512F__)
  return (Wide)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Wide)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Wide)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

static inline Wide splat_v(float x) {
#if defined(__AVX512F__)
  return (Wide)_mm512_set1_ps(x);
#elif defined(__AVX2__)
  return (Wide)_mm256_set1_ps(x);
#else
  return Wide{x, x, x, x};
#endif
}
static inline Wide load_v(const float* p) {
  Wide v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline void store_v(float* p, Wide v) {
  __builtin_memcpy(p, &v, sizeof v);
}

/// a0 b0 a1 b1 ... of the lower halves, and of the upper halves.
static inline Wide weave_low(Wide a, Wide b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
static inline Wide weave_high(Wide a, Wide b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

/// Rows become columns: weaving row i with row i + kLanes / 2, as many times as kLanes has bits.
template <int kTimes>
static inline void transpose(Wide* rows) {
  if constexpr (kTimes > 1) {
    Wide woven[kLanes];
    repeat<kLanes / 2>([&]<int i>() {
      woven[2 * i] = weave_low(rows[i], rows[i + kLanes / 2]);
      woven[2 * i + 1] = weave_high(rows[i], rows[i + kLanes / 2]);
    });
    transpose<kTimes / 2>(woven);
    repeat<kLanes>([&]<int i>() { rows[i] = woven[i]; });
  }
}

/// Lane i of the result: the sum of v[i]'s lanes. The same weaving, with halves added.
template <int kCount>
static inline Wide sum_each(Wide* v) {
  if constexpr (kCount > 1) {
    repeat<kCount / 2>(
        [&]<int i>() { v[i] = weave_low(v[i], v[i + kCount / 2]) + weave_high(v[i], v[i + kCount / 2]); });
    return sum_each<kCount / 2>(v);
  }
  return v[0];
}

// ---- packing

/// Panels of to (count, k, kPanel) = columns [0, n) of b (k, n), zeros beyond.
static void pack_across(long n, long k, const float* b, long ldb, float* to) {
  for (long j = 0; j < n; j += kPanel, to += k * kPanel) {
    if (j + kPanel <= n) {
      for (long i = 0; i < k; ++i) {
        repeat<kVectors>([&]<int v>() { store_v(to + i * kPanel + v * kLanes, load_v(b + i * ldb + j + v * kLanes)); });
      }
      continue;
    }
    for (long i = 0; i < k; ++i) {
      for (long c = 0; c < kPanel; ++c) to[i * kPanel + c] = j + c < n ? b[i * ldb + j + c] : 0.0F;
    }
  }
}

/// The same of b (n, k), transposed.
static void pack_along(long n, long k, const float* b, long ldb, float* to) {
  for (long j = 0; j < n; j += kPanel, to += k * kPanel) {
    for (long v = 0; v < kPanel; v += kLanes) {
      const float* from = b + (j + v) * ldb;
      long i = 0;
      if (j + v + kLanes <= n) {
        for (; i + kLanes <= k; i += kLanes) {
          Wide rows[kLanes];
          repeat<kLanes>([&]<int r>() { rows[r] = load_v(from + r * ldb + i); });
          transpose<kLanes>(rows);
          repeat<kLanes>([&]<int r>() { store_v(to + (i + r) * kPanel + v, rows[r]); });
        }
      }
      for (; i < k; ++i) {
        for (long c = 0; c < kLanes; ++c) to[i * kPanel + v + c] = j + v + c < n ? from[c * ldb + i] : 0.0F;
      }
    }
  }
}

/// to (rows, k; rows `gap` apart) = a; `rows_of` is its number of rows, zeros beyond.
static inline void copy_rows(long rows, long rows_of, long k, const float* a, long lda, float* to, long gap) {
  for (long r = 0; r < rows; ++r) {
    const float* from = a + r * lda;
    float* copy = to + r * gap;
    long i = 0;
    if (r < rows_of) {
      for (; i + kLanes <= k; i += kLanes) store_v(copy + i, load_v(from + i));
    }
    for (; i < k; ++i) copy[i] = r < rows_of ? from[i] : 0.0F;
  }
}

/// to (rows, k; rows `gap` apart) = a (k, rows) transposed; zeros up to `rows`.
static inline void turn_rows(long rows, long rows_of, long k, const float* a, long lda, float* to, long gap) {
  long r = 0;
  for (; r + kLanes <= rows_of; r += kLanes) {
    long i = 0;
    for (; i + kLanes <= k; i += kLanes) {
      Wide block[kLanes];
      repeat<kLanes>([&]<int j>() { block[j] = load_v(a + (i + j) * lda + r); });
      transpose<kLanes>(block);
      repeat<kLanes>([&]<int j>() { store_v(to + (r + j) * gap + i, block[j]); });
    }
    for (; i < k; ++i) {
      for (long j = 0; j < kLanes; ++j) to[(r + j) * gap + i] = a[i * lda + r + j];
    }
  }
  for (; r < rows; ++r) {
    for (long i = 0; i < k; ++i) to[r * gap + i] = r < rows_of ? a[i * lda + r] : 0.0F;
  }
}

// ---- the register tile

/// Where results go: c[i * row + j * column], plus what is there unless this is the first stretch of an overwriting product.
struct GemmResult {
  float* c;
  long row;
  long column;
  float alpha;
  bool add;
};

/// A few rows of the first operand and a panel b of the second, of which `columns` count.
struct GemmPiece {
  long k;
  const float* a;
  long a_step;  ///< floats from one row to the next; turned, where rows are neighbours: from one k to the next
  const float* b;
  long b_row;  ///< floats from one k to the next
  long columns;
};

/// R rows. kTurned: a lies as (k, rows). kDirect: b is not packed, so the panel to its right is fetched ahead.
template <int R, bool kTurned, bool kDirect>
static inline void tile(const GemmPiece& p, const GemmResult& to) {
  Wide s[R][kVectors];
  repeat<R>([&]<int r>() { repeat<kVectors>([&]<int v>() { s[r][v] = Wide{}; }); });
  constexpr int kPointers = kTurned ? 1 : (R + 2) / 3;
  const float* a[kPointers];  // every third row: the two between are one and two strides away
  repeat<kPointers>([&]<int i>() { a[i] = p.a + 3 * i * p.a_step; });
  const float* b = p.b;
  for (long i = 0; i < p.k;) {
    if constexpr (!kTurned) {  // the rows that come next, a cache line of each
      repeat<R>([&]<int r>() { __builtin_prefetch(a[r / 3] + (R + r % 3) * p.a_step, 0, 2); });
    }
    for (const long end = p.k - i < 16 ? p.k : i + 16; i < end; ++i, b += p.b_row) {
      Wide wide[kVectors];
      repeat<kVectors>([&]<int v>() { wide[v] = load_v(b + v * kLanes); });
      if constexpr (kDirect) {
        repeat<(kPanel + 15) / 16>([&]<int line>() { __builtin_prefetch(b + kPanel + line * 16); });
      }
      repeat<R>([&]<int r>() {
        const Wide x = splat_v(kTurned ? a[0][r] : a[kTurned ? 0 : r / 3][r % 3 * p.a_step]);
        repeat<kVectors>([&]<int v>() { s[r][v] = multiply_add(x, wide[v], s[r][v]); });
      });
      repeat<kPointers>([&]<int j>() { a[j] += kTurned ? p.a_step : 1; });
    }
  }
  if (p.columns == kPanel && to.column == 1) {
    const Wide alpha = splat_v(to.alpha);
    const auto put = [&]<bool kAdd>() __attribute__((always_inline)) {
      repeat<R>([&]<int r>() {
        repeat<kVectors>([&]<int v>() {
          float* c = to.c + r * to.row + v * kLanes;
          store_v(c, kAdd ? load_v(c) + s[r][v] * alpha : s[r][v] * alpha);
        });
      });
    };
    if (to.add) {
      put.template operator()<true>();
    } else {
      put.template operator()<false>();
    }
    return;
  }
  float kept[R][kPanel];
  repeat<R>([&]<int r>() { repeat<kVectors>([&]<int v>() { store_v(&kept[r][v * kLanes], s[r][v]); }); });
  for (long r = 0; r < R; ++r) {
    for (long j = 0; j < p.columns; ++j) {
      float* c = to.c + r * to.row + j * to.column;
      *c = (to.add ? *c : 0.0F) + to.alpha * kept[r][j];
    }
  }
}

template <int R, bool kTurned, bool kDirect>
static void tile_of(long rows, const GemmPiece& p, const GemmResult& to) {
  if (rows == R) return tile<R, kTurned, kDirect>(p, to);
  if constexpr (R > 1) tile_of<R - 1, kTurned, kDirect>(rows, p, to);
}

/// Dots of kDots / C rows of a and C rows of b, all of k, which is a multiple of kLanes here or zero beyond.
template <int C>
static inline void dots(long k, const float* a, long lda, const float* b, long ldb, float* sums) {
  constexpr int R = kDots / C;
  Wide s[kDots];
  repeat<kDots>([&]<int i>() { s[i] = Wide{}; });
  for (long i = 0; i < k; i += kLanes) {
    Wide y[C];
    repeat<C>([&]<int c>() { y[c] = load_v(b + c * ldb + i); });
    repeat<R>([&]<int r>() {
      const Wide x = load_v(a + r * lda + i);
      repeat<C>([&]<int c>() { s[r * C + c] = multiply_add(x, y[c], s[r * C + c]); });
    });
  }
  repeat<kDots / kLanes>([&]<int i>() { store_v(sums + i * kLanes, sum_each<kLanes>(s + i * kLanes)); });
}

/// Rows of a (rows, k) dotted with C rows of b, which is packed with zeros beyond k.
template <int C>
static void dots_of(long rows, long k, const float* a, long lda, const float* b, long ldb, long columns,
                    const GemmResult& to) {
  constexpr long R = kDots / C;
  const long whole = k / kLanes * kLanes;
  for (long r = 0; r < rows; r += R) {
    const long count = rows - r < R ? rows - r : R;
    const float* from = a + r * lda;
    alignas(64) float sums[kDots];
    if (count == R) {
      dots<C>(whole, from, lda, b, ldb, sums);
    } else {
      for (long i = 0; i < count; ++i) {  // each row alone, in the company of itself
        alignas(64) float some[kDots];
        dots<C>(whole, from + i * lda, 0, b, ldb, some);
        __builtin_memcpy(sums + i * C, some, C * sizeof(float));
      }
    }
    for (long i = 0; i < count; ++i) {
      for (long j = 0; j < columns; ++j) {
        float sum = sums[i * C + j];
        for (long t = whole; t < k; ++t) sum += from[i * lda + t] * b[j * ldb + t];
        float* c = to.c + (r + i) * to.row + j * to.column;
        *c = (to.add ? *c : 0.0F) + to.alpha * sum;
      }
    }
  }
}

// ---- whole tiles

/// to (k, 16) = a (k, rows): rows as neighbours. `spare`: a whole vector may be read from every row.
static inline void copy_turned(long rows, bool spare, long k, const float* a, long lda, float* to) {
  if (spare) {
    for (long i = 0; i < k; ++i) {
      repeat<(kRows + kLanes - 1) / kLanes>(
          [&]<int v>() { store_v(to + i * 16 + v * kLanes, load_v(a + i * lda + v * kLanes)); });
    }
    return;
  }
  for (long i = 0; i < k; ++i) {
    for (long r = 0; r < rows; ++r) to[i * 16 + r] = a[i * lda + r];
  }
}

/// Asks for lines of what is packed next while this stretch is multiplied.
struct Ahead {
  const float* at;
  long row_step;
  long rows;   ///< still to come
  long lines;  ///< of a row
  long line = 0;

  void fetch(long count) {
    for (; count > 0 && rows > 0; --count) {
      __builtin_prefetch(at + line * 16, 0, 3);
      if (++line < lines) continue;
      line = 0;
      at += row_step;
      --rows;
    }
  }
};

/// One tile. @param scratch  kStretch x kGemmColumns, then 16 x kStretch
template <bool kTurned, bool kDirect>
static void gemm_panels(const GemmTile& t, long column, float* scratch) {
  static_assert(kRows <= 16);
  float* kept = scratch + kStretch * kGemmColumns;
  const long tiles = (t.m + kRows - 1) / kRows;
  const bool along = t.op == GemmOp::nt;
  const long stretches = (t.k + kStretch - 1) / kStretch;
  const long even = ((t.k + stretches - 1) / stretches + 15) / 16 * 16;  // at most kStretch, a multiple of 16 itself
  for (long k = 0; k < t.k; k += even) {
    const long depth = t.k - k < even ? t.k - k : even;
    const float* b = along ? t.b + k : t.b + k * t.ldb;
    const long next = t.k - k - depth < even ? t.k - k - depth : even;
    Ahead ahead{along ? b + depth : b + depth * t.ldb, t.ldb, next == 0 ? 0 : (along ? t.n : next),
                ((along ? next : t.n) + 15) / 16};
    if constexpr (!kDirect) (along ? pack_along : pack_across)(t.n, depth, b, t.ldb, scratch);
    const long panels = (t.n + kPanel - 1) / kPanel;
    const long fetches = 1 + ahead.rows * ahead.lines / (tiles * panels);
    GemmPiece p{depth, t.a + k, t.lda, scratch, kPanel, 0};
    const auto multiply = [&](long panel, long begin, long end) {
      const long j = panel * kPanel;
      p.columns = t.n - j < kPanel ? t.n - j : kPanel;
      p.b = scratch + j * depth;
      if constexpr (kDirect) {
        const bool whole = p.columns == kPanel;
        if (!whole) pack_across(p.columns, depth, b + j, t.ldb, scratch);
        p.b = whole ? b + j : scratch;
        p.b_row = whole ? t.ldb : kPanel;
      } else {
        ahead.fetch(fetches);
      }
      tile_of<kRows, kTurned, kDirect>(
          end - begin, p, {t.c + begin * t.ldc + j * column, t.ldc, column, t.alpha, t.accumulate || k > 0});
    };
    if constexpr (!kTurned) {  // a panel stays in L1, rows pass by
      for (long panel = 0; panel < panels; ++panel) {
        for (long i = 0; i < tiles; ++i) {
          const long begin = t.m * i / tiles;
          p.a = t.a + begin * t.lda + k;
          multiply(panel, begin, t.m * (i + 1) / tiles);
        }
      }
    } else {  // turned rows are copied, and stay in L1
      for (long i = 0; i < tiles; ++i) {
        const long begin = t.m * i / tiles;
        const long end = t.m * (i + 1) / tiles;
        p.a = t.a + k * t.lda;
        if (tiles > 1) {
          const bool spare = begin + (kRows + kLanes - 1) / kLanes * kLanes <= t.m;
          copy_turned(end - begin, spare, depth, p.a + begin, t.lda, kept);
          p.a = kept;
          p.a_step = 16;
        }
        for (long panel = 0; panel < panels; ++panel) multiply(panel, begin, end);
      }
    }
  }
}

/// The general way, kGemmColumns columns at a time. Packing pays where several register tiles read a panel.
static void gemm_general(const GemmTile& t, long column, float* scratch) {
  const bool direct = t.op != GemmOp::nt && t.m <= kRows;
  for (long j = 0; j < t.n; j += kGemmColumns) {
    GemmTile part = t;
    part.n = t.n - j < kGemmColumns ? t.n - j : kGemmColumns;
    part.b += t.op == GemmOp::nt ? j * t.ldb : j;
    part.c += j * column;
    if (t.op == GemmOp::tn) {
      direct ? gemm_panels<true, true>(part, column, scratch) : gemm_panels<true, false>(part, column, scratch);
    } else {
      direct ? gemm_panels<false, true>(part, column, scratch) : gemm_panels<false, false>(part, column, scratch);
    }
  }
}

/// Few columns, as dot products: b (n, k), or (k, n) where it is `across`. @param scratch  kNarrow x (kLongStretch + 16)
static void gemm_dots(const GemmTile& t, bool across, long column, float* scratch) {
  constexpr long kGap = kLongStretch + 16;
  for (long k = 0; k < t.k; k += kLongStretch) {
    const long depth = t.k - k < kLongStretch ? t.k - k : kLongStretch;
    for (long j = 0; j < t.n; j += kNarrow) {
      const long columns = t.n - j < kNarrow ? t.n - j : kNarrow;
      if (across) {
        turn_rows(kNarrow, columns, depth, t.b + k * t.ldb + j, t.ldb, scratch, kGap);
      } else {
        copy_rows(kNarrow, columns, depth, t.b + j * t.ldb + k, t.ldb, scratch, kGap);
      }
      const GemmResult to{t.c + j * column, t.ldc, column, t.alpha, t.accumulate || k > 0};
      const float* a = t.a + k;
      if (columns > 4) {
        dots_of<8>(t.m, depth, a, t.lda, scratch, kGap, columns, to);
      } else if (columns > 1) {
        dots_of<4>(t.m, depth, a, t.lda, scratch, kGap, columns, to);
      } else {
        dots_of<1>(t.m, depth, a, t.lda, scratch, kGap, columns, to);
      }
    }
  }
}

/// The same product with its operands, and its result, turned over.
static GemmTile swapped(const GemmTile& t) {
  GemmTile s = t;
  s.m = t.n;
  s.n = t.m;
  s.a = t.b;
  s.lda = t.ldb;
  s.b = t.a;
  s.ldb = t.lda;
  return s;
}

static void gemm(const GemmTile& t) {
  alignas(64) float scratch[kStretch * kGemmColumns + 16 * kStretch];
  static_assert(sizeof scratch >= sizeof(float) * kNarrow * (kLongStretch + 16));
  if (t.op == GemmOp::nt && t.m <= kNarrow && t.m < t.n) {  // few rows: the columns become the rows
    GemmTile s = swapped(t);
    s.ldc = 1;
    gemm_dots(s, false, t.ldc, scratch);
  } else if (t.op != GemmOp::tn && t.n <= 2 * kNarrow) {
    gemm_dots(t, t.op == GemmOp::nn, 1, scratch);
  } else if (t.op == GemmOp::tn && t.n <= kRows && t.n < t.m) {
    GemmTile s = swapped(t);
    s.ldc = 1;
    gemm_general(s, t.ldc, scratch);
  } else {
    gemm_general(t, 1, scratch);
  }
}
