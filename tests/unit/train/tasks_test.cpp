// Training and evaluation of classifiers, masked language models and encoder-decoders.
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/train/evaluate.h"
#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;
using namespace covey::train::tiny;

namespace {

std::shared_ptr<model::Model> model_from(const std::string& json) {
  const auto config = model::config_from_hf(json, "config.json");
  REQUIRE_OK(config);
  auto model = model::Model::create(*config, 4);
  REQUIRE_OK(model);
  for (auto& tensor : (*model)->parameters()) {  // first values say almost nothing, whatever is added
    if (tensor.shape.size() < 2) continue;
    for (float& x : tensor.values) x *= tensor.name == "lm_head.weight" ? 40 : 8;
  }
  return *model;
}

std::string bert(const std::string& architecture) {
  return R"({"model_type": "bert", "architectures": [")" + architecture +
         R"("], "vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 32, "type_vocab_size": 2, "hidden_act": "gelu",
    "id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}})";
}

const char* const kT5 = R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 40,
    "d_model": 24, "d_kv": 12, "d_ff": 32, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "relu",
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16, "tie_word_embeddings": false,
    "decoder_start_token_id": 0})";

struct TaskCase {
  std::string name;
  Setup setup;
  std::vector<TokenRow> rows;
  TrainConfig config;
};

Setup setup_of(std::shared_ptr<model::Model> model) {
  Setup out{.model = std::move(model), .spec = {}, .start = {}};
  const auto& sites = out.model->linear_sites();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].layer >= 0) out.spec.lora.push_back({.site = static_cast<int>(i), .rank = 4, .scale = 2});
  }
  std::vector<float> head;
  for (const auto& parameter : out.model->head_parameters()) {
    head.insert(head.end(), parameter.values.begin(), parameter.values.end());
  }
  out.spec.head_values = static_cast<std::int64_t>(head.size());
  out.start.resize(static_cast<std::size_t>(flat_size(out.spec, sites, out.model->config().embedding_width())));
  CounterRng(5).fill_normal(out.start);
  for (float& x : out.start) x *= 0.05F;
  std::ranges::copy(head, out.start.end() - static_cast<std::ptrdiff_t>(head.size()));
  return out;
}

/// The class is which of four tokens stands somewhere in the row.
std::vector<TokenRow> class_rows(int count, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<TokenRow> rows;
  for (int i = 0; i < count; ++i) {
    TokenRow row;
    row.is_class = true;
    row.targets = {i % 4};
    const std::uint64_t length = 5 + rng.below(6);
    for (std::uint64_t t = 0; t < length; ++t) row.ids.push_back(static_cast<std::int32_t>(10 + rng.below(30)));
    row.ids[0] = 2;
    row.ids[1 + rng.below(length - 1)] = 5 + i % 4;
    if (i % 2 == 0) {
      row.types.assign(length, 0);
      row.types.back() = 1;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Texts of one token over and over: a masked one can be told from the others.
std::vector<TokenRow> uniform_rows(int count) {
  Rng rng(9);
  std::vector<TokenRow> rows;
  for (int i = 0; i < count; ++i) {
    const auto token = static_cast<std::int32_t>(6 + rng.below(8));
    TokenRow row;
    row.ids.assign(8 + rng.below(6), token);
    row.targets = row.ids;
    row.ids[0] = 2;
    row.targets[0] = data::kNoTarget;
    rows.push_back(std::move(row));
  }
  return rows;
}

/// The target is the source backwards, and then token 1.
std::vector<TokenRow> reversing_rows(int count) {
  Rng rng(12);
  std::vector<TokenRow> rows;
  for (int i = 0; i < count; ++i) {
    TokenRow row;
    const std::uint64_t length = 2 + rng.below(4);
    for (std::uint64_t t = 0; t < length; ++t) row.ids.push_back(static_cast<std::int32_t>(5 + rng.below(35)));
    row.targets.assign(row.ids.rbegin(), row.ids.rend());
    row.targets.push_back(1);
    row.second_ids = {0};
    row.second_ids.insert(row.second_ids.end(), row.targets.begin(), row.targets.end() - 1);
    rows.push_back(std::move(row));
  }
  return rows;
}

TaskCase case_of(const std::string& name, std::int64_t steps) {
  TaskCase out{.name = name, .setup = {}, .rows = {}, .config = config_of(steps)};
  if (name == "classification") {
    out.setup = setup_of(model_from(bert("BertForSequenceClassification")));
    out.rows = class_rows(48, 3);
  } else if (name == "masked_lm") {
    out.setup = setup_of(model_from(bert("BertForMaskedLM")));
    out.rows = uniform_rows(24);
    out.config.masking = data::Masking{.mask_id = 4, .vocab = 40, .share = 0.3, .seed = 6};
  } else {
    out.setup = setup_of(model_from(kT5));
    out.rows = reversing_rows(6);
  }
  return out;
}

const std::vector<std::string> kNames = {"classification", "masked_lm", "seq2seq"};

std::unique_ptr<LocalTrainer> trainer_of(const TaskCase& task, ThreadPool& pool) {
  auto trainer =
      LocalTrainer::create(*task.setup.model, task.setup.spec, task.setup.start, task.rows, task.config, pool, kClock);
  REQUIRE_OK(trainer);
  return *std::move(trainer);
}

Evaluation evaluated(const TaskCase& task, std::span<const float> values, ThreadPool& pool) {
  const auto view = flat_view(task.setup.spec, task.setup.model->linear_sites(),
                              task.setup.model->config().embedding_width(), values);
  auto result = evaluate(*task.setup.model, task.setup.spec, view, task.rows,
                         {.batch = 5, .seq = 16, .masking = task.config.masking}, pool);
  REQUIRE_OK(result);
  return *result;
}

std::vector<float> values_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("a classifier's head and LoRA, a masked language model and an encoder-decoder learn what there is to learn") {
  ThreadPool pool(2);
  for (const std::string& name : kNames) {
    CAPTURE(name);
    TaskCase task = case_of(name, 300);
    task.config.lr = 0.005;
    const auto trainer = trainer_of(task, pool);
    REQUIRE_OK(trainer->run());
    const Evaluation before = evaluated(task, task.setup.start, pool);
    const Evaluation after = evaluated(task, trainer->values(), pool);
    CAPTURE(before.loss);
    CAPTURE(after.loss);
    CAPTURE(after.accuracy);
    CHECK(after.loss < before.loss / 2);
    CHECK(after.accuracy > 0.8);  // chance: 0.25, 0.03, 0.03
    CHECK(after.examples == static_cast<std::int64_t>(task.rows.size()));
  }
}

TEST_CASE("every task accumulates micro-batches to the whole batch's gradient, whatever the parts' targets") {
  ThreadPool pool(2);
  for (const std::string& name : kNames) {
    CAPTURE(name);
    TaskCase whole = case_of(name, 1);
    whole.config.batch = 6;
    whole.config.clip_norm = 0;
    whole.config.lr = 1;
    whole.config.optimizer.kind = OptimizerKind::sgd;
    TaskCase parts = whole;
    parts.config.micro_batch = 4;  // parts of 4 and 2 rows
    const auto a = trainer_of(whole, pool);
    const auto b = trainer_of(parts, pool);
    REQUIRE_OK(a->run());
    REQUIRE_OK(b->run());
    CHECK(a->report().last_loss == doctest::Approx(b->report().last_loss).epsilon(1e-6));
    const auto in_one = a->delta(), in_two = b->delta();
    float largest = 0;
    for (const float x : in_one) largest = std::max(largest, std::abs(x));
    CHECK(largest > 0);
    // Sums in another order, as for causal models; and values below 1 are rounded to 6e-8.
    for (std::size_t i = 0; i < in_one.size(); ++i) CHECK(std::abs(in_one[i] - in_two[i]) <= 1e-5F * largest + 6e-8F);
  }
}

TEST_CASE("every task and method goes on from a checkpoint bit for bit, with any number of threads") {
  ThreadPool one(1), three(3);
  for (const std::string& name : kNames) {
    for (const Method method : {Method::backprop, Method::forward_gradient, Method::zeroth_order}) {
      CAPTURE(name);
      CAPTURE(static_cast<int>(method));
      TaskCase task = case_of(name, 9);
      task.config.gradient.method = method;
      const auto straight = trainer_of(task, one);
      REQUIRE_OK(straight->run());
      const auto first = trainer_of(task, three);
      for (int i = 0; i < 5; ++i) REQUIRE_OK(first->step());
      const auto second = trainer_of(task, three);
      REQUIRE_OK(second->restore(first->checkpoint()));
      REQUIRE_OK(second->run());
      CHECK(values_of(second->values()) == values_of(straight->values()));
    }
    // Other rows, or another masking, are other inputs.
    const TaskCase task = case_of(name, 9);
    const Bytes saved = trainer_of(task, one)->checkpoint();
    TaskCase other = task;
    if (name == "masked_lm") {
      other.config.masking->seed = 8;
    } else if (name == "seq2seq") {
      other.rows[0].second_ids[0] = 3;
    } else {
      other.rows[0].types[0] = 1;
    }
    CHECK(trainer_of(other, one)->restore(saved).error().code == ErrorCode::corrupt_data);
  }
}

TEST_CASE("rows of another kind than the model's task are refused in words") {
  ThreadPool pool(1);
  const auto refused = [&](const std::string& name, std::vector<TokenRow> rows) {
    TaskCase task = case_of(name, 1);
    task.config.masking.reset();
    const auto made =
        LocalTrainer::create(*task.setup.model, task.setup.spec, task.setup.start, rows, task.config, pool, kClock);
    REQUIRE_FALSE(made.ok());
    CHECK(made.error().code == ErrorCode::invalid_argument);
    return made.error().message;
  };
  CHECK(refused("classification", counting_rows(3)).find("rows with a label") != std::string::npos);
  CHECK(refused("masked_lm", class_rows(3, 1)).find("no classifier") != std::string::npos);
  CHECK(refused("seq2seq", counting_rows(3)).find("a source and a target") != std::string::npos);
  CHECK(refused("masked_lm", reversing_rows(3)).find("no encoder-decoder") != std::string::npos);
  TaskCase task = case_of("classification", 1);
  task.rows[0].targets = {4};  // a class that is not there
  const auto trainer = LocalTrainer::create(*task.setup.model, task.setup.spec, task.setup.start,
                                            std::span(task.rows).first(1), task.config, pool, kClock);
  REQUIRE_OK(trainer);
  CHECK_FALSE((*trainer)->step().ok());
}

TEST_CASE("counts of classes give the accuracy and F1 that one works out by hand") {
  // truth:     0 0 0 1 1 2
  // predicted: 0 0 1 1 2 2   and class 3 is neither true nor predicted
  ClassCounts counts(4);
  for (const auto& [truth, predicted] :
       std::vector<std::pair<int, int>>{{0, 0}, {0, 0}, {0, 1}, {1, 1}, {1, 2}, {2, 2}}) {
    counts.add(truth, predicted);
  }
  CHECK(counts.examples() == 6);
  CHECK(counts.accuracy() == doctest::Approx(4.0 / 6));
  CHECK(counts.micro_f1() == doctest::Approx(4.0 / 6));
  // Class 0: precision 1, recall 2/3, F1 0.8. Class 1: both 1/2. Class 2: precision 1/2, recall 1, F1 2/3.
  CHECK(counts.score(0).precision == 1);
  CHECK(counts.score(0).recall == doctest::Approx(2.0 / 3));
  CHECK(counts.score(0).f1 == doctest::Approx(0.8));
  CHECK(counts.score(1).f1 == doctest::Approx(0.5));
  CHECK(counts.score(2).f1 == doctest::Approx(2.0 / 3));
  CHECK(counts.score(2).support == 1);
  CHECK(counts.score(2).predicted == 2);
  CHECK(counts.score(3).f1 == 0);
  CHECK(counts.macro_f1() == doctest::Approx((0.8 + 0.5 + 2.0 / 3) / 3));
  CHECK(ClassCounts(2).macro_f1() == 0);
}

TEST_CASE("a classifier evaluated by its logits has the loss and accuracy that the fused loss has") {
  ThreadPool pool(2);
  const TaskCase task = case_of("classification", 1);
  const auto view = flat_view(task.setup.spec, task.setup.model->linear_sites(),
                              task.setup.model->config().embedding_width(), task.setup.start);
  const auto counted =
      evaluate_classes(*task.setup.model, task.setup.spec, view, task.rows, {.batch = 5, .seq = 16}, pool);
  REQUIRE_OK(counted);
  const Evaluation fused = evaluated(task, task.setup.start, pool);
  CHECK(counted->total.loss == doctest::Approx(fused.loss).epsilon(1e-5));
  CHECK(counted->total.accuracy == fused.accuracy);
  CHECK(counted->counts.accuracy() == fused.accuracy);
  CHECK(counted->counts.score(0).support == 12);
  const TaskCase masked = case_of("masked_lm", 1);
  CHECK_FALSE(evaluate_classes(*masked.setup.model, {}, {}, masked.rows, {}, pool).ok());
}
