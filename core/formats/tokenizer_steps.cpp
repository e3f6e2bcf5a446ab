#include "core/formats/tokenizer_steps.h"

#include <optional>

#include "core/formats/base64.h"
#include "core/formats/split_patterns.h"

namespace covey::formats {
namespace {

constexpr std::size_t kReplacementBytesMax = 64;
constexpr std::size_t kCharsmapBytesMax = std::size_t{8} << 20;

using Spec = TokenizerSpec;

/// Reads "pattern" of either kind; true where it is an expression.
Result<bool> read_pattern(const Json& part, std::string& pattern) {
  COVEY_ASSIGN(const Json* object, part.get_object("pattern"));
  const bool is_regex = object->contains("Regex");
  COVEY_ASSIGN(pattern, pattern_of(part, is_regex ? "Regex" : "String"));
  if (pattern.empty()) return part.error_at("pattern", "must not be empty");
  return is_regex;
}

Result<Spec::PreTokenizer::Behavior> read_behavior(const Json& part, std::string_view fallback) {
  using Behavior = Spec::PreTokenizer::Behavior;
  COVEY_ASSIGN(const std::string name, part.get_string("behavior", fallback));
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  return refuse_part(part, "behavior", "\"" + name.substr(0, 40) + "\" is not supported");
}

Result<Spec::Normalizer> read_normalizer(const Json& part, const std::string& type) {
  using Kind = Spec::Normalizer::Kind;
  Spec::Normalizer step;
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    step.kind = type == "NFC" ? Kind::nfc : type == "NFD" ? Kind::nfd : type == "NFKC" ? Kind::nfkc : Kind::nfkd;
  } else if (type == "Prepend") {
    step.kind = Kind::prepend;
    COVEY_ASSIGN(step.content, part.get_string("prepend"));
  } else if (type == "Replace") {
    step.kind = Kind::replace;
    COVEY_ASSIGN(step.is_regex, read_pattern(part, step.pattern));
    COVEY_ASSIGN(step.content, part.get_string("content"));
  } else if (type == "Lowercase") {
    step.kind = Kind::lowercase;
  } else if (type == "StripAccents") {
    step.kind = Kind::strip_accents;
  } else if (type == "Nmt") {
    step.kind = Kind::nmt;
  } else if (type == "Strip") {
    step.kind = Kind::strip;
    COVEY_ASSIGN(step.left, part.get_bool("strip_left", true));
    COVEY_ASSIGN(step.right, part.get_bool("strip_right", true));
  } else if (type == "BertNormalizer") {
    step.kind = Kind::bert;
    COVEY_ASSIGN(step.clean_text, part.get_bool("clean_text", true));
    COVEY_ASSIGN(step.chinese, part.get_bool("handle_chinese_chars", true));
    COVEY_ASSIGN(step.lowercase, part.get_bool("lowercase", true));
    const Json* accents = part.find("strip_accents");
    step.strip_accents = step.lowercase;  // null: as lowercase says
    if (accents != nullptr && !accents->is_null()) {
      COVEY_ASSIGN(step.strip_accents, part.get_bool("strip_accents", true));
    }
  } else if (type == "Precompiled") {
    step.kind = Kind::charsmap;
    COVEY_ASSIGN(const std::string encoded, part.get_string("precompiled_charsmap", ""));
    auto bytes = decode_base64(encoded);
    if (!bytes || bytes->size() > kCharsmapBytesMax) return part.error_at("precompiled_charsmap", "is not base64");
    step.content = std::move(*bytes);
  } else {
    return unknown_part(part, "normalizer", type);
  }
  if (step.kind != Kind::charsmap && step.content.size() > kReplacementBytesMax) {
    return part.error_at("content", "is longer than 64 bytes");
  }
  return step;
}

Status read_split(const Json& part, Spec::PreTokenizer& step) {
  using Kind = Spec::PreTokenizer::Kind;
  using Behavior = Spec::PreTokenizer::Behavior;
  COVEY_ASSIGN(const bool is_regex, read_pattern(part, step.pattern));
  COVEY_ASSIGN(step.behavior, read_behavior(part, "Isolated"));
  COVEY_ASSIGN(step.invert, part.get_bool("invert", false));
  step.kind = is_regex ? Kind::regex : Kind::literal;
  const auto known = is_regex ? known_split(step.pattern) : std::nullopt;
  // Every character matches one of these expressions, so Removed with invert leaves what Isolated leaves.
  const bool all_kept =
      (step.behavior == Behavior::isolated && !step.invert) || (step.behavior == Behavior::removed && step.invert);
  if (known && all_kept) step = {.kind = *known};
  return {};
}

Result<Spec::PreTokenizer> read_pre_tokenizer(const Json& part, const std::string& type, Spec& spec) {
  using Kind = Spec::PreTokenizer::Kind;
  Spec::PreTokenizer step;
  if (type == "ByteLevel") {
    spec.byte_level = true;
    COVEY_ASSIGN(step.add_prefix_space, part.get_bool("add_prefix_space", true));
    COVEY_ASSIGN(const bool use_regex, part.get_bool("use_regex", true));
    step.kind = use_regex ? Kind::gpt2_split : Kind::byte_level;
  } else if (type == "Split") {
    COVEY_TRY(read_split(part, step));
  } else if (type == "Digits") {
    step.kind = Kind::digits;
    COVEY_ASSIGN(step.individual, part.get_bool("individual_digits", false));
  } else if (type == "Metaspace") {
    COVEY_TRY(read_metaspace(part, step));
  } else if (type == "BertPreTokenizer") {
    step.kind = Kind::bert;
  } else if (type == "Whitespace") {
    step.kind = Kind::whitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::whitespace_split;
  } else if (type == "Punctuation") {
    step.kind = Kind::punctuation;
    COVEY_ASSIGN(step.behavior, read_behavior(part, "Isolated"));
  } else if (type == "CharDelimiterSplit") {
    step.kind = Kind::literal;
    step.behavior = Spec::PreTokenizer::Behavior::removed;
    COVEY_ASSIGN(step.pattern, part.get_string("delimiter"));
    if (step.pattern.empty() || step.pattern.size() > 4) return part.error_at("delimiter", "must be one character");
  } else {
    return unknown_part(part, "pre-tokenizer", type);
  }
  return step;
}

}  // namespace

Error refuse_part(const Json& at, std::string_view key, const std::string& what) {
  Error error = at.error_at(key, what);
  error.code = ErrorCode::unsupported;
  return error;
}

Error unknown_part(const Json& at, const std::string& part, const std::string& type) {
  return refuse_part(at, "type", "the " + part + " \"" + type.substr(0, 40) + "\" is not supported");
}

/// The part itself, or the parts of a Sequence under `list_key`; nothing where the member is null or missing.
Result<std::vector<const Json*>> parts_of(const Json& tokenizer, std::string_view key, std::string_view list_key) {
  std::vector<const Json*> list;
  const Json* part = tokenizer.find(key);
  if (part == nullptr || part->is_null()) return list;
  if (!part->is_object()) return tokenizer.error_at(key, std::string("expected an object, found ") + part->kind_name());
  COVEY_ASSIGN(const std::string type, part->get_string("type"));
  if (type != "Sequence") return std::vector<const Json*>{part};
  COVEY_ASSIGN(const Json* items, part->get_array(list_key));
  for (const Json& item : items->items()) {
    if (!item.is_object()) return part->error_at(list_key, "must hold objects");
    list.push_back(&item);
  }
  return list;
}

/// {"String": "x"} or, where `regex` is asked for, {"Regex": "x"}.
Result<std::string> pattern_of(const Json& part, const char* kind) {
  COVEY_ASSIGN(const Json* pattern, part.get_object("pattern"));
  if (!pattern->contains(kind)) return refuse_part(part, "pattern", std::string("is not a ") + kind + " pattern");
  return pattern->get_string(kind);
}

std::optional<TokenizerSpec::PreTokenizer::Kind> known_split(std::string_view expression) {
  using Kind = TokenizerSpec::PreTokenizer::Kind;
  if (expression == kGpt2Split) return Kind::gpt2_split;
  if (expression == kLlama3Split) return Kind::llama3_split;
  if (expression == kQwen2Split) return Kind::qwen2_split;
  return std::nullopt;
}

Status read_normalizers(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const auto list, parts_of(root, "normalizer", "normalizers"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    COVEY_ASSIGN(auto step, read_normalizer(*part, type));
    spec.normalizers.push_back(std::move(step));
  }
  return {};
}

Status read_metaspace(const Json& part, Spec::PreTokenizer& step) {
  using Prepend = Spec::PreTokenizer::Prepend;
  step.kind = Spec::PreTokenizer::Kind::metaspace;
  COVEY_ASSIGN(step.replacement, part.get_string("replacement", "\xE2\x96\x81"));
  if (step.replacement.empty() || step.replacement.size() > 4)
    return part.error_at("replacement", "must be one character");
  COVEY_ASSIGN(step.split, part.get_bool("split", true));
  COVEY_ASSIGN(const bool add_prefix_space, part.get_bool("add_prefix_space", true));
  COVEY_ASSIGN(const std::string scheme, part.get_string("prepend_scheme", add_prefix_space ? "always" : "never"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return refuse_part(part, "prepend_scheme", "must be always, first or never");
  }
  step.prepend = scheme == "always" ? Prepend::always : scheme == "first" ? Prepend::first : Prepend::never;
  return {};
}

Status read_pre_tokenizers(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const auto list, parts_of(root, "pre_tokenizer", "pretokenizers"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    if (spec.byte_level) return refuse_part(*part, "type", "a pre-tokenizer after ByteLevel is not supported");
    COVEY_ASSIGN(auto step, read_pre_tokenizer(*part, type, spec));
    spec.pre_tokenizers.push_back(std::move(step));
  }
  return {};
}

}  // namespace covey::formats
