#include "core/model/pass.h"

#include <algorithm>

#include "core/model/parts.h"

namespace covey::model {
namespace {

constexpr int kRankMax = 4096;

Error bad(const std::string& what) {
  return Error{ErrorCode::invalid_argument, what};
}

template <typename Float>
Status check_view(const Model::Impl& model, const AdapterSpec& spec, const BasicAdapterView<Float>& view,
                  const char* what) {
  if (view.lora.size() != spec.lora.size()) {
    return bad(std::string(what) + ": holds " + std::to_string(view.lora.size()) + " LoRA sites, its spec " +
               std::to_string(spec.lora.size()));
  }
  for (std::size_t i = 0; i < spec.lora.size(); ++i) {
    const LinearSite& site = model.sites[static_cast<std::size_t>(spec.lora[i].site)];
    const auto rank = static_cast<std::size_t>(spec.lora[i].rank);
    if (view.lora[i].a.size() != rank * static_cast<std::size_t>(site.in) ||
        view.lora[i].b.size() != rank * static_cast<std::size_t>(site.out)) {
      return bad(std::string(what) + ": the sizes of A and B do not fit " + site.path);
    }
  }
  COVEY_TRY(check_part_sizes(spec, view.parts, what));
  const auto width = static_cast<std::size_t>(model.config.embedding_width());
  if (view.head.size() != static_cast<std::size_t>(spec.head_values)) {
    return bad(std::string(what) + ": the head is not " + std::to_string(spec.head_values) + " values");
  }
  if (view.prompt.size() != static_cast<std::size_t>(spec.prompt_tokens) * width) {
    return bad(std::string(what) + ": the soft prompt is not (" + std::to_string(spec.prompt_tokens) + ", " +
               std::to_string(width) + ")");
  }
  return {};
}

}  // namespace

std::int64_t Pass::place_of(std::int64_t at) const {
  if (!full || at < 0 || tensor_at.empty()) return full ? at : -1;
  const auto& all = model->parameters;
  const auto found =
      std::lower_bound(all.begin(), all.end(), at, [](const Parameter& p, std::int64_t value) { return p.at < value; });
  return tensor_at[static_cast<std::size_t>(found - all.begin())];
}

Result<std::int64_t> set_tensors(Pass& pass, const TensorChoice& choice) {
  const Model::Impl& model = *pass.model;
  pass.full = true;
  pass.tensor_at.clear();
  if (choice.empty()) return model.parameter_count;
  if (choice.size() != model.parameters.size()) {
    return bad("tensors: " + std::to_string(choice.size()) + " flags for " + std::to_string(model.parameters.size()) +
               " tensors");
  }
  std::int64_t size = 0;
  for (std::size_t i = 0; i < choice.size(); ++i) {
    pass.tensor_at.push_back(choice[i] != 0 ? size : -1);
    if (choice[i] != 0) size += model.parameters[i].count;
  }
  for (const NormWeights& n : model.norms) {
    for (int h = 1; n.own && !n.together && h < n.heads; ++h) {
      for (const std::int64_t at : {n.w_at, n.b_at}) {
        if (at < 0 || pass.trains(at) == pass.trains(at + static_cast<std::int64_t>(h) * n.H)) continue;
        return bad("tensors: the heads' weights of one norm train together or not at all");
      }
    }
  }
  return size;
}

Status set_spec(Pass& pass, const AdapterSpec& spec) {
  const Model::Impl& model = *pass.model;
  pass.lora_of_site.assign(model.sites.size(), -1);
  if (spec.prompt_tokens < 0) return bad("adapter: prompt_tokens is negative");
  for (std::size_t i = 0; i < spec.lora.size(); ++i) {
    const LoraSite& lora = spec.lora[i];
    if (lora.site < 0 || static_cast<std::size_t>(lora.site) >= model.sites.size()) {
      return bad("adapter: there is no linear layer " + std::to_string(lora.site) + " in this model");
    }
    const LinearSite& site = model.sites[static_cast<std::size_t>(lora.site)];
    if (lora.rank < 1 || lora.rank > kRankMax) {
      return bad("adapter: rank " + std::to_string(lora.rank) + " does not fit " + site.path);
    }
    int& slot = pass.lora_of_site[static_cast<std::size_t>(lora.site)];
    if (slot >= 0) return bad("adapter: two LoRA entries for " + site.path);
    slot = static_cast<int>(i);
  }
  if (spec.head_values != 0 && model.head_count == 0) {
    return bad("adapter: this model has no classification head to train");
  }
  if (spec.head_values != 0 && spec.head_values != model.head_count) {
    return bad("adapter: its head has " + std::to_string(spec.head_values) + " values, the model's " +
               std::to_string(model.head_count));
  }
  if (spec.prompt_tokens > 0 && model.config.task != Task::causal_lm) {
    return bad("adapter: soft prompts are for causal language models");
  }
  COVEY_TRY(check_parts(model, spec.parts));
  pass.spec = &spec;
  index_parts(pass);
  return {};
}

Status set_adapter(Pass& pass, const AdapterSpec& spec, const AdapterView& adapter, const AdapterGradView* gradient) {
  COVEY_TRY(set_spec(pass, spec));
  COVEY_TRY(check_view(*pass.model, spec, adapter, "adapter"));
  if (gradient != nullptr) COVEY_TRY(check_view(*pass.model, spec, *gradient, "adapter gradient"));
  pass.adapter = &adapter;
  pass.gradient = gradient;
  use_parts(pass);
  return {};
}

Status set_direction(Pass& pass, const AdapterView& direction) {
  COVEY_TRY(check_view(*pass.model, *pass.spec, direction, "direction"));
  pass.direction = &direction;
  return {};
}

void StackRows::clear() {
  N = 0;
  rows.clear();
  for (auto* list : {&position, &angle, &ids, &types}) list->clear();
  padded.clear();
}

void StackRows::reserve(std::size_t batch, std::size_t positions) {
  rows.reserve(batch);
  for (auto* list : {&position, &angle, &ids, &types}) list->reserve(positions);
  padded.reserve(positions);
}

namespace {

std::string shape(int b, int t) {
  return "(" + std::to_string(b) + ", " + std::to_string(t) + ")";
}

Error outside(const char* what, std::int32_t id, int count) {
  return bad(std::string("batch: ") + what + " " + std::to_string(id) + " is outside the vocabulary of " +
             std::to_string(count));
}

Status check_shapes(const Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  const ModelConfig& config = pass.model->config;
  const int P = pass.spec->virtual_tokens();
  if (batch.B < 1 || batch.T < 1 || batch.B > options.batch_max || batch.T > options.seq_max) {
    return bad("batch " + shape(batch.B, batch.T) + ": the engine was made for up to " +
               shape(options.batch_max, options.seq_max));
  }
  if (P > options.prompt_tokens_max) {
    return bad("the engine was made for up to " + std::to_string(options.prompt_tokens_max) + " virtual tokens, not " +
               std::to_string(P));
  }
  const auto rows = static_cast<std::size_t>(batch.B);
  const std::size_t size = rows * static_cast<std::size_t>(batch.T);
  if (batch.ids.size() != size) return bad("batch: ids are not " + shape(batch.B, batch.T));
  if (!batch.types.empty() && batch.types.size() != size) return bad("batch: types are not " + shape(batch.B, batch.T));
  if (!batch.lengths.empty() && batch.lengths.size() != rows) return bad("batch: lengths are not (B)");
  if (!batch.first_targets.empty() && batch.first_targets.size() != rows) {
    return bad("batch: first_targets are not (B)");
  }
  std::size_t targets = size;
  if (config.task == Task::classification) targets = rows;
  if (config.two_stacks()) {
    if (batch.T2 < 1 || batch.T2 > options.target_seq_max) {
      return bad("batch: the second stack's rows have " + std::to_string(batch.T2) +
                 " positions; the engine was made for up to " + std::to_string(options.target_seq_max));
    }
    targets = rows * static_cast<std::size_t>(batch.T2);
    if (batch.second_ids.size() != targets) return bad("batch: second_ids are not " + shape(batch.B, batch.T2));
  }
  if (want_targets && batch.targets.size() != targets)
    return bad("batch: targets are not one per position that has one");
  return {};
}

Status check_batch(const Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  COVEY_TRY(check_shapes(pass, batch, options, want_targets));
  const ModelConfig& config = pass.model->config;
  const int V = config.vocab_size;
  const auto is_target = [&](std::int32_t id) { return id == kNoTarget || (id >= 0 && id < config.outputs()); };
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int length = batch.lengths.empty() ? batch.T : batch.lengths[row];
    if (length < 1 || length > batch.T) return bad("batch: length " + std::to_string(length) + " of a row");
    if (!batch.first_targets.empty() && !is_target(batch.first_targets[row])) return bad("batch: target out of range");
    for (int t = 0; t < batch.T; ++t) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(t);
      if (t < length && (batch.ids[at] < 0 || batch.ids[at] >= V)) return outside("token", batch.ids[at], V);
      if (t < length && !batch.types.empty() &&
          (batch.types[at] < 0 || batch.types[at] >= std::max(config.type_vocab, 1))) {
        return outside("token type", batch.types[at], config.type_vocab);
      }
      const bool here = want_targets && config.task != Task::classification && !config.two_stacks();
      if (here && t >= length && batch.targets[at] != kNoTarget) return bad("batch: a target on padding");
    }
  }
  for (const std::int32_t id : batch.second_ids) {
    if (id < 0 || id >= V) return outside("token", id, V);
  }
  if (!want_targets) return {};
  for (const std::int32_t id : batch.targets) {
    if (!is_target(id)) return outside("target", id, config.outputs());
  }
  return {};
}

void add_row(StackRows& stack, int length) {
  stack.rows.push_back({stack.N, length, stack.N, length});
  stack.N += length;
}

/// longrope's tables hold the short factors' rows, then those of the long ones.
int first_angle(const Pass& pass, int length, const EngineOptions& options) {
  const RopeConfig& rope = pass.model->config.rope;
  const bool is_long = rope.scaling == RopeScaling::longrope && length > rope.original_context;
  return is_long ? options.seq_max + options.prompt_tokens_max : 0;
}

void pack_first(Pass& pass, const TokenBatch& batch, const EngineOptions& options) {
  const int P = pass.spec->prompt_tokens;
  const int before = pass.prefix_tokens;
  StackRows& stack = pass.stack[0];
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int tokens = batch.lengths.empty() ? batch.T : batch.lengths[row];
    const int length = P + tokens;
    const int angle = first_angle(pass, before + length, options) + before;
    add_row(stack, length);
    for (int i = 0; i < length; ++i) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(i < P ? 0 : i - P);
      stack.position.push_back(i);
      stack.angle.push_back(angle + i);
      stack.ids.push_back(i < P ? -1 : batch.ids[at]);
      stack.types.push_back(i < P || batch.types.empty() ? 0 : batch.types[at]);
      stack.padded.push_back(i + 1 == length && tokens < batch.T ? 1 : 0);
    }
  }
}

void pack_second(Pass& pass, const TokenBatch& batch) {
  StackRows& stack = pass.stack[1];
  pass.cross.clear();
  for (int b = 0; b < batch.B; ++b) {
    const auto& seen = pass.stack[0].rows[static_cast<std::size_t>(b)];
    pass.cross.push_back({stack.N, batch.T2, seen.kv_begin, seen.kv_count});
    add_row(stack, batch.T2);
    for (int i = 0; i < batch.T2; ++i) {
      stack.position.push_back(i);
      stack.angle.push_back(pass.prefix_tokens + i);
      stack.ids.push_back(batch.second_ids[static_cast<std::size_t>(b * batch.T2 + i)]);
      stack.types.push_back(0);
      stack.padded.push_back(0);
    }
  }
}

void pack_targets(Pass& pass, const TokenBatch& batch) {
  const int P = pass.spec->prompt_tokens;
  const auto add = [&](int at, std::int32_t id) {
    if (id == kNoTarget) return;
    pass.target_row.push_back(at);
    pass.target.push_back(id);
  };
  const auto& rows = pass.last().rows;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const int begin = rows[b].q_begin;
    if (pass.model->config.task == Task::classification) {
      add(pooled_row(pass.model->config, rows[b]), batch.targets[b]);
      continue;
    }
    const std::size_t width = static_cast<std::size_t>(pass.model->config.two_stacks() ? batch.T2 : batch.T);
    if (P > 0 && !batch.first_targets.empty()) add(begin + P - 1, batch.first_targets[b]);
    for (int i = P; i < rows[b].q_count; ++i) {
      add(begin + i, batch.targets[b * width + static_cast<std::size_t>(i - P)]);
    }
  }
}

}  // namespace

int pooled_row(const ModelConfig& config, const kernels::AttentionRow& row) {
  return config.pooler == Pooler::last_token ? row.q_begin + row.q_count - 1 : row.q_begin;
}

Status set_batch(Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  COVEY_TRY(check_batch(pass, batch, options, want_targets));
  for (StackRows& stack : pass.stack) stack.clear();
  pass.target_row.clear();
  pass.target.clear();
  pack_first(pass, batch, options);
  if (pass.model->config.two_stacks()) pack_second(pass, batch);
  if (want_targets) pack_targets(pass, batch);
  reserve_lora(pass, std::max(pass.stack[0].N, pass.stack[1].N));
  return {};
}

void reserve_lora(Pass& pass, int N) {
  int rank = 0;
  for (const LoraSite& lora : pass.spec->lora) rank = std::max(rank, lora.rank);
  bool three = false;
  for (const AdapterPart& part : pass.spec->parts) {
    if (part.kind != PartKind::bottleneck && part.kind != PartKind::block_bottleneck) continue;
    rank = std::max(rank, part.count);
    three = true;
  }
  const std::size_t size = static_cast<std::size_t>(rank) * static_cast<std::size_t>(N);
  if (pass.u.size() < size) {
    pass.u.resize(size);
    pass.du.resize(size);
  }
  if (three && pass.third.size() < size) pass.third.resize(size);
}

}  // namespace covey::model
