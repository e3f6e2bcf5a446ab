// What all variants of int8.h share. Included inside a namespace, after isa_vector.inl and isa_activation.inl and after
// the variant has said
//   Element, kOffset                 the form of a quantized activation, and what is added to it (the sums correct that)
//   kTallRows x kTallBlocks          the register tile where there are rows enough,
//   kFlatRows x kFlatBlocks          and where there are fewer
//   products<R, B>(piece, sums)      sums (R, B) of 16 = the products of R rows and B blocks.

constexpr float kLevels = 127;
constexpr float kMagic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits

typedef std::int8_t B16 __attribute__((vector_size(16), aligned(1)));
typedef Element E16 __attribute__((vector_size(16 * sizeof(Element)), aligned(1)));
typedef std::uint32_t U16 __attribute__((vector_size(64), aligned(4)));

static inline E16 narrow(I16 q) {
  return __builtin_convertvector(q + kOffset, E16);
}

/// Uniform in [-1/2, 1/2), from the element's number. Source: the mixing function "lowbias32" (Wellons, 2018).
static inline V16 dither16(std::uint32_t number) {
  U16 h = U16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + number;
  h = (h ^ (h >> 16)) * 0x7feb352dU;
  h = (h ^ (h >> 15)) * 0x846ca68bU;
  h = h ^ (h >> 16);
  return __builtin_convertvector((I16)(h >> 8), V16) * 0x1p-24F - 0.5F;
}

/// The largest |x|, as bits: whole numbers order like the floats they stand for, and NaN is above all.
static inline float largest(const Int8Quantize& args, const float* x) {
  const I16 positive = I16{} + 0x7fffffff;
  I16 most{};
  for (long i = 0; i < args.width; i += 16) {
    V16 v = load_up_to(x + i, args.width - i);
    if (args.fold != nullptr) v *= load_up_to(args.fold + i, args.width - i);
    const I16 bits = (I16)v & positive;
    most = bits > most ? bits : most;
  }
  std::int32_t top = 0;
  for (int i = 0; i < 16; ++i) top = most[i] > top ? most[i] : top;
  float value;
  __builtin_memcpy(&value, &top, sizeof value);
  return value;
}

template <bool kFold, bool kStochastic>
static inline void round_row(const Int8Quantize& args, const float* x, std::uint32_t first, float inverse, Element* q) {
  const auto rounded = [&](long i, long n) {
    V16 v = load_up_to(x + i, n);
    if constexpr (kFold) v *= load_up_to(args.fold + i, n);
    v *= inverse;
    if constexpr (kStochastic) {
      v += dither16(first + static_cast<std::uint32_t>(i));
      v = v < splat(kLevels) ? v : splat(kLevels);
      v = v > splat(-kLevels) ? v : splat(-kLevels);
    }
    return narrow((I16)(v + kMagic) - (I16)splat(kMagic));
  };
  long i = 0;
  for (; i + 16 <= args.width; i += 16) {
    const E16 e = rounded(i, 16);
    __builtin_memcpy(q + i, &e, sizeof e);
  }
  if (i == args.width) return;
  const E16 e = rounded(i, args.width - i);
  __builtin_memcpy(q + i, &e, static_cast<std::size_t>(args.width - i) * sizeof(Element));
}

static void quantize(long begin, long end, const Int8Quantize& args) {
  for (long row = begin; row < end; ++row) {
    const float* x = args.x + row * args.x_row;
    const float top = largest(args, x);
    const bool zero = top < 1e-30F;  // its inverse might not be finite
    args.scales[row] = zero ? 0.0F : top / kLevels;
    const float inverse = zero ? 0.0F : kLevels / top;
    auto* q = (Element*)(args.q + row * args.q_row);
    const std::uint32_t first = args.seed + static_cast<std::uint32_t>(row * args.width);
    if (args.fold != nullptr) {
      args.stochastic ? round_row<true, true>(args, x, first, inverse, q)
                      : round_row<true, false>(args, x, first, inverse, q);
    } else {
      args.stochastic ? round_row<false, true>(args, x, first, inverse, q)
                      : round_row<false, false>(args, x, first, inverse, q);
    }
  }
}

static void take(long n, const std::int8_t* from, std::uint8_t* to) {
  auto* q = (Element*)to;
  for (long i = 0; i < n; ++i) q[i] = static_cast<Element>(from[i] + kOffset);
}

template <int R, int B>
static void products_of_rows(long rows, const Int8Piece& p, I16* sums) {
  if (rows == R) return products<R, B>(p, sums);
  if constexpr (R > 1) products_of_rows<R - 1, B>(rows, p, sums);
}

/// From sums (rows, blocks) of one tile to the results.
static void finish(const Int8Piece& p, long rows, long blocks, const I16* sums) {
  for (long b = 0; b < blocks; ++b, ++sums) {
    const long left = p.columns - b * 16;
    if (p.raw != nullptr) {
      const std::size_t bytes = static_cast<std::size_t>(left < 16 ? left : 16) * sizeof(std::int32_t);
      for (long r = 0; r < rows; ++r) __builtin_memcpy(p.raw + r * p.y_row + b * 16, sums + r * blocks, bytes);
      continue;
    }
    const V16 scale = p.column_scales == nullptr ? splat(1.0F) : load_up_to(p.column_scales + b * 16, left);
    const V16 bias = p.bias == nullptr ? V16{} : load_up_to(p.bias + b * 16, left);
    const bool plain = p.bias == nullptr && !p.accumulate;
    for (long r = 0; r < rows; ++r) {
      float* y = p.y + r * p.y_row + b * 16;
      V16 v = __builtin_convertvector(sums[r * blocks], V16) * p.row_scales[r] * scale;
      if (!plain) v += p.accumulate ? load_up_to(y, left) + bias : bias;
      store_up_to(y, left, v);
    }
  }
}

/// All rows of a piece against B blocks of it, rows cut evenly: a short last tile would leave registers idle.
template <int R, int B>
static void column_of_tiles(const Int8Piece& piece, long block) {
  const long tiles = (piece.rows + R - 1) / R;
  long begin = 0;
  for (long i = 0; i < tiles; ++i) {
    const long end = piece.rows * (i + 1) / tiles;
    Int8Piece p = piece;
    p.a += begin * piece.a_row;
    p.b += block * piece.b_block;
    p.sums += block * 16;
    if (p.row_scales != nullptr) p.row_scales += begin;
    if (p.column_scales != nullptr) p.column_scales += block * 16;
    if (p.bias != nullptr) p.bias += block * 16;
    p.columns -= block * 16;
    if (p.raw != nullptr) {
      p.raw += begin * piece.y_row + block * 16;
    } else {
      p.y += begin * piece.y_row + block * 16;
    }
    I16 sums[R * B];
    products_of_rows<R, B>(end - begin, p, sums);
    finish(p, end - begin, B, sums);
    begin = end;
  }
}

static long strip(long rows) {
  return rows <= kFlatRows ? kFlatBlocks : kTallBlocks;
}

static void products_of(const Int8Piece& piece) {
  long block = 0;
  if (strip(piece.rows) == kFlatBlocks) {
    for (; block + kFlatBlocks <= piece.blocks; block += kFlatBlocks) {
      column_of_tiles<kFlatRows, kFlatBlocks>(piece, block);
    }
  }
  for (; block + kTallBlocks <= piece.blocks; block += kTallBlocks) {
    column_of_tiles<kTallRows, kTallBlocks>(piece, block);
  }
  for (; block < piece.blocks; ++block) column_of_tiles<kTallRows, 1>(piece, block);
  if (piece.activation == Activation::identity || piece.raw != nullptr) return;
  with_activation(piece.activation, [&]<Activation kKind>() {
    for (long r = 0; r < piece.rows; ++r) {
      for (long i = 0; i < piece.columns; i += 16) {
        float* y = piece.y + r * piece.y_row + i;
        store_up_to(y, piece.columns - i, activate<kKind>(load_up_to(y, piece.columns - i), piece.limit).value);
      }
    }
  });
}

static void turn(long rows, long count, const std::int8_t* from, long from_row, std::int8_t* to, long to_block) {
  for (long row = 0; row < rows; ++row) {
    for (long i = 0; i < count; ++i) {
      const std::int8_t* source = from + row * from_row + i * 256;
      std::int8_t* target = to + i * to_block + row * 256;
      for (int column = 0; column < 4; ++column) {
        for (int group = 0; group < 4; ++group) {
          B16 v;
          __builtin_memcpy(&v, source + column * 64 + group * 16, sizeof v);
          v = __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
          __builtin_memcpy(target + group * 64 + column * 16, &v, sizeof v);
        }
      }
    }
  }
}

static constexpr Int8Table kTable = {sizeof(Element), quantize, take, products_of, strip, turn};
