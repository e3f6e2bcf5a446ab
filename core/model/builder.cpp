#include "core/model/builder.h"

#include <algorithm>

#include "core/base/assert.h"

namespace covey::model {

std::int64_t Builder::parameter(const std::string& name, std::vector<std::int64_t> shape) {
  const auto [found, fresh] = at_of_name_.try_emplace(name, m.parameter_count);
  if (!fresh) return found->second;
  Parameter p;
  p.name = name;
  p.shape = std::move(shape);
  p.at = m.parameter_count;
  p.count = 1;
  p.layer = layer;
  for (const std::int64_t extent : p.shape) p.count *= extent;
  m.parameter_count += p.count;
  if (in_head) m.head_count += p.count;
  m.parameters.push_back(std::move(p));
  return m.parameters.back().at;
}

int Builder::table(const std::string& name, std::vector<std::int64_t> shape) {
  Table t;
  t.width = static_cast<int>(shape.back());
  t.rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) t.rows *= static_cast<int>(shape[i]);
  t.at = parameter(name, std::move(shape));
  for (std::size_t i = 0; i < m.tables.size(); ++i) {
    if (m.tables[i].at == t.at) return static_cast<int>(i);
  }
  m.tables.push_back(t);
  return static_cast<int>(m.tables.size()) - 1;
}

int Builder::norm_weights(const std::string& path, int width, int heads) {
  NormWeights n;
  n.kind = c.norm;
  n.eps = static_cast<float>(c.norm_eps);
  n.offset = static_cast<float>(c.norm_offset);
  n.heads = heads;
  n.H = width / heads;
  if (c.norm_weight) n.w_at = parameter(path + ".weight", {n.H});
  if (c.norm_bias) n.b_at = parameter(path + ".bias", {n.H});
  m.norms.push_back(n);
  return static_cast<int>(m.norms.size()) - 1;
}

int Builder::linear_weights(const std::string& path, int in, int out, bool bias, bool in_out) {
  const auto [found, fresh] = linear_of_path_.try_emplace(path, static_cast<int>(m.linears.size()));
  if (!fresh) return found->second;
  Linear l;
  l.in = in;
  l.out = out;
  l.in_out = in_out;
  if (in_head) l.head_w_at = m.head_count;
  l.w_at =
      parameter(path + ".weight", in_out ? std::vector<std::int64_t>{in, out} : std::vector<std::int64_t>{out, in});
  if (bias && in_head) l.head_b_at = m.head_count;
  if (bias) l.b_at = parameter(path + ".bias", {out});
  l.site = static_cast<int>(m.sites.size());
  m.sites.push_back({.layer = layer, .path = path, .leaf = path.substr(path.rfind('.') + 1), .in = in, .out = out});
  m.linears.push_back(l);
  return static_cast<int>(m.linears.size()) - 1;
}

void Builder::begin(Stream stream, int of_layer) {
  s = {};
  s.stream = stream;
  s.layer = of_layer;
  layer = of_layer;
}

int Builder::slot_in(Stream stream, int slot_width) {
  Slot next;
  next.width = slot_width;
  next.stream = stream;
  s.slots.push_back(next);
  return static_cast<int>(s.slots.size()) - 1;
}

int Builder::view(int base, int offset, int slot_width) {
  Slot next = s.slots[static_cast<std::size_t>(base)];
  COVEY_ASSERT(next.base < 0 && offset + slot_width <= next.width);
  next.base = base;
  next.offset = offset;
  next.width = slot_width;
  s.slots.push_back(next);
  return static_cast<int>(s.slots.size()) - 1;
}

int Builder::linear(int in, const std::string& path, int out, bool bias, int base, bool in_out) {
  return linear_with(in, linear_weights(path, width(in), out, bias, in_out), base);
}

int Builder::linear_with(int in, int weights, int base) {
  const Stream stream = s.slots[static_cast<std::size_t>(in)].stream;
  const int out = slot_in(stream, m.linears[static_cast<std::size_t>(weights)].out);
  Step& next = step(StepKind::linear);
  next.in = in;
  next.out = out;
  next.base = base;
  next.weight = weights;
  return out;
}

int Builder::as(SiteRole role, int slot) {
  const int site = m.linears[static_cast<std::size_t>(s.steps.back().weight)].site;
  COVEY_ASSERT(s.steps.back().kind == StepKind::linear && site >= 0);
  m.sites[static_cast<std::size_t>(site)].role = role;
  return slot;
}

namespace {

/// Layers that share a module get names of their own.
int add_place(std::vector<AdapterPlace>& places, const std::string& name, int layer, int width) {
  std::string own = name;
  const auto taken = [&](const AdapterPlace& place) { return place.name == own; };
  for (int i = 2; std::any_of(places.begin(), places.end(), taken); ++i) own = name + "-" + std::to_string(i);
  places.push_back({std::move(own), layer, width});
  return static_cast<int>(places.size()) - 1;
}

/// Which biases there are, and whose they are; a classifier's own layers are trained whole, not by their biases.
void list_biases(Model::Impl& m) {
  std::unordered_map<std::int64_t, int> index;
  std::unordered_map<std::int64_t, int> layer_of;
  for (const Linear& l : m.linears) {
    if (l.b_at >= 0 && l.head_b_at < 0) {
      layer_of.emplace(l.b_at, l.site < 0 ? -1 : m.sites[static_cast<std::size_t>(l.site)].layer);
    }
  }
  for (const NormWeights& n : m.norms) {
    if (n.b_at >= 0) layer_of.emplace(n.b_at, -1);
  }
  for (const Parameter& p : m.parameters) {
    const auto found = layer_of.find(p.at);
    if (found == layer_of.end()) continue;
    index.emplace(p.at, static_cast<int>(m.biases.size()));
    m.biases.push_back({p.name, found->second, static_cast<int>(p.count)});
  }
  const auto place = [&](std::int64_t at) {
    const auto found = index.find(at);
    return found == index.end() ? -1 : found->second;
  };
  for (Linear& l : m.linears) l.bias = l.head_b_at < 0 ? place(l.b_at) : -1;
  for (NormWeights& n : m.norms) n.bias = place(n.b_at);
}

}  // namespace

void Builder::prefixable(Step& attention, const std::string& module) {
  attention.attention =
      add_place(m.attentions, module.substr(0, module.rfind('.')), layer, attention.kv_heads * attention.head_dim);
}

void Builder::as_block(const std::string& path) {
  s.block = add_place(m.blocks, path.substr(0, path.size() - 1), layer, c.hidden_size);
}

int Builder::norm(int in, const std::string& path, bool cheap, int heads) {
  return norm_with(in, norm_weights(path, width(in), heads), cheap);
}

int Builder::norm_with(int in, int weights, bool cheap) {
  const NormWeights& w = m.norms[static_cast<std::size_t>(weights)];
  const Stream stream = s.slots[static_cast<std::size_t>(in)].stream;
  const int out = slot_in(stream, width(in));
  s.slots.back().cheap = cheap;
  const int stats = w.kind == kernels::NormKind::affine
                        ? -1
                        : slot_in(stream, w.heads * (w.kind == kernels::NormKind::layer ? 2 : 1));
  Step& next = step(StepKind::norm);
  next.in = in;
  next.out = out;
  next.stats = stats;
  next.weight = weights;
  return out;
}

int Builder::activation(int in, kernels::Activation kind, int up, float limit) {
  const int out = slot_in(s.slots[static_cast<std::size_t>(in)].stream, width(in));
  s.slots.back().cheap = true;
  Step& next = step(StepKind::activation);
  next.in = in;
  next.in2 = up;
  next.out = out;
  next.activation = kind;
  next.value = limit;
  return out;
}

int Builder::add(int in, int base) {
  const int out = slot_in(s.slots[static_cast<std::size_t>(in)].stream, width(in));
  Step& next = step(StepKind::add);
  next.in = in;
  next.base = base;
  next.out = out;
  return out;
}

namespace {

const float* values_at(const Model::Impl& m, std::int64_t at) {
  if (at < 0) return nullptr;
  const auto found = std::lower_bound(m.parameters.begin(), m.parameters.end(), at,
                                      [](const Parameter& p, std::int64_t value) { return p.at < value; });
  COVEY_ASSERT(found != m.parameters.end() && found->at == at);
  return found->values;
}

/// One tensor per head: used where they lie if they follow each other, else copied together.
const float* gathered(Model::Impl& m, const NormWeights& n) {
  const float* first = values_at(m, n.w_at);
  if (n.together) return first;
  bool together = true;
  for (int h = 1; h < n.heads; ++h) {
    const std::int64_t offset = static_cast<std::int64_t>(h) * n.H;
    together = together && values_at(m, n.w_at + offset) == first + offset;
  }
  if (together) return first;
  std::vector<float>& all = m.gathered.emplace_back();
  for (int h = 0; h < n.heads; ++h) {
    const float* values = values_at(m, n.w_at + static_cast<std::int64_t>(h) * n.H);
    all.insert(all.end(), values, values + n.H);
  }
  return all.data();
}

}  // namespace

void list_parameters(Model::Impl& model) {
  Builder b(model);
  build_stack(b, names_of(model.config), false);
  if (model.config.two_stacks()) build_stack(b, names_of(model.config, true), true);
  build_head(b, names_of(model.config, model.config.two_stacks()));
  list_biases(model);
}

void bind_weights(Model::Impl& model) {
  for (Linear& l : model.linears) {
    l.w = values_at(model, l.w_at);
    l.b = values_at(model, l.b_at);
  }
  for (NormWeights& n : model.norms) {
    n.w = n.own ? gathered(model, n) : values_at(model, n.w_at);
    n.b = values_at(model, n.b_at);
  }
  for (Table& t : model.tables) t.values = values_at(model, t.at);
}

}  // namespace covey::model
