// report.html of a real, small run, in a browser.
#include <cstdlib>
#include <map>
#include <sstream>

#include "browser/chromium.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

const std::vector<std::string> kCharts = {"by_round", "accuracy", "by_time", "by_bytes", "participation", "energy"};

/// A run whose name tries to leave the script, and three pages: as written, with a probe, and the probe without charts.
struct Run {
  test::TempDir dir;
  std::string report;

  Run() {
    tiny::Choices choices;
    choices.rounds = 6;
    choices.dropout = 0.2;
    choices.name = "</script><b>tiny";
    const std::string experiment = tiny::World::shared().experiment(choices);
    const auto result =
        test::run_command(test::bin_dir() + "/covey-sim run " + experiment + " --out " + dir.file("run"));
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    const auto html = read_text_file(dir.file("run/report.html"));
    REQUIRE_OK(html);
    report = *html;
    const std::string end = "</body>";
    std::string probed = report;
    probed.insert(probed.rfind(end), test::probe_script());
    tiny::write(dir.file("probed.html"), probed);

    std::string bare = probed;
    const auto begin = bare.find("new Chart(");
    REQUIRE(begin != std::string::npos);
    bare.replace(begin, 10, "void (");
    tiny::write(dir.file("bare.html"), bare);
  }
  [[nodiscard]] std::string url(const std::string& file) const { return "file://" + dir.file(file); }
};

const Run& run() {
  static const Run made;
  return made;
}

struct Canvas {
  int width = 0;
  int height = 0;
  int coloured = 0;
};

std::map<std::string, Canvas> canvases(const std::string& probe) {
  std::map<std::string, Canvas> out;
  std::istringstream lines(probe);
  std::string line;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string id;
    Canvas canvas;
    words >> id >> canvas.width >> canvas.height >> canvas.coloured;
    out[id] = canvas;
  }
  return out;
}

}  // namespace

TEST_CASE("at two widths every curve is drawn, every figure is filled in, and the script does not fail") {
  for (const int width : {1280, 520}) {
    CAPTURE(width);
    const auto page = test::open_page(run().url("probed.html"), width, 1600);
    CHECK_MESSAGE(page.console.empty(), page.console);
    const auto found = canvases(test::between(page.dom, "<pre id=\"probe\">", "</pre>"));
    for (const auto& id : kCharts) {
      CAPTURE(id);
      REQUIRE(found.contains(id));
      CHECK(found.at(id).width > 300);
      CHECK(found.at(id).height > 150);
      CHECK(found.at(id).coloured > 200);  // a line across the canvas, two pixels wide
    }
    REQUIRE(found.contains("page"));
    CHECK(found.at("page").width <= found.at("page").height);  // nothing sticks out to the right
    CHECK(page.dom.find("<h1 id=\"title\">&lt;/script&gt;&lt;b&gt;tiny</h1>") != std::string::npos);
    CHECK(page.dom.find("perplexity before") != std::string::npos);
    const std::string shown = test::between(page.dom, "<main>", "</main>");  // without the scripts
    CHECK(shown.find("NaN") == std::string::npos);
    CHECK(shown.find("undefined") == std::string::npos);
    CHECK(test::between(page.dom, "<table id=\"rounds\">", "</table>").find("published") != std::string::npos);
    CHECK(test::between(page.dom, "<table id=\"classes\">", "</table>").find("midrange") != std::string::npos);
    CHECK(page.dom.find("covey-sim run ") != std::string::npos);
  }
}

TEST_CASE("the probe sees the difference: without the charts' script the canvases stay empty") {
  const auto page = test::open_page(run().url("bare.html"), 1280, 1600);
  const auto found = canvases(test::between(page.dom, "<pre id=\"probe\">", "</pre>"));
  for (const auto& id : kCharts) {
    CAPTURE(id);
    REQUIRE(found.contains(id));
    CHECK(found.at(id).coloured == 0);
  }
}

TEST_CASE("pictures: light and dark differ, and both differ from the page without charts") {
  // COVEY_SCREENSHOTS keeps the pictures for people.
  const char* keep = std::getenv("COVEY_SCREENSHOTS");
  const std::string folder = keep != nullptr ? std::string(keep) : run().dir.path();
  for (const int width : {1280, 520}) {
    const std::string name = folder + "/report_" + std::to_string(width);
    const auto light =
        test::screenshot("file://" + run().dir.file("run/report.html"), width, 2000, false, name + ".png");
    const auto dark =
        test::screenshot("file://" + run().dir.file("run/report.html"), width, 2000, true, name + "_dark.png");
    const auto bare = test::screenshot(run().url("bare.html"), width, 2000, false, name + "_bare.png");
    CHECK(light.starts_with("\x89PNG"));
    CHECK(light != dark);
    CHECK(light != bare);
    CHECK(light.size() > bare.size());
  }
}
