#include "client/trainer.h"

#include <chrono>
#include <filesystem>
#include <thread>

#include "adapters/adapter.h"
#include "client/local_round.h"
#include "core/base/file.h"
#include "core/store/memory_store.h"
#include "session_world.h"

using namespace covey;
using namespace covey::client;

namespace {

namespace fs = std::filesystem;

/// stories260K as a base model, an adapter on it, and a handful of examples.
struct Fixture {
  test::TempDir dir;
  adapters::Workbench bench;
  std::vector<float> values;
  wire::RoundPlan plan = test::sample_plan(3);
  store::MemoryStore disk;
  ExampleStore examples = *ExampleStore::open(disk);
  SystemClock clock;

  explicit Fixture(const std::string& model) {
    fs::create_directory(dir.file("model"));
    fs::copy_file(model, dir.file("model/stories260K.bin"));
    for (const char* name : {"tok512.bin", "tokenizer.bin"}) {
      const auto from = fs::path(model).parent_path() / name;
      if (fs::exists(from)) fs::copy_file(from, dir.file(std::string("model/") + name));
    }
    auto opened = adapters::open_workbench(dir.file("model/stories260K.bin"));
    REQUIRE_OK(opened);
    bench = *std::move(opened);
    adapters::LoraOptions options;
    options.rank = 2;
    auto adapter = adapters::Adapter::create_lora(*bench.model, options, 1);
    REQUIRE_OK(adapter);
    values.assign(adapter->values().begin(), adapter->values().end());
    plan.model = {{"stories260K.bin", test::hash_of(1), 1}};
    plan.adapter_layout = adapter->layout().canonical();
    plan.adapter.bytes = values.size() * 4;
    plan.local_steps = 12;
    std::vector<adapters::TextExample> texts;
    for (int i = 0; i < 9; ++i)
      texts.push_back({"", "Once upon a time there was a cat number " + std::to_string(i) + " who liked milk."});
    REQUIRE_OK(examples.add(texts));
  }
  [[nodiscard]] std::vector<train::TokenRow> rows() const {
    return adapters::example_rows(*bench.tokenizer, *examples.all(), static_cast<int>(plan.seq));
  }
};

struct Files final : PlanFiles {
  const Fixture& fixture;
  explicit Files(const Fixture& f) : fixture(f) {}
  Result<std::string> model_directory(const wire::RoundPlan&) override { return fixture.dir.file("model"); }
  Result<std::vector<float>> adapter_values(const wire::RoundPlan&) override { return fixture.values; }
};

WorkerTrainerOptions options_for(const Fixture& fixture) {
  WorkerTrainerOptions options;
  options.checkpoint_directory = fixture.dir.path();
  options.storage_key = SecretBytes(Bytes(32, 9));
  options.checkpoint_ms = 0;  // after every step
  options.progress_ms = 0;
  return options;
}

/// Waits for the trainer's last word, or for `progress` where it says to stop there.
std::optional<Event> wait_for(WorkerTrainer& trainer, std::uint32_t until_step = UINT32_MAX) {
  for (int i = 0; i < 20'000; ++i) {
    if (auto event = trainer.poll()) {
      const auto* progress = std::get_if<TrainingProgressed>(&*event);
      if (progress == nullptr || progress->step >= until_step) return event;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::nullopt;
}

std::optional<std::string> stories() {
  return test::data_path("stories260K/stories260K.bin");
}

}  // namespace

TEST_CASE("a round trains by each method, and where memory does not allow backprop, zeroth order still fits") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  const auto rows = fixture.rows();
  ThreadPool pool(1);
  std::uint64_t needed[3] = {};
  SessionPolicy policy;
  policy.weakest_mode = fixture.plan.mode;
  const auto layout = adapters::AdapterLayout::parse(fixture.plan.adapter_layout);
  REQUIRE_OK(layout);
  const auto spec = layout->bind(fixture.bench.model->linear_sites());
  REQUIRE_OK(spec);
  for (int i = 0; i < 3; ++i) {
    fixture.plan.method = train::method_names()[static_cast<std::size_t>(i)];
    CHECK(check_plan(fixture.plan, policy).reason == wire::RefusalReason::none);
    const auto outcome = train_now({fixture.plan, fixture.bench, fixture.values, rows, 0}, pool, fixture.clock);
    REQUIRE_OK(outcome);
    CHECK(outcome->report.steps == 12);
    CHECK(train::l2_norm(outcome->delta) > 0);
    train::TrainConfig config;
    config.gradient.method = *train::method_named(fixture.plan.method);
    config.batch = static_cast<int>(fixture.plan.batch);
    needed[i] = train::memory_plan(*fixture.bench.model, *spec, config, static_cast<int>(fixture.plan.seq)).total();
  }
  CHECK(needed[2] < needed[0]);
  CHECK(needed[1] < needed[0]);
  const std::uint64_t granted = needed[2] + (needed[0] - needed[2]) / 10;
  CHECK(train_now({fixture.plan, fixture.bench, fixture.values, rows, granted}, pool, fixture.clock).ok());
  fixture.plan.method = "backprop";
  const auto refused = train_now({fixture.plan, fixture.bench, fixture.values, rows, granted}, pool, fixture.clock);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ErrorCode::resource_exhausted);
  fixture.plan.method = "telepathy";
  CHECK(check_plan(fixture.plan, policy).detail.find("method") != std::string::npos);
}

TEST_CASE("a plan's stochastic rounding follows from round and device, and changes nothing without int8 weights") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  const auto rows = fixture.rows();
  ThreadPool pool(1);
  const auto delta = [&](bool stochastic, std::uint64_t device, std::uint64_t round) {
    wire::RoundPlan plan = fixture.plan;
    plan.stochastic_rounding = stochastic;
    plan.round = RoundId{round};
    const auto outcome = train_now({plan, fixture.bench, fixture.values, rows, 0, device}, pool, fixture.clock);
    REQUIRE_OK(outcome);
    return outcome->delta;
  };
  CHECK(delta(true, 1, 3) == delta(false, 1, 3));
  REQUIRE_OK(fixture.bench.model->use_int8());
  const auto drawn = delta(true, 1, 3);
  CHECK(drawn == delta(true, 1, 3));
  CHECK(drawn != delta(false, 1, 3));
  CHECK(drawn != delta(true, 2, 3));
  CHECK(drawn != delta(true, 1, 4));
  CHECK(delta(false, 1, 3) == delta(false, 2, 3));
}

TEST_CASE("a round's training gives the same delta with 1 and 3 threads, and lowers the loss") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  const auto rows = fixture.rows();
  ThreadPool one(1);
  ThreadPool three(3);
  const auto a = train_now({fixture.plan, fixture.bench, fixture.values, rows, 0}, one, fixture.clock);
  const auto b = train_now({fixture.plan, fixture.bench, fixture.values, rows, 0}, three, fixture.clock);
  REQUIRE_OK(a);
  REQUIRE_OK(b);
  CHECK(a->delta == b->delta);
  CHECK(a->weight == rows.size());
  CHECK(a->report.steps == 12);
  CHECK(a->report.loss_last < a->report.loss_first);
  CHECK(a->report.tokens_per_s > 0);
}

TEST_CASE("a plan that does not fit the model, the memory or the data is refused for that reason") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  const auto rows = fixture.rows();
  ThreadPool pool(1);
  const auto reason = [&](const wire::RoundPlan& plan, std::span<const train::TokenRow> with, std::uint64_t memory) {
    const auto got = train_now({plan, fixture.bench, fixture.values, with, memory}, pool, fixture.clock);
    return got.ok() ? wire::RefusalReason::none : refusal_for(got.error());
  };
  CHECK(reason(fixture.plan, rows, 1000) == wire::RefusalReason::memory);
  CHECK(reason(fixture.plan, {}, 0) == wire::RefusalReason::no_data);
  auto other = fixture.plan;
  other.adapter_layout = test::sample_plan().adapter_layout;
  CHECK(reason(other, rows, 0) == wire::RefusalReason::bad_plan);
  auto longer = fixture.plan;
  longer.seq = 8192;
  CHECK(reason(longer, rows, 0) == wire::RefusalReason::bad_plan);
}

TEST_CASE("stopped in the middle and started again, the worker goes on from its checkpoint to the same delta") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  Files files(fixture);
  ThreadPool pool(1);
  const auto rows = fixture.rows();
  const auto whole = train_now({fixture.plan, fixture.bench, fixture.values, rows, 0}, pool, fixture.clock);
  REQUIRE_OK(whole);
  fixture.plan.local_steps = 12;
  {
    WorkerTrainer trainer(options_for(fixture), files, fixture.examples, fixture.clock);
    trainer.start(fixture.plan);
    REQUIRE(wait_for(trainer, 3).has_value());
    trainer.stop(true);
    CHECK_FALSE(trainer.poll().has_value());
  }  // the process ends
  REQUIRE(fs::exists(fixture.dir.file("round-3.ckpt")));
  const auto sealed = read_file(fixture.dir.file("round-3.ckpt"));
  REQUIRE_OK(sealed);

  WorkerTrainer trainer(options_for(fixture), files, fixture.examples, fixture.clock);
  trainer.start(fixture.plan);
  const auto first = wait_for(trainer, 1);
  REQUIRE(first.has_value());
  if (const auto* progress = std::get_if<TrainingProgressed>(&*first)) CHECK(progress->step > 3);
  const auto last = std::holds_alternative<TrainingDone>(*first) ? first : wait_for(trainer);
  REQUIRE(last.has_value());
  const auto* done = std::get_if<TrainingDone>(&*last);
  REQUIRE(done != nullptr);
  CHECK(done->outcome.delta == whole->delta);

  trainer.stop(false);
  for (int i = 0; i < 2000 && fs::exists(fixture.dir.file("round-3.ckpt")); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_FALSE(fs::exists(fixture.dir.file("round-3.ckpt")));
}

TEST_CASE("a checkpoint of another device's key or another round is not used") {
  const auto model = stories();
  if (!model) return;
  Fixture fixture(*model);
  Files files(fixture);
  REQUIRE_OK(write_file_durably(fixture.dir.file("round-3.ckpt"), std::string_view("junk")));
  WorkerTrainer trainer(options_for(fixture), files, fixture.examples, fixture.clock);
  trainer.start(fixture.plan);
  const auto last = wait_for(trainer);
  REQUIRE(last.has_value());
  CHECK(std::holds_alternative<TrainingDone>(*last));
}
