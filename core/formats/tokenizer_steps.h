/// The parts of tokenizer.json that change a text before the model sees it: normalizer and pre_tokenizer. Inside
/// formats only: the library's JSON is not for others.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/formats/json.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::formats {

/// An `unsupported` error about a member of a JSON object.
Error refuse_part(const Json& at, std::string_view key, const std::string& what);
Error unknown_part(const Json& at, const std::string& part, const std::string& type);

/// The part itself, or the parts of a Sequence under `list_key`; nothing where the member is null or missing.
Result<std::vector<const Json*>> parts_of(const Json& tokenizer, std::string_view key, std::string_view list_key);
/// {"String": "x"} or {"Regex": "x"}.
Result<std::string> pattern_of(const Json& part, const char* kind);

[[nodiscard]] Status read_normalizers(const Json& root, TokenizerSpec& spec);
[[nodiscard]] Status read_metaspace(const Json& part, TokenizerSpec::PreTokenizer& step);
[[nodiscard]] Status read_pre_tokenizers(const Json& root, TokenizerSpec& spec);

}  // namespace covey::formats
