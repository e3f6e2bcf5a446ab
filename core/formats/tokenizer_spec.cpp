#include "core/formats/tokenizer_spec.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <unordered_map>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/formats/split_patterns.h"
#include "core/formats/tokenizer_steps.h"

namespace covey::formats {
namespace {

constexpr std::int64_t kIdMax = (std::int64_t{1} << 21) - 1;

using Spec = TokenizerSpec;

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
    COVEY_ASSIGN(token.normalized, item.get_bool("normalized", !token.special));
    spec.added_tokens.push_back(std::move(token));
  }
  return {};
}

Status read_vocab(const Json& model, Spec& spec, TokenIndex& index) {
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

Status read_merges(const Json& model, Spec& spec, const TokenIndex& index) {
  COVEY_ASSIGN(const Json* merges, model.get_array("merges"));
  spec.merges.reserve(merges->size());
  for (const Json& item : merges->items()) {
    const std::string at = "merges[" + std::to_string(spec.merges.size()) + "]";
    std::optional<Spec::Merge> merge;
    if (item.is_string()) {
      const std::string text = item.as_string().value();
      if (std::ranges::count(text, ' ') != 1)
        return model.error_at(at, "must be two tokens with one space between them");
      merge = merge_of(index, text);
    } else if (item.is_array() && item.size() == 2 && item.items()[0].is_string() && item.items()[1].is_string()) {
      merge = merge_of(index, item.items()[0].as_string().value(), item.items()[1].as_string().value());
    } else {
      return model.error_at(at, "must be \"a b\" or [\"a\", \"b\"]");
    }
    if (!merge) return model.error_at(at, "names a token that the vocabulary lacks");
    spec.merges.push_back(*merge);
  }
  return {};
}

Status read_bpe(const Json& model, Spec& spec) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    COVEY_ASSIGN(const std::string affix, model.get_string(key, ""));
    if (!affix.empty()) return refuse_part(model, key, "is not supported");
  }
  COVEY_ASSIGN(const double dropout, model.get_double("dropout", 0.0));
  if (dropout != 0) return refuse_part(model, "dropout", "is not supported; set it to null");
  COVEY_ASSIGN(spec.unk_token, model.get_string("unk_token", ""));
  COVEY_ASSIGN(spec.fuse_unk, model.get_bool("fuse_unk", false));
  COVEY_ASSIGN(spec.byte_fallback, model.get_bool("byte_fallback", false));
  COVEY_ASSIGN(spec.ignore_merges, model.get_bool("ignore_merges", false));
  TokenIndex index;
  COVEY_TRY(read_vocab(model, spec, index));
  if (!spec.unk_token.empty() && !index.contains(spec.unk_token)) {
    return model.error_at("unk_token", "is not in the vocabulary");
  }
  return read_merges(model, spec, index);
}

Status read_wordpiece(const Json& model, Spec& spec) {
  spec.model = Spec::Model::wordpiece;
  COVEY_ASSIGN(spec.unk_token, model.get_string("unk_token", "[UNK]"));
  COVEY_ASSIGN(spec.continuing_prefix, model.get_string("continuing_subword_prefix", "##"));
  COVEY_ASSIGN(spec.word_characters_max, model.get_int("max_input_chars_per_word", 100));
  TokenIndex index;
  COVEY_TRY(read_vocab(model, spec, index));
  if (!index.contains(spec.unk_token)) return model.error_at("unk_token", "is not in the vocabulary");
  return {};
}

/// "vocab": [["token", score], ...]; added tokens may stand there too.
Status read_unigram(const Json& model, Spec& spec) {
  spec.model = Spec::Model::unigram;
  spec.fuse_unk = true;
  COVEY_ASSIGN(spec.byte_fallback, model.get_bool("byte_fallback", false));
  COVEY_ASSIGN(const Json* vocab, model.get_array("vocab"));
  if (vocab->empty() || vocab->size() > static_cast<std::size_t>(kIdMax)) {
    return model.error_at("vocab", "holds no tokens, or more than 2097151");
  }
  for (const Json& item : vocab->items()) {
    const std::string at = "vocab[" + std::to_string(spec.vocab.size()) + "]";
    if (!item.is_array() || item.size() != 2 || !item.items()[0].is_string()) {
      return model.error_at(at, "must be [\"token\", score]");
    }
    const auto score = item.items()[1].as_double();
    std::string token = item.items()[0].as_string().value();
    if (!score.ok() || token.size() > kTokenBytesMax) return model.error_at(at, "must be [\"token\", score]");
    spec.vocab.push_back(std::move(token));
    spec.scores.push_back(*score);
  }
  for (const Spec::AddedToken& token : spec.added_tokens) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= spec.vocab.size()) spec.vocab.resize(id + 1);
    if (!spec.vocab[id].empty() && spec.vocab[id] != token.content) {
      return model.error_at("vocab", "an added token has the id " + std::to_string(token.id) + " of another token");
    }
    spec.vocab[id] = token.content;
  }
  spec.hidden.assign(spec.vocab.size(), false);
  for (std::size_t id = spec.scores.size(); id < spec.vocab.size(); ++id) spec.hidden[id] = true;
  spec.scores.resize(spec.vocab.size(), 0.0);
  const Json* unknown = model.find("unk_id");
  if (unknown != nullptr && !unknown->is_null()) {
    COVEY_ASSIGN(const auto id, model.get_int_between("unk_id", 0, static_cast<std::int64_t>(vocab->size()) - 1));
    spec.unk_token = spec.vocab[static_cast<std::size_t>(id)];
    spec.hidden[static_cast<std::size_t>(id)] = true;
  }
  return {};
}

Status read_model(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const Json* model, root.get_object("model"));
  COVEY_ASSIGN(const std::string type, model->get_string("type", model->contains("merges") ? "BPE" : ""));
  if (type == "BPE") return read_bpe(*model, spec);
  if (type == "WordPiece") return read_wordpiece(*model, spec);
  if (type == "Unigram") return read_unigram(*model, spec);
  return unknown_part(*model, "model", type);
}

/// BertProcessing and RobertaProcessing: "cls" before, "sep" after, each ["token", id].
Status read_cls_sep(const Json& part, Spec& spec) {
  for (const char* key : {"cls", "sep"}) {
    COVEY_ASSIGN(const Json* pair, part.get_array(key));
    const auto id = pair->size() == 2 ? pair->items()[1].as_int() : Result<std::int64_t>(-1);
    if (!id.ok() || *id < 0 || *id >= static_cast<std::int64_t>(spec.vocab.size())) {
      return part.error_at(key, "must be [\"token\", id]");
    }
    (*key == 'c' ? spec.prefix_ids : spec.suffix_ids).push_back(static_cast<std::int32_t>(*id));
  }
  return {};
}

Status read_post_processor(const Json& root, Spec& spec) {
  COVEY_ASSIGN(const auto list, parts_of(root, "post_processor", "processors"));
  for (const Json* part : list) {
    COVEY_ASSIGN(const std::string type, part->get_string("type"));
    if (type == "ByteLevel") continue;  // moves offsets, not tokens
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      COVEY_TRY(read_cls_sep(*part, spec));
      continue;
    }
    if (type != "TemplateProcessing") return unknown_part(*part, "post-processor", type);
    COVEY_ASSIGN(const Json* single, part->get_array("single"));
    COVEY_ASSIGN(const Json* special, part->get_object("special_tokens"));
    bool seen_text = false;
    for (const Json& item : single->items()) {
      if (item.contains("Sequence")) {
        if (seen_text) return refuse_part(*part, "single", "holds the text twice");
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
  COVEY_ASSIGN(const auto list, parts_of(root, "decoder", "decoders"));
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
      if (content != " ") return refuse_part(*part, "content", "only a space is supported");
    } else if (type == "Strip") {
      COVEY_ASSIGN(const std::string content, part->get_string("content"));
      COVEY_ASSIGN(const auto start, part->get_int("start", 0));
      COVEY_ASSIGN(const auto stop, part->get_int("stop", 0));
      if (content != " " || start < 0 || start > 1 || stop != 0) {
        return refuse_part(*part, "content", "only one space at the start may be stripped");
      }
      spec.decode_strip_space = start == 1;
    } else if (type == "WordPiece") {
      spec.decode_words = true;
      COVEY_ASSIGN(spec.decode_prefix, part->get_string("prefix", "##"));
      COVEY_ASSIGN(spec.decode_cleanup, part->get_bool("cleanup", true));
    } else {
      return unknown_part(*part, "decoder", type);
    }
  }
  return {};
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
  const std::int32_t id = token_id(spec, content);
  if (id < 0) return config.error_at(key, "names a token that the vocabulary lacks");
  return id;
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

TokenIndex index_tokens(const Spec& spec) {
  TokenIndex index;
  index.reserve(spec.vocab.size());
  for (std::size_t id = 0; id < spec.vocab.size(); ++id) {
    if (!spec.vocab[id].empty()) index.emplace(spec.vocab[id], static_cast<std::int32_t>(id));
  }
  return index;
}

std::optional<Spec::Merge> merge_of(const TokenIndex& index, std::string_view left, std::string_view right) {
  const auto id = [&](const std::string& token) {
    const auto found = index.find(token);
    return found == index.end() ? -1 : found->second;
  };
  const Spec::Merge merge{id(std::string(left)), id(std::string(right)), id(std::string(left) + std::string(right))};
  if (left.empty() || right.empty() || merge.left < 0 || merge.right < 0 || merge.result < 0) return std::nullopt;
  return merge;
}

std::optional<Spec::Merge> merge_of(const TokenIndex& index, std::string_view text) {
  const std::size_t space = text.find(' ', 1);
  if (space == std::string_view::npos) return std::nullopt;
  return merge_of(index, text.substr(0, space), text.substr(space + 1));
}

std::int32_t token_id(const Spec& spec, std::string_view content) {
  const auto it = std::ranges::find(spec.vocab, content);
  return it == spec.vocab.end() ? -1 : static_cast<std::int32_t>(it - spec.vocab.begin());
}

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

Status read_ends(const std::string& path, Spec& spec) {
  const std::string config_path = (std::filesystem::path(path).parent_path() / "tokenizer_config.json").string();
  std::error_code ignored;
  if (!std::filesystem::exists(config_path, ignored)) return {};
  COVEY_ASSIGN(const Json config, Json::load(config_path, {.bytes_max = std::size_t{16} << 20}));
  auto bos = named_token(config, "bos_token", spec);
  if (!bos.ok()) return about_file(bos.error());
  auto eos = named_token(config, "eos_token", spec);
  if (!eos.ok()) return about_file(eos.error());
  spec.bos_id = *bos;
  spec.eos_id = *eos;
  return {};
}

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
  std::error_code ignored;
  const bool named =
      std::filesystem::exists(std::filesystem::path(path).parent_path() / "tokenizer_config.json", ignored);
  COVEY_TRY(read_ends(path, *spec));
  if (!named) guess_ends(*spec);
  return spec;
}

std::optional<std::vector<std::string>> split_expressions(const TokenizerSpec& spec) {
  using Kind = TokenizerSpec::PreTokenizer::Kind;
  std::vector<std::string> out;
  for (const auto& step : spec.pre_tokenizers) {
    if (step.add_prefix_space) return std::nullopt;
    switch (step.kind) {
      case Kind::byte_level:
        break;
      case Kind::gpt2_split:
        out.emplace_back(kGpt2Split);
        break;
      case Kind::llama3_split:
        out.emplace_back(kLlama3Split);
        break;
      case Kind::qwen2_split:
        out.emplace_back(kQwen2Split);
        break;
      case Kind::regex:
        if (step.invert || step.behavior != TokenizerSpec::PreTokenizer::Behavior::isolated) return std::nullopt;
        out.push_back(step.pattern);
        break;
      default:
        return std::nullopt;
    }
  }
  return out;
}

namespace {

Json byte_level_step(bool splits) {
  return Json::object(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", splits}});
}

/// ByteLevel splits as GPT-2 does; every other expression is a step of its own before it.
Json pre_tokenizer_of(const std::vector<std::string>& expressions) {
  if (expressions.empty() || (expressions.size() == 1 && expressions[0] == kGpt2Split)) return byte_level_step(true);
  Json steps = Json::array();
  for (const std::string& expression : expressions) {
    steps.push_back(Json::object({{"type", "Split"},
                                  {"pattern", Json::object({{"Regex", expression}})},
                                  {"behavior", "Isolated"},
                                  {"invert", false}}));
  }
  steps.push_back(byte_level_step(false));
  return Json::object({{"type", "Sequence"}, {"pretokenizers", steps}});
}

}  // namespace

Status write_byte_level_tokenizer(const std::string& directory, const TokenizerSpec& spec) {
  const auto expressions = split_expressions(spec);
  if (!expressions) {
    return Error{ErrorCode::unsupported, "this tokenizer's pre_tokenizer is not written as tokenizer.json"};
  }
  Json added = Json::array();
  Json special = Json::object();
  const auto name = [&](std::int32_t id) { return spec.vocab[static_cast<std::size_t>(id)]; };
  for (const TokenizerSpec::AddedToken& token : spec.added_tokens) {
    added.push_back(Json::object({{"id", token.id},
                                  {"content", token.content},
                                  {"single_word", token.single_word},
                                  {"lstrip", token.lstrip},
                                  {"rstrip", token.rstrip},
                                  {"normalized", token.normalized},
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

  const Json root = Json::object(
      {{"version", "1.0"},
       {"truncation", nullptr},
       {"padding", nullptr},
       {"added_tokens", added},
       {"normalizer", nullptr},
       {"pre_tokenizer", pre_tokenizer_of(*expressions)},
       {"post_processor",
        Json::object(
            {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}})},
       {"decoder", byte_level_step(true)},
       {"model", Json::object({{"type", "BPE"},
                               {"dropout", nullptr},
                               {"unk_token", nullptr},
                               {"continuing_subword_prefix", nullptr},
                               {"end_of_word_suffix", nullptr},
                               {"fuse_unk", false},
                               {"byte_fallback", false},
                               {"ignore_merges", spec.ignore_merges},
                               {"vocab", vocab},
                               {"merges", merges}})}});
  Json config = Json::object({{"tokenizer_class", "PreTrainedTokenizerFast"}, {"clean_up_tokenization_spaces", false}});
  if (spec.bos_id >= 0) config.set("bos_token", name(spec.bos_id));
  if (spec.eos_id >= 0) config.set("eos_token", name(spec.eos_id));
  COVEY_TRY(write_file_durably(directory + "/tokenizer.json", std::string_view(root.dump() + "\n")));
  return config.save(directory + "/tokenizer_config.json");
}

}  // namespace covey::formats
