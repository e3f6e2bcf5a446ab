// RWKV version 4's block: time mixing and channel mixing. Source: Peng et al., 2023.
#include "core/model/builder.h"

namespace covey::model {
namespace {

int shift(Builder& b, int x, const std::string& name) {
  const int out = b.slot(b.width(x));
  b.s.slots.back().cheap = true;
  Step& next = b.step(StepKind::shift);
  next.in = x;
  next.out = out;
  next.weight = b.table(name, {1, 1, b.width(x)});
  next.cache = b.m.program.caches++;
  return out;
}

}  // namespace

void build_rwkv_block(Builder& b, const std::string& path, int x) {
  const ModelConfig& c = b.c;
  const int A = c.q_width();
  const std::string time = path + "attention.";
  const int normed = b.norm(x, path + "ln1", true);
  const int k = b.as(SiteRole::key, b.linear(shift(b, normed, time + "time_mix_key"), time + "key", A, false));
  const int v = b.as(SiteRole::value, b.linear(shift(b, normed, time + "time_mix_value"), time + "value", A, false));
  const int r = b.linear(shift(b, normed, time + "time_mix_receptance"), time + "receptance", A, false);
  const int average = b.slot(A);
  const int states = b.slot(3 * A);
  Step& wkv = b.step(StepKind::wkv);
  wkv.in = k;
  wkv.in2 = v;
  wkv.out = average;
  wkv.stats = states;
  wkv.cache = b.m.program.caches++;
  wkv.weight = b.table(time + "time_decay", {A});
  b.s.steps.back().weight2 = b.table(time + "time_first", {A});
  const int gated = b.activation(r, Activation::sigmoid, average);
  const int middle = b.as(SiteRole::attention_out, b.linear(gated, time + "output", c.hidden_size, false, x));

  const std::string channel = path + "feed_forward.";
  const int again = b.norm(middle, path + "ln2", true);
  const int key = b.linear(shift(b, again, channel + "time_mix_key"), channel + "key", c.intermediate_size, false);
  const int gate =
      b.linear(shift(b, again, channel + "time_mix_receptance"), channel + "receptance", c.hidden_size, false);
  const int value = b.as(SiteRole::mlp_out, b.linear(b.activation(key, Activation::relu_squared), channel + "value",
                                                     c.hidden_size, false));
  b.s.output = b.add(b.activation(gate, Activation::sigmoid, value), middle);
}

}  // namespace covey::model
