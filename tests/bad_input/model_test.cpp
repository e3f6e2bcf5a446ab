// Models: hostile and damaged config.json, safetensors, llama2.c files and tokenizers.
#include <filesystem>

#include "bad_input/expect.h"
#include "bad_input/fixture.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

/// `eval` on a copy of the good model with this config.json: `info` would say what is not supported and succeed.
void refuse_config(const std::string& name, const std::string& config, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string folder = "config" + std::to_string(number++);
  write(fixture().model(folder) + "/config.json", config);
  expect_refusal({name, "covey-model eval {}/" + folder + " --data {}/data.jsonl --threads 1", std::move(fragments)},
                 fixture().path());
}

void refuse_changed_config(const std::string& name, std::string_view from, std::string_view to,
                           std::vector<std::string> fragments) {
  refuse_config(name, replaced(slurp(fixture().file("model/config.json")), from, to), std::move(fragments));
}

/// `info` on a copy of the good model with these bytes as model.safetensors.
void refuse_tensors(const std::string& name, const std::string& bytes, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string folder = "tensors" + std::to_string(number++);
  write(fixture().model(folder) + "/model.safetensors", bytes);
  fragments.push_back(folder + "/model.safetensors:");
  expect_refusal({name, "covey-model info {}/" + folder, std::move(fragments)}, fixture().path());
}

void refuse_llama2c(const std::string& name, const std::string& bytes, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string file = "m" + std::to_string(number++) + ".bin";
  write(fixture().file(file), bytes);
  fragments.push_back(file + ": ");
  expect_refusal({name, "covey-model info {}/" + file, std::move(fragments)}, fixture().path());
}

void refuse_tokenizer(const std::string& name, const std::string& file, const std::string& bytes,
                      std::vector<std::string> fragments) {
  static int number = 0;
  const std::string folder = "tok" + std::to_string(number++);
  write(fixture().file(folder + "/" + file), bytes);
  fragments.push_back(folder + "/" + file);
  expect_refusal({name, "covey-model tokenize {}/" + folder + " --file {}/data.txt", std::move(fragments)},
                 fixture().path());
}

}  // namespace

TEST_CASE("the good models and tokenizers are taken, so what the cases refuse is their damage") {
  expect_success("covey-model info {}/model", fixture().path());
  expect_success("covey-model eval {}/model --data {}/data.jsonl --threads 1", fixture().path());
  expect_success("covey-model info {}/c/m.bin", fixture().path());
  expect_success("covey-model tokenize {}/c/m.bin --file {}/data.txt", fixture().path());
}

TEST_CASE("paths that hold no model") {
  std::filesystem::create_directories(fixture().file("empty"));
  std::filesystem::create_directories(fixture().file("dir.bin"));
  const std::string pickle = fixture().model("pickle");
  std::filesystem::rename(pickle + "/model.safetensors", pickle + "/pytorch_model.bin");
  const std::string bare = fixture().model("bare");
  std::filesystem::remove(bare + "/model.safetensors");
  const std::string folders = fixture().model("folders");
  std::filesystem::remove(folders + "/model.safetensors");
  std::filesystem::create_directories(folders + "/model.safetensors");
  const std::string config_folder = fixture().model("configfolder");
  std::filesystem::remove(config_folder + "/config.json");
  std::filesystem::create_directories(config_folder + "/config.json");
  expect_refusals({{"no such path", "covey-model info {}/nowhere", {"nowhere"}},
                   {"no such .bin", "covey-model info {}/nowhere.bin", {"nowhere.bin"}},
                   {"a path through a file", "covey-model info {}/data.txt/model", {"data.txt/model"}},
                   {"empty folder", "covey-model info {}/empty", {"empty", "config.json"}},
                   {"folder called .bin", "covey-model info {}/dir.bin", {"dir.bin"}},
                   {"empty name", "covey-model info ''", {"model"}},
                   {"pickle alone", "covey-model info {}/pickle", {"pickle", "convert", "model.safetensors"}},
                   {"no weights", "covey-model info {}/bare", {"bare", "model.safetensors"}},
                   {"weights are a folder", "covey-model info {}/folders", {"folders/model.safetensors", "regular"}},
                   {"config is a folder", "covey-model info {}/configfolder", {"config.json", "regular"}},
                   {"a text as model", "covey-model info {}/data.txt", {"data.txt"}},
                   {"a name of 5,000 bytes", "covey-model info $(printf 'a%.0s' $(seq 300))", {"aaaa"}}},
                  fixture().path());
}

TEST_CASE("config.json that is broken, hostile, or asks for what we do not compute") {
  const std::string good = slurp(fixture().file("model/config.json"));
  refuse_config("empty file", "", {"config.json"});
  refuse_config("not JSON", "{\"model_type\": llama}", {"config.json:1:"});
  refuse_config("cut off", good.substr(0, good.size() / 2), {"config.json:"});
  refuse_config("a list", "[1, 2]", {"config.json", "object"});
  refuse_config("nested 100,000 deep", std::string(100'000, '['), {"config.json:", "deep"});
  refuse_config("not UTF-8", "{\"model_type\": \"\xff\xfe\"}", {"config.json:"});
  refuse_config("trailing text", good + "}", {"config.json:"});
  refuse_changed_config("a key twice", "\"model_type\"", "\"vocab_size\": 7, \"model_type\"",
                        {"config.json", "vocab_size"});
  refuse_changed_config("unknown family", "\"llama\"", "\"gpt9\"", {"config.json", "gpt9", "README.md"});
  refuse_changed_config("no family", "\"model_type\": \"llama\",", "", {"config.json", "model_type"});
  refuse_changed_config("huge hidden_size", "\"hidden_size\": 16", "\"hidden_size\": 1000000000000",
                        {"hidden_size", "65536"});
  refuse_changed_config("beyond 64 bits", "\"hidden_size\": 16", "\"hidden_size\": 99999999999999999999999",
                        {"hidden_size"});
  refuse_changed_config("negative layers", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": -2",
                        {"num_hidden_layers", "-2"});
  refuse_changed_config("no heads", "\"num_attention_heads\": 4", "\"num_attention_heads\": 0",
                        {"num_attention_heads", "0"});
  refuse_changed_config("text for number", "\"vocab_size\": 300", "\"vocab_size\": \"300\"", {"vocab_size"});
  refuse_changed_config("fraction for number", "\"vocab_size\": 300", "\"vocab_size\": 300.5", {"vocab_size"});
  refuse_changed_config("number for truth", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 3",
                        {"tie_word_embeddings"});
  refuse_changed_config("key and value heads", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
                        {"config.json", "kv_heads"});
  refuse_changed_config("odd head", "\"head_dim\": 4", "\"head_dim\": 5", {"head_dim", "odd"});
  refuse_changed_config("infinite epsilon", "1e-5", "1e999", {"config.json"});
  refuse_changed_config("unknown option", "\"hidden_act\"", "\"clip_qkv\": 8.0, \"hidden_act\"",
                        {"clip_qkv", "llama", "remove"});
  refuse_changed_config("activation", "\"silu\"", "\"gelu\"", {"hidden_act", "silu"});
  refuse_changed_config("scaling of positions", "\"rope_theta\": 10000.0",
                        "\"rope_scaling\": {\"rope_type\": \"ntk\", \"factor\": 4.0}", {"rope_scaling", "ntk"});
  refuse_changed_config("scaling without factor", "\"rope_theta\": 10000.0",
                        "\"rope_scaling\": {\"rope_type\": \"linear\"}", {"factor"});
  refuse_changed_config("dropout", "\"hidden_act\"", "\"attention_dropout\": 0.1, \"hidden_act\"",
                        {"attention_dropout", "set it to 0"});
  // Allowed each, terabytes together: refused by the tensors' shapes, before anything of that size is taken.
  refuse_config("the largest sizes allowed",
                replaced(replaced(replaced(good, "\"vocab_size\": 300", "\"vocab_size\": 16777216"),
                                  "\"hidden_size\": 16", "\"hidden_size\": 65536"),
                         "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1024"),
                {"embed_tokens", "[300, 16]", "[16777216, 65536]"});
}

TEST_CASE("safetensors that are cut off, lie about themselves, or hold another model") {
  const std::string good = slurp(fixture().file("model/model.safetensors"));
  const std::string entry = "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]";
  refuse_tensors("empty", "", {"too short"});
  refuse_tensors("five bytes", good.substr(0, 5), {"too short"});
  refuse_tensors("cut in the header", good.substr(0, 100), {"header", "fetch it again"});
  refuse_tensors("cut in the data", good.substr(0, good.size() / 2), {"cut off", "fetch it again"});
  refuse_tensors("bytes too many", good + "xyz", {"3 bytes", "no tensor"});
  refuse_tensors("header of 2^62 bytes", safetensors("{}", 0, std::int64_t{1} << 62), {"header", "limit"});
  refuse_tensors("header of 90 MB in 10 bytes", safetensors("{}", 0, 90'000'000), {"header", "90000000"});
  refuse_tensors("header is no JSON", safetensors("{\"a\": }", 0), {"JSON"});
  refuse_tensors("header is text", safetensors("hello", 0), {"header"});
  refuse_tensors("shape overflows",
                 safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0),
                 {"shape", "overflow"});
  refuse_tensors("negative shape", safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8),
                 {"shape", "negative"});
  refuse_tensors("offsets past the end",
                 safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[1000],\"data_offsets\":[0,4000]}}", 8), {"cut off"});
  refuse_tensors("offsets backwards",
                 safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8), {"data_offsets"});
  refuse_tensors("tensors overlap", safetensors("{\"a\":{" + entry + "},\"b\":{" + entry + "}}", 8), {"overlap"});
  refuse_tensors("span and shape differ",
                 safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8),
                 {"8 bytes", "needs 12"});
  refuse_tensors("unknown type", safetensors("{\"a\":{\"dtype\":\"F99\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
                 {"dtype", "F99"});
  refuse_tensors("no shape", safetensors("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8), {"shape"});
  refuse_tensors("nested deep", safetensors("{\"a\":" + std::string(5000, '['), 0), {"deep"});
}

TEST_CASE("safetensors that do not fit the model") {
  write(fixture().model("other") + "/model.safetensors",
        safetensors("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8));
  write(fixture().model("shape") + "/config.json",
        replaced(slurp(fixture().file("model/config.json")), "\"intermediate_size\": 32", "\"intermediate_size\": 33"));
  for (const char* name : {"leads-out", "shard-missing", "index-broken", "index-lies"}) {
    std::filesystem::rename(fixture().model(name) + "/model.safetensors", fixture().file(name) + "/a.safetensors");
  }
  const auto index = [](const std::string& name, const std::string& text) {
    write(fixture().file(name) + "/model.safetensors.index.json", text);
  };
  index("leads-out", R"({"weight_map": {"model.norm.weight": "../model/model.safetensors"}})");
  index("shard-missing", R"({"weight_map": {"model.norm.weight": "b.safetensors"}})");
  index("index-broken", R"({"weight_map": [)");
  index("index-lies", R"({"weight_map": {"lm_head.weight": "a.safetensors"}})");
  expect_refusals(
      {{"tensors of another model", "covey-model info {}/other", {"other", "embed_tokens"}},
       {"another shape", "covey-model info {}/shape", {"shape", "mlp", "33"}},
       {"index leads out of the folder", "covey-model info {}/leads-out", {"index.json", "same directory"}},
       {"shard missing", "covey-model info {}/shard-missing", {"shard-missing/b.safetensors"}},
       {"index broken", "covey-model info {}/index-broken", {"model.safetensors.index.json"}},
       {"index names what is not there", "covey-model info {}/index-lies", {"index.json", "lm_head.weight"}}},
      fixture().path());
}

TEST_CASE("llama2.c files that are cut off or lie about their sizes") {
  const std::string good = slurp(fixture().file("c/m.bin"));
  refuse_llama2c("empty", "", {"too short"});
  refuse_llama2c("half a header", good.substr(0, 13), {"too short"});
  refuse_llama2c("cut in the weights", good.substr(0, good.size() - 4), {"bytes", "header asks for"});
  refuse_llama2c("bytes too many", good + "abcd", {"bytes", "header asks for"});
  refuse_llama2c("huge sizes", llama2c(65536, 1 << 20, 1024, 1, 1, 1 << 24, 1 << 24, 64), {"bytes", "header asks for"});
  refuse_llama2c("dim beyond all reason", llama2c(0x7fffffff, 32, 2, 4, 2, 300, 8, 64), {"dim", "2147483647"});
  refuse_llama2c("negative layers", llama2c(16, 32, -2, 4, 2, 300, 8, 64), {"n_layers", "-2"});
  refuse_llama2c("smallest vocabulary there is", llama2c(16, 32, 2, 4, 2, INT32_MIN, 8, 64), {"vocab_size"});
  refuse_llama2c("no heads", llama2c(16, 32, 2, 0, 0, 300, 8, 64), {"n_heads", "0"});
  refuse_llama2c("heads do not divide", llama2c(16, 32, 2, 3, 3, 300, 8, 64), {"n_heads"});
  refuse_llama2c("more key heads than heads", llama2c(16, 32, 2, 4, 8, 300, 8, 64), {"n_kv_heads", "8"});
  refuse_llama2c("text", "Once upon a time there was no model at all.", {"is not a llama2.c model"});
}

TEST_CASE("tokenizers that are broken or of a kind we do not have") {
  const std::string good = slurp(fixture().file("model/tokenizer.bin"));
  const auto patched = [&](std::size_t at, std::string_view bytes) {
    return std::string(good).replace(at, bytes.size(), bytes);
  };
  using std::string_view_literals::operator""sv;
  refuse_tokenizer("empty", "tokenizer.bin", "", {"too short"});
  refuse_tokenizer("cut off", "tokenizer.bin", good.substr(0, good.size() - 1), {"cut off", "fetch it again"});
  refuse_tokenizer("longest token of 4 GB", "tokenizer.bin", patched(0, "\xff\xff\xff\xff"sv), {"longest token"});
  refuse_tokenizer("token longer than the longest", "tokenizer.bin", patched(8, "\xff\0\0\0"sv), {"token 0", "255"});
  refuse_tokenizer("score is not a number", "tokenizer.bin", patched(4, "\0\0\xc0\x7f"sv), {"score", "token 0"});
  refuse_tokenizer("not JSON", "tokenizer.json", "{\"model\": ", {"tokenizer.json:1:"});
  refuse_tokenizer("empty object", "tokenizer.json", "{}", {"model"});
  refuse_tokenizer("a list", "tokenizer.json", "[]", {"object"});
  refuse_tokenizer("unknown model", "tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {"a": 0}}})",
                   {"WordLevel", "not supported"});
  refuse_tokenizer("negative id", "tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})",
                   {"vocab", "-1"});
  refuse_tokenizer("an id twice", "tokenizer.json",
                   R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})", {"vocab", "0"});
  refuse_tokenizer("an id of 2^40", "tokenizer.json",
                   R"({"model": {"type": "BPE", "vocab": {"a": 1099511627776}, "merges": []}})", {"vocab"});
  refuse_tokenizer("merge of unknown tokens", "tokenizer.json",
                   R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a zz"]}})",
                   {"merges[0]", "vocabulary lacks"});
  refuse_tokenizer("merge of three", "tokenizer.json",
                   R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a", "a"]]}})", {"merges"});
  refuse_tokenizer("unknown normalizer", "tokenizer.json",
                   R"({"normalizer": {"type": "Rot13"}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})",
                   {"normalizer", "Rot13"});
  write(fixture().file("sp/tokenizer.model"), "\x0a\x05");
  write(fixture().file("small-vocabulary/m.bin"), llama2c(16, 32, 1, 4, 2, 100, 8, 100 * 16 + 2336 + 16 + 32));
  expect_refusals(
      {{"SentencePiece cut off", "covey-model tokenize {}/sp --file {}/data.txt", {"tokenizer.model", "longer than"}},
       {"no tokenizer", "covey-model tokenize {}/adapter --file {}/data.txt", {"adapter", "tokenizer.json"}},
       {"none beside the .bin", "covey-model generate {}/small-vocabulary/m.bin", {"m.bin", "--tokenizer"}},
       {"of a larger model",
        "covey-model generate {}/small-vocabulary/m.bin --tokenizer {}/c/tokenizer.bin",
        {"300 ids", "100"}},
       {"tokenizer is a text",
        "covey-model tokenize {}/model --tokenizer {}/data.txt --file {}/data.txt",
        {"data.txt", "tokenizer"}}},
      fixture().path());
}
