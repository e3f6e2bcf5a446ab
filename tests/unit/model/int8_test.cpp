#include <algorithm>
#include <cmath>

#include "core/base/file.h"
#include "core/formats/safetensors.h"
#include "core/model/weights.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    aa += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    bb += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return ab / std::sqrt(aa * bb);
}

struct Measured {
  double loss = 0;
  std::vector<float> gradient;
};

/// How a gradient is rounded on its way down.
struct Rounding {
  std::optional<std::uint64_t> seed = {};
  int threads = 2;
  int before = 0;  ///< gradients that the engine gives first
  bool checkpoint = false;
};

/// Mean loss, and the gradient of LoRA on all layers, over one batch.
Measured measure(const Model& model, const TokenBatch& batch, Rounding rounding = {}) {
  std::vector<int> sites;
  for (std::size_t i = 0; i < model.linear_sites().size(); ++i) {
    if (model.linear_sites()[i].layer >= 0) sites.push_back(static_cast<int>(i));
  }
  // As early in training: A random, B small. (With a large random adapter the model says nonsense.)
  auto adapter = tiny::lora(model, sites, 4, 1.0F);
  for (auto& b : adapter.b) {
    for (float& value : b) value *= 0.03F;
  }
  auto gradient = adapter.zeros();
  ThreadPool pool(rounding.threads);
  EngineOptions options;
  options.batch_max = batch.B;
  options.seq_max = batch.T;
  options.training = true;
  options.checkpoint = rounding.checkpoint;
  options.stochastic_seed = rounding.seed;
  const auto engine = tiny::engine(model, pool, options);
  for (int i = 0; i < rounding.before; ++i) {
    auto unused = adapter.zeros();
    REQUIRE_OK(engine->gradient(batch, adapter.spec, adapter.view(), unused.gradient_view()));
  }
  const auto loss = engine->gradient(batch, adapter.spec, adapter.view(), gradient.gradient_view());
  REQUIRE_OK(loss);
  Measured out;
  out.loss = loss->mean();
  for (const auto& ab : gradient.gradient_view().lora) {
    out.gradient.insert(out.gradient.end(), ab.a.begin(), ab.a.end());
    out.gradient.insert(out.gradient.end(), ab.b.begin(), ab.b.end());
  }
  return out;
}

/// A row of what the model says itself, greedily.
tiny::Batch own_words(const Model& model, int T) {
  ThreadPool pool(1);
  const auto decoder = Decoder::create(model, T + 1, {}, {}, pool);
  REQUIRE_OK(decoder);
  std::vector<std::int32_t> ids{model.config().bos_id};
  for (int t = 0; t < T; ++t) {
    const auto logits = (*decoder)->feed(ids.back());
    REQUIRE_OK(logits);
    ids.push_back(static_cast<std::int32_t>(std::ranges::max_element(*logits) - logits->begin()));
  }
  tiny::Batch batch{1, T, ids, {ids.begin() + 1, ids.end()}, {T}};
  batch.ids.pop_back();
  return batch;
}

void compare(Model& model, const TokenBatch& batch) {
  const Measured exact = measure(model, batch);
  CHECK(model.int8_bytes() == 0);
  REQUIRE_OK(model.use_int8());
  CHECK(model.int8_bytes() > 0);
  const Measured rounded = measure(model, batch);
  const double similar = cosine(exact.gradient, rounded.gradient);
  MESSAGE("cosine of the LoRA gradient " << similar << ", loss " << exact.loss << " in f32, " << rounded.loss
                                         << " in w8a8");
  CHECK(similar >= 0.99);
  CHECK(std::abs(std::exp(rounded.loss - exact.loss) - 1) <= 0.005);  // change of perplexity
  CHECK(rounded.loss != exact.loss);
}

}  // namespace

TEST_CASE("W8A8 gives stories260K's LoRA gradient within a cosine of 0.99, and its perplexity within half a percent") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  compare(**model, own_words(**model, 128).view());
}

TEST_CASE("W8A8 gives babyllama's LoRA gradient within a cosine of 0.99, and its perplexity within half a percent") {
  const auto path = test::data_path("babyllama-tok105/model5000.bin");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  compare(**model, own_words(**model, 128).view());
}

TEST_CASE("W8A8 with stochastic rounding: the mean gradient over seeds nears that of an f32 backward pass") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto source = Model::load(*path);
  REQUIRE_OK(source);
  const auto words = own_words(**source, 32);
  const test::TempDir dir;
  REQUIRE_OK((*source)->use_int8());
  REQUIRE_OK((*source)->save_int8(dir.file("m")));
  // f32 values that int8 holds exactly: nothing but the rounding of dY is then between the two backward passes.
  const auto model = Model::load(dir.file("m"), {.writable = true});
  REQUIRE_OK(model);
  REQUIRE_OK((*model)->use_int8());
  const auto backward_in_int8 = [&](bool on) {
    for (Linear& linear : const_cast<Model::Impl&>((*model)->impl()).linears) {  // NOLINT: no program may choose this
      linear.int8_backward = on;
      if (linear.word_head) linear.int8 = nullptr;  // a file holds it in f32, which its int8 copy only nears
    }
  };
  backward_in_int8(false);
  const std::vector<float> exact = measure(**model, words.view()).gradient;
  backward_in_int8(true);
  const auto distance = [&](const std::vector<float>& to) {
    double sum = 0;
    double whole = 0;
    for (std::size_t i = 0; i < to.size(); ++i) {
      sum += std::pow(static_cast<double>(to[i]) - static_cast<double>(exact[i]), 2);
      whole += std::pow(static_cast<double>(exact[i]), 2);
    }
    return std::sqrt(sum / whole);
  };
  const int kSeeds = 64;
  std::vector<double> sum(exact.size());
  double one = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const auto drawn = measure(**model, words.view(), {.seed = static_cast<std::uint64_t>(seed)}).gradient;
    one += distance(drawn) / kSeeds;
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += static_cast<double>(drawn[i]) / kSeeds;
  }
  const double mean = distance({sum.begin(), sum.end()});
  MESSAGE("from the f32 backward pass: one seed " << one << ", the mean of 64 " << mean << ", to the nearest "
                                                  << distance(measure(**model, words.view()).gradient));
  CHECK(one > 0);
  CHECK(mean < 0.16 * one);  // an eighth is noise; a bias of a tenth of one seed's noise is seen
}

TEST_CASE("W8A8 with stochastic rounding: the noise of many gradients cancels, and follows from the seed alone") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  const auto words = own_words(**model, 32);
  REQUIRE_OK((*model)->use_int8());
  const auto one = [&](Rounding rounding) { return measure(**model, words.view(), rounding).gradient; };
  const auto mean = [&](std::uint64_t first, int count) {
    std::vector<double> sum;
    for (int i = 0; i < count; ++i) {
      const auto gradient = one({.seed = first + static_cast<std::uint64_t>(i)});
      sum.resize(gradient.size());
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += static_cast<double>(gradient[j]) / count;
    }
    return sum;
  };
  const auto distance = [](const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum);
  };
  const auto many = mean(1000, 256);
  const double of_one = distance(mean(1, 1), many);
  const double of_sixteen = distance(mean(1, 16), many);
  MESSAGE("from the mean of 256 gradients: one " << of_one << ", the mean of 16 " << of_sixteen);
  CHECK(of_one > 0);
  CHECK(of_sixteen < of_one * 0.4);  // a quarter, where draws are independent
  const auto first = one({.seed = 7});
  CHECK(first == one({.seed = 7, .threads = 1}));
  CHECK(first == one({.seed = 7, .threads = 3, .checkpoint = true}));
  CHECK(first != one({.seed = 8}));
  CHECK(first != one({.seed = 7, .before = 1}));
}

TEST_CASE("W8A8 gives the LoRA gradient of random blocks as wide as smollm135m's within a cosine of 0.99") {
  ModelConfig config;
  config.hidden_size = 576;
  config.layers = 2;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  config.intermediate_size = 1536;
  config.vocab_size = 512;
  config.context_max = 64;
  const auto model = Model::create(config, 3);
  REQUIRE_OK(model);
  const auto batch = tiny::batch(2, 48, 512);
  compare(**model, batch.view());
}

TEST_CASE("A W8A8 directory has compressed-tensors' layout, and loads to the same int8 model") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto f32 = Model::load(*path);
  REQUIRE_OK(f32);
  Model& model = **f32;
  const test::TempDir dir;
  CHECK_FALSE(model.save_int8(dir.file("m")).ok());
  REQUIRE_OK(model.use_int8());
  REQUIRE_OK(model.save_int8(dir.file("m")));
  const auto file = formats::SafetensorsFile::open(dir.file("m/model.safetensors"));
  REQUIRE_OK(file);
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const formats::TensorView* weight = file->find(name);
  const formats::TensorView* scale = file->find(name + "_scale");
  REQUIRE((weight != nullptr && scale != nullptr));
  CHECK(weight->dtype == formats::DType::i8);
  CHECK(weight->shape == std::vector<std::int64_t>{64, 172});
  CHECK(scale->dtype == formats::DType::f32);
  CHECK(scale->shape == std::vector<std::int64_t>{64, 1});
  const auto source = Model::load(*path, {.writable = true});
  REQUIRE_OK(source);
  for (const auto& tensor : (*source)->parameters()) {
    if (tensor.name != name) continue;
    const auto scales = formats::as_f32(*scale);
    REQUIRE_OK(scales);
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {  // row-major, value = scale of its row * int8
      const auto q = static_cast<std::int8_t>(weight->bytes[i]);
      const float s = (*scales)[i / 172];
      CHECK(std::abs(tensor.values[i] - s * static_cast<float>(q)) <= 0.501F * s);
    }
  }
  const auto again = Model::load(dir.file("m"));
  REQUIRE_OK(again);
  CHECK((*again)->int8_bytes() == model.int8_bytes());
  const auto batch = tiny::batch(2, 30, 512);
  CHECK(measure(**again, batch.view()).gradient == measure(model, batch.view()).gradient);
  REQUIRE_OK((*again)->save(dir.file("n")));
  CHECK(read_file(dir.file("n/model.safetensors")).value() == read_file(dir.file("m/model.safetensors")).value());
  const auto writable = Model::load(dir.file("m"), {.writable = true});
  REQUIRE_OK(writable);
  CHECK((*writable)->int8_bytes() == 0);
}

TEST_CASE("A quantization that we do not compute is refused by the name of its member") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  const test::TempDir dir;
  REQUIRE_OK((*model)->use_int8());
  REQUIRE_OK((*model)->save_int8(dir.path()));
  const auto text = read_file(dir.file("config.json"));
  REQUIRE_OK(text);
  const std::string config(text->begin(), text->end());
  const auto refuses = [&](const std::string& from, const std::string& to, const std::string& named) {
    std::string changed = config;
    REQUIRE(changed.find(from) != std::string::npos);
    changed.replace(changed.find(from), from.size(), to);
    REQUIRE_OK(write_file_durably(dir.file("config.json"), changed));
    const auto loaded = Model::load(dir.path());
    REQUIRE_FALSE(loaded.ok());
    CHECK(loaded.error().code == ErrorCode::unsupported);
    CHECK(loaded.error().message.find(named) != std::string::npos);
  };
  refuses("\"int-quantized\"", "\"pack-quantized\"", "quantization_config.format");
  refuses("\"channel\"", "\"group\"", "weights.strategy");
  refuses("\"token\"", "\"tensor\"", "input_activations.strategy");
  refuses("\"num_bits\": 8", "\"num_bits\": 4", "num_bits");
}

}  // namespace covey::model
