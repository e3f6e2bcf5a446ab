#include "core/formats/peft.h"

#include <cstring>

#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/formats/torch_zip.h"
#include "support/support.h"
#include "unit/formats/torch_build.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

template <typename T>
void check_peft_refused(const Result<T>& result, const std::string& expected) {
  REQUIRE_FALSE(result.ok());
  CAPTURE(result.error().message);
  CHECK(result.error().message.find(expected) != std::string::npos);
  CHECK(result.error().message.find('\n') == std::string::npos);
  CHECK(exit_code(result.error()) == 2);
}

const std::string kModule = "base_model.model.model.layers.0.self_attn.q_proj.";

PeftAdapter small_lora() {
  PeftAdapter adapter;
  adapter.config.r = 2;
  adapter.config.lora_alpha = 4;
  adapter.config.base_model_name_or_path = "tiny";
  adapter.config.target_modules = {{"q_proj"}};
  adapter.tensors = {peft_tensor(kModule + "lora_A.weight", {2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6.5F}),
                     peft_tensor(kModule + "lora_B.weight", {1, 2}, std::vector<float>{-0.0F, 1e-40F})};
  return adapter;
}

/// An adapter_config.json as PEFT's save_pretrained prints it: 2 spaces, sorted keys, no newline at the end.
std::string lora_config(const std::string& replace = {}, const std::string& by = {}) {
  std::string text = R"({
  "alpha_pattern": {
    "layers.1.q_proj": 1.5
  },
  "auto_mapping": {
    "base_model_class": "LlamaForCausalLM",
    "parent_library": "transformers.models.llama.modeling_llama"
  },
  "base_model_name_or_path": "caf\u00e9/\ud83d\ude00",
  "bias": "lora_only",
  "corda_config": null,
  "eva_config": null,
  "exclude_modules": "lm_head|.*norm",
  "fan_in_fan_out": true,
  "inference_mode": true,
  "init_lora_weights": "gaussian",
  "layer_replication": null,
  "layers_pattern": "layers",
  "layers_to_transform": [
    0,
    1
  ],
  "loftq_config": {},
  "lora_alpha": 16,
  "lora_bias": false,
  "lora_dropout": 0.0001,
  "megatron_config": null,
  "megatron_core": "megatron.core",
  "modules_to_save": [
    "classifier"
  ],
  "peft_type": "LORA",
  "peft_version": "0.17.1",
  "qalora_group_size": 16,
  "r": 2,
  "rank_pattern": {
    "layers.1.q_proj": 3
  },
  "revision": null,
  "target_modules": [
    "v_proj",
    "q_proj"
  ],
  "target_parameters": null,
  "task_type": "SEQ_CLS",
  "trainable_token_indices": null,
  "use_dora": false,
  "use_qalora": false,
  "use_rslora": true
})";
  if (!replace.empty()) text.replace(text.find(replace), replace.size(), by);
  return text;
}

void write_text(const std::string& path, std::string_view content) {
  REQUIRE_OK(write_file_durably(path, content));
}
std::string bytes_of(const std::string& path) {
  const auto text = read_text_file(path);
  REQUIRE_OK(text);
  return *text;
}

/// Reads `from`, writes `to`, and wants both files to be the same bytes.
PeftAdapter check_round_trip(const std::string& from, const std::string& to) {
  const auto adapter = read_peft_directory(from);
  REQUIRE_OK(adapter);
  REQUIRE_OK(write_peft_directory(to, *adapter));
  for (const char* name : {"/adapter_config.json", "/adapter_model.safetensors"}) {
    CAPTURE(name);
    CHECK(bytes_of(to + name) == bytes_of(from + name));
  }
  return *adapter;
}

TensorView half(const std::string& name, std::vector<std::int64_t> shape, const Bytes& bytes) {
  return {.name = name, .dtype = DType::f16, .shape = std::move(shape), .bytes = bytes};
}

}  // namespace

TEST_CASE("a PEFT directory that PEFT wrote goes through reading and writing byte for byte") {
  const test::TempDir dir;
  const Bytes twelve{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const std::vector<float> bias{1, -2};
  const std::vector<std::int64_t> counter{7};
  const ByteSpan counter_bytes{reinterpret_cast<const std::uint8_t*>(counter.data()), 8};
  const TensorView tensors[] = {half(kModule + "lora_A.weight", {2, 3}, twelve),
                                half(kModule + "lora_B.weight", {3, 2}, twelve),
                                half("base_model.model.model.embed_tokens.lora_embedding_A", {2, 3}, twelve),
                                half("base_model.model.model.embed_tokens.lora_embedding_B", {3, 2}, twelve),
                                half("base_model.model.model.embed_tokens.base_layer.weight", {3, 2}, twelve),
                                f32_view("base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", {2}, bias),
                                f32_view("base_model.model.classifier.dense.weight", {1, 2}, bias),
                                {.name = "base_model.model.classifier.norm.num_batches_tracked",
                                 .dtype = DType::i64,
                                 .shape = {},
                                 .bytes = counter_bytes}};
  REQUIRE_OK(write_safetensors(dir.file("adapter_model.safetensors"), tensors, {{"format", "pt"}}));
  write_text(dir.file("adapter_config.json"), lora_config());
  const PeftAdapter adapter = check_round_trip(dir.path(), dir.file("again"));

  const PeftConfig& config = adapter.config;
  CHECK(config.base_model_name_or_path == "caf\xc3\xa9/\xf0\x9f\x98\x80");
  CHECK(config.use_rslora);
  CHECK(config.bias == "lora_only");
  CHECK(config.fan_in_fan_out);
  CHECK(config.exclude_modules.is_text);
  CHECK(config.layers_pattern.names == std::vector<std::string>{"layers"});
  CHECK(config.layers_to_transform == std::vector<std::int64_t>{0, 1});
  CHECK(config.rank_pattern == std::vector<std::pair<std::string, int>>{{"layers.1.q_proj", 3}});
  CHECK(config.modules_to_save == std::vector<std::string>{"classifier"});
  const auto pairs = peft_lora_pairs(adapter);
  REQUIRE_OK(pairs);
  REQUIRE(pairs->size() == 2);
  CHECK((*pairs)[0].embedding);
  CHECK((*pairs)[0].module_path == "model.embed_tokens");
  CHECK((*pairs)[1].module_path == "model.layers.0.self_attn.q_proj");
  const auto role = [&](const std::string& name) {
    return peft_place(config, "base_model.model." + name).value().role;
  };
  CHECK(role("model.layers.0.self_attn.q_proj.base_layer.bias") == PeftRole::bias);
  CHECK(role("classifier.dense.weight") == PeftRole::saved);
  CHECK(role("model.embed_tokens.base_layer.weight") == PeftRole::saved);
}

TEST_CASE("a configuration that was read and changed keeps what was not changed") {
  auto config = parse_peft_config(lora_config(), "c");
  REQUIRE_OK(config);
  config->lora_alpha = 8;
  config->layers_to_transform.clear();
  std::string expected = lora_config("\"lora_alpha\": 16", "\"lora_alpha\": 8");
  const std::string layers = "[\n    0,\n    1\n  ]";
  expected.replace(expected.find(layers), layers.size(), "null");
  CHECK(peft_config_text(*config) == expected);
}

TEST_CASE("a new LoRA directory has PEFT's keys and gives its values back bit for bit") {
  const test::TempDir dir;
  PeftAdapter adapter = small_lora();
  adapter.config.rank_pattern = {{"layers.1.q_proj", 3}};
  adapter.config.alpha_pattern = {{"layers.1.q_proj", 1.5}};
  REQUIRE_OK(write_peft_directory(dir.file("new/adapter"), adapter));
  const std::string text = bytes_of(dir.file("new/adapter/adapter_config.json"));
  CHECK(text.starts_with("{\n  \"alpha_pattern\": {\n    \"layers.1.q_proj\": 1.5\n  },\n  \"auto_mapping\": null,"));
  CHECK(text.find("\"lora_alpha\": 4,") != std::string::npos);
  CHECK(text.ends_with("\n}"));
  const PeftAdapter back = check_round_trip(dir.file("new/adapter"), dir.file("b"));
  const auto pairs = peft_lora_pairs(back);
  REQUIRE_OK(pairs);
  REQUIRE(pairs->size() == 1);
  CHECK((*pairs)[0].b->bytes == adapter.tensors[1].bytes);
}

TEST_CASE("values that do not make an adapter are refused by their name") {
  PeftAdapter adapter = small_lora();
  REQUIRE_OK(check_peft_adapter(adapter));
  const auto with = [](auto change) {
    PeftAdapter changed = small_lora();
    change(changed);
    return check_peft_adapter(changed);
  };
  const std::vector<float> one{1};
  check_peft_refused(with([](auto& a) { a.tensors.pop_back(); }), "only one half");
  check_peft_refused(with([&](auto& a) {
                       a.tensors[1] = peft_tensor(kModule + "lora_B.weight", {1, 1}, one);
                     }),
                     "[out, r]");
  check_peft_refused(with([&](auto& a) { a.tensors[1] = a.tensors[0]; }), "twice");
  check_peft_refused(with([&](auto& a) { a.tensors.clear(); }), "no LoRA pair");
  for (const char* name : {"wte.lora_embedding_A", "lora_A.weight", "x.lora_magnitude_vector", "x.bias", "x.weight",
                           "classifier.weight", "x.ia3_l", "x.lora_B.bias"}) {
    CAPTURE(name);
    const auto status =
        with([&](auto& a) { a.tensors.push_back(peft_tensor(std::string("base_model.model.") + name, {1}, one)); });
    check_peft_refused(status, std::string_view(name).starts_with("wte") ? "wte has only one half" : name);
  }
  check_peft_refused(with([&](auto& a) { a.tensors.push_back(peft_tensor("lora_A.weight", {1}, one)); }),
                     "base_model.model.");
  check_peft_refused(with([&](auto& a) { a.tensors[0].dtype = DType::i32; }), "I32");
  // The same names where the configuration knows of them.
  REQUIRE_OK(with([&](auto& a) {
    a.config.bias = "all";
    a.config.modules_to_save = {"score"};
    a.tensors.push_back(peft_tensor("base_model.model.x.bias", {1}, one));
    a.tensors.push_back(peft_tensor("base_model.model.score.weight", {1}, one));
  }));
}

TEST_CASE("PEFT options that would change the computation are refused by name") {
  const auto parse = [](const std::string& more) {
    return parse_peft_config(
        R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"])" + more + "}",
        "adapter_config.json");
  };
  REQUIRE_OK(parse(""));
  REQUIRE_OK(parse(
      R"(, "use_dora": false, "layer_replication": null, "trainable_token_indices": [], "some_new_option": false)"));
  CHECK(parse(R"(, "layers_to_transform": 3)")->layers_to_transform == std::vector<std::int64_t>{3});
  const char* refused[][2] = {{R"(, "use_dora": true)", "use_dora"},
                              {R"(, "bias": "some")", "bias"},
                              {R"(, "modules_to_save": "lm_head")", "modules_to_save"},
                              {R"(, "fan_in_fan_out": 1)", "fan_in_fan_out"},
                              {R"(, "layer_replication": [[0, 4]])", "layer_replication"},
                              {R"(, "target_parameters": ["x"])", "target_parameters"},
                              {R"(, "lora_bias": true)", "lora_bias"},
                              {R"(, "use_qalora": true)", "use_qalora"},
                              {R"(, "init_lora_weights": "pissa_niter_4")", "init_lora_weights"},
                              {R"(, "some_new_option": 3)", "some_new_option"},
                              {R"(, "num_virtual_tokens": 3)", "num_virtual_tokens"},
                              {R"(, "feedforward_modules": ["x"])", "feedforward_modules"},
                              {R"(, "task_type": "DREAM")", "task_type"},
                              {R"(, "layers_to_transform": [-1])", "layers_to_transform"},
                              {R"(, "rank_pattern": {"x": 0})", "rank_pattern.x"},
                              {R"(, "alpha_pattern": [1])", "alpha_pattern"},
                              {R"(, "lora_dropout": 1.5)", "lora_dropout"},
                              {R"(, "exclude_modules": 3)", "exclude_modules"},
                              {R"(, "target_modules": 3)", "target_modules"}};
  for (const auto& c : refused) {
    CAPTURE(c[0]);
    check_peft_refused(parse(c[0]), c[1]);
  }
  check_peft_refused(parse_peft_config(R"({"peft_type": "LORA", "lora_alpha": 16})", "c"), "r: is missing");
  check_peft_refused(parse_peft_config(R"({"peft_type": "LORA", "r": 0, "lora_alpha": 16})", "c"), "r: must lie");
  check_peft_refused(parse_peft_config(R"({"peft_type": "LORA", "r": 4, "lora_alpha": -1})", "c"), "lora_alpha");
  check_peft_refused(parse_peft_config(R"({"peft_type": "LOHA"})", "c"), "LOHA");
  check_peft_refused(parse_peft_config("{}", "c"), "peft_type: is missing");
  check_peft_refused(parse_peft_config("[1]", "c"), "expected an object");
  check_peft_refused(parse_peft_config(R"({"peft_type": "IA3", "r": 8})", "c"), "r: is an option");
  check_peft_refused(
      parse_peft_config(R"({"peft_type": "IA3", "target_modules": ["k"], "feedforward_modules": ["w"]})", "c"),
      "feedforward_modules");
  check_peft_refused(parse_peft_config(R"({"peft_type": "PREFIX_TUNING"})", "c"), "num_virtual_tokens");
  check_peft_refused(
      parse_peft_config(R"({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "prefix_projection": true})", "c"),
      "prefix_projection");
}

TEST_CASE("a soft prompt, a prefix and IA3 vectors go through their directories byte for byte") {
  const test::TempDir dir;
  const std::vector<float> values{1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                  13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
  PeftAdapter prompt;
  prompt.config.peft_type = "PROMPT_TUNING";
  prompt.config.num_virtual_tokens = 8;
  prompt.config.token_dim = 3;
  prompt.config.prompt_tuning_init = "TEXT";
  prompt.config.prompt_tuning_init_text = "Sort this:";
  prompt.config.tokenizer_name_or_path = "tiny";
  prompt.tensors = {peft_tensor("prompt_embeddings", {8, 3}, values)};
  REQUIRE_OK(write_peft_directory(dir.file("prompt"), prompt));
  CHECK(check_round_trip(dir.file("prompt"), dir.file("prompt2")).config.prompt_tuning_init_text == "Sort this:");
  prompt.config.num_virtual_tokens = 7;
  check_peft_refused(check_peft_adapter(prompt), "prompt_embeddings");
  prompt.config.num_virtual_tokens = 8;
  prompt.tensors[0].name = "prompt";
  check_peft_refused(check_peft_adapter(prompt), "tensor prompt is not");

  PeftAdapter prefix;
  prefix.config.peft_type = "PREFIX_TUNING";
  prefix.config.num_virtual_tokens = 2;
  prefix.config.token_dim = 3;
  prefix.config.num_layers = 2;
  prefix.config.encoder_hidden_size = 32;
  prefix.config.prefix_projection = true;
  prefix.tensors = {peft_tensor("prompt_embeddings", {2, 12}, values)};
  REQUIRE_OK(write_peft_directory(dir.file("prefix"), prefix));
  const std::string text = bytes_of(dir.file("prefix/adapter_config.json"));
  CHECK(text.find("\"encoder_hidden_size\": 32,") != std::string::npos);
  CHECK(text.find("prompt_tuning_init") == std::string::npos);
  CHECK(check_round_trip(dir.file("prefix"), dir.file("prefix2")).config.prefix_projection);
  prefix.config.num_layers = 3;
  check_peft_refused(check_peft_adapter(prefix), "num_layers * 2 * token_dim");

  PeftAdapter ia3;
  ia3.config.peft_type = "IA3";
  ia3.config.task_type = "SEQ_2_SEQ_LM";
  ia3.config.target_modules = {{"k", "wo"}};
  ia3.config.feedforward_modules = {{"wo"}};
  ia3.tensors = {peft_tensor("base_model.model.encoder.0.k.ia3_l", {24, 1}, values),
                 peft_tensor("base_model.model.encoder.0.wo.ia3_l", {1, 24}, values)};
  REQUIRE_OK(write_peft_directory(dir.file("ia3"), ia3));
  CHECK(check_round_trip(dir.file("ia3"), dir.file("ia32")).config.feedforward_modules.names ==
        std::vector<std::string>{"wo"});
  ia3.tensors[0].shape = {4, 6};
  check_peft_refused(check_peft_adapter(ia3), "k.ia3_l must be");
  ia3.tensors = {};
  check_peft_refused(check_peft_adapter(ia3), "no ia3_l");
}

TEST_CASE("an adapter whose values are torch's older file is read, and written as safetensors") {
  const test::TempDir dir;
  const std::vector<float> six{1, 2, 3, 4, 5, 6};
  const std::string data(reinterpret_cast<const char*>(six.data()), 24);
  const auto pickle =
      test::state_dict({{kModule + "lora_B.weight", test::tensor("FloatStorage", "1", 6, 0, {3, 2}, {1, 3})},
                        {kModule + "lora_A.weight", test::tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})}});
  write_text(dir.file("adapter_model.bin"),
             test::zip_of({{"a/data.pkl", pickle}, {"a/data/0", data}, {"a/data/1", data}}));
  write_text(dir.file("adapter_config.json"), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
  const auto adapter = read_peft_directory(dir.path());
  REQUIRE_OK(adapter);
  REQUIRE_OK(write_peft_directory(dir.file("new"), *adapter));
  const auto file = SafetensorsFile::open(dir.file("new/adapter_model.safetensors"));
  REQUIRE_OK(file);
  CHECK(to_f32(*file->find(kModule + "lora_B.weight")).value() == std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("a loralib state dict becomes a PEFT adapter with its head as a saved module") {
  const std::vector<float> six{1, 2, 3, 4, 5, 6};
  std::vector<TensorView> tensors = {
      f32_view("m.0.query.lora_A", {2, 3}, six),     f32_view("m.0.query.lora_B", {3, 2}, six),
      f32_view("m.1.query.lora_A", {2, 3}, six),     f32_view("m.1.query.lora_B", {3, 2}, six),
      f32_view("m.1.value.lora_A", {1, 6}, six),     f32_view("m.1.value.lora_B", {6, 1}, six),
      f32_view("classifier.dense.weight", {6}, six), f32_view("m.norm.bias", {6}, six)};
  const auto adapter =
      peft_from_state_dict(tensors, {.alpha = 16, .task_type = "SEQ_CLS", .base_model_name_or_path = "b"}, "f");
  REQUIRE_OK(adapter);
  CHECK(adapter->config.r == 2);
  CHECK(adapter->config.lora_alpha == 16);
  CHECK(adapter->config.rank_pattern == std::vector<std::pair<std::string, int>>{{"m.1.value", 1}});
  CHECK(adapter->config.target_modules.names == std::vector<std::string>{"query", "value"});
  CHECK(adapter->config.modules_to_save == std::vector<std::string>{"classifier", "m.norm"});
  const test::TempDir dir;
  REQUIRE_OK(write_peft_directory(dir.file("a"), *adapter));
  check_round_trip(dir.file("a"), dir.file("b"));
  CHECK(peft_place(adapter->config, "base_model.model.m.0.query.lora_A.weight")->role == PeftRole::lora_a);

  check_peft_refused(peft_from_state_dict(tensors, {.alpha = 0}, "f"), "--alpha");
  check_peft_refused(peft_from_state_dict(std::span(tensors).subspan(6), {.alpha = 1}, "f"), "lora_A");
  tensors[1] = f32_view("m.0.query.lora_B", {6, 1}, six);  // as loralib's MergedLinear: groups
  check_peft_refused(peft_from_state_dict(tensors, {.alpha = 1}, "f"), "m.0.query");
}

TEST_CASE("the published RoBERTa checkpoint becomes a PEFT directory with its values bit for bit") {
  const auto path = test::data_path("lora-roberta-base-mnli/roberta_base_lora_mnli.bin");
  if (!path) return;
  const auto file = TorchZipFile::open(*path);
  REQUIRE_OK(file);
  const auto adapter = peft_from_state_dict(file->tensors(), {.alpha = 16, .task_type = "SEQ_CLS"}, *path);
  REQUIRE_OK(adapter);
  CHECK(adapter->config.r == 8);
  CHECK(adapter->config.rank_pattern.empty());
  CHECK(adapter->config.target_modules.names == std::vector<std::string>{"query", "value"});
  CHECK(adapter->config.modules_to_save == std::vector<std::string>{"classifier"});
  CHECK(peft_lora_pairs(*adapter).value().size() == 24);
  const test::TempDir dir;
  REQUIRE_OK(write_peft_directory(dir.file("a"), *adapter));
  check_round_trip(dir.file("a"), dir.file("b"));
  const auto written = SafetensorsFile::open(dir.file("a/adapter_model.safetensors"));
  REQUIRE_OK(written);
  for (const TensorView& tensor : file->tensors()) {
    const bool lora = tensor.name.find("lora_") != std::string::npos;
    const auto* there = written->find("base_model.model." + tensor.name + (lora ? ".weight" : ""));
    REQUIRE(there != nullptr);
    CHECK(std::ranges::equal(there->bytes, tensor.bytes));
  }
}
