// The whole experiment on real input: minutes.
#include <algorithm>

#include "core/formats/json.h"
#include "unit/simulations/speakers.h"

using namespace covey;
using namespace covey::simulations;

TEST_CASE(
    "200 devices and 20 rounds on stories260K: byte-identical with 1 and 2 threads, perplexity far below before") {
  const test::TempDir dir;
  const auto experiment = speakers_experiment(dir, 20);
  if (!experiment) return;
  const std::string first = metrics_of_run(*experiment, dir.file("a"), "--threads 2");
  CHECK(std::count(first.begin(), first.end(), '\n') >= 20);
  CHECK(metrics_of_run(*experiment, dir.file("b"), "--threads 1") == first);
  const auto summary = formats::Json::load(dir.file("a/summary.json"));
  REQUIRE_OK(summary);
  CHECK(*summary->get_uint("rounds_published") == 20);
  CHECK(*summary->find("final")->get_double("perplexity") < 0.8 * *summary->find("base")->get_double("perplexity"));
}
