// The coordinator's dashboard, served by the program itself, in a browser.
#include <cstdlib>

#include "browser/chromium.h"
#include "support/process.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

/// A coordinator that serves the tiny model and waits for devices.
struct Coordinator {
  test::TempDir dir;
  int port = test::free_port();
  std::optional<test::Process> process;

  Coordinator() {
    const auto made =
        test::run_command(test::bin_dir() + "/covey-coordinator init --task front-rooms " + dir.file("home"));
    REQUIRE_MESSAGE(made.exit_code == 0, made.err);
    const std::string config = dir.file("home/coordinator.yaml");
    tiny::write(config, "task: front-rooms\nlisten: tcp://127.0.0.1:" + std::to_string(test::free_port()) +
                            "\nmodel: " + tiny::World::shared().file("base") +
                            "\ngoal: 40\nroster_key: roster.key\ndashboard: {port: " + std::to_string(port) + "}\n");
    process.emplace(std::vector<std::string>{"covey-coordinator", "serve", "--config", config}, dir.file("log"));
    const bool serves = test::eventually(20'000, [&] {
      return test::run_command("curl -sf " + url("/api/status") + " | grep -q front-rooms").exit_code == 0;
    });
    REQUIRE_MESSAGE(serves, process->output());
  }
  [[nodiscard]] std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(port) + path;
  }
};

}  // namespace

TEST_CASE("the dashboard shows the task, its threat model and empty tables, and its script does not fail") {
  const Coordinator coordinator;
  for (const int width : {1280, 520}) {
    CAPTURE(width);
    const auto page = test::open_page(coordinator.url("/"), width, 1200);
    CHECK_MESSAGE(page.console.empty(), page.console);
    CHECK(page.dom.find("Covey: front-rooms") != std::string::npos);
    CHECK(page.dom.find("Privacy mode secure (curious coordinator)") != std::string::npos);
    CHECK(page.dom.find("rounds published") != std::string::npos);
    CHECK(page.dom.find("None has enrolled") != std::string::npos);
    const std::string shown = test::between(page.dom, "<main>", "</main>");  // without the scripts
    CHECK(shown.find("NaN") == std::string::npos);
    const std::string canvas = test::between(page.dom, "<canvas id=\"curve\"", ">");
    CHECK(std::atoi(test::between(canvas, "width=\"", "\"").c_str()) > 300);  // Chart.js has sized it
    CHECK(std::atoi(test::between(canvas, "height=\"", "\"").c_str()) > 150);
  }
  const char* keep = std::getenv("COVEY_SCREENSHOTS");
  const std::string folder = keep != nullptr ? std::string(keep) : coordinator.dir.path();
  const auto light = test::screenshot(coordinator.url("/"), 1280, 1200, false, folder + "/dashboard.png");
  const auto dark = test::screenshot(coordinator.url("/"), 1280, 1200, true, folder + "/dashboard_dark.png");
  CHECK(light != dark);
}

TEST_CASE("the dashboard loads its script from its own server and nothing from elsewhere") {
  const Coordinator coordinator;
  const auto page = test::run_command("curl -sf " + coordinator.url("/"));
  REQUIRE(page.exit_code == 0);
  CHECK(page.out.find("src=\"/chart.js\"") != std::string::npos);
  CHECK(page.out.find("http:") == std::string::npos);
  CHECK(page.out.find("https:") == std::string::npos);
  CHECK(page.out.find("//") == page.out.find("// title"));  // no scheme-relative address; the first is a comment
}
