#include "core/base/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "support/support.h"

using namespace covey;

TEST_CASE("every tile runs exactly once whatever the number of threads") {
  ThreadPool pool(1);
  for (const int threads : {1, 2, 3, 1, 4}) {
    pool.set_threads(threads);
    for (int repeat = 0; repeat < 200; ++repeat) {
      std::vector<int> hits(37);
      pool.parallel_for(hits.size(), [&](std::size_t i) { ++hits[i]; });
      for (const int h : hits) REQUIRE(h == 1);
    }
  }
}

TEST_CASE("a thread whose tile is slow leaves the rest of its share to the others") {
  ThreadPool pool(2);
  std::atomic<int> done{0};
  pool.parallel_for(40, [&](std::size_t i) {
    while (i == 0 && done < 39) std::this_thread::yield();  // ends only if another takes tiles 1 to 19 as well
    ++done;
  });
  CHECK(done == 40);
}
