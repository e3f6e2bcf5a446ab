// A step that is told to stop, and a step that asks for no memory.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;
using namespace covey::train::tiny;

namespace {

std::atomic<long> allocations = 0;

void* counted(std::size_t size) {
  ++allocations;
  void* p = std::malloc(size > 0 ? size : 1);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

// NOLINTBEGIN(misc-new-delete-overloads)
void* operator new(std::size_t size) {
  return counted(size);
}
void* operator new[](std::size_t size) {
  return counted(size);
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  std::free(p);
}
// NOLINTEND(misc-new-delete-overloads)

TEST_CASE("a step that is stopped at any moment leaves the trainer as it was, and more threads may join at any step") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool one(1), pool(1);
  auto straight = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(12), one, kClock);
  auto disturbed = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(12), pool, kClock);
  REQUIRE_OK(straight);
  REQUIRE_OK(disturbed);
  REQUIRE_OK((*straight)->run());
  std::atomic<bool> stop = true;
  (*disturbed)->stop_when(&stop);
  CHECK((*disturbed)->step().error().code == ErrorCode::cancelled);
  CHECK((*disturbed)->steps_done() == 0);
  int stopped = 0;
  for (int i = 0; !(*disturbed)->done(); ++i) {
    stop = i % 4 == 3;  // at once; else after a while
    pool.set_threads(1 + i % 3);
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(i % 20 * 20));
      stop = true;
    });
    const auto step = (*disturbed)->step();
    other.join();
    if (step.ok()) continue;
    CHECK(step.error().code == ErrorCode::cancelled);
    ++stopped;
    if (stopped > 200) (*disturbed)->stop_when(nullptr);  // a machine so busy that no step ends in time
  }
  CHECK(stopped > 0);
  CHECK((*straight)->delta() == (*disturbed)->delta());
}

TEST_CASE("a central difference that is stopped between its two losses takes back what it moved") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool pool(1);
  TrainConfig config = config_of(5);
  config.gradient.method = Method::zeroth_order;
  config.optimizer.kind = OptimizerKind::sgd;
  auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, kClock);
  REQUIRE_OK(trainer);
  std::atomic<bool> stop = true;
  (*trainer)->stop_when(&stop);
  CHECK((*trainer)->step().error().code == ErrorCode::cancelled);
  double moved = 0;
  for (const float change : (*trainer)->delta()) moved = std::max(moved, std::abs(static_cast<double>(change)));
  CHECK(moved < 1e-7);  // epsilon is 1e-2
  stop = false;
  REQUIRE_OK((*trainer)->run());
}

TEST_CASE("loss, gradient and derivative ask for no memory once they were computed before") {
  for (const bool int8 : {false, true}) {
    Setup setup = lora_setup();
    if (int8) REQUIRE_OK(setup.model->use_int8());
    for (const bool checkpoint : {false, true}) {
      CAPTURE(int8);
      CAPTURE(checkpoint);
      ThreadPool pool(2);
      model::EngineOptions options{.batch_max = 3, .seq_max = 16, .training = true, .checkpoint = checkpoint};
      options.tangent = !checkpoint;
      options.trained = {.adapter = setup.spec};
      const auto engine = model::Engine::create(*setup.model, options, pool);
      REQUIRE_OK(engine);
      const auto view = flat_view(setup.spec, setup.model->linear_sites(), 16, std::span<const float>(setup.start));
      std::vector<float> values(setup.start.size());
      const auto gradient = flat_grad_view(setup.spec, setup.model->linear_sites(), 16, values);
      std::vector<std::int32_t> ids(48, 1);
      const model::TokenBatch batch{.B = 3, .T = 16, .ids = ids, .targets = ids, .lengths = {}};
      long before = 0;
      bool computed = true;
      for (int i = 0; i < 3; ++i) {
        if (i == 1) before = allocations;
        computed = (*engine)->gradient(batch, setup.spec, view, gradient).ok() && computed;
        computed = (*engine)->loss(batch, setup.spec, view).ok() && computed;
        if (options.tangent) computed = (*engine)->jvp(batch, setup.spec, view, view).ok() && computed;
      }
      const long asked = allocations - before;
      CHECK(computed);
      CHECK(asked == 0);
      CHECK(before > 0);
    }
  }
}
