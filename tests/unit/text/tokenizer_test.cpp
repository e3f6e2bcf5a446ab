#include "core/text/tokenizer.h"

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/formats/llama2c.h"
#include "core/text/llama2c_tokenizer.h"
#include "core/text/pipeline.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using formats::Json;

namespace {

using Ids = std::vector<std::int32_t>;

struct Golden {
  std::string text;
  Ids ids;
};

/// Blocks between "__ggml_vocab_test__" lines, and one line of ids for each.
std::vector<Golden> ggml_cases(const std::string& in_path, const std::string& out_path) {
  const std::string in = read_text_file(in_path).value();
  std::istringstream out(read_text_file(out_path).value());
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<Golden> cases;
  for (std::size_t at = 0; at < in.size();) {
    const std::size_t end = in.find(separator, at);
    if (end == std::string::npos) break;
    Golden golden{in.substr(at, end - at), {}};
    std::string line;
    std::getline(out, line);
    std::istringstream numbers(line);
    for (std::int32_t id = 0; numbers >> id;) golden.ids.push_back(id);
    cases.push_back(std::move(golden));
    at = end + separator.size();
  }
  REQUIRE(cases.size() > 30);
  return cases;
}

void check_cases(const text::Tokenizer& tokenizer, const std::vector<Golden>& cases) {
  for (const Golden& golden : cases) {
    CAPTURE(golden.text);
    CHECK(tokenizer.encode(golden.text, false) == golden.ids);
    CHECK(tokenizer.decode(golden.ids).value() == golden.text);
  }
}

/// What Hugging Face's converter makes of Llama 2's SentencePiece model.
formats::TokenizerSpec llama2_spec(const std::vector<formats::ScoredPiece>& pieces) {
  const std::string mark = "\xE2\x96\x81";
  formats::TokenizerSpec spec;
  std::unordered_map<std::string, std::int32_t> index;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    std::string token;
    for (const char c : pieces[id].bytes) token += c == ' ' ? mark : std::string(1, c);
    if (id == 1) token = "<s>";
    if (id == 2) token = "</s>";
    index.emplace(token, static_cast<std::int32_t>(id));
    spec.vocab.push_back(token);
  }
  for (std::size_t id = 0; id < spec.vocab.size(); ++id) {
    for (std::size_t cut = 1; cut < spec.vocab[id].size(); ++cut) {
      const auto left = index.find(spec.vocab[id].substr(0, cut));
      const auto right = index.find(spec.vocab[id].substr(cut));
      if (left == index.end() || right == index.end()) continue;
      spec.merges.push_back({left->second, right->second, static_cast<std::int32_t>(id)});
    }
  }
  std::ranges::stable_sort(spec.merges, [&](const auto& a, const auto& b) {
    return pieces[static_cast<std::size_t>(a.result)].score > pieces[static_cast<std::size_t>(b.result)].score;
  });
  spec.byte_fallback = spec.fuse_unk = true;
  spec.unk_token = "<unk>";
  spec.normalizers = {{.kind = formats::TokenizerSpec::Normalizer::Kind::prepend, .content = mark},
                      {.kind = formats::TokenizerSpec::Normalizer::Kind::replace, .pattern = " ", .content = mark}};
  spec.decode_space = mark;
  spec.decode_strip_space = true;
  for (const std::int32_t id : {1, 2}) {
    formats::TokenizerSpec::AddedToken token;
    token.id = id;
    token.content = spec.vocab[static_cast<std::size_t>(id)];
    token.special = true;
    spec.added_tokens.push_back(token);
  }
  spec.prefix_ids = {1};
  spec.bos_id = 1;
  spec.eos_id = 2;
  return spec;
}

}  // namespace

TEST_CASE("GPT-2's tokenizer.json gives llama.cpp's golden ids") {
  const auto path = test::data_path("tok-gpt2/tokenizer.json");
  const auto in = test::data_path("ggml-vocab/ggml-vocab-gpt-2.gguf.inp");
  const auto out = test::data_path("ggml-vocab/ggml-vocab-gpt-2.gguf.out");
  if (!path || !in || !out) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  CHECK((*tokenizer)->vocab_size() == 50257);
  CHECK((*tokenizer)->eos_id() == 50256);
  check_cases(**tokenizer, ggml_cases(*in, *out));
  CHECK((*tokenizer)->encode("a<|endoftext|>b", false) == Ids{64, 50256, 65});
  CHECK((*tokenizer)->decode(Ids{64, 50256, 65}).value() == "ab");
  CHECK((*tokenizer)->decode(Ids{64, 50256, 65}, false).value() == "a<|endoftext|>b");
  CHECK((*tokenizer)->decode(Ids{64, 50257}).error().message.find("position 1") != std::string::npos);
  const std::string broken = "a\xFF\xE4\xB8 b\xF0\x9F";
  CHECK((*tokenizer)->decode((*tokenizer)->encode(broken, false)).value() == broken);
}

TEST_CASE("GPT-2's tokenizer.json gives Hugging Face's golden ids") {
  const auto path = test::data_path("tok-gpt2/tokenizer.json");
  const auto golden = test::data_path("tok-golden-hf/gpt2_encoded_tokens.json");
  const auto suite = test::data_path("tok-golden-hf/tokenizer_tests.json");
  if (!path || !golden || !suite) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  const auto json = Json::load(*golden);
  REQUIRE_OK(json);
  const auto wanted = json->get_ints("token_ids").value();
  const auto ids = (*tokenizer)->encode(json->get_string("text").value(), false);
  CHECK(std::vector<std::int64_t>(ids.begin(), ids.end()) == wanted);
  const auto cases = Json::load(*suite);
  REQUIRE_OK(cases);
  for (const Json& c : cases->get_array("distilgpt2").value()->items()) {
    const std::string input = c.get_string("input").value();
    CAPTURE(input);
    const auto expected = c.get_object("encoded").value()->get_ints("input_ids").value();
    const auto got = (*tokenizer)->encode(input, false);
    CHECK(std::vector<std::int64_t>(got.begin(), got.end()) == expected);
    CHECK((*tokenizer)->decode(got, false).value() == input);
  }
}

TEST_CASE("the GPT-NeoX tokenizer.json takes added tokens and keeps text") {
  const auto path = test::data_path("tok-gptneox/20B_tokenizer.json");
  if (!path) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  const std::string sample = "def f(x):\n        return x  # caf\xC3\xA9\n";
  const auto ids = (*tokenizer)->encode(sample, false);
  CHECK((*tokenizer)->decode(ids).value() == sample);
  CHECK(std::ranges::any_of(ids, [](auto id) { return id >= 50254; }));
}

TEST_CASE("Llama 2's vocabulary gives the golden ids as tokenizer.bin and as byte-fallback BPE") {
  const auto path = test::data_path("tok-llama2-spm/tokenizer.bin");
  const auto in = test::data_path("ggml-vocab/ggml-vocab-llama-spm.gguf.inp");
  const auto out = test::data_path("ggml-vocab/ggml-vocab-llama-spm.gguf.out");
  if (!path || !in || !out) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  const auto cases = ggml_cases(*in, *out);
  check_cases(**tokenizer, cases);
  const auto pieces = formats::read_llama2c_tokenizer(*path);
  REQUIRE_OK(pieces);
  const auto as_json = *text::make_tokenizer(llama2_spec(*pieces));
  check_cases(*as_json, cases);
  const std::string broken = "a\xFF\xE4\xB8 b\xF0\x9F";
  CHECK((*tokenizer)->decode((*tokenizer)->encode(broken, true)).value() == broken);
  CHECK(as_json->decode(as_json->encode(broken, true)).value() == broken);
  const auto golden = test::data_path("tok-golden-hf/llama_encoded.json");
  if (!golden) return;
  const auto json = Json::load(*golden);
  REQUIRE_OK(json);
  const auto wanted = json->get_ints("token_ids").value();
  for (const auto& t : {*tokenizer, as_json}) {
    const auto ids = t->encode(json->get_string("text").value(), true);
    CHECK(std::vector<std::int64_t>(ids.begin(), ids.end()) == wanted);
  }
}

TEST_CASE("stories260K's tokenizer keeps tinyshakespeare and the expected story") {
  const auto path = test::data_path("stories260K/tok512.bin");
  const auto play = test::data_path("tinyshakespeare/input.txt");
  const auto story = test::data_path("stories260K/expected_greedy_200.txt");
  if (!path || !play || !story) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  CHECK((*tokenizer)->bos_id() == 1);
  CHECK((*tokenizer)->encode("Once upon a time", true) == Ids{1, 403, 407, 261, 378});
  CHECK((*tokenizer)->encode("", true) == Ids{1});
  for (const auto& file : {*play, *story}) {
    const std::string text = read_text_file(file).value();
    const auto ids = (*tokenizer)->encode(text, true);
    CHECK((*tokenizer)->decode(ids).value() == text);
    text::StreamDecoder stream(**tokenizer);
    std::string streamed;
    for (const auto id : ids) streamed += stream.feed(id);
    CHECK(streamed + stream.finish() == text);
  }
}

TEST_CASE("the merge queue does what trying every pair does") {
  // run.c's own loop, over a small vocabulary with equal scores.
  std::vector<formats::ScoredPiece> pieces = {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  for (const auto& [bytes, score] : std::vector<std::pair<std::string, float>>{{" ", -9},
                                                                               {"a", -9},
                                                                               {"b", -9},
                                                                               {"aa", -1},
                                                                               {"ab", -1},
                                                                               {"ba", -1},
                                                                               {"aab", -2},
                                                                               {"abab", -0.5f},
                                                                               {" a", -3}}) {
    pieces.push_back({bytes, score});
  }
  const auto tokenizer = text::make_llama2c_tokenizer(pieces);
  const auto reference = [&](const std::string& text) {
    std::vector<std::string> symbols = {" "};
    for (const char c : text) symbols.emplace_back(1, c);
    while (true) {
      float best = -1e10f;
      std::size_t at = symbols.size();
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        for (const auto& piece : pieces) {
          if (piece.bytes == symbols[i] + symbols[i + 1] && piece.score > best) {
            best = piece.score;
            at = i;
          }
        }
      }
      if (at == symbols.size()) return symbols;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
  };
  for (int bits = 0; bits < 1 << 10; ++bits) {
    std::string text;
    for (int i = 0; i < 10; ++i) text += (bits >> i & 1) != 0 ? 'a' : 'b';
    std::vector<std::string> got;
    for (const auto id : tokenizer->encode(text, false)) got.push_back(pieces[static_cast<std::size_t>(id)].bytes);
    CHECK(got == reference(text));
  }
  CHECK(tokenizer->encode("z", false) == Ids{3, 0});  // no byte tokens: unknown
}

TEST_CASE("a stream gives whole characters only") {
  const auto path = test::data_path("tok-gpt2/tokenizer.json");
  if (!path) return;
  const auto tokenizer = text::load_tokenizer(*path);
  REQUIRE_OK(tokenizer);
  text::StreamDecoder stream(**tokenizer);
  std::string text;
  for (const auto id : (*tokenizer)->encode("\xF0\x9F\xA6\x99 \xE4\xB8\xAD", false)) {
    const std::string part = stream.feed(id);
    CHECK(Json::parse(Json(part).dump())->as_string().value() == part);  // valid UTF-8
    text += part;
  }
  CHECK(text == "\xF0\x9F\xA6\x99 \xE4\xB8\xAD");
  CHECK(stream.feed(-5).empty());
}

namespace {
std::string tokenizer_json(const std::string& model, const std::string& rest = "") {
  return R"({"version": "1.0", "added_tokens": [{"id": 4, "content": "<s>", "special": true}], "model": )" + model +
         rest + "}";
}
const char* const kModel = R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": [["a", "b"]]})";
}  // namespace

TEST_CASE("a Llama 3 shaped tokenizer.json is read") {
  const std::string rest =
      R"(, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex":
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
      "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
      "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}}]}, "decoder": {"type": "ByteLevel"})";
  const auto spec = formats::parse_tokenizer_json(tokenizer_json(kModel, rest), "t");
  REQUIRE_OK(spec);
  const auto tokenizer = *text::make_tokenizer(*spec);
  CHECK(tokenizer->encode("abcab", true) == Ids{4, 2, 3, 2});
  CHECK(tokenizer->encode("ab<s>c", false) == Ids{2, 4, 3});
  CHECK(tokenizer->bos_id() == 4);
  CHECK(tokenizer->is_special(4));
}

TEST_CASE("tokenizer.json files that are broken or that we do not compute are refused by name") {
  REQUIRE_OK(formats::parse_tokenizer_json(tokenizer_json(kModel), "t"));
  const std::string bpe = R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2})";
  const std::pair<std::string, const char*> cases[] = {
      {"", "not valid JSON"},
      {"[]", "expected an object"},
      {"{}", "model"},
      {tokenizer_json(R"({"type": "WordPiece", "vocab": {"a": 0}})"), "unk_token"},
      {tokenizer_json(R"({"type": "Unigram", "vocab": [["a"]]})"), "vocab[0]"},
      {tokenizer_json(R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})"), "unk_id"},
      {tokenizer_json(R"({"type": "WordLevel", "vocab": {"a": 0}})"), "WordLevel"},
      {tokenizer_json(R"({"vocab": {"a": 0}})"), "model"},
      {tokenizer_json(bpe + "}"), "merges: is missing"},
      {tokenizer_json(R"({"type": "BPE", "vocab": {}, "merges": []})"), "no tokens"},
      {tokenizer_json(R"({"type": "BPE", "vocab": [], "merges": []})"), "expected an object"},
      {tokenizer_json(R"({"type": "BPE", "vocab": {"a": -1}, "merges": []})"), "between"},
      {tokenizer_json(R"({"type": "BPE", "vocab": {"a": 4000000000}, "merges": []})"), "between"},
      {tokenizer_json(R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})"), "another token"},
      {tokenizer_json(R"({"type": "BPE", "vocab": {"a": 4}, "merges": []})"), "another token"},
      {tokenizer_json(bpe + R"(, "merges": ["a b c"]})"), "merges[0]"},
      {tokenizer_json(bpe + R"(, "merges": ["ab"]})"), "merges[0]"},
      {tokenizer_json(bpe + R"(, "merges": [["a"]]})"), "merges[0]"},
      {tokenizer_json(bpe + R"(, "merges": [3]})"), "merges[0]"},
      {tokenizer_json(bpe + R"(, "merges": [["a", "b"], ["b", "a"]]})"), "merges[1]"},
      {tokenizer_json(bpe + R"(, "merges": [], "dropout": 0.1})"), "dropout"},
      {tokenizer_json(bpe + R"(, "merges": [], "end_of_word_suffix": "</w>"})"), "end_of_word_suffix"},
      {tokenizer_json(bpe + R"(, "merges": [], "unk_token": "?"})"), "unk_token"},
      {tokenizer_json(kModel, R"(, "normalizer": {"type": "ByteLevel"})"), "ByteLevel"},
      {tokenizer_json(kModel,
                      R"x(, "normalizer": {"type": "Replace", "pattern": {"Regex": "(?<=x)"}, "content": ""})x"),
       "this kind of group"},
      {tokenizer_json(kModel, R"(, "normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": ""})"),
       "pattern"},
      {tokenizer_json(kModel, R"(, "normalizer": 5)"), "normalizer"},
      {tokenizer_json(kModel, R"(, "pre_tokenizer": {"type": "UnicodeScripts"})"), "UnicodeScripts"},
      {tokenizer_json(
           kModel, R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"})"),
       "expression"},
      {tokenizer_json(kModel, R"(, "pre_tokenizer": {"type": "Sequence"})"), "pretokenizers: is missing"},
      {tokenizer_json(kModel, R"(, "post_processor": {"type": "BertProcessing"})"), "cls"},
      {tokenizer_json(kModel,
                      R"(, "post_processor": {"type": "TemplateProcessing", "single": [], "special_tokens": {}})"),
       "does not hold the text"},
      {tokenizer_json(kModel,
                      R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}],
                                 "special_tokens": {"x": {"ids": [99]}}})"),
       "outside the vocabulary"},
      {tokenizer_json(kModel, R"(, "decoder": {"type": "BPEDecoder"})"), "BPEDecoder"},
      {R"({"added_tokens": [{"id": 0, "content": ""}], "model": {}})", "content"},
  };
  for (const auto& [json, expected] : cases) {
    CAPTURE(json);
    const test::TempDir dir;
    REQUIRE_OK(write_file_durably(dir.file("tokenizer.json"), std::string_view(json)));
    const auto result = text::load_tokenizer(dir.path());
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.find(expected) != std::string::npos);
    CHECK(result.error().message.starts_with(dir.file("tokenizer.json")));
    CHECK(result.error().message.find('\n') == std::string::npos);
    CHECK(exit_code(result.error()) == 2);
  }
}

TEST_CASE("a path that is no tokenizer is refused with one line") {
  const test::TempDir dir;
  for (const char* name : {"none.json", "none.bin", "none", ""}) {
    const auto result = text::load_tokenizer(dir.file(name));
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().code == ErrorCode::not_found);
  }
  REQUIRE_OK(write_file_durably(dir.file("tokenizer.model"), std::string_view("x")));
  CHECK(text::load_tokenizer(dir.path()).error().code == ErrorCode::corrupt_data);
  REQUIRE_OK(write_file_durably(dir.file("tokenizer.json"), std::string_view(tokenizer_json(kModel))));
  REQUIRE_OK(text::load_tokenizer(dir.path()));
  REQUIRE_OK(write_file_durably(dir.file("tokenizer_config.json"),
                                std::string_view(R"({"bos_token": {"content": "<s>"}, "eos_token": "c"})")));
  CHECK((*text::load_tokenizer(dir.path()))->eos_id() == 3);
  REQUIRE_OK(write_file_durably(dir.file("tokenizer_config.json"), std::string_view(R"({"bos_token": "<t>"})")));
  CHECK(text::load_tokenizer(dir.path()).error().message.find("bos_token") != std::string::npos);
}
