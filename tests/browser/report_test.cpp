// report.html of a real, small run and the page of `covey-sim compare`, in a browser: two widths, light and dark.
#include <algorithm>
#include <cstdlib>

#include "browser/chromium.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

constexpr int kDesktop = 1280;
constexpr int kPhone = 390;

/// A run whose name tries to leave its element, and four runs side by side.
struct Pages {
  test::TempDir dir;
  std::string report;
  std::string comparison;

  Pages() {
    tiny::Choices choices;
    choices.rounds = 6;
    choices.dropout = 0.2;
    choices.weight_max = 1;
    choices.privacy = "mode: robust, dp: {mechanism: central_gaussian, noise_multiplier: 0.1, epsilon_max: 100000}";
    choices.name = "</script><b>tiny, with a name that is rather long for a page as narrow as a phone</b>";
    run(tiny::World::shared().experiment(choices), "run");
    std::string both;
    for (const char* rule : {"backprop", "zeroth-order"}) {
      for (const int seed : {1, 2}) {
        tiny::Choices compared;
        compared.method = rule;
        compared.seed = seed;
        compared.rounds = 6;
        const std::string folder = std::string(rule) + "-s" + std::to_string(seed);
        run(tiny::World::shared().experiment(compared), folder);
        both += " " + dir.file(folder);
      }
    }
    const auto compared =
        test::run_command(test::bin_dir() + "/covey-sim compare" + both + " -o " + dir.file("side.html"));
    REQUIRE_MESSAGE(compared.exit_code == 0, compared.err);
    report = *read_text_file(dir.file("run/report.html"));
    comparison = *read_text_file(dir.file("side.html"));
  }

 private:
  void run(const std::string& experiment, const std::string& folder) const {
    const auto result =
        test::run_command(test::bin_dir() + "/covey-sim run " + experiment + " --out " + dir.file(folder));
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  }
};

const Pages& pages() {
  static const Pages made;
  return made;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += word + "\n";
  return out;
}

const test::Looks::Drawing* drawing(const test::Looks& looks, const std::string& id) {
  const auto at = std::ranges::find(looks.drawings, id, &test::Looks::Drawing::id);
  return at == looks.drawings.end() ? nullptr : &*at;
}

/// What holds for every page, at every width, in both schemes.
void check_readable(const std::string& html, const std::vector<std::string>& curves) {
  for (const int width : {kDesktop, kPhone}) {
    for (const bool dark : {false, true}) {
      CAPTURE(width);
      CAPTURE(dark);
      const auto looks = test::look_at(html, pages().dir.path(), width, dark);
      CHECK(looks.window_width == width);
      CHECK(looks.page_width <= width);  // nothing sticks out to the right
      CHECK_MESSAGE(looks.clipped.empty(), joined(looks.clipped));
      CHECK_MESSAGE(looks.overlapping.empty(), joined(looks.overlapping));
      CHECK_MESSAGE(looks.contrast >= 4.5, looks.contrast_of);
      CHECK(looks.smallest_text >= 9.5);
      if (dark) {
        CHECK(looks.ground < 0.02);
      } else {
        CHECK(looks.ground > 0.85);
      }
      for (const auto& id : curves) {
        CAPTURE(id);
        const auto* found = drawing(looks, id);
        REQUIRE(found != nullptr);
        CHECK(found->width > (width == kPhone ? 300 : 320));
        CHECK(found->longest > 100);
        CHECK(found->shapes >= 7);  // a dot for the start and one a round
        CHECK(found->described);
      }
    }
  }
}

const std::vector<std::string> kReportCurves = {"perplexity_by_round",  "perplexity_by_time",    "perplexity_by_bytes",
                                                "perplexity_by_energy", "perplexity_by_epsilon", "accuracy_by_round"};

}  // namespace

TEST_CASE("the report is readable at two widths, light and dark, and every curve is drawn") {
  check_readable(pages().report, kReportCurves);
  const auto looks = test::look_at(pages().report, pages().dir.path(), kDesktop, false);
  for (const char* id : {"participation_bars", "own_loss", "took_part"}) {
    CAPTURE(id);
    REQUIRE(drawing(looks, id) != nullptr);
    CHECK(drawing(looks, id)->shapes >= 3);
  }
}

TEST_CASE("the comparison is readable at two widths, light and dark, and every curve is drawn") {
  check_readable(pages().comparison, {"perplexity_by_round", "perplexity_by_time", "perplexity_by_bytes",
                                      "perplexity_by_energy", "accuracy_by_round"});
}

TEST_CASE("the pages as they are written run no script and complain of nothing, and names stay text") {
  for (const char* file : {"run/report.html", "side.html"}) {
    CAPTURE(file);
    const auto page = test::open_page("file://" + pages().dir.file(file), kDesktop, 1600);
    CHECK_MESSAGE(page.console.empty(), page.console);
    CHECK(page.dom.find("<script") == std::string::npos);
    CHECK(page.dom.find("NaN") == std::string::npos);
  }
  const auto page = test::open_page("file://" + pages().dir.file("run/report.html"), kDesktop, 1600);
  CHECK(page.dom.find("&lt;/script&gt;&lt;b&gt;tiny, with a name") != std::string::npos);
  CHECK(test::between(page.dom, "<table id=\"rounds\">", "</table>").find("published") != std::string::npos);
  CHECK(test::between(page.dom, "<table id=\"classes\">", "</table>").find("midrange") != std::string::npos);
  CHECK(test::between(page.dom, "<pre class=\"wrap\" id=\"command\"", "</pre>").find("covey-sim run ") !=
        std::string::npos);
}

TEST_CASE("the policy of the pages holds: a script that gets in does not run") {
  std::string page = pages().report;
  page.insert(page.rfind("</body>"),
              "<script>document.title = 'it ran'</script><img src='https://elsewhere.example/x'>");
  tiny::write(pages().dir.file("attacked.html"), page);
  const auto opened = test::open_page("file://" + pages().dir.file("attacked.html"), kDesktop, 1600);
  CHECK(test::between(opened.dom, "<title>", "</title>").find("it ran") == std::string::npos);
  CHECK(opened.console.find("Content Security Policy") != std::string::npos);
}

TEST_CASE("the probe sees the difference: lines without a path, faint text, text that leaves the page") {
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string page = pages().report;
    REQUIRE(page.find(from) != std::string::npos);
    for (auto at = page.find(from); at != std::string::npos; at = page.find(from, at + to.size())) {
      page.replace(at, from.size(), to);
    }
    return test::look_at(page, pages().dir.path(), kPhone, false);
  };
  CHECK(
      drawing(changed("class=\"curve\" d=\"", "class=\"curve\" d=\"M0 0\" data-d=\""), "perplexity_by_round")->longest <
      1);
  CHECK(changed("--soft: #59616b", "--soft: #c9cdd2").contrast < 4.5);
  const auto wide = changed("overflow-wrap: anywhere; }", "white-space: nowrap; }");
  CHECK(!wide.clipped.empty());
  CHECK(wide.page_width > kPhone);
  CHECK(!changed("font-size: 13.5px; }\n  th", "font-size: 40px; }\n  th").overlapping.empty());
}

TEST_CASE("pictures of both pages: light and dark differ") {
  // COVEY_SCREENSHOTS keeps the pictures for people.
  const char* keep = std::getenv("COVEY_SCREENSHOTS");
  const std::string folder = keep != nullptr ? std::string(keep) : pages().dir.path();
  for (const auto& [file, name] : {std::pair{"run/report.html", "report"}, {"side.html", "comparison"}}) {
    for (const int width : {kDesktop, kPhone}) {
      const std::string png = folder + "/" + name + "_" + std::to_string(width);
      const std::string url = "file://" + pages().dir.file(file);
      const auto light = test::screenshot(url, width, 4000, false, png + ".png");
      const auto dark = test::screenshot(url, width, 4000, true, png + "_dark.png");
      CHECK(light.starts_with("\x89PNG"));
      CHECK(light.size() > 50'000);  // an empty page of this size has 20 kB
      CHECK(light != dark);
    }
  }
}
