#include "core/kernels/int8.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "core/base/assert.h"
#include "core/kernels/int8_isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
/// Quantized rows that stay in a core's L2 while strips of weights pass by.
constexpr long kRowBytes = 1 << 20;
/// Pieces are of this many rows, or a multiple: whole register tiles of every variant.
constexpr long kRowUnit = 12;
/// Multiplications below which another thread is not woken.
constexpr double kThreadWork = 1 << 21;

std::int8_t* aligned_zeros(std::size_t bytes) {
  const bool huge = bytes >= 2 * kHugePage;
  const std::size_t alignment = huge ? kHugePage : 64;
  const std::size_t size = (bytes + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, size);
  if (p == nullptr) throw std::bad_alloc();
  // Whole huge pages alone: one for the rest would take more memory than the rest.
  if (huge) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  std::memset(p, 0, bytes);
  return static_cast<std::int8_t*>(p);
}

/// Bytes from one quantized row to the next: an odd number of cache lines, so that rows do not share cache sets.
long row_stride(const Int8Table& isa, int width) {
  const long lines = (isa.element_bytes * Int8Weights::padded(width) + 63) / 64;
  return 64 * (lines + (lines % 2 == 0 ? 1 : 0));
}

/// One thread's transposed strip of weights.
std::int8_t* turned_strip(std::size_t bytes) {
  thread_local std::unique_ptr<std::int8_t, void (*)(std::int8_t*)> buffer(nullptr,
                                                                           [](std::int8_t* p) { std::free(p); });
  thread_local std::size_t size = 0;
  if (size < bytes) {
    buffer.reset(aligned_zeros(bytes));
    size = bytes;
  }
  return buffer.get();
}

struct Product {
  const Int8Weights* w = nullptr;
  bool backward = false;
  int M = 0;
  [[nodiscard]] int terms() const { return backward ? w->out() : w->in(); }
  [[nodiscard]] int results() const { return backward ? w->in() : w->out(); }
};

/// Blocks [first, first + count) of results, for the rows of `piece`.
void multiply_forward(const Int8Table& isa, const Int8Weights& w, long first, long count, Int8Piece piece) {
  piece.b = w.blocks() + first * w.block_bytes();
  piece.b_block = w.block_bytes();
  piece.sums = w.out_sums().data() + first * 16;
  piece.blocks = count;
  isa.products(piece);
}

void multiply_backward(const Int8Table& isa, const Int8Weights& w, long first, long count, Int8Piece piece) {
  const long rows = Int8Weights::padded(w.out()) / 16;
  const long strip = isa.strip(piece.rows);
  piece.b_block = rows * 256;
  std::int8_t* turned = turned_strip(static_cast<std::size_t>(strip * piece.b_block));
  piece.b = turned;
  piece.sums = w.in_sums().data() + first * 16;
  for (long done = 0; done < count; done += strip) {
    piece.blocks = count - done < strip ? count - done : strip;
    isa.turn(rows, piece.blocks, w.blocks() + (first + done) * 256, w.block_bytes(), turned, piece.b_block);
    isa.products(piece);
    piece.sums += strip * 16;
    piece.columns -= strip * 16;
    if (piece.raw != nullptr) piece.raw += strip * 16;
    if (piece.y != nullptr) piece.y += strip * 16;
    if (piece.bias != nullptr) piece.bias += strip * 16;
  }
}

/// @param all  the whole result: rows, results and their scales; a, b and blocks are filled in here.
void multiply(ThreadPool& pool, const Int8Table& isa, const Product& product, const Int8Piece& all) {
  const Int8Weights& w = *product.w;
  const long blocks = Int8Weights::padded(product.results()) / 16;
  const double work = static_cast<double>(product.M) * product.terms() * product.results();
  const long units = (product.M + kRowUnit - 1) / kRowUnit;
  long down = (product.M * all.a_row + kRowBytes - 1) / kRowBytes;
  long wide = blocks;
  if (pool.threads() > 1 && work >= kThreadWork) {
    // Rows are cut first: they are in the cache of the thread that quantized them. Backward less finely, as every piece
    // turns its weights again. Then columns, so that there are several pieces for each thread of any small machine,
    // none less than four blocks wide.
    const long most = product.M / (product.backward ? 192 : 48);
    if (down < most) down = most < 8 ? most : 8;
    wide = blocks * down / 32 / 4 * 4;
    wide = wide < 4 ? 4 : wide;
  }
  const long across = (blocks + wide - 1) / wide;
  const auto run = [&](std::size_t tile) {
    const long m = units * (static_cast<long>(tile) / across) / down * kRowUnit;
    const long end = units * (static_cast<long>(tile) / across + 1) / down * kRowUnit;
    const long first = static_cast<long>(tile) % across * wide;
    Int8Piece piece = all;
    piece.rows = (product.M < end ? product.M : end) - m;
    piece.columns = product.results() - first * 16;
    piece.groups = Int8Weights::padded(product.terms()) / 4;
    piece.a += m * all.a_row;
    if (piece.row_scales != nullptr) piece.row_scales += m;
    if (piece.column_scales != nullptr) piece.column_scales += first * 16;
    if (piece.bias != nullptr) piece.bias += first * 16;
    if (piece.raw != nullptr) piece.raw += m * all.y_row + first * 16;
    if (piece.y != nullptr) piece.y += m * all.y_row + first * 16;
    const long count = blocks - first < wide ? blocks - first : wide;
    if (piece.columns > count * 16) piece.columns = count * 16;
    (product.backward ? multiply_backward : multiply_forward)(isa, w, first, count, piece);
  };
  const auto tiles = static_cast<std::size_t>(down * across);
  if (work < kThreadWork) {
    for (std::size_t tile = 0; tile < tiles; ++tile) run(tile);
  } else {
    pool.parallel_for(tiles, run);
  }
}

void linear(ThreadPool& pool, const Product& product, const float* x, float* y, Int8Scratch& scratch,
            const Int8Options& options) {
  if (product.M == 0) return;
  const Int8Table& isa = int8_table();
  const int width = product.terms();
  scratch.reserve(product.M, width);
  Int8Quantize q;
  q.width = width;
  q.x = x;
  q.x_row = options.x_row > 0 ? options.x_row : width;
  q.fold = product.backward ? product.w->scales().data() : nullptr;
  q.q = scratch.rows.data();
  q.q_row = row_stride(isa, width);
  q.scales = scratch.scales.data();
  q.stochastic = options.stochastic;
  q.seed = options.seed;
  for_rows(pool, product.M, width, [&](int begin, int end) { isa.quantize(begin, end, q); });
  Int8Piece piece;
  piece.a = q.q;
  piece.a_row = q.q_row;
  piece.row_scales = q.scales;
  piece.column_scales = product.backward ? nullptr : product.w->scales().data();
  piece.bias = options.bias;
  piece.y = y;
  piece.y_row = options.y_row > 0 ? options.y_row : product.results();
  piece.accumulate = options.accumulate;
  piece.activation = options.activation;
  piece.limit = options.limit;
  multiply(pool, isa, product, piece);
}

// ---- by parts

/// Scales are (parts, M), quantized rows as ever.
struct ByParts {
  const Int8Table& isa;
  const Int8Weights& w;
  int M;
  const float* dy;
  Int8Scratch& scratch;
  Int8Options options;
  long stride = row_stride(isa, w.out());

  [[nodiscard]] int channels(int part) const { return part + 1 < w.parts() ? kInt8Part : w.out() - part * kInt8Part; }
  [[nodiscard]] float* scale(int part, int row) const {
    return scratch.scales.data() + static_cast<std::ptrdiff_t>(part) * M + row;
  }

  void quantize_part(int row, int part, const float* x) const {
    Int8Quantize q;
    q.width = channels(part);
    q.x = x;
    q.fold = w.scales().data() + part * kInt8Part;
    q.q = scratch.rows.data() + row * stride + static_cast<long>(part) * kInt8Part * isa.element_bytes;
    q.scales = scale(part, row);
    q.stochastic = options.stochastic;
    q.seed = options.seed + static_cast<std::uint32_t>(row) * static_cast<std::uint32_t>(w.out()) +
             static_cast<std::uint32_t>(part * kInt8Part);
    isa.quantize(0, 1, q);
  }

  void quantize_row(int row) const {
    const float* x = dy + row * (options.x_row > 0 ? options.x_row : w.out());
    int top = 0;
    for (int part = 0; part < w.parts(); ++part) {
      quantize_part(row, part, x + part * kInt8Part);
      if (*scale(part, row) > *scale(top, row)) top = part;
    }
    float rest[kInt8Part];
    const int first = top * kInt8Part;
    int peak = 0;
    for (int i = 0; i < channels(top); ++i) {
      rest[i] = x[first + i];
      const auto size = [&](int k) {
        return std::fabs(x[first + k] * w.scales()[static_cast<std::size_t>(first + k)]);
      };
      if (size(i) > size(peak)) peak = i;
    }
    const float scale_of = w.scales()[static_cast<std::size_t>(first + peak)];
    scratch.peaks[static_cast<std::size_t>(row)] = {first + peak, rest[peak] * scale_of};
    rest[peak] = 0;
    quantize_part(row, top, rest);
  }

  /// dx of rows [begin, end), columns of blocks [first, first + count): part by part, so that a part's rows and weights
  /// stay in cache.
  void multiply(long begin, long end, long first, long count, float* dx, long dx_row) const {
    const long strip = isa.strip(end - begin);
    const long strip_bytes = kInt8Part / 16 * 256;
    std::int8_t* turned = turned_strip(static_cast<std::size_t>(strip * strip_bytes));
    for (int part = 0; part < w.parts(); ++part) {
      Int8Piece piece;
      piece.rows = end - begin;
      piece.a = scratch.rows.data() + begin * stride + static_cast<long>(part) * kInt8Part * isa.element_bytes;
      piece.a_row = stride;
      piece.row_scales = scale(part, static_cast<int>(begin));
      piece.y_row = dx_row;
      piece.accumulate = options.accumulate || part > 0;
      piece.b = turned;
      piece.b_block = strip_bytes;
      const long rows = Int8Weights::padded(channels(part)) / 16;
      piece.groups = rows * 4;
      for (long done = 0; done < count; done += strip) {
        const long block = first + done;
        piece.blocks = count - done < strip ? count - done : strip;
        piece.columns = w.in() - block * 16 < piece.blocks * 16 ? w.in() - block * 16 : piece.blocks * 16;
        piece.sums = w.part_sums(part) + block * 16;
        piece.y = dx + begin * dx_row + block * 16;
        turn(part, rows, block, piece.blocks, turned, strip_bytes);
        isa.products(piece);
      }
    }
    add_peaks(begin, end, first * 16, std::min<long>(w.in(), (first + count) * 16), dx, dx_row);
  }

  /// A part's channels are blocks of the packed weights, some apart.
  void turn(int part, long rows, long block, long count, std::int8_t* turned, long strip_bytes) const {
    const std::int8_t* from = w.blocks() + part * (kInt8Part / 16) * w.block_bytes() + block * 256;
    isa.turn(rows, count, from, w.block_bytes(), turned, strip_bytes);
  }

  void add_peaks(long begin, long end, long column, long columns_end, float* dx, long dx_row) const {
    for (long m = begin; m < end; ++m) {
      const Int8Scratch::Peak& peak = scratch.peaks[static_cast<std::size_t>(m)];
      const std::int8_t* block = w.blocks() + peak.at / 16 * w.block_bytes() + peak.at % 16 * 4;
      for (long k = column; k < columns_end; ++k) {
        dx[m * dx_row + k] += peak.value * static_cast<float>(block[k / 4 * 64 + k % 4]);
      }
    }
  }
};

}  // namespace

Int8Weights::Int8Weights(int out, int in)
    : out_(out),
      in_(in),
      blocks_(aligned_zeros(static_cast<std::size_t>(padded(out)) * static_cast<std::size_t>(padded(in)))),
      scales_(static_cast<std::size_t>(out), 1.0F),
      out_sums_(static_cast<std::size_t>(padded(out))),
      in_sums_(static_cast<std::size_t>(padded(in))),
      part_sums_(static_cast<std::size_t>(parts()) * static_cast<std::size_t>(padded(in))) {
  COVEY_ASSERT(out > 0 && in > 0 && in <= kInt8TermsMax);
}

void Int8Weights::set_rows(int first, int count, const std::int8_t* rows, const float* scales) {
  COVEY_ASSERT(first >= 0 && count >= 0 && first + count <= out_);
  for (int i = 0; i < count; ++i) {
    const int n = first + i;
    const std::int8_t* row = rows + static_cast<long>(i) * in_;
    std::int8_t* block = blocks_.get() + n / 16 * block_bytes() + n % 16 * 4;
    std::int32_t* part = part_sums_.data() + static_cast<std::ptrdiff_t>(n / kInt8Part) * padded(in_);
    std::int32_t sum = 0;
    for (int k = 0; k < in_; ++k) {
      block[k / 4 * 64 + k % 4] = row[k];
      sum += row[k];
      part[k] += row[k];
      in_sums_[static_cast<std::size_t>(k)] += row[k];
    }
    out_sums_[static_cast<std::size_t>(n)] = sum;
    scales_[static_cast<std::size_t>(n)] = scales[i];
  }
}

void Int8Weights::get_row(int channel, std::int8_t* row) const {
  const std::int8_t* block = blocks_.get() + channel / 16 * block_bytes() + channel % 16 * 4;
  for (int k = 0; k < in_; ++k) row[k] = block[k / 4 * 64 + k % 4];
}

void quantize_channel(int in, const float* w, std::int8_t* q, float* scale) {
  float top = 0;
  for (int k = 0; k < in; ++k) top = std::fmax(top, std::fabs(w[k]));
  *scale = top / 127;
  const float inverse = top < 1e-30F ? 0.0F : 127 / top;
  for (int k = 0; k < in; ++k) q[k] = static_cast<std::int8_t>(std::lrint(w[k] * inverse));
}

void Int8Scratch::reserve(int M, int width) {
  const auto bytes = static_cast<std::size_t>(M) * static_cast<std::size_t>(row_stride(int8_table(), width));
  if (rows.size() < bytes) rows.resize(bytes);
  if (scales.size() < static_cast<std::size_t>(M)) scales.resize(static_cast<std::size_t>(M));
}

void int8_forward(ThreadPool& pool, int M, const Int8Weights& w, const float* x, float* y, Int8Scratch& scratch,
                  const Int8Options& options) {
  linear(pool, {&w, false, M}, x, y, scratch, options);
}

void int8_backward(ThreadPool& pool, int M, const Int8Weights& w, const float* dy, float* dx, Int8Scratch& scratch,
                   const Int8Options& options) {
  COVEY_ASSERT(w.out() <= kInt8TermsMax);
  linear(pool, {&w, true, M}, dy, dx, scratch, options);
}

void int8_backward_by_parts(ThreadPool& pool, int M, const Int8Weights& w, const float* dy, float* dx,
                            Int8Scratch& scratch, const Int8Options& options) {
  if (M == 0) return;
  const auto rows = static_cast<std::size_t>(M);
  scratch.reserve(M, w.out());
  if (scratch.scales.size() < rows * static_cast<std::size_t>(w.parts())) {
    scratch.scales.resize(rows * static_cast<std::size_t>(w.parts()));
  }
  if (scratch.peaks.size() < rows) scratch.peaks.resize(rows);
  const ByParts by{int8_table(), w, M, dy, scratch, options};
  for_rows(pool, M, w.out(), [&](int begin, int end) {
    for (int row = begin; row < end; ++row) by.quantize_row(row);
  });
  // Each piece reads its quantized rows from memory once, and turns the weights of its columns once for all its rows.
  const long blocks = Int8Weights::padded(w.in()) / 16;
  const long units = (M + kRowUnit - 1) / kRowUnit;
  const long down = M < 2 * 96 ? 1 : 2;
  const long wide = std::max(4L, (blocks + 2) / 3);
  const long across = (blocks + wide - 1) / wide;
  const long dx_row = options.y_row > 0 ? options.y_row : w.in();
  pool.parallel_for(static_cast<std::size_t>(down * across), [&](std::size_t tile) {
    const long i = static_cast<long>(tile) / across;
    const long first = static_cast<long>(tile) % across * wide;
    by.multiply(units * i / down * kRowUnit, std::min<long>(M, units * (i + 1) / down * kRowUnit), first,
                std::min(wide, blocks - first), dx, dx_row);
  });
}

void int8_products(ThreadPool& pool, const Int8Table& isa, int M, const Int8Weights& w, bool backward,
                   const std::int8_t* x, std::int32_t* y) {
  const int terms = backward ? w.out() : w.in();
  const long stride = row_stride(isa, terms);
  Int8Scratch scratch;
  scratch.rows.resize(static_cast<std::size_t>(M * stride));
  for (long m = 0; m < M; ++m) isa.take(terms, x + m * terms, scratch.rows.data() + m * stride);
  int8_products(pool, isa, M, w, scratch, y, backward);
}

void int8_products(ThreadPool& pool, const Int8Table& isa, int M, const Int8Weights& w, const Int8Scratch& scratch,
                   std::int32_t* y, bool backward) {
  const Product product{&w, backward, M};
  Int8Piece piece;
  piece.a = scratch.rows.data();
  piece.a_row = row_stride(isa, product.terms());
  piece.raw = y;
  piece.y_row = product.results();
  multiply(pool, isa, product, piece);
}

}  // namespace covey::kernels
