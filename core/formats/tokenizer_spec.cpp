#include "core/formats/tokenizer_spec.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <unordered_map>

#include "core/base/file.h"
#include "core/formats/json.h"

namespace covey::formats {
namespace {

constexpr std::int64_t kIdMax = (std::int64_t{1} << 21) - 1;
constexpr std::size_t kTokenBytesMax = 65536;

constexpr std::string_view kGpt2Split = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Spec = TokenizerSpec;
using VocabIndex = std::unordered_map<std::string, std::int32_t>;

Error refuse(const Json& at, std::string_view key, const std::string& what) {
  Error error = at.error_at(key, what);
  error.code = ErrorCode::unsupported;
  return error;
}

Error unknown_type(const Json& at, const std::string& part, const std::string& type) {
  return refuse(at, "type", "the " + part + " \"" + type.substr(0, 40) + "\" is not supported; byte-level BPE is");
}

/// The part itself, or the parts of a Sequence under `list_key`; nothing where the member is null or missing.
Result<std::vector<const Json*>> parts(const Json& tokenizer, std::string_view key, std::string_view list_key) {
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
  if (!pattern->contains(kind)) return refuse(part, "pattern", std::string("only a ") + kind + " pattern is supported");
  return pattern->get_string(kind);
}

Status read_added_tokens(const Json& root, Spec& spec) {
  const Json* list = root.find("added_tokens");
  if (list == nullptr || list->is_null()) return {};
  COVEY_TRY(root.get_array("added_tokens"));
  for (const Json& item : list->items()) {
    if (!item.is_object()) return root.error_at("added_tokens", "must hold objects");
    Spec::AddedToken token;
    COVEY_ASSIGN(const auto id, item.get_int_between("id", 0, kIdMax));
    token.id = static_cast<std::int32_t>(id);
    COVEY_ASSIGN(token.content, item.get_string("content"));
    if (token.content.empty() || token.content.size() > kTokenBytesMax) {
      return item.error_at("content", "must not be empty or longer than 65536 bytes");
    }
    COVEY_ASSIGN(token.single_word, item.get_bool("single_word", false));
    COVEY_ASSIGN(token.lstrip, item.get_bool("lstrip", false));
    COVEY_ASSIGN(token.rstrip, item.get_bool("rstrip", false));
    COVEY_ASSIGN(token.special, item.get_bool("special", false));
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

Status read_normalizers(const Json& root, Spec& spec) {
  using Kind = Spec::Normalizer::Kind;
  COVEY_ASSIGN(const auto list, parts(root, "normalizer", "normalizers"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    Spec::Normalizer step;
    if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
      step.kind = type == "NFC" ? Kind::nfc : type == "NFD" ? Kind::nfd : type == "NFKC" ? Kind::nfkc : Kind::nfkd;
    } else if (type == "Prepend") {
      step.kind = Kind::prepend;
      COVEY_ASSIGN(step.content, part->get_string("prepend"));
    } else if (type == "Replace") {
      step.kind = Kind::replace;
      COVEY_ASSIGN(step.pattern, pattern_of(*part, "String"));
      COVEY_ASSIGN(step.content, part->get_string("content"));
      if (step.pattern.empty()) return part->error_at("pattern", "must not be empty");
      if (step.content.size() > 64) return part->error_at("content", "is longer than 64 bytes");
    } else {
      return unknown_type(*part, "normalizer", type);
    }
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
    return refuse(part, "prepend_scheme", "must be always, first or never");
  }
  step.prepend = scheme == "always" ? Prepend::always : scheme == "first" ? Prepend::first : Prepend::never;
  return {};
}

Status read_pre_tokenizers(const Json& root, Spec& spec) {
  using Kind = Spec::PreTokenizer::Kind;
  COVEY_ASSIGN(const auto list, parts(root, "pre_tokenizer", "pretokenizers"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    if (spec.byte_level) return refuse(*part, "type", "a pre-tokenizer after ByteLevel is not supported");
    Spec::PreTokenizer step;
    if (type == "ByteLevel") {
      spec.byte_level = true;
      COVEY_ASSIGN(step.add_prefix_space, part->get_bool("add_prefix_space", true));
      COVEY_ASSIGN(const bool use_regex, part->get_bool("use_regex", true));
      step.kind = use_regex ? Kind::gpt2_split : Kind::byte_level;
    } else if (type == "Split") {
      COVEY_ASSIGN(const std::string regex, pattern_of(*part, "Regex"));
      COVEY_ASSIGN(const std::string behavior, part->get_string("behavior"));
      COVEY_ASSIGN(const bool invert, part->get_bool("invert", false));
      // Every character matches one of these expressions, so Removed with invert leaves what Isolated leaves.
      if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
        return refuse(*part, "behavior", "only Isolated is supported");
      }
      if (regex == kGpt2Split) {
        step.kind = Kind::gpt2_split;
      } else if (regex == kLlama3Split) {
        step.kind = Kind::llama3_split;
      } else if (regex == kQwen2Split) {
        step.kind = Kind::qwen2_split;
      } else {
        return refuse(*part, "pattern", "this expression is not supported; those of GPT-2, Llama 3 and Qwen 2 are");
      }
    } else if (type == "Digits") {
      step.kind = Kind::digits;
      COVEY_ASSIGN(step.individual, part->get_bool("individual_digits", false));
    } else if (type == "Metaspace") {
      COVEY_TRY(read_metaspace(*part, step));
    } else {
      return unknown_type(*part, "pre-tokenizer", type);
    }
    spec.pre_tokenizers.push_back(std::move(step));
  }
  return {};
}

Status read_vocab(const Json& model, Spec& spec, VocabIndex& index) {
  COVEY_ASSIGN(const Json* vocab, model.get_object("vocab"));
  if (vocab->empty()) return model.error_at("vocab", "holds no tokens");
  const auto put = [&](std::int32_t id, const std::string& token) {
    if (static_cast<std::size_t>(id) >= spec.vocab.size()) spec.vocab.resize(static_cast<std::size_t>(id) + 1);
    std::string& slot = spec.vocab[static_cast<std::size_t>(id)];
    if (!slot.empty() && slot != token) return false;
    slot = token;
    return true;
  };
  for (const JsonMember& member : vocab->members()) {
    if (member.key.size() > kTokenBytesMax) return model.error_at("vocab", "holds a token longer than 65536 bytes");
    COVEY_ASSIGN(const auto id, vocab->get_int_between(member.key, 0, kIdMax));
    if (!put(static_cast<std::int32_t>(id), member.key)) {
      return vocab->error_at(member.key, "has the id " + std::to_string(id) + " of another token");
    }
    index.emplace(member.key, static_cast<std::int32_t>(id));
  }
  for (const Spec::AddedToken& token : spec.added_tokens) {
    if (!put(token.id, token.content)) {
      return model.error_at("vocab", "an added token has the id " + std::to_string(token.id) + " of another token");
    }
  }
  return {};
}

Status read_merges(const Json& model, Spec& spec, const VocabIndex& index) {
  COVEY_ASSIGN(const Json* merges, model.get_array("merges"));
  spec.merges.reserve(merges->size());
  for (const Json& item : merges->items()) {
    const std::string at = "merges[" + std::to_string(spec.merges.size()) + "]";
    std::string left;
    std::string right;
    if (item.is_string()) {
      const std::string text = item.as_string().value();
      const auto space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return model.error_at(at, "must be two tokens with one space between them");
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (item.is_array() && item.size() == 2 && item.items()[0].is_string() && item.items()[1].is_string()) {
      left = item.items()[0].as_string().value();
      right = item.items()[1].as_string().value();
    } else {
      return model.error_at(at, "must be \"a b\" or [\"a\", \"b\"]");
    }
    const auto a = index.find(left);
    const auto b = index.find(right);
    const auto both = index.find(left + right);
    if (a == index.end() || b == index.end() || both == index.end() || left.empty() || right.empty()) {
      return model.error_at(at, "names a token that the vocabulary lacks");
    }
    spec.merges.push_back({a->second, b->second, both->second});
  }
  return {};
}

Status read_model(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const Json* model, root.get_object("model"));
  COVEY_ASSIGN(const std::string type, model->get_string("type", model->contains("merges") ? "BPE" : ""));
  if (type != "BPE") return unknown_type(*model, "model", type);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    COVEY_ASSIGN(const std::string affix, model->get_string(key, ""));
    if (!affix.empty()) return refuse(*model, key, "is not supported");
  }
  COVEY_ASSIGN(const double dropout, model->get_double("dropout", 0.0));
  if (dropout != 0) return refuse(*model, "dropout", "is not supported; set it to null");
  COVEY_ASSIGN(spec.unk_token, model->get_string("unk_token", ""));
  COVEY_ASSIGN(spec.fuse_unk, model->get_bool("fuse_unk", false));
  COVEY_ASSIGN(spec.byte_fallback, model->get_bool("byte_fallback", false));
  COVEY_ASSIGN(spec.ignore_merges, model->get_bool("ignore_merges", false));
  VocabIndex index;
  COVEY_TRY(read_vocab(*model, spec, index));
  if (!spec.unk_token.empty() && !index.contains(spec.unk_token)) {
    return model->error_at("unk_token", "is not in the vocabulary");
  }
  return read_merges(*model, spec, index);
}

Status read_post_processor(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const auto list, parts(root, "post_processor", "processors"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    if (type == "ByteLevel") continue;  // moves offsets, not tokens
    if (type != "TemplateProcessing") return unknown_type(*part, "post-processor", type);
    COVEY_ASSIGN(const Json* single, part->get_array("single"));
    COVEY_ASSIGN(const Json* special, part->get_object("special_tokens"));
    bool seen_text = false;
    for (const Json& item : single->items()) {
      if (item.contains("Sequence")) {
        if (seen_text) return refuse(*part, "single", "holds the text twice");
        seen_text = true;
        continue;
      }
      COVEY_ASSIGN(const Json* token, item.get_object("SpecialToken"));
      COVEY_ASSIGN(const std::string name, token->get_string("id"));
      COVEY_ASSIGN(const Json* entry, special->get_object(name));
      COVEY_ASSIGN(const auto ids, entry->get_ints("ids"));
      for (const std::int64_t id : ids) {
        if (id < 0 || id >= static_cast<std::int64_t>(spec.vocab.size())) {
          return entry->error_at("ids", "holds an id outside the vocabulary");
        }
        (seen_text ? spec.suffix_ids : spec.prefix_ids).push_back(static_cast<std::int32_t>(id));
      }
    }
    if (!seen_text) return part->error_at("single", "does not hold the text");
  }
  return {};
}

Status read_decoder(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const auto list, parts(root, "decoder", "decoders"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    if (type == "ByteLevel" || type == "ByteFallback" || type == "Fuse") continue;
    if (type == "Metaspace") {
      Spec::PreTokenizer step;
      COVEY_TRY(read_metaspace(*part, step));
      spec.decode_space = step.replacement;
      spec.decode_strip_space = step.prepend != Spec::PreTokenizer::Prepend::never;
    } else if (type == "Replace") {
      COVEY_ASSIGN(spec.decode_space, pattern_of(*part, "String"));
      COVEY_ASSIGN(const std::string content, part->get_string("content"));
      if (content != " ") return refuse(*part, "content", "only a space is supported");
    } else if (type == "Strip") {
      COVEY_ASSIGN(const std::string content, part->get_string("content"));
      COVEY_ASSIGN(const auto start, part->get_int("start", 0));
      COVEY_ASSIGN(const auto stop, part->get_int("stop", 0));
      if (content != " " || start < 0 || start > 1 || stop != 0) {
        return refuse(*part, "content", "only one space at the start may be stripped");
      }
      spec.decode_strip_space = start == 1;
    } else {
      return unknown_type(*part, "decoder", type);
    }
  }
  return {};
}

std::int32_t id_of(const Spec& spec, std::string_view content) {
  const auto it = std::ranges::find(spec.vocab, content);
  return it == spec.vocab.end() ? -1 : static_cast<std::int32_t>(it - spec.vocab.begin());
}

/// "bos_token": "<s>" or {"content": "<s>", ...}.
Result<std::int32_t> named_token(const Json& config, std::string_view key, const Spec& spec) {
  const Json* value = config.find(key);
  if (value == nullptr || value->is_null()) return -1;
  std::string content;
  if (value->is_object()) {
    COVEY_ASSIGN(content, value->get_string("content"));
  } else {
    COVEY_ASSIGN(content, config.get_string(key));
  }
  const std::int32_t id = id_of(spec, content);
  if (id < 0) return config.error_at(key, "names a token that the vocabulary lacks");
  return id;
}

/// What the file's names say where no tokenizer_config.json does.
void guess_ends(Spec& spec) {
  const auto special = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      for (const Spec::AddedToken& token : spec.added_tokens) {
        if (token.special && token.content == name) return token.id;
      }
    }
    return -1;
  };
  if (spec.bos_id < 0) {
    spec.bos_id =
        !spec.prefix_ids.empty() ? spec.prefix_ids[0] : special({"<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"});
  }
  if (spec.eos_id < 0) {
    spec.eos_id = !spec.suffix_ids.empty() ? spec.suffix_ids.back()
                                           : special({"</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"});
  }
}

/// A getter says invalid_argument; here the file is what is wrong.
Error about_file(Error error) {
  if (error.code == ErrorCode::invalid_argument) error.code = ErrorCode::corrupt_data;
  return error;
}

Result<Spec> parse(std::string_view text, const std::string& where) {
  COVEY_ASSIGN(const Json root, Json::parse(text, where));
  Spec spec;
  COVEY_TRY(read_added_tokens(root, spec));
  COVEY_TRY(read_model(root, spec));
  COVEY_TRY(read_normalizers(root, spec));
  COVEY_TRY(read_pre_tokenizers(root, spec));
  COVEY_TRY(read_post_processor(root, spec));
  COVEY_TRY(read_decoder(root, spec));
  return spec;
}

}  // namespace

Result<TokenizerSpec> parse_tokenizer_json(std::string_view json, const std::string& where) {
  auto spec = parse(json, where);
  if (!spec.ok()) return about_file(spec.error());
  guess_ends(*spec);
  return spec;
}

Result<TokenizerSpec> read_tokenizer_json(const std::string& path) {
  COVEY_ASSIGN(const std::string text, read_text_file(path, std::uint64_t{256} << 20));
  auto spec = parse(text, path);
  if (!spec.ok()) return about_file(spec.error());
  const std::string config_path = (std::filesystem::path(path).parent_path() / "tokenizer_config.json").string();
  if (std::filesystem::exists(config_path)) {
    COVEY_ASSIGN(const Json config, Json::load(config_path, {.bytes_max = std::size_t{16} << 20}));
    auto bos = named_token(config, "bos_token", *spec);
    if (!bos.ok()) return about_file(bos.error());
    auto eos = named_token(config, "eos_token", *spec);
    if (!eos.ok()) return about_file(eos.error());
    spec->bos_id = *bos;
    spec->eos_id = *eos;
    return spec;
  }
  guess_ends(*spec);
  return spec;
}

Status write_byte_level_tokenizer(const std::string& directory, const TokenizerSpec& spec) {
  Json added = Json::array();
  Json special = Json::object();
  const auto name = [&](std::int32_t id) { return spec.vocab[static_cast<std::size_t>(id)]; };
  for (const TokenizerSpec::AddedToken& token : spec.added_tokens) {
    added.push_back(Json::object({{"id", token.id},
                                  {"content", token.content},
                                  {"single_word", token.single_word},
                                  {"lstrip", token.lstrip},
                                  {"rstrip", token.rstrip},
                                  {"normalized", false},
                                  {"special", token.special}}));
    special.set(token.content, Json::object({{"id", token.content},
                                             {"ids", std::vector<std::int32_t>{token.id}},
                                             {"tokens", std::vector<std::string>{token.content}}}));
  }
  Json vocab = Json::object();
  for (std::size_t id = 0; id < spec.vocab.size(); ++id) {
    if (!spec.vocab[id].empty()) vocab.set(spec.vocab[id], id);
  }
  Json merges = Json::array();
  for (const auto& merge : spec.merges) merges.push_back(name(merge.left) + " " + name(merge.right));
  Json single = Json::array();
  const Json text = Json::object({{"Sequence", Json::object({{"id", "A"}, {"type_id", 0}})}});
  const auto frame = [&](Json& list, std::int32_t id, int type_id) {
    list.push_back(Json::object({{"SpecialToken", Json::object({{"id", name(id)}, {"type_id", type_id}})}}));
  };
  Json pair = Json::array();
  for (const std::int32_t id : spec.prefix_ids) frame(single, id, 0);
  single.push_back(text);
  for (const std::int32_t id : spec.suffix_ids) frame(single, id, 0);
  for (const Json& item : single.items()) pair.push_back(item);
  pair.push_back(Json::object({{"Sequence", Json::object({{"id", "B"}, {"type_id", 1}})}}));

  const Json byte_level =
      Json::object({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}});
  const Json root = Json::object(
      {{"version", "1.0"},
       {"truncation", nullptr},
       {"padding", nullptr},
       {"added_tokens", added},
       {"normalizer", nullptr},
       {"pre_tokenizer", byte_level},
       {"post_processor",
        Json::object(
            {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}})},
       {"decoder", byte_level},
       {"model", Json::object({{"type", "BPE"},
                               {"dropout", nullptr},
                               {"unk_token", nullptr},
                               {"continuing_subword_prefix", nullptr},
                               {"end_of_word_suffix", nullptr},
                               {"fuse_unk", false},
                               {"byte_fallback", false},
                               {"ignore_merges", false},
                               {"vocab", vocab},
                               {"merges", merges}})}});
  Json config = Json::object({{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}});
  if (spec.bos_id >= 0) config.set("bos_token", name(spec.bos_id));
  if (spec.eos_id >= 0) config.set("eos_token", name(spec.eos_id));
  COVEY_TRY(write_file_durably(directory + "/tokenizer.json", std::string_view(root.dump() + "\n")));
  return config.save(directory + "/tokenizer_config.json");
}

}  // namespace covey::formats
