/// The inner loops of int8.cpp, compiled once per instruction set, behind one table. Internal to core/kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/cpu.h"
#include "core/kernels/activation.h"

namespace covey::kernels {

/// Rows of activations on their way to int8.
struct Int8Quantize {
  long width = 0;
  const float* x = nullptr;
  long x_row = 0;               ///< floats
  const float* fold = nullptr;  ///< (width) factors of the columns; nullptr: none
  std::uint8_t* q = nullptr;
  long q_row = 0;           ///< bytes
  float* scales = nullptr;  ///< per row
  bool stochastic = false;
  std::uint32_t seed = 0;
};

/// rows x (16 blocks) results: of `rows` quantized rows and `blocks` packed blocks of 16 channels each.
struct Int8Piece {
  long rows = 0;
  long blocks = 0;
  long columns = 0;  ///< results wanted, <= 16 blocks
  long groups = 0;   ///< terms / 4
  const std::uint8_t* a = nullptr;
  long a_row = 0;  ///< bytes
  const std::int8_t* b = nullptr;
  long b_block = 0;                      ///< bytes from block to block
  const std::int32_t* sums = nullptr;    ///< per column: of its weights
  const float* row_scales = nullptr;     ///< (rows)
  const float* column_scales = nullptr;  ///< (columns); nullptr: 1
  const float* bias = nullptr;           ///< (columns), or nullptr
  float* y = nullptr;
  long y_row = 0;               ///< elements
  std::int32_t* raw = nullptr;  ///< the integers, instead of y
  bool accumulate = false;
  Activation activation = Activation::identity;
  float limit = 0;
};

struct Int8Table {
  long element_bytes;  ///< of one quantized activation
  /// Rows [begin, end).
  void (*quantize)(long begin, long end, const Int8Quantize& args);
  /// From int8 to the variant's own form.
  void (*take)(long n, const std::int8_t* from, std::uint8_t* to);
  void (*products)(const Int8Piece& piece);
  /// How many blocks products() likes to take at once for so many rows.
  long (*strip)(long rows);
  /// Blocks of the transposed matrix: from `count` neighbours of 16 x 16 bytes at `from` ([4][16 rows][4 columns], one
  /// below the other `from_row` bytes apart, `rows` of them) to [4][16 columns][4 rows], `to_block` bytes apart.
  void (*turn)(long rows, long count, const std::int8_t* from, long from_row, std::int8_t* to, long to_block);
};

class Int8Weights;
struct Int8Scratch;

/// The integer products alone: y (M,out) = x (M,in) W^T; `backward`: y (M,in) = x (M,out) W. For tests and benchmarks.
void int8_products(ThreadPool& pool, const Int8Table& isa, int M, const Int8Weights& w, bool backward,
                   const std::int8_t* x, std::int32_t* y);

/// The same from rows that are quantized already.
void int8_products(ThreadPool& pool, const Int8Table& isa, int M, const Int8Weights& w, const Int8Scratch& scratch,
                   std::int32_t* y, bool backward = false);

/// The best variant of this machine, or what COVEY_ISA asks for.
const Int8Table& int8_table();
/// One variant; nullptr where this build or machine has it not.
const Int8Table* int8_table(Int8Isa isa);

// x86-64 or Arm64 only, but for the first.
const Int8Table& int8_table_base();
const Int8Table& int8_table_avx2();
const Int8Table& int8_table_avxvnni();
const Int8Table& int8_table_avx512vnni();
const Int8Table& int8_table_dotprod();
const Int8Table& int8_table_i8mm();

}  // namespace covey::kernels
