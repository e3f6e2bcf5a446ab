// Charts and the page of a run: what they draw, what they refuse to let in, and how they read.
#include "simulations/report.h"

#include <cmath>

#include "simulations/outcomes.h"
#include "simulations/report_page.h"
#include "simulations/run_directory.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;
using formats::Json;

namespace {

std::size_t count(const std::string& in, const std::string& what) {
  std::size_t found = 0;
  for (auto at = in.find(what); at != std::string::npos; at = in.find(what, at + what.size())) ++found;
  return found;
}

const std::string kHostile =
    "</title></style></pre><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' \x01 "
    "COVEY_TITLE COVEY_BODY \xe2\x80\xa8 &amp; ]]>";

/// Every member of a summary that holds text, and names of members, set to the worst.
Json hostile_summary() {
  const Json spread = Json::object({{"mean", kHostile}, {"p10", kHostile}});
  const Json kind = Json::object({{"name", kHostile},
                                  {"devices", 3},
                                  {"contributions", 2},
                                  {"own_loss", spread},
                                  {"updates", spread},
                                  {"training_joules", 1.0},
                                  {"radio_joules", 2.0}});
  return Json::object({{"name", kHostile},
                       {"command", kHostile},
                       {"config", kHostile},
                       {"privacy_mode", kHostile},
                       {"privacy_claim", kHostile},
                       {"attack", kHostile},
                       {"method", kHostile},
                       {"base", Json::object({{"loss", 3.0}, {"perplexity", 20.0}})},
                       {"final", Json::object({{"loss", 2.0}, {"perplexity", 7.4}})},
                       {"measured", Json::object({{"processor", kHostile}})},
                       {"memory", Json::array({Json::object({{"method", kHostile}})})},
                       {"classes", Json::array({kind})}});
}

std::vector<Json> rounds_of(int count) {
  std::vector<Json> out;
  for (int i = 1; i <= count; ++i) {
    const double loss = 3 - 0.1 * i;
    out.push_back(Json::object({{"round", i},
                                {"version", i},
                                {"published", true},
                                {"loss", loss},
                                {"perplexity", std::exp(loss)},
                                {"accuracy", 0.01 * i},
                                {"virtual_s", 60 * i},
                                {"bytes_total", 1000 * i},
                                {"joules_total", 5 * i},
                                {"invited", 8},
                                {"contributed", 5},
                                {"refused", 1},
                                {"late", 1},
                                {"dropped", 0}}));
  }
  return out;
}

}  // namespace

TEST_CASE("no string of a run becomes markup") {
  std::vector<Json> rounds = rounds_of(2);
  rounds[0].set("published", false).set("reason", kHostile);
  rounds[1].set("refused_for", Json::object({{kHostile, 2}}));
  const std::string page = render_report(hostile_summary(), rounds);
  CHECK(count(page, "<script") == 0);
  CHECK(count(page, "<img") == 0);
  CHECK(count(page, "onerror=alert(2)>") == 0);  // its > is &gt;
  CHECK(count(page, "</title>") == count(page, "<title"));
  CHECK(count(page, "</style>") == 1);
  CHECK(count(page, "<main>") == 1);  // a mark in a name is no mark
  CHECK(count(page, "\x01") == 0);
  CHECK(count(page, "alert(1)") > 8);  // as text it is there
}

TEST_CASE("a page loads nothing, runs nothing, and forbids both") {
  const std::string page = render_report(Json::object({{"name", "x"}}), {});
  for (const char* loads :
       {"src=", "href=", "@import", "url(h", "url(/", "fetch(", "<script", "<link", "http:", "https:"}) {
    CAPTURE(loads);
    CHECK(page.find(loads) == std::string::npos);
  }
  CHECK(page.find("Content-Security-Policy\" content=\"default-src 'none'") != std::string::npos);
}

TEST_CASE("a summary that lacks everything, or holds the wrong kinds, still gives a page without a NaN") {
  const Json wrong = Json::object({{"classes", 3},
                                   {"memory", "x"},
                                   {"base", Json::array({1})},
                                   {"final", nullptr},
                                   {"measured", 2},
                                   {"joules", "many"}});
  for (const Json& summary : {Json(), Json::object(), wrong}) {
    const std::vector<Json> rounds = {Json::object({{"round", "one"}, {"loss", Json::object()}, {"refused_for", 7}}),
                                      Json()};
    const std::string page = render_report(summary, rounds);
    CHECK(page.find("nan") == std::string::npos);
    CHECK(page.find("inf") == std::string::npos);
    CHECK(page.find("</html>") != std::string::npos);
  }
}

TEST_CASE("the report draws the metric against rounds, time, bytes, energy and epsilon, or says why not") {
  Json summary = hostile_summary();
  summary.set("name", "plain");
  auto rounds = rounds_of(6);
  const auto figure = [](const std::string& page, const std::string& id) {
    const auto from = page.find("<figure class=\"chart\" id=\"" + id + "\">");
    return from == std::string::npos ? std::string() : page.substr(from, page.find("</figure>", from) - from);
  };
  const std::string without = render_report(summary, rounds);
  for (const char* axis : {"by_round", "by_time", "by_bytes", "by_energy"}) {
    CAPTURE(axis);
    const std::string chart = figure(without, std::string("perplexity_") + axis);
    CHECK(count(chart, "class=\"curve\"") == 1);
    CHECK(count(chart, "class=\"dot\"") == 7);  // the base and six rounds
    CHECK(count(chart, "<desc ") == 1);
  }
  CHECK(figure(without, "perplexity_by_epsilon").empty());
  CHECK(without.find("no differential privacy") != std::string::npos);
  for (std::size_t i = 0; i < rounds.size(); ++i) rounds[i].set("epsilon", 0.5 * static_cast<double>(i + 1));
  CHECK(count(figure(render_report(summary, rounds), "perplexity_by_epsilon"), "class=\"dot\"") == 7);
  CHECK(without.find("of the way down") != std::string::npos);
  CHECK(without.find("0 versions for every summed update") != std::string::npos);
}

TEST_CASE("a band that is wider than the lines does not flatten them, and a wide range is drawn on a logarithm") {
  LineChart chart{"x", "t", "x", "y", {{"a", {{0, 10, -500, 500}, {1, 20, -500, 500}}, 0}}};
  const std::string clipped = line_chart(chart);
  CHECK(clipped.find("class=\"band\"") != std::string::npos);
  CHECK(clipped.find(">500<") == std::string::npos);
  CHECK(clipped.find(">15<") != std::string::npos);
  chart.series[0].points = {{0, 1000}, {1, 10}, {2, kNoFigure}};
  CHECK(line_chart(chart).find("y, logarithmic") != std::string::npos);
  CHECK(line_chart(chart).find(">100<") != std::string::npos);
  chart.series[0].points = {{0, kNoFigure}};
  CHECK(line_chart(chart).find("Nothing to draw") != std::string::npos);
}

TEST_CASE("long series are thinned out and keep their ends") {
  LineChart chart{"x", "t", "x", "y", {{"a", {}, 0}}};
  for (int i = 0; i < 100'000; ++i) chart.series[0].points.push_back({double(i), double(i % 7)});
  const std::string drawn = line_chart(chart);
  CHECK(drawn.size() < 20'000);
  CHECK(count(drawn, "L") >= kChartPointsMax - 1);
}

TEST_CASE("numbers, bytes, times and counts read well") {
  CHECK(short_number(105.4321, 4) == "105.4");
  CHECK(short_number(0.012345) == "0.0123");
  CHECK(short_number(-0.0) == "0");
  CHECK(short_number(kNoFigure) == "–");
  CHECK(short_number(1.5e9) == "1.5e+09");
  CHECK(byte_words(11'222'926) == "11.2\u00a0MB");
  CHECK(byte_words(0) == "0\u00a0B");
  CHECK(second_words(90) == "1.5\u00a0min");
  CHECK(second_words(3.0 * 86400) == "3\u00a0days");
  CHECK(count_words(4'900'000) == "4\u202f900\u202f000");
  CHECK(count_words(-1234) == "-1\u202f234");
  CHECK(gram_words(0.0088) == "8.8\u00a0mg");
  CHECK(round_ticks(0, 1, 5) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
  CHECK(round_ticks(1, 1, 5).empty());
}

TEST_CASE("csv quotes what is text and leaves out what is no figure") {
  const std::vector<Json> lines = {
      Json::object({{"a", 1}, {"b", "x, \"y\""}, {"c", kNoFigure}, {"d", Json::object({{"memory", 2}, {"busy", 1}})}})};
  CHECK(metrics_csv(lines) == "a,b,c,d\n1,\"x, \"\"y\"\"\",,\"{\"\"memory\"\":2,\"\"busy\"\":1}\"\n");
}

TEST_CASE("quantiles lie between neighbours, and CO2 follows from the grid factor") {
  CHECK(quantile({1, 2, 3, 4, 5}, 0.5) == 3);
  CHECK(quantile({1, 2}, 0.1) == doctest::Approx(1.1));
  CHECK(std::isnan(quantile({}, 0.5)));
  CHECK(co2_grams(3.6e6, 480) == 480);
}

TEST_CASE("a run says what it is worth to each class, what each method would take, and why devices are not in a sum") {
  tiny::Choices choices;
  choices.over_selection = 2;
  choices.dropout = 0.3;
  const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  const test::TempDir dir;
  RunDirectory directory;
  directory.out = dir.file("run");
  directory.config = experiment->resolved;
  const auto summary = run_into(*experiment, directory);
  REQUIRE_OK(summary);
  const auto files = read_run(directory.out);
  REQUIRE_OK(files);
  for (const auto& round : files->rounds) {
    const auto figure = [&](const char* key) { return *round.get_uint(key); };
    CHECK(figure("contributed") + figure("refused") + figure("rejected") + figure("late") + figure("silent") +
              figure("unneeded") ==
          figure("invited"));
  }
  // All devices together have the held-out rows' loss between them: their mean lies where the whole's does.
  const Json& fleet = *summary->find("fleet");
  const double last = *summary->find("final")->get_double("loss");
  CHECK(*fleet.find("own_loss")->get_double("mean") == doctest::Approx(last).epsilon(0.2));
  CHECK(*fleet.find("own_loss_before")->get_double("mean") ==
        doctest::Approx(*summary->find("base")->get_double("loss")).epsilon(0.2));
  CHECK(*fleet.get_double("training_joules") + *fleet.get_double("radio_joules") ==
        doctest::Approx(*summary->get_double("joules")));
  double of_classes = 0;
  for (const auto& kind : summary->find("classes")->items()) of_classes += *kind.get_double("training_joules");
  CHECK(of_classes == doctest::Approx(*fleet.get_double("training_joules")));
  CHECK(*summary->get_double("co2_g") == doctest::Approx(*summary->get_double("joules") / 3.6e6 * 480));
  std::uint64_t backprop = 0;
  std::uint64_t zeroth = 0;
  for (const auto& line : summary->find("memory")->items()) {
    if (*line.get_string("method") == "backprop") backprop = *line.get_uint("total_bytes");
    if (*line.get_string("method") == "zeroth-order") zeroth = *line.get_uint("total_bytes");
  }
  CHECK(zeroth > 0);
  CHECK(zeroth < backprop);
  CHECK(*summary->get_uint("training_bytes") == backprop);
  const std::string devices = *read_text_file(directory.out + "/devices.csv");
  CHECK(count(devices, "\n") == 13);
}

TEST_CASE("under differential privacy each round says the epsilon spent so far") {
  tiny::Choices choices;
  choices.privacy = "mode: robust, dp: {mechanism: central_gaussian, noise_multiplier: 1, epsilon_max: 1000}";
  choices.weight_max = 1;
  const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  const auto result = run_world(*experiment);
  REQUIRE_OK(result);
  double before = 0;
  for (const auto& round : result->rounds) {
    const auto epsilon = round.get_double("epsilon");
    REQUIRE_OK(epsilon);
    CHECK(*epsilon > before);
    before = *epsilon;
  }
  CHECK(before == *result->summary.get_double("epsilon"));
}
