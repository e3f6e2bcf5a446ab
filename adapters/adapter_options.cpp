#include "adapters/adapter_options.h"

#include <algorithm>
#include <set>

#include "core/base/rng.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"

namespace covey::adapters {
namespace {

using model::PartKind;
using model::SiteRole;

Error none_of(const model::Model& model, const std::string& adapter, const std::string& what) {
  return Error{ErrorCode::unsupported, "adapter: a " + model.config().family + " model has no " + what + ", so no " +
                                           adapter + " fits it; choose another type"};
}

/// Which sites `targets` name, by PEFT's rule. @errors invalid_argument: one that names none.
Result<std::vector<bool>> named_sites(std::span<const model::LinearSite> sites, const std::vector<std::string>& targets,
                                      const std::string& key) {
  std::vector<bool> out(sites.size(), false);
  for (const std::string& target : targets) {
    bool used = false;
    for (std::size_t i = 0; i < sites.size(); ++i) {
      const bool fits = target == "all-linear" ? sites[i].layer >= 0 : target_matches(target, sites[i].path);
      if (fits) out[i] = used = true;
    }
    if (!used) {
      return Error{ErrorCode::invalid_argument, key + ": \"" + target + "\" names no linear layer of the model"};
    }
  }
  return out;
}

Result<std::vector<PartEntry>> ia3_parts(const model::Model& model, const AdapterOptions& options) {
  const auto& sites = model.linear_sites();
  std::vector<PartEntry> out;
  COVEY_ASSIGN(auto results, named_sites(sites, options.target_modules, "targets"));
  COVEY_ASSIGN(auto inputs, named_sites(sites, options.feedforward_modules, "feedforward_targets"));
  const bool by_role = options.target_modules.empty() && options.feedforward_modules.empty();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const SiteRole role = sites[i].role;
    const bool result = by_role ? role == SiteRole::key || role == SiteRole::value || role == SiteRole::query_key_value
                                : results[i] && !inputs[i];
    const bool input = by_role ? role == SiteRole::mlp_out : inputs[i];
    if (input) out.push_back({.kind = PartKind::scale_in, .name = sites[i].path, .width = sites[i].in});
    if (result) out.push_back({.kind = PartKind::scale_out, .name = sites[i].path, .width = sites[i].out});
  }
  return out;
}

Result<std::vector<PartEntry>> bottleneck_parts(const model::Model& model, const AdapterOptions& options) {
  std::vector<PartEntry> out;
  const auto add = [&](PartKind kind, const std::string& name, int width) {
    out.push_back(
        {.kind = kind, .name = name, .width = width, .count = options.width, .activation = options.activation});
  };
  if (options.after_block) {
    for (const auto& block : model.blocks()) add(PartKind::block_bottleneck, block.name, block.width);
    if (out.empty()) return none_of(model, "bottleneck behind blocks", "block whose rows are the hidden state alone");
    return out;
  }
  const auto& sites = model.linear_sites();
  COVEY_ASSIGN(const auto named, named_sites(sites, options.target_modules, "targets"));
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const bool by_role = sites[i].role == SiteRole::attention_out || sites[i].role == SiteRole::mlp_out;
    if (options.target_modules.empty() ? by_role : named[i]) add(PartKind::bottleneck, sites[i].path, sites[i].out);
  }
  return out;
}

Result<std::vector<PartEntry>> parts_wanted(const model::Model& model, const AdapterOptions& options) {
  std::vector<PartEntry> out;
  switch (options.type) {
    case AdapterType::ia3:
      return ia3_parts(model, options);
    case AdapterType::bottleneck:
      return bottleneck_parts(model, options);
    case AdapterType::bias:
      for (const auto& bias : model.biases()) {
        out.push_back({.kind = PartKind::bias, .name = bias.name, .width = bias.width});
      }
      if (out.empty()) return none_of(model, "bias adapter", "bias in any linear layer or norm");
      return out;
    case AdapterType::prefix:
      for (const auto& attention : model.attentions()) {
        out.push_back(
            {.kind = PartKind::prefix, .name = attention.name, .width = attention.width, .count = options.tokens});
      }
      if (out.empty()) return none_of(model, "key/value prefix", "attention");
      return out;
    default:
      return out;
  }
}

/// As many tokens, drawn from the vocabulary.
std::vector<std::int32_t> drawn_tokens(const model::Model& model, int count, std::uint64_t seed) {
  constexpr std::uint64_t kTokens = 0x746f6b656e73;
  Rng rng(seed, kTokens);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(model.config().vocab_size))));
  }
  return ids;
}

}  // namespace

const std::vector<std::string>& adapter_type_names() {
  static const std::vector<std::string> names = {"lora", "ia3", "bias", "prefix", "bottleneck", "prompt"};
  return names;
}

Result<AdapterLayout> adapter_layout(const model::Model& model, const AdapterOptions& options) {
  if (options.type == AdapterType::lora) return lora_layout(model, options.lora);
  AdapterLayout layout;
  if (options.type == AdapterType::prompt) {
    if (model.config().task != model::Task::causal_lm) {
      return Error{ErrorCode::unsupported, "adapter: soft prompts are for causal language models"};
    }
    layout.prompt_tokens = options.tokens;
    layout.prompt_width = model.config().embedding_width();
  } else {
    COVEY_ASSIGN(layout.parts, parts_wanted(model, options));
  }
  const int before = options.type == AdapterType::prompt || options.type == AdapterType::prefix ? options.tokens : 0;
  if (before >= model.config().context_max) {
    return Error{ErrorCode::invalid_argument, "adapter: " + std::to_string(before) +
                                                  " tokens leave no room in a context of " +
                                                  std::to_string(model.config().context_max)};
  }
  for (const auto& parameter : model.head_parameters()) {
    if (options.lora.train_head) layout.head.push_back({.name = parameter.name, .shape = parameter.shape});
  }
  COVEY_TRY(layout.place());
  return layout;
}

Result<std::vector<float>> first_values(const AdapterLayout& layout, const model::Model& model, std::uint64_t seed) {
  std::vector<float> values = with_model_head(layout, model, initial_values(layout, seed));
  ThreadPool pool(1);
  if (layout.prompt_tokens > 0) {
    COVEY_ASSIGN(const auto rows, model::embeddings_of(model, drawn_tokens(model, layout.prompt_tokens, seed)));
    std::copy(rows.begin(), rows.end(), values.begin() + layout.prompt_offset);
  }
  const auto prefix = std::ranges::find(layout.parts, PartKind::prefix, &PartEntry::kind);
  if (prefix == layout.parts.end() || !model.config().generates()) return values;
  COVEY_ASSIGN(const auto of, model::prefix_of_tokens(model, drawn_tokens(model, prefix->count, seed), pool));
  for (const PartEntry& part : layout.parts) {
    if (part.kind != PartKind::prefix) continue;
    const auto& at = std::ranges::find(model.attentions(), part.name, &model::AdapterPlace::name);
    if (at == model.attentions().end()) continue;  // another model's layout; binding says so
    const auto& from = of[static_cast<std::size_t>(at - model.attentions().begin())];
    std::copy(from.begin(), from.end(), values.begin() + part.offset);
  }
  return values;
}

}  // namespace covey::adapters
