// Matrix products through Eigen. Included inside a namespace by isa_body.h.

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<Eigen::Dynamic>;
using ConstMap = Eigen::Map<const RowMatrix, Eigen::Unaligned, Stride>;
using MutableMap = Eigen::Map<RowMatrix, Eigen::Unaligned, Stride>;

template <typename Product>
static inline void assign(MutableMap& c, const Product& product, float alpha, bool accumulate) {
  if (accumulate) {
    c.noalias() += alpha * product;
  } else {
    c.noalias() = alpha * product;
  }
}

static void gemm(const GemmTile& t) {
  // Fixed sizes, not this processor's: they decide how the inner dimension is cut, hence the bits.
  static const bool sized = (Eigen::setCpuCacheSizes(32 * 1024, 1024 * 1024, 4 * 1024 * 1024), true);
  (void)sized;
  MutableMap c(t.c, t.m, t.n, Stride(t.ldc));
  switch (t.op) {
    case GemmOp::nt:
      assign(c, ConstMap(t.a, t.m, t.k, Stride(t.lda)) * ConstMap(t.b, t.n, t.k, Stride(t.ldb)).transpose(), t.alpha,
             t.accumulate);
      break;
    case GemmOp::nn:
      assign(c, ConstMap(t.a, t.m, t.k, Stride(t.lda)) * ConstMap(t.b, t.k, t.n, Stride(t.ldb)), t.alpha,
             t.accumulate);
      break;
    case GemmOp::tn:
      assign(c, ConstMap(t.a, t.k, t.m, Stride(t.lda)).transpose() * ConstMap(t.b, t.k, t.n, Stride(t.ldb)), t.alpha,
             t.accumulate);
      break;
  }
}
