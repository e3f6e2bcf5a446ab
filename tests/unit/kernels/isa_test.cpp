#include "core/kernels/isa.h"

#include <cmath>
#include <cstring>

#include "core/base/cpu.h"
#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

struct Computed {
  std::vector<float> rows;   ///< must agree to the bit
  std::vector<float> dense;  ///< matrix products: only closely
};

/// RWKV 7's memory of one head over more positions than its kept states are apart: y, its gradients, its tangent.
std::vector<float> remember(const IsaTable& isa) {
  constexpr int kPositions = kWkv7Chunk + 5;
  constexpr std::size_t kD = 32;
  const std::vector<AttentionRow> sequence{{0, kPositions, 0, kPositions}};
  const auto scale = reference::random(kD, 31);
  const auto rate = reference::random(kD, 32);
  std::vector<std::vector<float>> x;
  for (std::uint64_t i = 0; i < 5; ++i) x.push_back(reference::random(kPositions * kD, 33 + i));
  Wkv7Args args{sequence,    1,           kD,          scale.data(), rate.data(), x[0].data(),
                x[1].data(), x[2].data(), x[3].data(), x[4].data(),  nullptr};
  std::vector<std::vector<float>> out(7, std::vector<float>(kPositions * kD));
  std::vector<float> states(kPositions * kD * kD / kWkv7Chunk);
  std::vector<float> scratch((kWkv7Chunk + 2) * kD * kD);
  isa.wkv7_forward(args, sequence[0], 0, out[0].data(), states.data(), scratch.data());
  Wkv7Backward g;
  g.states = states.data();
  g.dy = out[0].data();
  g.dr = out[1].data();
  g.dw = out[2].data();
  g.dk = out[3].data();
  g.dv = out[4].data();
  g.da = out[5].data();
  isa.wkv7_backward(args, sequence[0], 0, g, scratch.data());
  isa.wkv7_jvp(args, sequence[0], 0, {g.dr, g.dw, g.dk, g.dv, g.da}, out[6].data(), scratch.data());
  std::vector<float> all;
  for (const auto& part : out) all.insert(all.end(), part.begin(), part.end());
  // Along its own gradient an output's half square moves by the gradient's square.
  double moved = 0;
  double square = 0;
  for (std::size_t i = 0; i < out[0].size(); ++i) {
    moved += static_cast<double>(out[0][i]) * static_cast<double>(out[6][i]);
    for (std::size_t part = 1; part < 6; ++part) square += std::pow(static_cast<double>(out[part][i]), 2);
  }
  CHECK(square > 0);
  CHECK(moved == doctest::Approx(square).epsilon(1e-4));
  return all;
}

Computed compute(const IsaTable& isa) {
  Computed c;
  const auto keep = [](std::vector<float>& to, const std::vector<float>& values) {
    to.insert(to.end(), values.begin(), values.end());
  };
  constexpr int N = 5;
  constexpr int H = 45;
  const auto x = reference::random(N * H, 1, 2);
  const auto w = reference::random(H, 2);
  std::vector<float> y(x.size());
  std::vector<float> dx(x.size());
  std::vector<float> kept(2 * N);
  const NormStats stats{kept.data(), kept.data() + N};
  for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
    const NormArgs args{.kind = kind, .N = N, .H = H, .x_row = H, .y_row = H, .weight = w.data(), .eps = 1e-6F};
    isa.norm_forward(0, N, args, x.data(), y.data(), stats, true);
    keep(c.rows, y);
    isa.norm_backward(0, N, args, y.data(), x.data(), stats, true, dx.data());
    keep(c.rows, dx);
    isa.norm_jvp(0, N, args, x.data(), stats, y.data(), dx.data());
    keep(c.rows, dx);
  }
  for (int kind = 0; kind <= static_cast<int>(Activation::clip); ++kind) {
    const ActivationArgs args{.kind = static_cast<Activation>(kind), .N = 1, .width = N * H, .limit = 2};
    isa.activation_forward(args, x.size(), x.data(), y.data(), dx.data());
    keep(c.rows, dx);
    auto gate = x;
    auto up = y;
    isa.activation_backward(args, x.size(), dx.data(), gate.data(), up.data(), gate.data(), up.data());
    keep(c.rows, gate);
    keep(c.rows, up);
  }
  const std::vector<AttentionRow> sequence{{0, N, 0, N}};
  const WkvArgs wkv{sequence, H, w.data(), w.data(), x.data(), y.data(), nullptr};
  std::vector<float> states(3 * x.size());
  isa.wkv_forward(wkv, sequence[0], 16, dx.data(), states.data());
  keep(c.rows, dx);
  keep(c.rows, remember(isa));
  auto logits = reference::random(100, 3, 4);
  std::uint8_t correct = 0;
  c.rows.push_back(static_cast<float>(isa.cross_entropy_row(100, 17, logits.data(), 0.3F, true, &correct)));
  keep(c.rows, logits);
  std::vector<float> product(9);
  isa.gemm({GemmOp::nt, 3, 3, 15, x.data(), 15, x.data(), 15, product.data(), 3, 1.0F, false});
  keep(c.dense, product);
  return c;
}

[[maybe_unused]] void check_same(const IsaTable& isa) {
  const Computed base = compute(isa_table_base());
  const Computed other = compute(isa);
  CHECK(std::memcmp(base.rows.data(), other.rows.data(), base.rows.size() * sizeof(float)) == 0);
  for (std::size_t i = 0; i < base.dense.size(); ++i) {
    CHECK(other.dense[i] == doctest::Approx(static_cast<double>(base.dense[i])).epsilon(1e-5));
  }
}

/// Whether this is the build that ships: unoptimized and sanitized ones keep inline functions apart.
[[maybe_unused]] bool optimized_plain_build() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
  return false;
#else
  return true;
#endif
}

}  // namespace

#if defined(__x86_64__)
TEST_CASE("Row kernels have the same bits on every instruction set, matrix products agree closely") {
  if (chosen_isa() >= Isa::avx2) check_same(isa_table_avx2());
  if (chosen_isa() >= Isa::avx512) check_same(isa_table_avx512());
}

TEST_CASE("The base variant holds no AVX register, and the others share no function with the rest of the program") {
  if (!optimized_plain_build() || test::run_command("command -v objdump ar nm").exit_code != 0) return;
  const test::TempDir dir;
  const std::string library = COVEY_KERNELS_LIBRARY;
  const auto extract = test::run_command("cd " + dir.path() + " && ar x " + library);
  REQUIRE(extract.exit_code == 0);
  for (const std::string kind : {"isa", "int8"}) {
    const auto base = test::run_command("objdump -d " + dir.file(kind + "_base.cpp.o") + " | grep -c '%[yz]mm'");
    CHECK(base.out == "0\n");
  }
  const auto wide = test::run_command("objdump -d " + dir.file("isa_avx512.cpp.o") + " | grep -c '%zmm'");
  CHECK(wide.out != "0\n");  // or the check above looks at the wrong thing
  for (const std::string isa : {"isa_avx2", "isa_avx512", "int8_avx2", "int8_avxvnni", "int8_avx512vnni"}) {
    const auto weak = test::run_command("nm -C " + dir.file(isa + ".cpp.o") + " | grep ' [WVuB] ' | grep -v DW.ref");
    CHECK(weak.out == "");
  }
}
#endif

}  // namespace covey::kernels
