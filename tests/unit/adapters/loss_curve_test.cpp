#include "adapters/loss_curve.h"

#include <cmath>
#include <vector>

#include "support/support.h"

using namespace covey;
using namespace covey::adapters;

TEST_CASE("a sparkline falls from its highest block to its lowest, and skips what is not finite") {
  CHECK(sparkline(std::vector<double>{7, 6, 5, 4, 3, 2, 1, 0}, 8) == "█▇▆▅▄▃▂▁");
  CHECK(sparkline(std::vector<double>{4, 2, 2, 0}, 2) == "█▁");  // means 3 and 1
  CHECK(sparkline(std::vector<double>{1, std::nan(""), 0}, 8) == "█▁");
  CHECK(sparkline({}, 8).empty());
}

TEST_CASE("a loss plot has its highest loss at the top left and its ends on the axes") {
  const std::vector<LossPoint> training{{1, 3}, {2, 2}, {3, 1}};
  const std::vector<LossPoint> held_out{{3, 2}};
  CHECK(loss_plot(training, held_out, 9, 3) ==
        "   3.0000 |.        \n"
        "          |    .   o\n"
        "   1.0000 |        .\n"
        "          +---------\n"
        "           1  step 3\n"
        "           . training   o held out\n");
  CHECK(loss_plot(std::vector<LossPoint>{{1, 3}}, {}, 9, 3).empty());
}

TEST_CASE("durations are read at a glance") {
  CHECK(duration_text(42.4) == "0:42");
  CHECK(duration_text(725) == "12:05");
  CHECK(duration_text(3 * 3600 + 7 * 60 + 9) == "3:07:09");
  CHECK(duration_text(std::nan("")) == "?");
  CHECK(duration_text(-1) == "?");
}
