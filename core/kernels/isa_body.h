/// Body of the isa_*.cpp files: everything here is compiled once per instruction set, in a namespace of its own.
/// No inline function or template of the standard library may be called from here: its one linked copy could be the
/// AVX-512 one. (tests/unit/kernels/isa_test.cpp looks for such symbols.)
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_MPL2_ONLY
#include <Eigen/Core>
#include <cmath>
#include <cstring>

#include "core/kernels/isa.h"

namespace covey::kernels::COVEY_ISA_NAMESPACE {
namespace {
// clang-format off
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_gemm.inl"
#include "core/kernels/isa_rows.inl"
#include "core/kernels/isa_attention.inl"
// clang-format on
}  // namespace

static constexpr IsaTable kTable = {
    gemm,           rmsnorm_forward,       rmsnorm_recompute, rmsnorm_backward,   rope,
    swiglu_forward, swiglu_backward,       cross_entropy_row, attention_forward,  rmsnorm_jvp,
    swiglu_jvp,     cross_entropy_jvp_row, attention_jvp,     attention_backward,
};

}  // namespace covey::kernels::COVEY_ISA_NAMESPACE
