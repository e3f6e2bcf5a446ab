#include <cmath>
#include <map>

#include "core/formats/json.h"
#include "core/formats/safetensors.h"
#include "core/model/engine.h"
#include "tests/support/support.h"

namespace covey::model {
namespace {

// Limits: golden/README.md, "Tolerances".
constexpr double kLogitsMax = 1e-4;
constexpr double kLossMax = 1e-5;
constexpr double kGradientRelative = 1e-4;
constexpr double kGradientAbsolute = 1e-6;

struct Adapter {
  AdapterSpec spec;
  std::vector<std::vector<float>> storage;
  AdapterView view() const {
    AdapterView v;
    for (std::size_t i = 0; i < spec.lora.size(); ++i) v.lora.push_back({storage[2 * i], storage[2 * i + 1]});
    if (spec.prompt_tokens > 0) v.prompt = storage.back();
    return v;
  }
  AdapterGradView grad_view() {
    AdapterGradView v;
    for (std::size_t i = 0; i < spec.lora.size(); ++i) v.lora.push_back({storage[2 * i], storage[2 * i + 1]});
    if (spec.prompt_tokens > 0) v.prompt = storage.back();
    return v;
  }
  Adapter zeros() const {
    Adapter z = *this;
    for (auto& values : z.storage) std::fill(values.begin(), values.end(), 0.0F);
    return z;
  }
};

class Case {
 public:
  explicit Case(const std::string& path) {
    auto file = formats::SafetensorsFile::open(path + "/golden.safetensors");
    REQUIRE_OK(file);
    file_ = std::move(file).value();
    auto loaded = Model::load(path);
    REQUIRE_OK(loaded);
    model = std::move(loaded).value();
    ids = ints("input_ids");
    labels = ints("labels");
    const auto mask = ints("attention_mask");
    B = static_cast<int>(file_->find("input_ids")->shape[0]);
    T = static_cast<int>(file_->find("input_ids")->shape[1]);
    for (int b = 0; b < B; ++b) {
      int length = 0;
      for (int t = 0; t < T; ++t) length += mask[at(b, t)];
      lengths.push_back(length);
      first.push_back(labels[at(b, 0)]);
      for (int t = 0; t < T; ++t) targets.push_back(t + 1 < T ? labels[at(b, t + 1)] : kNoTarget);
    }
  }

  std::size_t at(int b, int t) const { return static_cast<std::size_t>(b * T + t); }
  TokenBatch batch() const { return {B, T, ids, targets, lengths, first}; }
  const formats::TensorView* find(const std::string& name) const { return file_->find(name); }
  std::vector<float> floats(const std::string& name) const {
    INFO(name);
    REQUIRE(file_->find(name) != nullptr);
    auto values = formats::to_f32(*file_->find(name));
    REQUIRE_OK(values);
    return std::move(values).value();
  }
  double scalar(const std::string& name) const {
    auto values = formats::to_f64(*file_->find(name));
    REQUIRE_OK(values);
    return values.value()[0];
  }

  /// Every site that the case adapts; `prefix` "" for values, "dir." for directions, "grad." for gradients.
  Adapter lora(const std::string& prefix) const {
    Adapter adapter;
    for (std::size_t i = 0; i < model->linear_sites().size(); ++i) {
      const std::string name = prefix + "base_model.model." + model->linear_sites()[i].path;
      if (find(name + ".lora_A.weight") == nullptr) continue;
      adapter.spec.lora.push_back({static_cast<int>(i), 4, 2.0F});
      adapter.storage.push_back(floats(name + ".lora_A.weight"));
      adapter.storage.push_back(floats(name + ".lora_B.weight"));
    }
    REQUIRE(!adapter.spec.lora.empty());
    return adapter;
  }

  std::shared_ptr<Model> model;
  int B = 0, T = 0;
  std::vector<std::int32_t> ids, labels, targets, lengths, first;

 private:
  std::vector<std::int32_t> ints(const std::string& name) const {
    auto values = formats::to_i64(*file_->find(name));
    REQUIRE_OK(values);
    return {values.value().begin(), values.value().end()};
  }
  std::optional<formats::SafetensorsFile> file_;
};

std::unique_ptr<Engine> make_engine(const Case& c, ThreadPool& pool, bool checkpoint = false) {
  EngineOptions options;
  options.batch_max = c.B;
  options.seq_max = c.T;
  options.training = true;
  options.checkpoint = checkpoint;
  options.prompt_tokens_max = 3;
  options.tangent = true;
  auto engine = Engine::create(*c.model, options, pool);
  REQUIRE_OK(engine);
  return std::move(engine).value();
}

void check_logits(const Case& c, Engine& engine, const Adapter& adapter, const std::string& name) {
  const auto expected = c.floats(name);
  std::vector<float> logits(expected.size());
  REQUIRE_OK(engine.logits(c.batch(), adapter.spec, adapter.view(), logits));
  const int P = adapter.spec.prompt_tokens;
  const std::size_t V = expected.size() / static_cast<std::size_t>(c.B * (P + c.T));
  double worst = 0;
  for (int b = 0; b < c.B; ++b) {
    for (int t = 0; t < P + c.lengths[static_cast<std::size_t>(b)]; ++t) {
      const std::size_t row = static_cast<std::size_t>(b * (P + c.T) + t) * V;
      for (std::size_t v = row; v < row + V; ++v) {
        worst = std::max(worst, std::abs(static_cast<double>(logits[v]) - static_cast<double>(expected[v])));
      }
    }
  }
  INFO(name);
  CHECK(worst <= kLogitsMax);
}

void check_loss(const LossResult& loss, double expected) {
  CHECK(std::abs(loss.mean() - expected) <= kLossMax);
}

void check_gradient(const std::vector<float>& got, const std::vector<float>& expected, const std::string& name) {
  REQUIRE(got.size() == expected.size());
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  INFO(name);
  CHECK(worst <= kGradientRelative * largest + kGradientAbsolute);
}

void check_case(const std::string& name) {
  const auto path = test::golden_path(name);
  if (!path) return;
  const Case c(*path);
  ThreadPool pool(2);
  for (const bool checkpoint : {false, true}) {
    const auto engine = make_engine(c, pool, checkpoint);

    const Adapter none;
    check_logits(c, *engine, none, "logits");
    auto loss = engine->loss(c.batch(), none.spec, none.view());
    REQUIRE_OK(loss);
    check_loss(loss.value(), c.scalar("loss"));

    const Adapter lora = c.lora("");
    check_logits(c, *engine, lora, "lora_logits");
    loss = engine->loss(c.batch(), lora.spec, lora.view());
    REQUIRE_OK(loss);
    check_loss(loss.value(), c.scalar("lora_loss"));

    Adapter gradient = lora.zeros();
    loss = engine->gradient(c.batch(), lora.spec, lora.view(), gradient.grad_view());
    REQUIRE_OK(loss);
    check_loss(loss.value(), c.scalar("lora_loss"));
    const Adapter expected = c.lora("grad.");
    const Adapter direction = c.lora("dir.");
    double jvp = 0;
    for (std::size_t i = 0; i < gradient.storage.size(); ++i) {
      check_gradient(gradient.storage[i], expected.storage[i], "LoRA tensor " + std::to_string(i));
      for (std::size_t j = 0; j < gradient.storage[i].size(); ++j) {
        jvp += static_cast<double>(gradient.storage[i][j]) * static_cast<double>(direction.storage[i][j]);
      }
    }
    CHECK(std::abs(jvp - c.scalar("jvp")) <= 1e-4 * std::max(1.0, std::abs(c.scalar("jvp"))));
    const auto forward_mode = engine->jvp(c.batch(), lora.spec, lora.view(), direction.view());
    REQUIRE_OK(forward_mode);
    CHECK(std::abs(forward_mode.value().derivative - c.scalar("jvp")) <=
          1e-4 * std::max(1.0, std::abs(c.scalar("jvp"))));
    check_loss(forward_mode.value().loss, c.scalar("lora_loss"));

    Adapter prompt;
    prompt.spec.prompt_tokens = 3;
    prompt.storage.push_back(c.floats("prompt"));
    check_logits(c, *engine, prompt, "prompt_logits");
    Adapter prompt_gradient = prompt.zeros();
    loss = engine->gradient(c.batch(), prompt.spec, prompt.view(), prompt_gradient.grad_view());
    REQUIRE_OK(loss);
    check_loss(loss.value(), c.scalar("prompt_loss"));
    check_gradient(prompt_gradient.storage[0], c.floats("grad.prompt"), "prompt");
  }
}

}  // namespace

TEST_CASE("Llama agrees with the reference") {
  check_case("llama");
}
TEST_CASE("Llama with llama3 rope scaling and a tied head agrees with the reference") {
  check_case("llama_rope3");
}
TEST_CASE("Mistral with its sliding window agrees with the reference") {
  check_case("mistral");
}
TEST_CASE("Qwen2 with its biases agrees with the reference") {
  check_case("qwen2");
}

}  // namespace covey::model
