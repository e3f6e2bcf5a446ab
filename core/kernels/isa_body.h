/// Body of the isa_*.cpp files: everything here is compiled once per instruction set, in a namespace of its own.
/// No inline function or template of the standard library may be called from here: its one linked copy could be the
/// AVX-512 one. (tests/unit/kernels/isa_test.cpp looks for such symbols.)
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cmath>
#include <cstring>

#include "core/kernels/isa.h"

namespace covey::kernels::COVEY_ISA_NAMESPACE {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
#include "core/kernels/isa_gemm.inl"
#include "core/kernels/isa_rows.inl"
#include "core/kernels/isa_attention.inl"
#include "core/kernels/isa_wkv.inl"
#include "core/kernels/isa_wkv7.inl"
// clang-format on
}  // namespace

static constexpr IsaTable kTable = {
    .gemm = gemm,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .norm_jvp = norm_jvp,
    .rope = rope,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .activation_jvp = activation_jvp,
    .cross_entropy_row = cross_entropy_row,
    .attention_forward = attention_forward,
    .cross_entropy_jvp_row = cross_entropy_jvp_row,
    .attention_jvp = attention_jvp,
    .attention_backward = attention_backward,
    .wkv_forward = wkv_forward,
    .wkv_backward = wkv_backward,
    .wkv_jvp = wkv_jvp,
    .wkv7_forward = wkv7_forward,
    .wkv7_backward = wkv7_backward,
    .wkv7_jvp = wkv7_jvp,
};

}  // namespace covey::kernels::COVEY_ISA_NAMESPACE
