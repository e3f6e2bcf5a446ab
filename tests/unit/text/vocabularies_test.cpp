// Ids of whole vocabularies as other programs give them: llama.cpp's pairs of texts and ids, Hugging Face's golden
// encodings; and that files of different kinds that hold one vocabulary agree.
#include <sstream>

#include "core/base/file.h"
#include "core/formats/gguf.h"
#include "core/formats/gguf_vocabulary.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/json.h"
#include "core/text/tokenizer.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using formats::Json;

namespace {

using Ids = std::vector<std::int32_t>;

std::shared_ptr<const text::Tokenizer> load(const std::string& path) {
  auto tokenizer = text::load_tokenizer(path);
  REQUIRE_OK(tokenizer);
  return *tokenizer;
}

/// llama.cpp's .inp: texts with a separator line between them; .out: a line of ids for each.
struct Pair {
  std::string text;
  Ids ids;
};
std::vector<Pair> ggml_pairs(const std::string& base) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const auto texts = read_text_file(base + ".inp");
  const auto answers = read_text_file(base + ".out");
  REQUIRE_OK(texts);
  REQUIRE_OK(answers);
  std::vector<Pair> out;
  std::istringstream lines(*answers);
  std::string line;
  for (std::size_t at = 0; std::getline(lines, line);) {
    const std::size_t end = texts->find(separator, at);
    REQUIRE(end != std::string::npos);
    std::istringstream numbers(line);
    Pair pair{texts->substr(at, end - at), {}};
    for (std::int32_t id = 0; numbers >> id;) pair.ids.push_back(id);
    out.push_back(std::move(pair));
    at = end + separator.size();
  }
  return out;
}

void check_pairs(const text::Tokenizer& tokenizer, const std::string& base, std::size_t expected) {
  const auto pairs = ggml_pairs(base);
  REQUIRE(pairs.size() == expected);
  for (const Pair& pair : pairs) {
    CAPTURE(pair.text);
    CHECK(tokenizer.encode(pair.text, false) == pair.ids);
  }
}

Ids ids_of(const Json& object, std::string_view key) {
  const auto numbers = object.get_ints(key);
  REQUIRE_OK(numbers);
  Ids ids;
  for (const std::int64_t number : *numbers) ids.push_back(static_cast<std::int32_t>(number));
  return ids;
}

/// What transformers does to a decoded text where its configuration says clean_up_tokenization_spaces.
std::string cleaned(std::string text) {
  for (const auto& [loose, tight] : std::initializer_list<std::pair<std::string, std::string>>{{" .", "."},
                                                                                               {" ?", "?"},
                                                                                               {" !", "!"},
                                                                                               {" ,", ","},
                                                                                               {" ' ", "'"},
                                                                                               {" n't", "n't"},
                                                                                               {" 'm", "'m"},
                                                                                               {" 's", "'s"},
                                                                                               {" 've", "'ve"},
                                                                                               {" 're", "'re"}}) {
    for (std::size_t at = text.find(loose); at != std::string::npos; at = text.find(loose, at + tight.size())) {
      text.replace(at, loose.size(), tight);
    }
  }
  return text;
}

}  // namespace

TEST_CASE("vocabularies in GGUF give llama.cpp's ids for each of its texts") {
  for (const char* name : {"gpt-2", "llama-spm", "phi-3", "bert-bge"}) {
    CAPTURE(name);
    const auto path = test::data_path(std::string("ggml-vocab/ggml-vocab-") + name + ".gguf");
    if (!path) return;
    check_pairs(*load(*path), *path, 46);
  }
}

TEST_CASE("vocab.json with merges.txt is GPT-2's tokenizer.json in another form") {
  const auto json_path = test::data_path("tok-gpt2/tokenizer.json");
  if (!json_path) return;
  const auto json = Json::load(*json_path);
  REQUIRE_OK(json);
  const Json* model = json->find("model");
  const test::TempDir dir;
  REQUIRE_OK(model->find("vocab")->save(dir.file("vocab.json")));
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : model->find("merges")->items()) merges += merge.as_string().value() + "\r\n";
  REQUIRE_OK(write_file_durably(dir.file("merges.txt"), std::string_view(merges)));
  const auto tokenizer = load(dir.path());
  const std::string text = "Hello, y'all! <|endoftext|> \xF0\x9F\x98\x81 12345\n\n  x";
  CHECK(tokenizer->encode(text, false) == load(*json_path)->encode(text, false));
  CHECK(tokenizer->eos_id() == 50256);
}

TEST_CASE("vocabularies decode what they encoded, bytes that are no UTF-8 too") {
  const std::string broken("plain \xFF\xFE text \xE2\x82 cut \xC0\x80 overlong \xED\xA0\x80 surrogate \0 nul", 52);
  for (const char* name :
       {"ggml-vocab/ggml-vocab-gpt-2.gguf", "ggml-vocab/ggml-vocab-llama-spm.gguf", "tok-qwen/qwen.tiktoken",
        "tok-llama2-spm/tokenizer.model", "tok-gpt2/tokenizer.json", "tok-llama2-spm/tokenizer.bin"}) {
    const std::string file = name;
    CAPTURE(file);
    const auto path = test::data_path(file);
    if (!path) return;
    const auto tokenizer = load(*path);
    for (const std::string& text :
         {broken, std::string("caf\xC3\xA9 \xE4\xB8\xAD 1234   x\n"), std::string(5000, ' ')}) {
      CHECK(tokenizer->decode(tokenizer->encode(text, false)).value() == text);
    }
  }
}

TEST_CASE("a byte that a vocabulary lacks is dropped where it has no unknown token") {
  const auto path = test::data_path("tok-gptneox/20B_tokenizer.json");
  if (!path) return;
  const auto tokenizer = load(*path);
  CHECK(tokenizer->decode(tokenizer->encode("a\xFF z \xE2\x82", false)).value() == "a z \xE2\x82");
}

TEST_CASE("tiktoken's ranks of Qwen give llama.cpp's ids for Qwen 2") {
  const auto ranks = test::data_path("tok-qwen/qwen.tiktoken");
  const auto pairs = test::data_path("ggml-vocab/ggml-vocab-qwen2.gguf.inp");
  if (!ranks || !pairs) return;
  check_pairs(*load(*ranks), pairs->substr(0, pairs->size() - 4), 46);
}

TEST_CASE("a SentencePiece model gives llama.cpp's ids for the same vocabulary") {
  const auto model = test::data_path("tok-llama2-spm/tokenizer.model");
  const auto pairs = test::data_path("ggml-vocab/ggml-vocab-llama-spm.gguf");
  if (!model || !pairs) return;
  check_pairs(*load(*model), *pairs, 46);
}

TEST_CASE("GPT-2's tokenizer.json gives llama.cpp's ids") {
  const auto json = test::data_path("tok-gpt2/tokenizer.json");
  const auto pairs = test::data_path("ggml-vocab/ggml-vocab-gpt-2.gguf");
  if (!json || !pairs) return;
  check_pairs(*load(*json), *pairs, 46);
}

TEST_CASE("long texts have Hugging Face's golden ids, and decode to the text") {
  struct Case {
    const char* vocabulary;
    const char* golden;
    bool special;
    bool inverts;
  };
  for (const Case& c : {Case{"tok-gpt2/tokenizer.json", "gpt2_encoded_tokens.json", false, true},
                        Case{"tok-llama2-spm/tokenizer.model", "llama_encoded.json", true, true},
                        Case{"tok-golden-hf/bert-vocab.txt", "bert_uncased_encoded.json", true, false}}) {
    CAPTURE(c.vocabulary);
    const auto vocabulary = test::data_path(c.vocabulary);
    const auto golden = test::data_path(std::string("tok-golden-hf/") + c.golden);
    if (!vocabulary || !golden) return;
    const auto json = Json::load(*golden);
    REQUIRE_OK(json);
    const std::string text = json->get_string("text").value();
    const auto tokenizer = load(*vocabulary);
    const Ids ids = tokenizer->encode(text, c.special);
    CHECK(ids == ids_of(*json, "token_ids"));
    if (c.inverts) CHECK(tokenizer->decode(ids).value() == text);
  }
}

TEST_CASE("Hugging Face's golden sentences: ids with the frame, and the decoded texts") {
  const auto golden = test::data_path("tok-golden-hf/tokenizer_tests.json");
  const auto bert = test::data_path("tok-golden-hf/bert-vocab.txt");
  const auto gpt2 = test::data_path("tok-gpt2/tokenizer.json");
  const auto llama = test::data_path("tok-llama2-spm/tokenizer.model");
  if (!golden || !bert || !gpt2 || !llama) return;
  const auto json = Json::load(*golden);
  REQUIRE_OK(json);
  const std::pair<const char*, std::string> models[] = {{"bert-base-uncased", *bert},
                                                        {"google-bert/bert-base-uncased", *bert},
                                                        {"distilgpt2", *gpt2},
                                                        {"coreml-projects/Llama-2-7b-chat-coreml", *llama}};
  for (const auto& [name, path] : models) {
    CAPTURE(name);
    const auto tokenizer = load(path);
    const Json* cases = json->find(name);
    REQUIRE(cases != nullptr);
    REQUIRE(cases->size() == 18);
    for (const Json& item : cases->items()) {
      const std::string text = item.get_string("input").value();
      CAPTURE(text);
      const Ids ids = ids_of(*item.find("encoded"), "input_ids");
      CHECK(tokenizer->encode(text, true) == ids);
      const std::string decoded = tokenizer->decode(ids).value();
      const bool clean = path != *llama;
      CHECK((clean ? cleaned(decoded) : decoded) == item.get_string("decoded_without_special").value());
    }
  }
}

TEST_CASE("a GGUF vocabulary of any known pre-tokenizer becomes a tokenizer.json that cuts texts the same way") {
  const auto path = test::data_path("ggml-vocab/ggml-vocab-gpt-2.gguf");
  if (!path) return;
  const auto file = formats::GgufFile::open(*path);
  REQUIRE_OK(file);
  const std::string sample =
      "Hello WORLD's 12345 x7, caf\xC3\xA9!!  \n\n\tdon't  I'LL  /a/b\r\n \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E 3.14 "
      "$`|";
  std::vector<std::vector<std::int32_t>> all;
  for (const char* pre : {"gpt-2", "llama-bpe", "qwen2", "gpt-4o", "tekken", "starcoder", "falcon", "deepseek-coder",
                          "bloom", "viking", "dbrx", "stablelm2"}) {
    CAPTURE(std::string(pre));
    const test::TempDir dir;
    formats::GgufWriter writer;
    writer.set("tokenizer.ggml.pre", pre);  // the first stands
    writer.set("tokenizer.chat_template", "{{ bos_token }}");
    for (const auto& entry : file->entries()) {
      if (entry.key != "tokenizer.ggml.pre" && entry.key != "general.alignment") writer.copy(entry);
    }
    REQUIRE_OK(writer.write(dir.file("v.gguf")));
    const auto own = text::load_tokenizer(dir.file("v.gguf"));
    REQUIRE_OK(own);
    const auto gguf = formats::GgufFile::open(dir.file("v.gguf"));
    REQUIRE_OK(gguf);
    REQUIRE_OK(formats::write_hf_tokenizer(*gguf, dir.path()));
    const auto written = text::load_tokenizer(dir.file("tokenizer.json"));
    REQUIRE_OK(written);
    const auto ids = (*own)->encode(sample, true);
    CHECK((*written)->encode(sample, true) == ids);
    CHECK((*written)->decode((*written)->encode(sample, false), false).value() == sample);
    CHECK(read_text_file(dir.file("tokenizer_config.json")).value().find("{{ bos_token }}") != std::string::npos);
    all.push_back(ids);

    // And back: the name is found by the expressions.
    const auto spec = formats::read_tokenizer_json(dir.file("tokenizer.json"));
    REQUIRE_OK(spec);
    formats::GgufWriter again;
    std::vector<std::string> not_held;
    REQUIRE_OK(formats::write_vocabulary(*spec, 50257, again, not_held));
    REQUIRE_OK(again.write(dir.file("again.gguf")));
    const auto back = text::load_tokenizer(dir.file("again.gguf"));
    REQUIRE_OK(back);
    CHECK((*back)->encode(sample, false) == (*own)->encode(sample, false));
  }
  CHECK(all[0] != all[1]);  // or the names would mean nothing
  CHECK(all[1] != all[2]);
}
