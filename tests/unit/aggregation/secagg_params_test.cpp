// Expected k and t: the published rows that security.md section 4 lists.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "aggregation/secagg_graph.h"
#include "aggregation/secagg_params.h"
#include "core/crypto/hash.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

struct Row {
  std::uint32_t n;
  double gamma;
  double delta;
  std::uint32_t k;
  std::uint32_t t;
};

void check_rows(std::span<const Row> rows, SecAggRule rule) {
  for (const Row& row : rows) {
    CAPTURE(row.n);
    CAPTURE(row.gamma);
    CAPTURE(row.delta);
    const auto solved = solve_sparse(row.n, {row.gamma, row.delta}, rule);
    REQUIRE_OK(solved);
    CHECK(solved->degree == row.k);
    CHECK(solved->threshold == row.t);
    CHECK_FALSE(solved->complete);
  }
}

SecAggGraph graph_of(std::uint32_t n, const SecAggAssumptions& assumptions, const char* seed) {
  return {*secagg_params(n, assumptions), crypto::hash(seed)};
}

}  // namespace

TEST_CASE("the curious rule gives the published k and t") {
  const std::array<Row, 7> rows = {{{100, .33, .33, 68, 34},
                                    {20, .1, .2, 8, 3},
                                    {50, .1, .2, 16, 6},
                                    {100, .1, .2, 28, 11},
                                    {200, .1, .2, 44, 20},
                                    {500, .1, .2, 58, 28},
                                    {1000, .1, .2, 66, 31}}};
  check_rows(rows, SecAggRule::curious);
}

TEST_CASE("the semi-malicious rule gives the published k and t") {
  const std::array<Row, 9> rows = {{{100, .05, .05, 16, 11},
                                    {1000, .05, .05, 52, 37},
                                    {1000, .05, .33, 398, 223},
                                    {20, .1, .2, 12, 8},
                                    {50, .1, .2, 26, 16},
                                    {100, .1, .2, 52, 32},
                                    {200, .1, .2, 88, 55},
                                    {500, .1, .2, 152, 97},
                                    {1000, .1, .2, 194, 124}}};
  check_rows(rows, SecAggRule::semi_malicious);
}

TEST_CASE("up to 64 devices the graph is complete and two disjoint honest halves never both reach t") {
  for (std::uint32_t n = 2; n <= 64; ++n) {
    for (const double gamma : {0.0, 0.05, 0.1, 0.25, 0.33}) {
      const auto params = secagg_params(n, {gamma, 0.2});
      REQUIRE_OK(params);
      CHECK(params->complete);
      CHECK(params->degree == n - 1);
      CHECK(params->holders() == n);
      CHECK(params->threshold == static_cast<std::uint32_t>(std::floor((n + gamma * n + 1e-9) / 2)) + 1);
      // Each half counts its own devices and all corrupt ones.
      const auto corrupt = static_cast<std::uint32_t>(gamma * n + 1e-9);
      CHECK(2 * params->threshold > n + corrupt);
    }
  }
}

TEST_CASE("above 64 devices `secure` takes the semi-malicious sparse rule, and never the curious one") {
  for (const std::uint32_t n : {65U, 100U, 300U, 1000U, 1280U}) {
    const auto params = secagg_params(n, {.1, .2});
    REQUIRE_OK(params);
    CHECK(*params == *solve_sparse(n, {.1, .2}, SecAggRule::semi_malicious));
    CHECK(2 * params->threshold > params->degree);
  }
}

TEST_CASE("where no sparse graph is enough the complete one is taken") {
  const SecAggAssumptions harsh{.4, .5};
  REQUIRE_FALSE(solve_sparse(70, harsh, SecAggRule::semi_malicious).ok());
  CHECK(secagg_params(70, harsh)->complete);
}

TEST_CASE("impossible numbers are refused in words") {
  CHECK_FALSE(secagg_params(1, {.1, .2}).ok());
  CHECK_FALSE(secagg_params(kSecAggDevicesMax + 1, {.1, .2}).ok());
  CHECK_FALSE(secagg_params(10, {1.0, .2}).ok());
  CHECK_FALSE(secagg_params(10, {-.1, .2}).ok());
  CHECK_FALSE(secagg_params(10, {.1, std::numeric_limits<double>::quiet_NaN()}).ok());
}

TEST_CASE("every device of a sparse graph has k neighbours, and being one is mutual") {
  for (const std::uint32_t n : {65U, 100U, 301U}) {
    const SecAggGraph graph = graph_of(n, {.05, .05}, "a");
    for (std::uint32_t i = 0; i < n; ++i) {
      const auto neighbours = graph.neighbours(i);
      CHECK(neighbours.size() == graph.params().degree);
      CHECK(std::set(neighbours.begin(), neighbours.end()).size() == neighbours.size());
      CHECK(std::is_sorted(neighbours.begin(), neighbours.end()));
      CHECK(neighbours == graph.holders(i));
      for (std::uint32_t j = 0; j < n; ++j) {
        const bool listed = std::binary_search(neighbours.begin(), neighbours.end(), j);
        CHECK(listed == graph.adjacent(i, j));
        CHECK(graph.adjacent(i, j) == graph.adjacent(j, i));
      }
    }
  }
}

TEST_CASE("another list gives another order, the same list the same") {
  CHECK(graph_of(100, {.1, .2}, "a").neighbours(0) == graph_of(100, {.1, .2}, "a").neighbours(0));
  CHECK(graph_of(100, {.1, .2}, "a").neighbours(0) != graph_of(100, {.1, .2}, "b").neighbours(0));
}

TEST_CASE("in a complete graph every device holds a share of every one, of itself too") {
  const SecAggGraph graph = graph_of(5, {.1, .2}, "a");
  CHECK(graph.holders(3) == std::vector<std::uint32_t>{0, 1, 2, 3, 4});
  CHECK(graph.neighbours(3) == std::vector<std::uint32_t>{0, 1, 2, 4});
  CHECK_FALSE(graph.adjacent(3, 3));
}
