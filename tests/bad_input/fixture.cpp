#include "bad_input/fixture.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "core/base/rng.h"
#include "core/formats/safetensors.h"

namespace covey::bad_input {
namespace {

namespace fs = std::filesystem;

constexpr int kVocab = 300;
constexpr int kHidden = 16;
constexpr int kInner = 32;
constexpr int kLayers = 2;
constexpr int kKv = 8;
constexpr int kRank = 2;

constexpr const char* kConfig = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 16,
  "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true,
  "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"
})";

constexpr const char* kAdapterConfig = R"({
  "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none",
  "target_modules": ["q_proj"], "use_dora": false, "use_rslora": false, "inference_mode": true
})";

constexpr const char* kExperiment = R"(name: small
model: model
devices: 3
seed: 7
data: {file: data.txt, partition: iid, held_out: 0.2}
rounds: 2
goal: 2
min: 1
deadline_min: 10
local: {steps: 1, batch: 2, seq: 16, learning_rate: 0.01}
adapter: {rank: 2, alpha: 4, targets: [q_proj]}
privacy: {mode: robust}
)";

/// Random values under names, kept alive while the file is written.
class Tensors {
 public:
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (const auto n : shape) count *= static_cast<std::size_t>(n);
    auto& values = values_[name];
    values.resize(count);
    for (auto& value : values) value = static_cast<float>(rng_.uniform() - 0.5) * 0.2F;
    shapes_[name] = std::move(shape);
  }
  void save(const std::string& path) const {
    std::vector<formats::TensorView> views;
    for (const auto& [name, values] : values_) views.push_back(formats::f32_view(name, shapes_.at(name), values));
    REQUIRE_OK(formats::write_safetensors(path, views));
  }

 private:
  Rng rng_{11};
  std::map<std::string, std::vector<float>> values_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
};

void write_model(const std::string& directory) {
  fs::create_directories(directory);
  write(directory + "/config.json", kConfig);
  Tensors tensors;
  tensors.add("model.embed_tokens.weight", {kVocab, kHidden});
  tensors.add("model.norm.weight", {kHidden});
  for (int i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tensors.add(layer + "input_layernorm.weight", {kHidden});
    tensors.add(layer + "post_attention_layernorm.weight", {kHidden});
    tensors.add(layer + "self_attn.q_proj.weight", {kHidden, kHidden});
    tensors.add(layer + "self_attn.k_proj.weight", {kKv, kHidden});
    tensors.add(layer + "self_attn.v_proj.weight", {kKv, kHidden});
    tensors.add(layer + "self_attn.o_proj.weight", {kHidden, kHidden});
    tensors.add(layer + "mlp.gate_proj.weight", {kInner, kHidden});
    tensors.add(layer + "mlp.up_proj.weight", {kInner, kHidden});
    tensors.add(layer + "mlp.down_proj.weight", {kHidden, kInner});
  }
  tensors.save(directory + "/model.safetensors");
}

void write_adapter(const std::string& directory) {
  fs::create_directories(directory);
  write(directory + "/adapter_config.json", kAdapterConfig);
  Tensors tensors;
  for (int i = 0; i < kLayers; ++i) {
    const std::string site = "base_model.model.model.layers." + std::to_string(i) + ".self_attn.q_proj.";
    tensors.add(site + "lora_A.weight", {kRank, kHidden});
    tensors.add(site + "lora_B.weight", {kHidden, kRank});
  }
  tensors.save(directory + "/adapter_model.safetensors");
}

void append(std::string& out, const void* data, std::size_t size) {
  out.append(static_cast<const char*>(data), size);
}

std::string llama2c_tokenizer() {
  std::string out;
  const auto piece = [&](const std::string& bytes, float score) {
    const auto length = static_cast<std::uint32_t>(bytes.size());
    append(out, &score, sizeof score);
    append(out, &length, sizeof length);
    out += bytes;
  };
  const std::uint32_t longest = 8;
  append(out, &longest, sizeof longest);
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) piece(special, 0);
  char name[8];
  for (int byte = 0; byte < 256; ++byte) {
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    piece(name, 0);
  }
  for (int i = 259; i < kVocab; ++i) piece(std::string(1, static_cast<char>(i == 259 ? ' ' : 'A' + i - 260)), -1);
  return out;
}

std::string sample_text() {
  std::string out;
  for (int i = 0; i < 60; ++i) out += "THE LAMP OF ROOM " + std::to_string(i) + " IS ON\n";
  return out;
}

}  // namespace

void write(const std::string& path, std::string_view content) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  REQUIRE(out.good());
}

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in.good());
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void copy_folder(const std::string& from, const std::string& to) {
  fs::copy(from, to, fs::copy_options::recursive);
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string safetensors(std::string_view header, std::size_t data_bytes, std::int64_t claimed) {
  const std::uint64_t length = claimed >= 0 ? static_cast<std::uint64_t>(claimed) : header.size();
  std::string out;
  append(out, &length, sizeof length);
  out += header;
  out.append(data_bytes, '\0');
  return out;
}

std::string llama2c(std::int32_t dim, std::int32_t hidden, std::int32_t layers, std::int32_t heads,
                    std::int32_t kv_heads, std::int32_t vocab, std::int32_t seq_len, std::size_t floats) {
  const std::int32_t header[] = {dim, hidden, layers, heads, kv_heads, vocab, seq_len};
  std::string out;
  append(out, header, sizeof header);
  out.append(4 * floats, '\0');
  return out;
}

Fixture::Fixture() {
  write_model(file("model"));
  write(file("model/tokenizer.bin"), llama2c_tokenizer());
  write_adapter(file("adapter"));
  // 300 x 16 embedding, 2 layers of 2,336, the last norm, 8 positions x 4.
  write(file("c/m.bin"), llama2c(16, 32, 2, 4, 2, 300, 8, 300 * 16 + 2 * (32 + 512 + 256 + 1536) + 16 + 32));
  write(file("c/tokenizer.bin"), llama2c_tokenizer());
  write(file("data.txt"), sample_text());
  write(file("data.jsonl"), "{\"text\": \"THE LAMP IS ON\"}\n{\"prompt\": \"LAMP\", \"completion\": \" OFF\"}\n");
  write(file("play.txt"), "ROMEO:\nA LAMP.\n\nJULIET:\nA ROOM.\n");
  write(file("train.yaml"), "lr: 0.01\nbatch: 2\nseq: 16\nsteps: 1\nlora: {rank: 2, target_modules: [q_proj]}\n");
  write(file("pretrain.yaml"),
        "data: data.txt\nvocab_size: 300\n"
        "model: {layers: 1, hidden_size: 16, intermediate_size: 32, heads: 2, context: 16}\n"
        "training: {batch: 2, seq: 16, steps: 1}\n");
  write(file("experiment.yaml"), kExperiment);
}

std::string Fixture::model(const std::string& name) const {
  copy_folder(file("model"), file(name));
  return file(name);
}

std::string Fixture::adapter(const std::string& name) const {
  copy_folder(file("adapter"), file(name));
  return file(name);
}

const Fixture& fixture() {
  static const Fixture made;
  return made;
}

}  // namespace covey::bad_input
