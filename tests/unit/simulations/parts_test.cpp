// The simulator's small parts: order of events, fleets, modelled times, the training pool.
#include <atomic>
#include <vector>

#include "simulations/fleet.h"
#include "simulations/training_pool.h"
#include "simulations/virtual_time.h"
#include "support/support.h"

using namespace covey;
using namespace covey::simulations;

TEST_CASE("events run by time, and at the same time in the order of posting") {
  EventQueue queue(1'000);
  std::vector<int> ran;
  queue.at(20, [&] { ran.push_back(3); });
  queue.at(10, [&] { ran.push_back(1); });
  queue.at(10, [&] {
    ran.push_back(2);
    queue.at(5, [&] { ran.push_back(20); });  // in the past: now, behind what is posted for now already
    queue.after(10, [&] { ran.push_back(4); });
  });
  while (queue.run_one()) {
  }
  CHECK(ran == std::vector<int>{1, 2, 20, 3, 4});
  CHECK(queue.now_ms() == 20);
  CHECK(queue.clock().wall_ms() == 1'020);
  CHECK(queue.empty());
}

TEST_CASE("a fleet has its classes in their shares, the same for the same seed") {
  const auto classes = builtin_classes();
  const auto fleet = draw_classes(classes, 20'000, 7);
  std::vector<double> counts(classes.size());
  for (const auto index : fleet) counts.at(index) += 1;
  double total = 0;
  for (const auto& kind : classes) total += kind.share;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    CHECK(counts[i] / 20'000 == doctest::Approx(classes[i].share / total).epsilon(0.05));
  }
  CHECK(draw_classes(classes, 20'000, 7) == fleet);
  CHECK(draw_classes(classes, 20'000, 8) != fleet);
  // A longer fleet of the same seed begins with the shorter one.
  const auto longer = draw_classes(classes, 20'001, 7);
  CHECK(std::equal(fleet.begin(), fleet.end(), longer.begin()));
}

TEST_CASE("a class without a share has no devices") {
  auto classes = builtin_classes();
  classes[0].share = 0;
  for (const auto index : draw_classes(classes, 500, 1)) CHECK(index != 0);
}

TEST_CASE("modelled times follow from the class's figures") {
  DeviceClass device;
  device.training_gflops = 4;
  CHECK(training_ms(device, 1'000'000, 1'000) == 1'000);  // 4 * 10^6 * 10^3 operations at 4 * 10^9 a second
  CHECK(training_ms(device, 1'000'000, 1) == 1);
  CHECK(training_ms(device, 1, 1) == 1);  // never less than a millisecond
  CHECK(training_ms(device, 1'000'000, 0) == 0);
  CHECK(transfer_ms(125'000, 1'000'000) == 8'000);
  CHECK(transfer_ms(125'000, 1) == 1);
  CHECK(transfer_ms(125'000, 0) == 0);
}

TEST_CASE("the training pool gives each ticket its own result, with any number of threads") {
  for (const int threads : {1, 3}) {
    TrainingPool pool(threads);
    std::vector<TrainingPool::Ticket> tickets;
    for (int i = 0; i < 20; ++i) {
      tickets.push_back(pool.submit([i]() -> Result<client::TrainingOutcome> {
        if (i == 7) return Error{ErrorCode::resource_exhausted, "seven"};
        client::TrainingOutcome outcome;
        outcome.delta.assign(1, static_cast<float>(i));
        return outcome;
      }));
    }
    for (int i = 19; i >= 0; --i) {
      const auto result = pool.take(tickets[static_cast<std::size_t>(i)]);
      if (i == 7) {
        REQUIRE_FALSE(result.ok());
        CHECK(result.error().message == "seven");
      } else {
        REQUIRE_OK(result);
        CHECK(result->delta.at(0) == static_cast<float>(i));
      }
    }
  }
}

TEST_CASE("a dropped job that waits never runs, and the pool can go with jobs in it") {
  std::atomic<int> ran = 0;
  {
    TrainingPool pool(1);
    std::atomic<bool> go = false;
    const auto blocker = pool.submit([&]() -> Result<client::TrainingOutcome> {
      while (!go) std::this_thread::yield();
      return client::TrainingOutcome{};
    });
    const auto dropped = pool.submit([&]() -> Result<client::TrainingOutcome> {
      ++ran;
      return client::TrainingOutcome{};
    });
    pool.drop(dropped);
    go = true;
    CHECK(pool.take(blocker).ok());
    const auto last = pool.submit([&]() -> Result<client::TrainingOutcome> { return client::TrainingOutcome{}; });
    CHECK(pool.take(last).ok());
    CHECK(pool.busy_seconds() >= 0);
    for (int i = 0; i < 5; ++i) pool.submit([] { return Result<client::TrainingOutcome>(client::TrainingOutcome{}); });
  }
  CHECK(ran == 0);
}
