#include "core/model/parts.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/kernels/gemm.h"

namespace covey::model {
namespace {

constexpr int kPartCountMax = 4096;

Error bad_part(const std::string& what) {
  return Error{ErrorCode::invalid_argument, "adapter: " + what};
}

struct PartPlaces {
  std::size_t count = 0;  ///< how many places of the kind there are
  int width = 0;          ///< at the part's
  const char* what = "";
};

PartPlaces places_of(const Model::Impl& m, const AdapterPart& part) {
  const auto at = static_cast<std::size_t>(std::max(part.index, 0));
  const auto of_sites = [&](bool in) {
    const int width = at < m.sites.size() ? (in ? m.sites[at].in : m.sites[at].out) : 0;
    return PartPlaces{m.sites.size(), width, "linear layer"};
  };
  const auto of = [&](const std::vector<AdapterPlace>& places, const char* what) {
    return PartPlaces{places.size(), at < places.size() ? places[at].width : 0, what};
  };
  switch (part.kind) {
    case PartKind::scale_in:
      return of_sites(true);
    case PartKind::scale_out:
    case PartKind::bottleneck:
      return of_sites(false);
    case PartKind::bias:
      return of(m.biases, "bias");
    case PartKind::prefix:
      return of(m.attentions, "attention");
    case PartKind::block_bottleneck:
      return of(m.blocks, "block");
  }
  return {};
}

bool counted(PartKind kind) {
  return kind == PartKind::prefix || kind == PartKind::bottleneck || kind == PartKind::block_bottleneck;
}

/// A bottleneck's values.
template <typename Float>
struct Bottleneck {
  Bottleneck(Float* values, const AdapterPart& part) : down(values) {
    const auto width = static_cast<std::ptrdiff_t>(part.width);
    const auto count = static_cast<std::ptrdiff_t>(part.count);
    down_bias = down + count * width;
    up = down_bias + count;
    up_bias = up + width * count;
  }
  Float* down;  ///< (R, width)
  Float* down_bias;
  Float* up;  ///< (width, R)
  Float* up_bias;
};

kernels::ActivationArgs bottleneck_activation(const AdapterPart& part, int N) {
  return {part.activation, N, part.count, 0, 0};
}

/// z (N, R) = D y + d.
void narrow(Pass& pass, const AdapterPart& part, const Bottleneck<const float>& b, int N, const float* y, float* z) {
  kernels::gemm_nt(*pass.pool, N, part.count, part.width, y, b.down, z);
  kernels::add_bias(*pass.pool, N, part.count, b.down_bias, z);
}

/// y += U a + u.
void widen(Pass& pass, const AdapterPart& part, const Bottleneck<const float>& b, int N, const float* a, float* y) {
  kernels::gemm_nt(*pass.pool, N, part.width, part.count, a, b.up, y, {.accumulate = true});
  kernels::add_bias(*pass.pool, N, part.width, b.up_bias, y);
}

}  // namespace

std::int64_t AdapterPart::size() const {
  const std::int64_t W = width;
  switch (kind) {
    case PartKind::prefix:
      return 2 * W * count;
    case PartKind::bottleneck:
    case PartKind::block_bottleneck:
      return 2 * W * count + W + count;
    default:
      return W;
  }
}

int AdapterSpec::prefix_tokens() const {
  const auto found = std::find_if(parts.begin(), parts.end(), [](const auto& p) { return p.kind == PartKind::prefix; });
  return found == parts.end() ? 0 : found->count;
}

Status check_parts(const Model::Impl& m, std::span<const AdapterPart> parts) {
  std::set<std::pair<PartKind, int>> seen;
  std::size_t prefixes = 0;
  int tokens = 0;
  for (const AdapterPart& part : parts) {
    const PartPlaces places = places_of(m, part);
    if (part.index < 0 || static_cast<std::size_t>(part.index) >= places.count) {
      return bad_part("there is no " + std::string(places.what) + " " + std::to_string(part.index) + " in this model");
    }
    if (part.width != places.width) {
      return bad_part("a part of width " + std::to_string(part.width) + " at a " + places.what + " of width " +
                      std::to_string(places.width));
    }
    if (counted(part.kind) && (part.count < 1 || part.count > kPartCountMax)) {
      return bad_part("a prefix or bottleneck of " + std::to_string(part.count) + " is not within [1, " +
                      std::to_string(kPartCountMax) + "]");
    }
    if (!seen.insert({part.kind, part.index}).second) {
      return bad_part("two parts of one kind at " + std::string(places.what) + " " + std::to_string(part.index));
    }
    if (part.kind != PartKind::prefix) continue;
    if (++prefixes > 1 && part.count != tokens) return bad_part("prefixes of different lengths");
    tokens = part.count;
  }
  // Positions are counted from the prefix on, so there is one everywhere or nowhere.
  if (prefixes > 0 && prefixes != m.attentions.size()) return bad_part("a prefix for some attentions only");
  return {};
}

void index_parts(Pass& pass) {
  const Model::Impl& m = *pass.model;
  const AdapterSpec& spec = *pass.spec;
  pass.prefix_tokens = spec.prefix_tokens();
  pass.parts_of_site.clear();
  for (auto* list : {&pass.part_of_bias, &pass.part_of_attention, &pass.part_of_block}) list->clear();
  pass.bias_values.clear();
  if (spec.parts.empty()) return;
  pass.parts_of_site.resize(m.sites.size());
  pass.part_of_bias.assign(m.biases.size(), -1);
  pass.part_of_attention.assign(m.attentions.size(), -1);
  pass.part_of_block.assign(m.blocks.size(), -1);
  pass.before.resize(m.blocks.size());
  for (std::size_t i = 0; i < spec.parts.size(); ++i) {
    const AdapterPart& part = spec.parts[i];
    const auto at = static_cast<std::size_t>(part.index);
    const int index = static_cast<int>(i);
    switch (part.kind) {
      case PartKind::scale_in:
        pass.parts_of_site[at].scale_in = index;
        break;
      case PartKind::scale_out:
        pass.parts_of_site[at].scale_out = index;
        break;
      case PartKind::bottleneck:
        pass.parts_of_site[at].bottleneck = index;
        break;
      case PartKind::bias:
        pass.part_of_bias[at] = index;
        break;
      case PartKind::prefix:
        pass.part_of_attention[at] = index;
        break;
      case PartKind::block_bottleneck:
        pass.part_of_block[at] = index;
        break;
    }
  }
}

void use_parts(Pass& pass) {
  const Model::Impl& m = *pass.model;
  if (pass.spec->parts.empty()) return;
  std::int64_t changed = 0;
  for (const AdapterPart& part : pass.spec->parts) changed += part.kind == PartKind::bias ? part.width : 0;
  pass.bias_values.assign(m.biases.size(), nullptr);
  pass.biases.resize(static_cast<std::size_t>(changed));
  float* next = pass.biases.data();
  const auto add_up = [&](int place, const float* own) {
    const int part = Pass::part_at(pass.part_of_bias, place);
    if (part < 0 || pass.bias_values[static_cast<std::size_t>(place)] != nullptr) return;
    pass.bias_values[static_cast<std::size_t>(place)] = next;
    const float* change = pass.values_of(part);
    for (int c = 0; c < pass.part(part).width; ++c) *next++ = own[c] + change[c];
  };
  for (const Linear& linear : m.linears) add_up(linear.bias, linear.b);
  for (const NormWeights& norm : m.norms) add_up(norm.bias, norm.b);
}

std::uint64_t part_floats(const Model::Impl& m, const AdapterSpec& spec, const EngineOptions& options,
                          std::uint64_t N) {
  std::uint64_t wide = 0, inner = 0, keys = 0, before = 0, biases = 0;
  for (const AdapterPart& part : spec.parts) {
    const auto W = static_cast<std::uint64_t>(part.width);
    switch (part.kind) {
      case PartKind::scale_in:
      case PartKind::scale_out:
      case PartKind::bottleneck: {
        const auto at = static_cast<std::size_t>(part.index);
        if (at < m.sites.size())
          wide = std::max(wide, static_cast<std::uint64_t>(std::max(m.sites[at].in, m.sites[at].out)));
        if (part.kind == PartKind::bottleneck) inner = std::max(inner, static_cast<std::uint64_t>(part.count));
        break;
      }
      case PartKind::prefix: {
        const std::uint64_t extra =
            static_cast<std::uint64_t>(options.batch_max) * static_cast<std::uint64_t>(part.count);
        keys = std::max(keys, (N + extra) * W);
        break;
      }
      case PartKind::block_bottleneck:
        inner = std::max(inner, static_cast<std::uint64_t>(part.count));
        if (options.training) before += N * W;
        break;
      case PartKind::bias:
        biases += W;
        break;
    }
  }
  const std::uint64_t both = options.training || options.tangent ? 2 : 1;
  return N * (wide * 2 * both + 3 * inner) + 2 * both * keys + before + biases;
}

void bottleneck_forward(Pass& pass, int index, int N, const float* x, float* y) {
  const AdapterPart& part = pass.part(index);
  const Bottleneck<const float> b(pass.values_of(index), part);
  narrow(pass, part, b, N, x, pass.u.data());
  kernels::activation_forward(*pass.pool, bottleneck_activation(part, N), pass.u.data(), nullptr, pass.third.data());
  widen(pass, part, b, N, pass.third.data(), y);
}

void bottleneck_backward(Pass& pass, int index, int N, const float* y, float* dy) {
  ThreadPool& pool = *pass.pool;
  const AdapterPart& part = pass.part(index);
  const int R = part.count;
  const Bottleneck<const float> b(pass.values_of(index), part);
  float* z = pass.u.data();
  float* a = pass.third.data();
  float* da = pass.du.data();
  narrow(pass, part, b, N, y, z);
  const kernels::ActivationArgs args = bottleneck_activation(part, N);
  kernels::activation_forward(pool, args, z, nullptr, a);
  kernels::gemm_nn(pool, N, R, part.width, dy, b.up, da);
  kernels::activation_backward(pool, args, da, z, nullptr, z, nullptr);  // z becomes its gradient
  if (float* gradient = pass.gradient_of(index); gradient != nullptr) {
    const Bottleneck<float> d(gradient, part);
    kernels::gemm_tn(pool, part.width, R, N, dy, a, d.up, {.accumulate = true});
    kernels::bias_backward(pool, N, part.width, dy, d.up_bias);
    kernels::gemm_tn(pool, R, part.width, N, z, y, d.down, {.accumulate = true});
    kernels::bias_backward(pool, N, R, z, d.down_bias);
  }
  kernels::gemm_nn(pool, N, part.width, R, z, b.down, dy, {.accumulate = true});
}

void bottleneck_jvp(Pass& pass, int index, int N, float* y, float* y_t) {
  ThreadPool& pool = *pass.pool;
  const AdapterPart& part = pass.part(index);
  const int R = part.count;
  const Bottleneck<const float> b(pass.values_of(index), part);
  const Bottleneck<const float> t(pass.direction_of(index), part);
  float* z = pass.u.data();
  float* z_t = pass.du.data();
  float* a = pass.third.data();
  narrow(pass, part, b, N, y, z);
  kernels::gemm_nt(pool, N, R, part.width, y_t, b.down, z_t);
  kernels::gemm_nt(pool, N, R, part.width, y, t.down, z_t, {.accumulate = true});
  kernels::add_bias(pool, N, R, t.down_bias, z_t);
  const kernels::ActivationArgs args = bottleneck_activation(part, N);
  // d(U a) = dU a + U da
  kernels::activation_forward(pool, args, z, nullptr, a);
  widen(pass, part, t, N, a, y_t);
  widen(pass, part, b, N, a, y);
  kernels::activation_jvp(pool, args, z, nullptr, z_t, nullptr, a);
  kernels::gemm_nt(pool, N, part.width, R, a, b.up, y_t, {.accumulate = true});
}

void block_forward(const Work& w) {
  const int part = Pass::part_at(w.pass.part_of_block, w.segment.block);
  if (part < 0) return;
  float* y = w.value(w.segment.output);
  if (w.pass.gradient != nullptr) {
    w.pass.before[static_cast<std::size_t>(w.segment.block)].assign(y, y + w.floats(w.segment.output));
  }
  bottleneck_forward(w.pass, part, w.rows(w.segment.output), y, y);
}

void block_backward(const Work& w) {
  const int part = Pass::part_at(w.pass.part_of_block, w.segment.block);
  if (part < 0) return;
  bottleneck_backward(w.pass, part, w.rows(w.segment.output),
                      w.pass.before[static_cast<std::size_t>(w.segment.block)].data(), w.gradient(w.segment.output));
}

void block_jvp(const Work& w) {
  const int part = Pass::part_at(w.pass.part_of_block, w.segment.block);
  if (part < 0) return;
  bottleneck_jvp(w.pass, part, w.rows(w.segment.output), w.value(w.segment.output), w.tangent(w.segment.output));
}

}  // namespace covey::model
