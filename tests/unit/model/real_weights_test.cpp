// Trained weights of other formats, with what their own programs compute.
#include <cmath>
#include <cstring>

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

/// Logits of the prompt `"in`, in one go and token by token, against what rwkv.cpp keeps beside the model.
void check_rwkv_cpp(const std::string& version, double tolerance) {
  const auto path = test::data_path("rwkv-tiny/tiny-rwkv-" + version + "-FP32.bin");
  const auto expected_path = test::data_path("rwkv-tiny/expected-logits-" + version + ".bin");
  if (!path || !expected_path) return;
  const auto loaded = Model::load(*path);
  REQUIRE_OK(loaded);
  const Model& model = *loaded.value();
  const auto wanted = read_text_file(*expected_path);
  REQUIRE_OK(wanted);
  std::vector<float> expected(256);
  REQUIRE(wanted.value().size() == expected.size() * sizeof(float));
  std::memcpy(expected.data(), wanted.value().data(), wanted.value().size());

  const std::vector<std::int32_t> prompt{'"', 'i', 'n'};
  ThreadPool pool(1);
  EngineOptions options;
  options.seq_max = 3;
  const auto engine = tiny::engine(model, pool, options);
  std::vector<float> logits(3 * 256);
  REQUIRE_OK(engine->logits({.B = 1, .T = 3, .ids = prompt, .targets = {}, .lengths = {}}, {}, {}, logits));
  const double difference = largest_difference(logits.data() + 2 * 256, expected);
  MESSAGE("largest difference from rwkv.cpp's logits: ", difference);
  CHECK(difference < tolerance);
  const auto decoder = Decoder::create(model, 8, {}, {}, pool);
  REQUIRE_OK(decoder);
  for (std::size_t t = 0; t < prompt.size(); ++t) {
    const auto got = decoder.value()->feed(prompt[t]);
    REQUIRE_OK(got);
    CHECK(largest_difference(got.value().data(), {logits.begin() + static_cast<std::ptrdiff_t>(t * 256),
                                                  logits.begin() + static_cast<std::ptrdiff_t>((t + 1) * 256)}) < 1e-5);
  }
}

}  // namespace

TEST_CASE("A trained RWKV of version 4 gives the logits that rwkv.cpp expects, in one go and token by token") {
  check_rwkv_cpp("4v0-660K", 2e-5);
}

TEST_CASE("A trained RWKV of version 7 gives the logits that rwkv.cpp expects, in one go and token by token") {
  check_rwkv_cpp("7v0-834K", 5e-6);
}

TEST_CASE("The trained RWKV 7 learns by LoRA over rows longer than its kept states are apart, by exact gradients") {
  const auto path = test::data_path("rwkv-tiny/tiny-rwkv-7v0-834K-FP32.bin");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  ThreadPool pool(2);
  EngineOptions options{.batch_max = 2, .seq_max = 45, .training = true};
  options.tangent = true;
  const auto engine = tiny::engine(*model.value(), pool, options);
  options.checkpoint = true;
  const auto checkpointed = tiny::engine(*model.value(), pool, options);
  auto batch = tiny::batch(2, 45, 256);
  const std::string text = "A goose reads over it again. ";
  for (std::size_t i = 0; i < 90; ++i) {
    batch.ids[i] = static_cast<std::uint8_t>(text[i % text.size()]);
    if (batch.targets[i] != kNoTarget) batch.targets[i] = static_cast<std::uint8_t>(text[(i + 1) % text.size()]);
  }
  auto adapter = tiny::lora(*model.value(), tiny::all_sites(*model.value()), 2, 0.1F);
  auto gradient = adapter.zeros();
  const auto loss = engine->gradient(batch.view(), adapter.spec, adapter.view(), gradient.gradient_view());
  REQUIRE_OK(loss);
  auto again = adapter.zeros();
  REQUIRE_OK(checkpointed->gradient(batch.view(), adapter.spec, adapter.view(), again.gradient_view()));
  CHECK(gradient.a == again.a);
  CHECK(gradient.b == again.b);

  // Forward mode keeps no states; backpropagation must agree with it, and both with differences of the loss.
  auto direction = gradient;
  double size = 0;
  for (auto* lists : {&gradient.a, &gradient.b}) {
    for (const auto& list : *lists) {
      for (const float g : list) size += static_cast<double>(g) * static_cast<double>(g);
    }
  }
  const auto jvp = engine->jvp(batch.view(), adapter.spec, adapter.view(), direction.view());
  REQUIRE_OK(jvp);
  CHECK(jvp.value().derivative == doctest::Approx(size).epsilon(2e-5));
  const auto moved = [&](double step) {
    auto there = adapter;
    for (std::size_t i = 0; i < there.a.size(); ++i) {
      for (std::size_t j = 0; j < there.a[i].size(); ++j) there.a[i][j] += static_cast<float>(step) * gradient.a[i][j];
      for (std::size_t j = 0; j < there.b[i].size(); ++j) there.b[i][j] += static_cast<float>(step) * gradient.b[i][j];
    }
    return there;
  };
  const auto loss_at = [&](const tiny::Adapter& there) {
    auto unused = there.zeros();
    const auto at = engine->gradient(batch.view(), there.spec, there.view(), unused.gradient_view());
    REQUIRE_OK(at);
    return at.value().mean();
  };
  const double step = 2e-3 / std::sqrt(size);
  const double slope = (loss_at(moved(step)) - loss_at(moved(-step))) / (2 * step);
  CHECK(slope == doctest::Approx(size).epsilon(5e-3));  // the loss is summed in f32, about 1e-6 of it apart

  const double before = loss.value().mean();
  for (int i = 0; i < 40; ++i) {
    auto g = adapter.zeros();
    REQUIRE_OK(engine->gradient(batch.view(), adapter.spec, adapter.view(), g.gradient_view()));
    gradient = g;
    adapter = moved(-0.5);
  }
  CHECK(loss_at(adapter) < 0.9 * before);
}

}  // namespace covey::model
