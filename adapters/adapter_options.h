/// Which adapter is wanted, of any kind, and what a fresh one of it is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "adapters/layout.h"

namespace covey::adapters {

enum class AdapterType : std::uint8_t { lora, ia3, bias, prefix, bottleneck, prompt };

struct AdapterOptions {
  AdapterType type = AdapterType::lora;
  LoraOptions lora{};  ///< its train_head is for every type
  /// ia3: layers whose result is scaled, and layers whose input is, by PEFT's rules for names. Both empty: keys, values
  /// and the feedforward network's inner activation (Liu et al. 2022, section 3.3); a matrix that holds queries, too,
  /// is scaled whole, as PEFT does. RWKV: its keys and values, and its channel mixing's. bottleneck: layers whose
  /// result passes through one, empty: placement says.
  std::vector<std::string> target_modules{};
  std::vector<std::string> feedforward_modules{};
  int tokens = 10;           ///< prompt, prefix
  int width = 16;            ///< bottleneck: R
  bool after_block = false;  ///< bottleneck: Pfeiffer's, one behind each block; else Houlsby's, behind the last matrix
                             ///< of each attention and feedforward network
  kernels::Activation activation = kernels::Activation::relu;  ///< bottleneck: relu, gelu or silu
};

/// @errors invalid_argument: a target that names no layer, sizes out of bounds; unsupported: the model has no place for
/// such an adapter (what is missing is named: attentions, biases, ...).
Result<AdapterLayout> adapter_layout(const model::Model& model, const AdapterOptions& options);

/// A fresh adapter's values: initial_values(), and what must be read off the model: a prompt begins as the embeddings
/// of tokens drawn from the vocabulary (Lester et al. 2021, section 3.2), a prefix as the keys and values that the
/// model computes for such tokens (Li and Liang 2021, section 7.4). Models that do not generate leave a prefix at
/// initial_values(). The same bits for the same seed, on one kind of machine.
Result<std::vector<float>> first_values(const AdapterLayout& layout, const model::Model& model, std::uint64_t seed);

/// "lora", "ia3", "bias", "prefix", "bottleneck", "prompt".
const std::vector<std::string>& adapter_type_names();

/// Fills the options from the YAML section `adapter`. A template, because adapters stand beside core/config, not on it.
template <typename Section>
AdapterOptions read_adapter_options(Section section) {
  AdapterOptions out;
  const std::vector<std::string>& names = adapter_type_names();
  const std::string type = section.choice("type", names, "lora");
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == type) out.type = static_cast<AdapterType>(i);
  }
  switch (out.type) {
    case AdapterType::lora:
      out.lora.rank = static_cast<int>(section.int64("rank", out.lora.rank, 1, kRankMax));
      out.lora.alpha = section.real("alpha", 2.0 * out.lora.rank, 1e-6, 1e6);
      out.lora.use_rslora = section.boolean("rslora", false);
      out.lora.target_modules = section.texts("targets", out.lora.target_modules);
      break;
    case AdapterType::ia3:
      out.target_modules = section.texts("targets", out.target_modules);
      out.feedforward_modules = section.texts("feedforward_targets", out.feedforward_modules);
      break;
    case AdapterType::bias:
      break;
    case AdapterType::prefix:
    case AdapterType::prompt:
      out.tokens = static_cast<int>(section.int64("tokens", out.tokens, 1, kRankMax));
      break;
    case AdapterType::bottleneck: {
      out.width = static_cast<int>(section.int64("width", out.width, 1, kRankMax));
      out.after_block = section.choice("placement", {"houlsby", "pfeiffer"}, "houlsby") == "pfeiffer";
      out.target_modules = section.texts("targets", out.target_modules);
      if (out.after_block && !out.target_modules.empty()) {
        section.problem("targets", "are for `placement: houlsby`; pfeiffer's stand behind blocks");
      }
      const std::string f = section.choice("activation", {"relu", "gelu", "silu"}, "relu");
      out.activation = f == "gelu"   ? kernels::Activation::gelu
                       : f == "silu" ? kernels::Activation::silu
                                     : kernels::Activation::relu;
      break;
    }
  }
  return out;
}

}  // namespace covey::adapters
