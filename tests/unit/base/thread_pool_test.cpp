#include "core/base/thread_pool.h"

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
