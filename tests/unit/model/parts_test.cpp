// Scales, biases, prefixes and bottlenecks on tiny models of every kind of block (the golden cases' models).
#include <algorithm>
#include <cmath>

#include "core/base/rng.h"
#include "core/model/engine.h"
#include "tests/support/support.h"
#include "tests/unit/model/tiny_parts.h"

namespace covey::model {
namespace {

using tiny::kKinds;
using tiny::Parts;
using tiny::parts_of;
using tiny::random_parts;

/// Of each kind of block one or two: pre-norm, with a fused matrix, grouped keys or a window; post-norm, with layers
/// that share weights; parallel residual; encoder-decoder; RWKV.
const std::vector<std::string> kCases = {"llama",          "mistral", "gpt2",
                                         "bloom",          "gemma2",  "bert",
                                         "distilbert_mlm", "albert",  "mobilebert",
                                         "gpt_neox",       "phi",     "t5",
                                         "bart",           "rwkv",    "rwkv-tiny/tiny-rwkv-7v0-834K-FP32.bin"};

/// A batch of two rows, the second shorter, that suits the model's task.
struct Rows {
  std::vector<std::int32_t> ids, targets, lengths, second;
  TokenBatch batch;

  explicit Rows(const ModelConfig& c) {
    constexpr int B = 2;
    constexpr int T = 6;
    Rng rng(7);
    const auto token = [&] {
      return static_cast<std::int32_t>(3 + rng.below(static_cast<std::uint64_t>(c.vocab_size - 3)));
    };
    for (int i = 0; i < B * T; ++i) ids.push_back(token());
    lengths = {T, T - 2};
    const bool classes = c.task == Task::classification;
    const int width = c.two_stacks() ? 4 : T;
    for (int i = 0; i < B * width && c.two_stacks(); ++i) second.push_back(token());
    for (int b = 0; b < B; ++b) {
      for (int t = 0; t < (classes ? 1 : width); ++t) {
        const bool padding = !classes && !c.two_stacks() && t >= lengths[static_cast<std::size_t>(b)];
        targets.push_back(padding ? kNoTarget : classes ? b % c.outputs() : token());
      }
    }
    batch = {B, T, ids, targets, lengths};
    batch.second_ids = second;
    batch.T2 = c.two_stacks() ? width : 0;
  }
  [[nodiscard]] std::size_t logit_rows(const ModelConfig& c) const {
    return static_cast<std::size_t>(c.task == Task::classification ? batch.B
                                                                   : batch.B * (c.two_stacks() ? batch.T2 : batch.T));
  }
};

std::unique_ptr<Engine> engine_for(const Model& model, ThreadPool& pool, bool checkpoint = false) {
  EngineOptions options{.batch_max = 2, .seq_max = 6, .training = true, .checkpoint = checkpoint};
  options.prompt_tokens_max = 2;
  options.tangent = true;
  options.target_seq_max = model.config().two_stacks() ? 4 : 0;
  auto made = Engine::create(model, options, pool);
  REQUIRE_OK(made);
  return std::move(made).value();
}

std::vector<float> logits_of(Engine& engine, const Model& model, const Rows& rows, const Parts& parts) {
  std::vector<float> out(rows.logit_rows(model.config()) * static_cast<std::size_t>(model.config().outputs()));
  REQUIRE_OK(engine.logits(rows.batch, parts.spec, parts.view(), out));
  return out;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

double norm(const Parts& parts) {
  double squares = 0;
  for (const auto& values : parts.values) squares += dot(values, values);
  return std::sqrt(squares);
}

/// g / |g| + r / |r|: a direction of length about sqrt(2) along which the loss is sure to change.
Parts steep_direction(const Parts& gradient, const Parts& random) {
  Parts out = gradient.zeros();
  for (const Parts* of : {&gradient, &random}) {
    const double length = norm(*of);
    for (std::size_t i = 0; i < out.values.size(); ++i) {
      for (std::size_t j = 0; j < out.values[i].size(); ++j) {
        out.values[i][j] += static_cast<float>(static_cast<double>(of->values[i][j]) / length);
      }
    }
  }
  return out;
}

/// The gradient along v, by central differences. The loss is summed in f64 over f32 logits, so a step of 2e-3 leaves
/// about 1e-4 of rounding; what it cuts off is less.
double difference(Engine& engine, const Rows& rows, const Parts& parts, const Parts& v) {
  constexpr float kStep = 2e-3F;
  double loss[2];
  for (int side = 0; side < 2; ++side) {
    Parts moved = parts;
    for (std::size_t i = 0; i < moved.values.size(); ++i) {
      for (std::size_t j = 0; j < moved.values[i].size(); ++j) {
        moved.values[i][j] += (side == 0 ? kStep : -kStep) * v.values[i][j];
      }
    }
    const auto result = engine.loss(rows.batch, moved.spec, moved.view());
    REQUIRE_OK(result);
    loss[side] = result->mean();
  }
  return (loss[0] - loss[1]) / (2 * static_cast<double>(kStep));
}

/// f(model, kind, name of both) for every pair that there is.
template <typename F>
void for_each_pair(F&& f) {
  for (const std::string& name : kCases) {
    const auto path = name.ends_with(".bin") ? test::data_path(name) : test::golden_path(name);
    if (!path) continue;
    const auto model = Model::load(*path);
    REQUIRE_OK(model);
    for (const PartKind kind : kKinds) {
      CAPTURE(name);
      CAPTURE(static_cast<int>(kind));
      if (!parts_of(**model, kind).empty()) f(**model, kind);
    }
  }
}

}  // namespace

TEST_CASE("The gradients of scales, biases, prefixes and bottlenecks are those of differences and of forward mode") {
  ThreadPool pool(2);
  for_each_pair([&](const Model& model, PartKind kind) {
    const Rows rows(model.config());
    const auto engine = engine_for(model, pool);
    const Parts parts = random_parts(model, kind, 3);
    Parts gradient = parts.zeros();
    const auto loss = engine->gradient(rows.batch, parts.spec, parts.view(), gradient.gradient_view());
    REQUIRE_OK(loss);
    Parts v = random_parts(model, kind, 4, 1.0F);
    double expected = 0;
    for (std::size_t i = 0; i < v.values.size(); ++i) expected += dot(gradient.values[i], v.values[i]);
    CHECK(expected != 0);
    const auto along = engine->jvp(rows.batch, parts.spec, parts.view(), v.view());
    REQUIRE_OK(along);
    CHECK(along->loss.mean() == doctest::Approx(loss->mean()).epsilon(1e-6));
    CHECK(std::abs(along->derivative - expected) <= 1e-4 * std::max(1.0, std::abs(expected)));
    const Parts steep = steep_direction(gradient, v);
    double slope = 0;
    for (std::size_t i = 0; i < v.values.size(); ++i) slope += dot(gradient.values[i], steep.values[i]);
    const double by_difference = difference(*engine, rows, parts, steep);
    CHECK(std::abs(by_difference - slope) <= 3e-3 * std::abs(slope) + 2e-4);
    // One part after the other, so that no two mistakes can make up for each other.
    for (std::size_t i = 0; i < v.values.size(); ++i) {
      Parts one = v.zeros();
      one.values[i] = v.values[i];
      const double own = dot(gradient.values[i], one.values[i]);
      const auto of_one = engine->jvp(rows.batch, parts.spec, parts.view(), one.view());
      REQUIRE_OK(of_one);
      CAPTURE(i);
      CHECK(std::abs(of_one->derivative - own) <= 1e-4 * std::max(1.0, std::abs(own)));
    }
  });
}

TEST_CASE("A checkpointed backward pass gives parts the same bits") {
  ThreadPool pool(2);
  for_each_pair([&](const Model& model, PartKind kind) {
    const Rows rows(model.config());
    const Parts parts = random_parts(model, kind, 5);
    Parts gradient[2] = {parts.zeros(), parts.zeros()};
    for (int side = 0; side < 2; ++side) {
      const auto engine = engine_for(model, pool, side == 1);
      REQUIRE_OK(engine->gradient(rows.batch, parts.spec, parts.view(), gradient[side].gradient_view()));
    }
    CHECK(gradient[0].values == gradient[1].values);
  });
}

TEST_CASE("Parts that change nothing leave every logit as it was, bit for bit") {
  ThreadPool pool(1);
  for_each_pair([&](const Model& model, PartKind kind) {
    if (kind == PartKind::prefix) return;  // two keys more are never nothing
    const Rows rows(model.config());
    const auto engine = engine_for(model, pool);
    Parts parts = random_parts(model, kind, 6, 0.0F);  // ones and zeros
    if (kind == PartKind::bottleneck || kind == PartKind::block_bottleneck) {
      for (std::size_t i = 0; i < parts.values.size(); ++i) {
        const AdapterPart& part = parts.spec.parts[i];
        const auto down = static_cast<std::size_t>(part.count * (part.width + 1));
        std::fill_n(parts.values[i].begin(), down, 0.25F);  // U and u alone are zero
      }
    }
    CHECK(logits_of(*engine, model, rows, parts) == logits_of(*engine, model, rows, Parts{}));
    CHECK(logits_of(*engine, model, rows, random_parts(model, kind, 6)) != logits_of(*engine, model, rows, Parts{}));
  });
}

TEST_CASE("A prefix made of tokens is those tokens, standing before the row") {
  ThreadPool pool(1);
  // Rotary, learned and linear positions, a window shorter than the row, and a cap.
  for (const char* name : {"llama", "gpt2", "bloom", "mistral", "gemma2", "gpt_neox", "opt"}) {
    const auto path = test::golden_path(name);
    if (!path) continue;
    CAPTURE(name);
    const auto model = Model::load(*path);
    REQUIRE_OK(model);
    const std::vector<std::int32_t> ids = {5, 9, 4, 11, 7, 13, 6, 8};
    const auto V = static_cast<std::size_t>((*model)->config().vocab_size);
    const auto engine = Engine::create(**model, {.seq_max = 8, .prompt_tokens_max = 2}, pool);
    REQUIRE_OK(engine);
    std::vector<float> whole(8 * V);
    REQUIRE_OK((*engine)->logits({.B = 1, .T = 8, .ids = ids, .targets = {}, .lengths = {}}, {}, {}, whole));
    Parts prefix;
    prefix.spec.parts = parts_of(**model, PartKind::prefix);
    auto values = prefix_of_tokens(**model, std::span(ids).first(2), pool);
    REQUIRE_OK(values);
    prefix.values = *std::move(values);
    std::vector<float> rest(6 * V);
    const auto tail = std::span(ids).subspan(2);
    REQUIRE_OK((*engine)->logits({.B = 1, .T = 6, .ids = tail, .targets = {}, .lengths = {}}, prefix.spec,
                                 prefix.view(), rest));
    float worst = 0;
    for (std::size_t i = 0; i < rest.size(); ++i) worst = std::max(worst, std::abs(rest[i] - whole[2 * V + i]));
    CHECK(worst <= 2e-5F);
    const auto decoder = Decoder::create(**model, 6, prefix.spec, prefix.view(), pool);
    REQUIRE_OK(decoder);
    for (std::size_t t = 0; t < tail.size(); ++t) {
      const auto logits = (*decoder)->feed(tail[t]);
      REQUIRE_OK(logits);
      for (std::size_t i = 0; i < V; ++i) worst = std::max(worst, std::abs((*logits)[i] - rest[t * V + i]));
    }
    CHECK(worst <= 2e-5F);
  }
}

TEST_CASE("Token by token, parts give the logits of the whole row") {
  ThreadPool pool(1);
  for_each_pair([&](const Model& model, PartKind kind) {
    if (!model.config().generates()) return;
    const std::vector<std::int32_t> ids = {5, 9, 4, 11};
    const Parts parts = random_parts(model, kind, 8);
    const auto V = static_cast<std::size_t>(model.config().vocab_size);
    std::vector<float> whole(ids.size() * V);
    const auto engine = engine_for(model, pool);
    const TokenBatch batch{.B = 1, .T = 4, .ids = ids, .targets = {}, .lengths = {}};
    REQUIRE_OK(engine->logits(batch, parts.spec, parts.view(), whole));
    const auto decoder = Decoder::create(model, 4, parts.spec, parts.view(), pool);
    REQUIRE_OK(decoder);
    float worst = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const auto logits = (*decoder)->feed(ids[t]);
      REQUIRE_OK(logits);
      for (std::size_t i = 0; i < V; ++i) worst = std::max(worst, std::abs((*logits)[i] - whole[t * V + i]));
    }
    CHECK(worst <= 5e-5F);
  });
}

TEST_CASE("An encoder-decoder writes token by token what its whole rows say, with parts too") {
  ThreadPool pool(1);
  for (const char* name : {"t5", "bart"}) {
    const auto path = test::golden_path(name);
    if (!path) continue;
    const auto loaded = Model::load(*path);
    REQUIRE_OK(loaded);
    const Model& model = **loaded;
    const std::vector<std::int32_t> source = {5, 9, 4, 11, 7};
    const std::vector<std::int32_t> written = {6, 8, 10};
    const auto V = static_cast<std::size_t>(model.config().vocab_size);
    for (const PartKind kind : kKinds) {
      if (parts_of(model, kind).empty()) continue;
      CAPTURE(name);
      CAPTURE(static_cast<int>(kind));
      const Parts parts = random_parts(model, kind, 8);
      std::vector<float> whole(written.size() * V);
      const auto engine = engine_for(model, pool);
      TokenBatch batch{.B = 1, .T = 5, .ids = source, .targets = {}, .lengths = {}};
      batch.second_ids = written;
      batch.T2 = 3;
      REQUIRE_OK(engine->logits(batch, parts.spec, parts.view(), whole));
      const auto decoder = Decoder::create_for_source(model, source, 3, parts.spec, parts.view(), pool);
      REQUIRE_OK(decoder);
      float worst = 0;
      for (std::size_t t = 0; t < written.size(); ++t) {
        const auto logits = (*decoder)->feed(written[t]);
        REQUIRE_OK(logits);
        for (std::size_t i = 0; i < V; ++i) worst = std::max(worst, std::abs((*logits)[i] - whole[t * V + i]));
      }
      CHECK(worst <= 5e-5F);
    }
  }
}

TEST_CASE("Parts that do not fit the model are refused by what is wrong with them") {
  const auto path = test::golden_path("llama");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  ThreadPool pool(1);
  const auto engine = engine_for(**model, pool);
  const Rows rows((*model)->config());
  const auto message = [&](const Parts& parts) {
    return engine->loss(rows.batch, parts.spec, parts.view()).error().message;
  };
  CHECK((*model)->biases().empty());
  Parts bias;
  bias.spec.parts.push_back({PartKind::bias, 0, 8});
  CHECK(message(bias).find("no bias 0") != std::string::npos);
  Parts some = random_parts(**model, PartKind::prefix, 1);
  some.spec.parts.pop_back();
  some.values.pop_back();
  CHECK(message(some).find("some attentions only") != std::string::npos);
  Parts uneven = random_parts(**model, PartKind::prefix, 1);
  uneven.spec.parts.back().count = 1;
  CHECK(message(uneven).find("different lengths") != std::string::npos);
  Parts narrow = random_parts(**model, PartKind::scale_in, 1);
  narrow.spec.parts[0].width -= 1;
  CHECK(message(narrow).find("of width") != std::string::npos);
  Parts twice = random_parts(**model, PartKind::scale_out, 1);
  twice.spec.parts[1] = twice.spec.parts[0];
  CHECK(message(twice).find("two parts of one kind") != std::string::npos);
  Parts short_values = random_parts(**model, PartKind::bottleneck, 1);
  short_values.values[0].pop_back();
  CHECK(message(short_values).find("do not fit the parts") != std::string::npos);
  Parts none = random_parts(**model, PartKind::bottleneck, 1);
  none.spec.parts[0].count = 0;
  CHECK(message(none).find("is not within") != std::string::npos);
}

}  // namespace covey::model
