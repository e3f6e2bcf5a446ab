// Trained weights of other formats, with what their own programs compute.
#include <cmath>
#include <cstring>
#include <map>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/model/steps.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

using formats::Json;

/// Alphabet of RFC 4648.
std::vector<float> base64_floats(const std::string& text) {
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    int value = -1;
    if (c >= 'A' && c <= 'Z') value = c - 'A';
    if (c >= 'a' && c <= 'z') value = c - 'a' + 26;
    if (c >= '0' && c <= '9') value = c - '0' + 52;
    if (c == '+') value = 62;
    if (c == '/') value = 63;
    if (value < 0) continue;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 255U));
  }
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

std::vector<float> tensor(const Json& file, const std::string& name) {
  CAPTURE(name);
  const auto entry = file.get_object(name);
  REQUIRE_OK(entry);
  const auto data = entry.value()->get_string("data");
  REQUIRE_OK(data);
  return base64_floats(data.value());
}

/// (rows, columns) the other way round.
std::vector<float> turned(const std::vector<float>& values, std::size_t rows) {
  std::vector<float> out(values.size());
  const std::size_t columns = values.size() / rows;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) out[c * rows + r] = values[r * columns + c];
  }
  return out;
}

std::shared_ptr<Model> made(const std::string& config_text) {
  const auto config = config_from_hf(config_text, "config.json");
  REQUIRE_OK(config);
  auto model = Model::create(config.value(), 1);
  REQUIRE_OK(model);
  return model.value();
}

double largest_difference(const float* got, const std::vector<float>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
    if (std::isnan(got[i])) return HUGE_VAL;
  }
  return worst;
}

/// The first slot that a step of this kind writes, counted from `skip`.
int written_by(const Segment& segment, StepKind kind, int skip = 0) {
  for (const Step& step : segment.steps) {
    if (step.kind == kind && skip-- == 0) return step.out;
  }
  return -1;
}

}  // namespace

TEST_CASE("A trained minGPT's activations are matched at every stage of its first block and after each block") {
  const auto weights_path = test::data_path("gpt-nano-sort/gpt-nano-sort-model.json");
  const auto stages_path = test::data_path("gpt-nano-sort/gpt-nano-sort-t0-partials.json");
  if (!weights_path || !stages_path) return;
  const auto file = Json::load(*weights_path);
  const auto stages = Json::load(*stages_path);
  REQUIRE_OK(file);
  REQUIRE_OK(stages);
  const auto model = made(R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 3, "n_embd": 48,
      "n_layer": 3, "n_head": 3, "n_positions": 11, "tie_word_embeddings": false})");
  for (auto& parameter : model->parameters()) {
    auto values = tensor(file.value(), parameter.name);
    // minGPT keeps linear layers as [out, in], GPT-2 as [in, out].
    const bool block_matrix = parameter.shape.size() == 2 && parameter.name.find(".h.") != std::string::npos;
    if (block_matrix) values = turned(values, static_cast<std::size_t>(parameter.shape[1]));
    REQUIRE(values.size() == parameter.values.size());
    std::copy(values.begin(), values.end(), parameter.values.begin());
  }

  const auto ids = tensor(stages.value(), "idx");
  ThreadPool pool(1);
  EngineOptions options;  // training without checkpoints: every stage stays where it was computed
  options.batch_max = 3;
  options.seq_max = 11;
  options.training = true;
  const auto buffers = make_buffers(model->impl().program, model->config(), options);
  REQUIRE_OK(buffers);
  Pass pass;
  pass.model = &model->impl();
  pass.pool = &pool;
  pass.buffers = &buffers.value();
  const AdapterSpec spec;
  const AdapterView view;
  REQUIRE_OK(set_adapter(pass, spec, view, nullptr));
  const std::vector<std::int32_t> tokens(ids.begin(), ids.end());
  const TokenBatch batch{.B = 3, .T = 11, .ids = tokens, .targets = {}, .lengths = {}};
  REQUIRE_OK(set_batch(pass, batch, options, false));

  const auto check = [&](const Work& work, int slot, const std::string& name) {
    CAPTURE(name);
    CHECK(largest_difference(work.value(slot), tensor(stages.value(), name)) < 2e-5);
  };
  const auto& body = model->impl().program.body;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const Work work{pass, body[i], buffers.value().body[i]};
    // Norms and activations share their place with later ones: they are looked at as soon as they are there.
    for (const Step& step : body[i].steps) {
      step_forward(work, step);
      if (i != 1) continue;
      if (step.out == written_by(body[i], StepKind::norm)) check(work, step.out, "ln1");
      if (step.out == written_by(body[i], StepKind::norm, 1)) check(work, step.out, "ln2");
      if (step.out == written_by(body[i], StepKind::linear)) check(work, step.out, "qkv");
      if (step.out == written_by(body[i], StepKind::attention)) check(work, step.out, "y");
      if (step.out == written_by(body[i], StepKind::linear, 1)) check(work, step.out, "attnResid");
      if (step.out == written_by(body[i], StepKind::linear, 2)) check(work, step.out, "fc");
      if (step.out == written_by(body[i], StepKind::activation)) check(work, step.out, "gelu");
    }
    check(work, body[i].output, i == 0 ? "x" : "block" + std::to_string(i - 1));
  }
  const auto engine = tiny::engine(*model, pool, options);
  std::vector<float> logits(3 * 11 * 3);
  REQUIRE_OK(engine->logits(batch, {}, {}, logits));
  CHECK(largest_difference(logits.data(), tensor(stages.value(), "lm_head")) < 2e-5);
}

namespace {

/// rwkv.cpp's file: magic, version, vocabulary, width, layers, type; then tensors.
std::map<std::string, std::vector<float>> read_rwkv(const std::string& bytes) {
  std::map<std::string, std::vector<float>> tensors;
  std::size_t at = 24;
  const auto number = [&] {
    std::uint32_t value = 0;
    REQUIRE(at + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  };
  while (at < bytes.size()) {
    const std::uint32_t dimensions = number();
    const std::uint32_t length = number();
    REQUIRE(number() == 0);  // f32
    std::size_t count = 1;
    for (std::uint32_t d = 0; d < dimensions; ++d) count *= number();
    const std::string name = bytes.substr(at, length);
    at += length;
    REQUIRE(at + count * sizeof(float) <= bytes.size());
    std::vector<float> values(count);
    std::memcpy(values.data(), bytes.data() + at, count * sizeof(float));
    at += count * sizeof(float);
    tensors[name] = std::move(values);
  }
  return tensors;
}

/// Our name for a tensor into theirs.
std::string in_rwkv_cpp(std::string name) {
  const std::pair<const char*, const char*> changes[] = {{"rwkv.", ""},
                                                         {"embeddings", "emb"},
                                                         {"attention.", "att."},
                                                         {"feed_forward.", "ffn."},
                                                         {"time_mix_key", "time_mix_k"},
                                                         {"time_mix_value", "time_mix_v"},
                                                         {"time_mix_receptance", "time_mix_r"},
                                                         {"pre_ln", "ln0"}};
  for (const auto& [from, to] : changes) {
    if (const auto found = name.find(from); found != std::string::npos) name.replace(found, std::strlen(from), to);
  }
  return name;
}

}  // namespace

TEST_CASE("A trained RWKV of version 4 gives the logits that rwkv.cpp expects, in one go and token by token") {
  const auto path = test::data_path("rwkv-tiny/tiny-rwkv-4v0-660K-FP32.bin");
  const auto expected_path = test::data_path("rwkv-tiny/expected-logits-4v0-660K.bin");
  if (!path || !expected_path) return;
  const auto bytes = read_text_file(*path);
  REQUIRE_OK(bytes);
  const auto tensors = read_rwkv(bytes.value());
  const auto model = made(R"({"model_type": "rwkv", "architectures": ["RwkvForCausalLM"], "vocab_size": 256,
      "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "context_length": 64,
      "tie_word_embeddings": false})");
  for (auto& parameter : model->parameters()) {
    CAPTURE(parameter.name);
    const auto found = tensors.find(in_rwkv_cpp(parameter.name));
    REQUIRE(found != tensors.end());
    REQUIRE(found->second.size() == parameter.values.size());
    std::copy(found->second.begin(), found->second.end(), parameter.values.begin());
    if (!parameter.name.ends_with("time_decay")) continue;
    for (float& decay : parameter.values) decay = std::log(-decay);  // they keep -exp(decay)
  }
  const auto wanted = read_text_file(*expected_path);
  REQUIRE_OK(wanted);
  std::vector<float> expected(256);
  REQUIRE(wanted.value().size() == expected.size() * sizeof(float));
  std::memcpy(expected.data(), wanted.value().data(), wanted.value().size());

  const std::vector<std::int32_t> prompt{'"', 'i', 'n'};
  ThreadPool pool(1);
  EngineOptions options;
  options.seq_max = 3;
  const auto engine = tiny::engine(*model, pool, options);
  std::vector<float> logits(3 * 256);
  REQUIRE_OK(engine->logits({.B = 1, .T = 3, .ids = prompt, .targets = {}, .lengths = {}}, {}, {}, logits));
  CHECK(largest_difference(logits.data() + 2 * 256, expected) < 1e-4);
  const auto decoder = Decoder::create(*model, 8, {}, {}, pool);
  REQUIRE_OK(decoder);
  for (std::size_t t = 0; t < prompt.size(); ++t) {
    const auto got = decoder.value()->feed(prompt[t]);
    REQUIRE_OK(got);
    CHECK(largest_difference(got.value().data(), {logits.begin() + static_cast<std::ptrdiff_t>(t * 256),
                                                  logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * 256)}) < 1e-5);
  }
}

}  // namespace covey::model
