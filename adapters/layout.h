/// Which values an adapter has and where they lie in its flat form. Coordinator and devices agree on one canonical
/// text; the layout knows no weights, and is bound to a model by the names of its linear layers.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/model/adapter_spec.h"
#include "core/model/model.h"

namespace covey::adapters {

/// LoRA (Hu et al. 2021), in PEFT's terms.
struct LoraOptions {
  int rank = 8;             ///< R
  double alpha = 16;        ///< scale = alpha / R
  bool use_rslora = false;  ///< scale = alpha / sqrt(R) (Kalajdzievski 2023)
  /// Leaf names ("q_proj"), path suffixes ("self_attn.q_proj", "layers.3.self_attn.q_proj"), or "all-linear" (every
  /// linear layer but the head).
  std::vector<std::string> target_modules = {"q_proj", "v_proj"};
  std::map<std::string, int> rank_pattern{};      ///< target name -> R, matched like target_modules
  std::map<std::string, double> alpha_pattern{};  ///< target name -> alpha
  bool train_head = false;                        ///< a classifier's own layers, too
};

/// One LoRA site. Values: A (rank, in) at `offset`, then B (out, rank).
struct LoraEntry {
  std::string path;  ///< "model.layers.0.self_attn.q_proj"
  int in = 0;
  int out = 0;
  int rank = 0;
  double alpha = 0;
  bool rslora = false;
  std::int64_t offset = 0;
  [[nodiscard]] float scale() const;
  [[nodiscard]] std::int64_t a_size() const { return std::int64_t{rank} * in; }
  [[nodiscard]] std::int64_t b_size() const { return std::int64_t{out} * rank; }
};

/// A tensor of a classifier's own layers, trained whole (PEFT's modules_to_save). Values: row-major at `offset`.
struct HeadEntry {
  std::string name;  ///< "classifier.weight"
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;
  [[nodiscard]] std::int64_t count() const;
};

/// One of the model's parts (core/model/adapter_spec.h), at a place that it names.
struct PartEntry {
  model::PartKind kind = model::PartKind::scale_out;
  std::string name;  ///< linear layer, bias, attention or block
  int width = 0;
  int count = 0;  ///< prefix: positions; bottlenecks: R
  kernels::Activation activation = kernels::Activation::identity;
  std::int64_t offset = 0;
  [[nodiscard]] std::int64_t size() const;
};

/// A value type; immutable once made. The flat order is core/train/flat_view.h's.
struct AdapterLayout {
  std::vector<LoraEntry> lora;
  int prompt_tokens = 0;  ///< soft prompt, (prompt_tokens, prompt_width)
  int prompt_width = 0;   ///< E
  std::int64_t prompt_offset = 0;
  std::vector<HeadEntry> head;  ///< all of a classifier's own tensors in the model's order, or none
  std::vector<PartEntry> parts;
  std::int64_t size = 0;  ///< P

  /// The one text form, e.g. for hashing: equal layouts give equal bytes, on every machine. Lines:
  /// "covey-adapter 1", "lora <path> <in> <out> <rank> <alpha> <plain|rslora>" per entry, "prompt <tokens> <width>",
  /// "head <name> <sizes>" per tensor of a head, then per part "scale_in|scale_out|bias <name> <width>",
  /// "prefix <name> <width> <tokens>" or "bottleneck|block_bottleneck <name> <width> <R> <relu|gelu|silu>". At most
  /// kLayoutTextMax bytes.
  [[nodiscard]] std::string canonical() const;
  /// The layout of these entries in this order; offsets are set here. @errors invalid_argument: as lora_layout();
  /// resource_exhausted: more than kAdapterValuesMax values.
  static Result<AdapterLayout> of(std::vector<LoraEntry> entries, std::vector<HeadEntry> head = {});
  /// Sets the offsets of entries that were filled in by hand. @errors as of().
  [[nodiscard]] Status place();
  /// @errors corrupt_data: not what canonical() writes, or beyond the bounds below.
  static Result<AdapterLayout> parse(std::string_view text);

  /// Matches all entries to a model's places. @errors invalid_argument: one that the model lacks, or of another shape.
  [[nodiscard]] Result<model::AdapterSpec> bind(const model::Model& model) const;
  /// The LoRA entries and the head alone.
  [[nodiscard]] Result<model::AdapterSpec> bind(std::span<const model::LinearSite> sites,
                                                std::span<const model::HeadParameter> head = {}) const;
  friend bool operator==(const AdapterLayout& a, const AdapterLayout& b) { return a.canonical() == b.canonical(); }
};

/// PEFT's rule for target_modules and patterns: `target` is the whole path or its end after a dot.
bool target_matches(std::string_view target, std::string_view path);

constexpr std::size_t kLayoutTextMax = std::size_t{1} << 20;
constexpr int kRankMax = 1024;
constexpr std::int64_t kAdapterValuesMax = std::int64_t{1} << 30;

/// The layout that `options` selects on these layers, in the model's order.
/// @errors invalid_argument: a target that names no layer (the message lists the leaf names there are), rank out of
/// [1, kRankMax], alpha not finite or <= 0; train_head without a head.
Result<AdapterLayout> lora_layout(std::span<const model::LinearSite> sites, const LoraOptions& options,
                                  std::span<const model::HeadParameter> head = {});
Result<AdapterLayout> lora_layout(const model::Model& model, const LoraOptions& options);

/// The query and value projections, whatever the family calls them; "all-linear" where it has no such names.
std::vector<std::string> default_targets(std::span<const model::LinearSite> sites);

/// First values. LoRA: A uniform in (-1/sqrt(in), 1/sqrt(in)) (PEFT's kaiming_uniform with a = sqrt 5), B zero.
/// Scales: one (Liu et al. 2022, section 3.3). Biases: no change (Ben Zaken et al. 2022 begin at the model's).
/// Bottlenecks: D and U normal with deviation 0.01, cut at two of them, d and u zero (Houlsby et al. 2019,
/// section 3.6): nearly nothing. Prefixes and prompts: normal with deviation 0.02; first_values() has their papers'
/// ways. Counter-based: the same bits on every machine, and one site's A does not depend on which others are there. A
/// head's first values are the model's own, so they are left at zero here: see with_model_head().
std::vector<float> initial_values(const AdapterLayout& layout, std::uint64_t seed);
/// The same values with the model's own head where the layout has one. The layout must be of this model (asserted).
std::vector<float> with_model_head(const AdapterLayout& layout, const model::Model& model, std::vector<float> values);

}  // namespace covey::adapters
