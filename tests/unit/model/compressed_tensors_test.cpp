// W8A8 on disk, against the published layout of compressed-tensors' "int-quantized". What other writers emit is built
// here by hand, byte by byte, without our writer; what our writer emits is compared with bytes that this file computes.
// Sources: vllm-project/compressed-tensors (quant_config.py, quant_args.py, quant_scheme.py, naive_quantized);
// huggingface/safetensors (the container).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

using formats::Json;

constexpr int kHidden = 8, kInner = 12, kVocab = 5;

struct Matrix {
  std::string path;
  int out, in;
};

const std::vector<Matrix>& matrices() {
  static const std::vector<Matrix> all = {
      {"self_attn.q_proj", 8, 8}, {"self_attn.k_proj", 4, 8}, {"self_attn.v_proj", 4, 8}, {"self_attn.o_proj", 8, 8},
      {"mlp.gate_proj", 12, 8},   {"mlp.up_proj", 12, 8},     {"mlp.down_proj", 8, 12}};
  return all;
}

std::string layer(const Matrix& m) {
  return "model.layers.0." + m.path;
}

/// A row's largest integer is +-127, so that rounding to int8 finds these integers again, and its scale.
std::int8_t integer(int n, int k) {
  return static_cast<std::int8_t>(k == n % 8 ? (n % 2 == 0 ? 127 : -127) : (n * 31 + k * 17) % 201 - 100);
}
/// Powers of two: exact in BF16, too.
float scale_of(int n) {
  return std::ldexp(1.0F, -10 + n % 3);
}
float plain(std::size_t i) {
  return 0.25F + static_cast<float>(i % 7) * 0.125F;  // exact in BF16
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};  // little-endian machines only
}
std::string bf16_of(const std::vector<float>& values) {
  std::string out;
  for (const float value : values) out.append(reinterpret_cast<const char*>(&value) + 2, 2);
  return out;
}
std::string integers_of(const Matrix& m) {
  std::string out;
  for (int n = 0; n < m.out; ++n) {
    for (int k = 0; k < m.in; ++k) out.push_back(static_cast<char>(integer(n, k)));
  }
  return out;
}
std::vector<float> scales_of(const Matrix& m) {
  std::vector<float> out;
  for (int n = 0; n < m.out; ++n) out.push_back(scale_of(n));
  return out;
}

struct Raw {
  std::string name, dtype, shape, bytes;
};

/// safetensors by hand: u64 length, header, data.
std::string container(const std::vector<Raw>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::string data;
  for (const Raw& t : tensors) {
    header += ",\"" + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":)" + t.shape + R"(,"data_offsets":[)" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + t.bytes.size()) + "]}";
    data += t.bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string out(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, 8);
  return out + header + data;
}

std::vector<float> plain_values(std::size_t count) {
  std::vector<float> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(plain(i));
  return out;
}

/// Tensors that are no matrices of the block. @param bf16  as a model in BF16 keeps them
std::vector<Raw> other_tensors(bool bf16) {
  std::vector<Raw> out;
  const auto add = [&](const std::string& name, const std::string& shape, std::size_t count) {
    const auto values = plain_values(count);
    out.push_back({name, bf16 ? "BF16" : "F32", shape, bf16 ? bf16_of(values) : bytes_of(values)});
  };
  add("lm_head.weight", "[5,8]", kVocab * kHidden);
  add("model.embed_tokens.weight", "[5,8]", kVocab * kHidden);
  add("model.layers.0.input_layernorm.weight", "[8]", kHidden);
  add("model.layers.0.post_attention_layernorm.weight", "[8]", kHidden);
  add("model.norm.weight", "[8]", kHidden);
  return out;
}

/// As llm-compressor leaves a model in BF16: scales (out, 1) in the model's type.
std::vector<Raw> as_others_write() {
  std::vector<Raw> out = other_tensors(true);
  for (const Matrix& m : matrices()) {
    const std::string shape = "[" + std::to_string(m.out) + "," + std::to_string(m.in) + "]";
    out.push_back({layer(m) + ".weight", "I8", shape, integers_of(m)});
    out.push_back({layer(m) + ".weight_scale", "BF16", "[" + std::to_string(m.out) + ",1]", bf16_of(scales_of(m))});
  }
  return out;
}

constexpr const char* kModel = R"("architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":8,
  "intermediate_size":12,"num_hidden_layers":1,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,
  "vocab_size":5,"max_position_embeddings":32,"rms_norm_eps":1e-05,"tie_word_embeddings":false,"hidden_act":"silu")";

/// Every member that writers of the last years put there.
constexpr const char* kQuantization = R"({
  "config_groups": {"group_0": {
    "format": "int-quantized",
    "input_activations": {"actorder": null, "block_structure": null, "dynamic": true, "group_size": null, "num_bits": 8,
      "observer": null, "observer_kwargs": {}, "scale_dtype": null, "strategy": "token", "symmetric": true,
      "type": "int", "zp_dtype": null},
    "output_activations": null,
    "targets": ["Linear"],
    "weights": {"actorder": null, "block_structure": null, "dynamic": false, "group_size": null, "num_bits": 8,
      "observer": "minmax", "observer_kwargs": {}, "scale_dtype": null, "strategy": "channel", "symmetric": true,
      "type": "int", "zp_dtype": null}}},
  "format": "int-quantized", "global_compression_ratio": 1.24, "ignore": ["lm_head"], "kv_cache_scheme": null,
  "quant_method": "compressed-tensors", "quantization_status": "compressed", "sparsity_config": {},
  "transform_config": {}, "version": "0.12.2"})";

std::string with(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  return text.replace(at, from.size(), to);
}

/// A directory that another program wrote.
class Directory {
 public:
  explicit Directory(const std::string& quantization = kQuantization,
                     const std::vector<Raw>& tensors = as_others_write()) {
    REQUIRE_OK(write_file_durably(dir_.file("config.json"),
                                  "{" + std::string(kModel) + ",\"quantization_config\":" + quantization + "}"));
    REQUIRE_OK(write_file_durably(dir_.file("model.safetensors"), container(tensors)));
  }
  [[nodiscard]] Result<std::shared_ptr<Model>> load(bool writable = false) const {
    return Model::load(dir_.path(), {.writable = writable});
  }
  [[nodiscard]] std::string refusal() const {
    const auto loaded = load();
    REQUIRE_FALSE(loaded.ok());
    return loaded.error().message;
  }

 private:
  test::TempDir dir_;
};

std::vector<float> logits_of(const Model& model) {
  ThreadPool pool(1);
  const auto engine = tiny::engine(model, pool);
  const auto words = tiny::batch(2, 9, kVocab);
  std::vector<float> out(std::size_t{2} * 9 * kVocab);
  REQUIRE_OK(engine->logits(words.view(), {}, {}, out));
  return out;
}

/// The same model in f32, in memory.
std::shared_ptr<Model> in_f32() {
  const auto config = config_from_hf("{" + std::string(kModel) + "}", "here");
  REQUIRE_OK(config);
  const auto model = Model::create(*config, 1);
  REQUIRE_OK(model);
  for (auto& tensor : (*model)->parameters()) {
    const auto found =
        std::ranges::find_if(matrices(), [&](const Matrix& m) { return layer(m) + ".weight" == tensor.name; });
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      if (found == matrices().end()) {
        tensor.values[i] = plain(i);
        continue;
      }
      const auto in = static_cast<std::size_t>(found->in);
      tensor.values[i] = scale_of(static_cast<int>(i / in)) *
                         static_cast<float>(integer(static_cast<int>(i / in), static_cast<int>(i % in)));
    }
  }
  return *model;
}

}  // namespace

TEST_CASE("A directory as other programs write it loads, in int8, to the values that it holds") {
  const Directory directory;
  const auto model = directory.load();
  REQUIRE_OK(model);
  CHECK((*model)->int8_bytes() > 0);
  CHECK((*model)->is_int8_file());
  const auto widened = directory.load(true);
  REQUIRE_OK(widened);
  const auto expected = in_f32();
  const auto ours = expected->parameters();
  const auto theirs = (*widened)->parameters();
  REQUIRE(ours.size() == theirs.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    CAPTURE(ours[i].name);
    CHECK(ours[i].name == theirs[i].name);
    CHECK(std::ranges::equal(ours[i].values, theirs[i].values));
  }
  REQUIRE_OK(expected->use_int8());
  CHECK(logits_of(**model) == logits_of(*expected));
}

TEST_CASE("What we write is the published layout byte by byte") {
  const auto model = in_f32();
  REQUIRE_OK(model->use_int8());
  const test::TempDir dir;
  REQUIRE_OK(model->save_int8(dir.path()));
  // The reference writer of safetensors orders by alignment, then by name: F32 before I8.
  std::vector<Raw> expected = other_tensors(false);
  for (const Matrix& m : matrices()) {
    expected.push_back(
        {layer(m) + ".weight_scale", "F32", "[" + std::to_string(m.out) + ",1]", bytes_of(scales_of(m))});
  }
  std::ranges::sort(expected, {}, &Raw::name);
  std::vector<Raw> int8;
  for (const Matrix& m : matrices()) {
    const std::string shape = "[" + std::to_string(m.out) + "," + std::to_string(m.in) + "]";
    int8.push_back({layer(m) + ".weight", "I8", shape, integers_of(m)});
  }
  std::ranges::sort(int8, {}, &Raw::name);
  expected.insert(expected.end(), int8.begin(), int8.end());
  const auto written = read_file(dir.file("model.safetensors"));
  REQUIRE_OK(written);
  const std::string file(written->begin(), written->end());
  const std::string wanted = container(expected);
  const auto header_of = [](const std::string& bytes) {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    CHECK(length % 8 == 0);
    return std::pair(bytes.substr(8, length), bytes.substr(8 + length));
  };
  const auto [header, data] = header_of(file);
  const auto [wanted_header, wanted_data] = header_of(wanted);
  CHECK(data == wanted_data);
  const auto read = Json::parse(header);
  const auto right = Json::parse(wanted_header);
  REQUIRE_OK(read);
  REQUIRE_OK(right);
  CHECK(read->size() == right->size());
  for (const auto& member : right->members()) {
    CAPTURE(member.key);
    REQUIRE(read->contains(member.key));
    CHECK(*read->find(member.key) == member.value);
  }
  const auto config = Json::load(dir.file("config.json"));
  REQUIRE_OK(config);
  const auto quantization = Json::parse(R"({"quant_method": "compressed-tensors", "format": "int-quantized",
    "quantization_status": "compressed", "ignore": ["lm_head"], "kv_cache_scheme": null,
    "config_groups": {"group_0": {"targets": ["Linear"], "output_activations": null,
      "weights": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "dynamic": false},
      "input_activations": {"num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true}}}})");
  REQUIRE_OK(quantization);
  REQUIRE(config->contains("quantization_config"));
  CHECK(config->find("quantization_config")->dump_pretty() == quantization->dump_pretty());  // keys sorted
  CHECK_FALSE(config->contains("covey_outlier_columns"));
}

TEST_CASE("A missing member has the format's default, and members without effect are passed over") {
  const std::string minimal = R"({"quant_method": "compressed-tensors", "format": "int-quantized",
    "config_groups": {"group_1": {"targets": ["re:.*proj"], "weights": {"group_size": -1},
      "input_activations": {"strategy": "token", "dynamic": true, "observer": "memoryless"}}}})";
  CHECK(Directory(minimal).load().ok());
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"actorder\": null, \"block_structure\": null, \"dynamic\": false",
            "\"actorder\": \"weight\", \"block_structure\": null, \"dynamic\": false"},
           {"\"observer\": \"minmax\", \"observer_kwargs\": {}",
            "\"observer\": \"mse\", \"observer_kwargs\": {\"grid\": 20}"},
           {"\"sparsity_config\": {}", "\"sparsity_config\": {\"format\": \"dense\"}"},
           {"\"quantization_status\": \"compressed\"", "\"quantization_status\": \"frozen\""},
           {"\"zp_dtype\": null}}}", "\"zp_dtype\": \"torch.int8\"}}}"}}) {
    const auto loaded = Directory(with(kQuantization, from, to)).load();
    CHECK_MESSAGE(loaded.ok(), to);
  }
}

TEST_CASE("What we do not compute is refused by the member's name") {
  const std::string weights = "config_groups.group_0.weights.";
  const std::string inputs = "config_groups.group_0.input_activations.";
  for (const auto& [from, to, named] : std::vector<std::array<std::string, 3>>{
           {"\"quant_method\": \"compressed-tensors\"", "\"quant_method\": \"gptq\"", "quant_method"},
           {"\"format\": \"int-quantized\", \"global", "\"format\": \"pack-quantized\", \"global",
            "quantization_config.format"},
           {"\"format\": \"int-quantized\",\n    \"input", "\"format\": \"float-quantized\",\n    \"input",
            "group_0.format"},
           {"\"strategy\": \"channel\"", "\"strategy\": \"group\"", weights + "strategy"},
           {"\"strategy\": \"channel\"", "\"strategy\": \"tensor\"", weights + "strategy"},
           {"\"strategy\": \"channel\"", "\"strategy\": null", weights + "strategy"},
           {"\"group_size\": null, \"num_bits\": 8,\n      \"observer\": \"minmax\"",
            "\"group_size\": 128, \"num_bits\": 8,\n      \"observer\": \"minmax\"", weights + "group_size"},
           {"\"symmetric\": true,\n      \"type\": \"int\", \"zp_dtype\": null}}}",
            "\"symmetric\": false,\n      \"type\": \"int\", \"zp_dtype\": null}}}", weights + "symmetric"},
           {"\"type\": \"int\", \"zp_dtype\": null}}}", "\"type\": \"float\", \"zp_dtype\": null}}}", weights + "type"},
           {"\"actorder\": null, \"block_structure\": null, \"dynamic\": false",
            "\"actorder\": \"group\", \"block_structure\": null, \"dynamic\": false", weights + "actorder"},
           {"\"block_structure\": null, \"dynamic\": false", "\"block_structure\": [2, 2], \"dynamic\": false",
            weights + "block_structure"},
           {"\"strategy\": \"token\", \"symmetric\": true", "\"strategy\": \"token\", \"symmetric\": false",
            inputs + "symmetric"},
           {"\"strategy\": \"token\"", "\"strategy\": \"tensor\"", inputs + "strategy"},
           {"\"dynamic\": true", "\"dynamic\": false", inputs + "dynamic"},
           {"\"dynamic\": true", "\"dynamic\": \"local\"", inputs + "dynamic"},
           {"\"dynamic\": true, \"group_size\": null, \"num_bits\": 8",
            "\"dynamic\": true, \"group_size\": null, \"num_bits\": 4", inputs + "num_bits"},
           {"\"output_activations\": null", "\"output_activations\": {\"num_bits\": 8}", "group_0.output_activations"},
           {"\"kv_cache_scheme\": null", "\"kv_cache_scheme\": {\"num_bits\": 8}", "kv_cache_scheme"},
           {"\"sparsity_config\": {}", "\"sparsity_config\": {\"format\": \"sparse-24-bitmask\"}", "sparsity_config"},
           {"\"transform_config\": {}", "\"transform_config\": {\"config_groups\": {\"u\": 1}}", "transform_config"},
           {"\"observer\": \"minmax\"", "\"sign_bits\": 1", weights + "sign_bits"},
           {"\"version\": \"0.12.2\"", "\"future\": {\"rotation\": 4}", "future"}}) {
    CAPTURE(to);
    const std::string message = Directory(with(kQuantization, from, to)).refusal();
    CHECK_MESSAGE(message.find(named) != std::string::npos, message);
    CHECK(message.find('\n') == std::string::npos);
  }
  const std::string weight_only =
      with(kQuantization, "\"input_activations\": {\"actorder\"", "\"unused\": {\"actorder\"");
  CHECK(Directory(weight_only).refusal().find("input_activations is missing") != std::string::npos);
  const std::string preset = R"({"quant_method": "compressed-tensors", "format": "int-quantized",
    "config_groups": {"W8A8": ["Linear"]}})";
  CHECK(Directory(preset).refusal().find("config_groups.W8A8") != std::string::npos);
}

TEST_CASE("Tensors that do not fit what config.json says are refused by name") {
  const auto refusal = [](const std::function<void(std::vector<Raw>&)>& change) {
    auto tensors = as_others_write();
    change(tensors);
    return Directory(kQuantization, tensors).refusal();
  };
  const auto named = [](std::vector<Raw>& tensors, const std::string& name) -> Raw& {
    return *std::ranges::find_if(tensors, [&](const Raw& t) { return t.name == name; });
  };
  const std::string up = "model.layers.0.mlp.up_proj.weight";
  const auto missing =
      refusal([&](auto& t) { std::erase_if(t, [&](const Raw& r) { return r.name == up + "_scale"; }); });
  CHECK(missing.find(up + "_scale") != std::string::npos);
  const auto grouped = refusal([&](auto& t) {
    named(t, up + "_scale").shape = "[12,2]";
    named(t, up + "_scale").bytes += named(t, up + "_scale").bytes;
  });
  CHECK(grouped.find("a scale for each row") != std::string::npos);
  const auto infinite = refusal([&](auto& t) { named(t, up + "_scale").bytes.replace(0, 2, "\x80\x7f"); });
  CHECK(infinite.find("no number") != std::string::npos);
  const auto none = refusal([&](auto& t) {
    for (const Matrix& m : matrices()) {
      named(t, layer(m) + ".weight") = {layer(m) + ".weight", "F32",
                                        "[" + std::to_string(m.out) + "," + std::to_string(m.in) + "]",
                                        bytes_of(plain_values(static_cast<std::size_t>(m.out * m.in)))};
    }
  });
  CHECK(none.find("no matrix is I8") != std::string::npos);
  const auto zero_points = [&](char value) {
    auto tensors = as_others_write();
    tensors.push_back({up + "_zero_point", "I8", "[12,1]", std::string(11, '\0') + value});
    return Directory(kQuantization, tensors).load();
  };
  CHECK(zero_points('\0').ok());
  const auto asymmetric = zero_points('\3');
  REQUIRE_FALSE(asymmetric.ok());
  CHECK(asymmetric.error().message.find(up + "_zero_point") != std::string::npos);
  const auto reordered = refusal([&](auto& t) { t.push_back({up + "_g_idx", "I32", "[8]", std::string(32, '\0')}); });
  CHECK(reordered.find(up + "_g_idx") != std::string::npos);
}

TEST_CASE("A damaged file of outlier columns gives one line of error, and never more") {
  const auto model = in_f32();
  InputPeaks peaks;
  {
    ThreadPool pool(1);
    const auto engine = tiny::engine(*model, pool);
    engine->record_inputs(&peaks);
    REQUIRE_OK(engine->loss(tiny::batch(2, 9, kVocab).view(), {}, {}));
  }
  REQUIRE_OK(model->keep_outliers(peaks, 2));
  REQUIRE_OK(model->use_int8());
  const test::TempDir dir;
  REQUIRE_OK(model->save_int8(dir.path()));
  const std::string path = dir.file("outliers.covey");
  const auto whole = read_file(path);
  REQUIRE_OK(whole);
  const auto attempt = [&](const std::string& bytes) {
    REQUIRE_OK(write_file_durably(path, bytes));
    return Model::load(dir.path());
  };
  const std::string good(whole->begin(), whole->end());
  REQUIRE_OK(attempt(good));
  int refused = 0;
  for (std::size_t i = 0; i < good.size(); i += 3) {
    for (const int bit : {0, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      const auto loaded = attempt(bad);
      if (loaded.ok()) continue;  // a weight's bits
      ++refused;
      CHECK(loaded.error().message.find('\n') == std::string::npos);
    }
    CHECK_FALSE(attempt(good.substr(0, i)).ok());
  }
  CHECK(refused > 100);
  const auto refusal = [&](const std::vector<Raw>& tensors) {
    const auto loaded = attempt(container(tensors));
    REQUIRE_FALSE(loaded.ok());
    return loaded.error().message;
  };
  const auto columns = [](std::vector<std::int32_t> list) {
    return Raw{"model.layers.0.mlp.up_proj.outlier_columns", "I32", "[" + std::to_string(list.size()) + "]",
               std::string(reinterpret_cast<const char*>(list.data()), list.size() * 4)};
  };
  const auto weight = [](float value) {
    return Raw{"model.layers.0.mlp.up_proj.outlier_weight", "F32", "[12,2]", bytes_of(std::vector<float>(24, value))};
  };
  REQUIRE_OK(attempt(container({columns({1, 5}), weight(1)})));
  CHECK(refusal({columns({1, 8}), weight(1)}).find("names column 8 of 8") != std::string::npos);
  CHECK(refusal({columns({-1, 5}), weight(1)}).find("names column -1") != std::string::npos);
  CHECK(refusal({columns({5, 5}), weight(1)}).find("ascending") != std::string::npos);
  CHECK(refusal({columns({1, 2, 5}), weight(1)}).find("do not fit") != std::string::npos);
  CHECK(refusal({columns({1, 5}), weight(INFINITY)}).find("no number") != std::string::npos);
  CHECK(refusal({columns({1, 5})}).find("outlier_weight") != std::string::npos);
  CHECK(refusal({columns({1, 5}), weight(1), {"x", "F32", "[1]", std::string(4, '\0')}}).find("no layer") !=
        std::string::npos);
  REQUIRE(std::remove(path.c_str()) == 0);
  const auto gone = Model::load(dir.path());
  REQUIRE_FALSE(gone.ok());
  CHECK(gone.error().message.find("outliers.covey") != std::string::npos);
  auto config = Json::load(dir.file("config.json"));
  REQUIRE_OK(config);
  config->set("covey_outlier_columns", "../../etc/passwd");
  REQUIRE_OK(write_file_durably(dir.file("config.json"), config->dump_pretty()));
  CHECK(Model::load(dir.path()).error().message.find("covey_outlier_columns") != std::string::npos);
}

}  // namespace covey::model
