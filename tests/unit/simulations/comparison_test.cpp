// Runs side by side: grouping by settings, intervals over seeds, and folders that are not what they should be.
#include "simulations/comparison.h"

#include <cmath>
#include <filesystem>

#include "simulations/results_table.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;
using formats::Json;

namespace {

struct FakeRun {
  std::string folder;
  std::uint64_t seed = 1;
  std::string set = "local:\n  prox_mu: 0\n";
  double last = 2;  ///< loss
  int rounds = 3;
};

Json summary_of(const FakeRun& run) {
  return Json::object(
      {{"name", "fake"},
       {"seed", run.seed},
       {"command", "covey-sim run"},
       {"config", "# a comment of this run alone\nname: n" + run.folder +
                      "\nthreads: 2\nseed: " + std::to_string(run.seed) + "\n" + run.set},
       {"base", Json::object({{"loss", 3.0}, {"perplexity", std::exp(3.0)}, {"accuracy", 0.1}})},
       {"final", Json::object({{"loss", run.last}, {"perplexity", std::exp(run.last)}, {"accuracy", 0.5}})},
       {"virtual_hours", 2.0},
       {"bytes_up", 1000},
       {"bytes_down", 2000},
       {"joules", 50.0},
       {"training_bytes", 1'000'000}});
}

std::vector<Json> lines_of(const FakeRun& run) {
  std::vector<Json> out;
  for (int i = 1; i <= run.rounds; ++i) {
    const double loss = 3 + (run.last - 3) * i / run.rounds;
    out.push_back(Json::object({{"round", i},
                                {"version", i},
                                {"loss", loss},
                                {"perplexity", std::exp(loss)},
                                {"accuracy", 0.1 * i},
                                {"virtual_s", 100.0 * i},
                                {"bytes_total", 1000 * i},
                                {"joules_total", 10.0 * i}}));
  }
  return out;
}

std::string write_run(const test::TempDir& dir, const FakeRun& run) {
  const std::string folder = dir.file(run.folder);
  std::filesystem::create_directories(folder);
  REQUIRE_OK(summary_of(run).save(folder + "/summary.json"));
  std::string text;
  for (const auto& line : lines_of(run)) text += line.dump() + "\n";
  tiny::write(folder + "/metrics.jsonl", text);
  return folder;
}

std::string refused(const std::vector<std::string>& sources) {
  const auto result = read_compared_runs(sources);
  REQUIRE(!result.ok());
  CHECK(result.error().message.find('\n') == std::string::npos);
  return result.error().message;
}

}  // namespace

TEST_CASE("the interval is Student's: mean 2, deviation 1, three values give 4.3027 / sqrt(3)") {
  const auto three = confidence({1, 2, 3});
  CHECK(three.mean == 2);
  CHECK(three.n == 3);
  CHECK(three.half == doctest::Approx(4.30265 / std::sqrt(3.0)).epsilon(1e-4));
  CHECK(std::isnan(confidence({5}).half));
  CHECK(confidence({5}).mean == 5);
  CHECK(std::isnan(confidence({}).mean));
  CHECK(confidence({1, kNoFigure, 3}).n == 2);
  // Values of Student's table, 97.5%.
  CHECK(student_t(1) == doctest::Approx(12.7062).epsilon(1e-4));
  CHECK(student_t(11) == doctest::Approx(2.2010).epsilon(1e-4));
  CHECK(student_t(30) == doctest::Approx(2.0423).epsilon(1e-4));
  CHECK(student_t(1000) == doctest::Approx(1.9623).epsilon(1e-4));
}

TEST_CASE("runs that differ in seed, name, comments and threads alone are one setting, under its folder's name") {
  const test::TempDir dir;
  const auto runs = read_compared_runs({write_run(dir, {"fedavg-s2", 2, "local:\n  prox_mu: 0\n", 2.2}),
                                        write_run(dir, {"fedavg-s1", 1, "local:\n  prox_mu: 0\n", 2.0}),
                                        write_run(dir, {"0007-fedprox-s1", 1, "local:\n  prox_mu: 0.1\n", 1.9})});
  REQUIRE_OK(runs);
  REQUIRE(runs->groups.size() == 2);
  CHECK(runs->groups[0].label == "fedavg");
  REQUIRE(runs->groups[0].runs.size() == 2);
  CHECK(runs->groups[0].runs[0].seed == 1);
  CHECK(runs->groups[1].label == "fedprox");
  const auto curve = curve_of(runs->groups[0]);
  REQUIRE(curve.size() == 4);
  CHECK(curve[0].loss.mean == 3);
  CHECK(curve[3].loss.mean == doctest::Approx(2.1));
  CHECK(curve[3].loss.half == doctest::Approx(12.7062 * 0.1).epsilon(1e-3));
  CHECK(curve[3].bytes_total == 3000);
}

TEST_CASE("settings of one name are told apart by what differs, and a name may be given") {
  const test::TempDir dir;
  const std::string a = write_run(dir, {"0001-s1", 1, "local:\n  prox_mu: 0\n  batch: 4\n"});
  const std::string b = write_run(dir, {"0002-s1", 1, "local:\n  prox_mu: 0.1\n  batch: 4\n"});
  const auto runs = read_compared_runs({a, b});
  REQUIRE_OK(runs);
  REQUIRE(runs->groups.size() == 2);
  CHECK(runs->groups[0].label == "local.prox_mu=0");
  CHECK(runs->groups[1].label == "local.prox_mu=0.1");
  const auto named = read_compared_runs({"plain=" + a, b});
  REQUIRE_OK(named);
  CHECK(named->groups[0].label == "plain");
}

TEST_CASE("a sweep's folder gives its complete runs and says which are not") {
  const test::TempDir dir;
  write_run(dir, {"runs/0001-plain-s1", 1});
  write_run(dir, {"runs/0002-plain-s2", 2});
  std::filesystem::create_directories(dir.file("runs/0003-prox-s1"));
  const auto runs = read_compared_runs({dir.path()});
  REQUIRE_OK(runs);
  REQUIRE(runs->groups.size() == 1);
  CHECK(runs->groups[0].runs.size() == 2);
  REQUIRE(runs->skipped.size() == 1);
  CHECK(runs->skipped[0].find("0003-prox-s1") != std::string::npos);
}

TEST_CASE("a sweep's table alone gives the same figures as its folders") {
  const test::TempDir dir;
  auto table = ResultsTable::open(dir.file("results.sqlite"));
  REQUIRE_OK(table);
  for (const std::uint64_t seed : {1, 2}) {
    const FakeRun run{"runs/000" + std::to_string(seed) + "-prox-s" + std::to_string(seed), seed,
                      "local:\n  prox_mu: 1\n", 2};
    write_run(dir, run);
    REQUIRE_OK(table->put({"000" + std::to_string(seed), "prox", {{"local.prox_mu", "1"}}, seed}, "x", summary_of(run),
                          lines_of(run)));
  }
  const auto folders = read_compared_runs({dir.path()});
  const auto rows = read_compared_runs({dir.file("results.sqlite")});
  REQUIRE_OK(folders);
  REQUIRE_OK(rows);
  const Json from_folders = comparison_json(*folders, std::nullopt);
  const Json from_rows = comparison_json(*rows, std::nullopt);
  const Json& a = from_folders.find("settings")->items()[0];
  const Json& b = from_rows.find("settings")->items()[0];
  CHECK(*b.get_string("label") == "prox");
  for (const char* name : {"loss", "perplexity", "bytes_up", "virtual_s", "joules", "training_bytes"}) {
    CAPTURE(name);
    CHECK(*a.find("figures")->find(name)->get_double("mean") == *b.find("figures")->find(name)->get_double("mean"));
  }
  const auto points_a = curve_of(folders->groups[0]);
  const auto points_b = curve_of(rows->groups[0]);
  REQUIRE(points_a.size() == points_b.size());
  CHECK(points_a.back().loss.mean == points_b.back().loss.mean);
}

TEST_CASE("time to target counts the seeds that reached it and what they had spent") {
  const test::TempDir dir;
  const auto runs =
      read_compared_runs({write_run(dir, {"a-s1", 1, "x: 1\n", 2.0}), write_run(dir, {"a-s2", 2, "x: 1\n", 2.6})});
  REQUIRE_OK(runs);
  const Json comparison = comparison_json(*runs, ComparedTarget{false, 2.4, "loss 2.4"});
  const Json& target = *comparison.find("settings")->items()[0].find("target");
  CHECK(*target.get_uint("reached") == 1);
  CHECK(*target.find("round")->get_double("mean") == 2);
  CHECK(*target.find("bytes_total")->get_double("mean") == 2000);
  const auto chosen = default_target(*runs);
  REQUIRE(chosen.has_value());
  CHECK(chosen->value == doctest::Approx(3 - 0.9 * 0.7));
}

TEST_CASE("a setting is held against the first one seed by seed") {
  const test::TempDir dir;
  const auto runs =
      read_compared_runs({write_run(dir, {"a-s1", 1, "x: 1\n", 2.0}), write_run(dir, {"a-s2", 2, "x: 1\n", 1.0}),
                          write_run(dir, {"b-s1", 1, "x: 2\n", 2.2}), write_run(dir, {"b-s2", 2, "x: 2\n", 1.1}),
                          write_run(dir, {"b-s3", 3, "x: 2\n", 9.0})});
  REQUIRE_OK(runs);
  const Json comparison = comparison_json(*runs, std::nullopt);
  const Json& loss = *comparison.find("settings")->items()[1].find("against_first")->find("loss");
  CHECK(*loss.get_uint("n") == 2);
  CHECK(*loss.get_double("mean") == doctest::Approx(0.1));
  CHECK(*loss.get_double("half") == doctest::Approx(0).epsilon(1e-9));  // 10% in both, however unlike the seeds are
}

TEST_CASE("the page, its tables and its files hold every setting, escaped") {
  const test::TempDir dir;
  const std::string hostile = "<script>x</script>";
  const auto runs =
      read_compared_runs({hostile + "=" + write_run(dir, {"a", 1, "x: 1\n"}), write_run(dir, {"b", 1, "x: 2\n", 1.5})});
  REQUIRE_OK(runs);
  const Json comparison = comparison_json(*runs, default_target(*runs));
  const std::string page = comparison_html(*runs, comparison, hostile);
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find("&lt;script&gt;x") != std::string::npos);
  CHECK(page.find("nan") == std::string::npos);
  CHECK(page.find("one seed have no interval") != std::string::npos);
  const std::string csv = comparison_csv(comparison);
  CHECK(csv.starts_with("setting,seeds,loss,loss_half,perplexity"));
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 3);
  const std::string curves = curves_csv(comparison);
  CHECK(std::count(curves.begin(), curves.end(), '\n') == 1 + 2 * 4);
  CHECK(curves.find("null") == std::string::npos);
}

TEST_CASE("a figure that no setting has is said to be missing, not drawn as nothing") {
  const test::TempDir dir;
  const std::string folder = write_run(dir, {"a", 1, "x: 1\n"});
  Json old = summary_of({"a", 1, "x: 1\n"});
  REQUIRE_OK(old.set("training_bytes", Json()).save(folder + "/summary.json"));
  const auto runs = read_compared_runs({folder});
  REQUIRE_OK(runs);
  const std::string page = comparison_html(*runs, comparison_json(*runs, std::nullopt), "");
  const auto at = page.find("id=\"final_training_bytes\"");
  REQUIRE(at != std::string::npos);
  CHECK(page.substr(at, page.find("</figure>", at) - at).find("Nothing to draw") != std::string::npos);
}

TEST_CASE("runs that did not start alike are warned of") {
  const test::TempDir dir;
  write_run(dir, {"a", 1, "x: 1\n"});
  write_run(dir, {"b", 1, "x: 2\n"});
  Json other = summary_of({"b", 1, "x: 2\n"});
  other.set("base", Json::object({{"loss", 3.5}}));
  REQUIRE_OK(other.save(dir.file("b/summary.json")));
  const auto runs = read_compared_runs({dir.file("a"), dir.file("b")});
  REQUIRE_OK(runs);
  CHECK(comparison_html(*runs, comparison_json(*runs, std::nullopt), "").find("Caution") != std::string::npos);
}

TEST_CASE("folders that hold something else, or what is damaged, give one line that names the file") {
  const test::TempDir dir;
  const std::string good = write_run(dir, {"good", 1});
  CHECK(refused({dir.file("nowhere")}).find("nowhere: no complete run") != std::string::npos);
  CHECK(refused({dir.path() + "/good/.."}).find("no complete run") != std::string::npos);
  CHECK(refused({good, good}).find("leave one of them out") != std::string::npos);

  const auto damaged = [&](const std::string& file, const std::string& content) {
    const std::string folder = write_run(dir, {"bad", 1});
    tiny::write(folder + "/" + file, content);
    return refused({folder});
  };
  CHECK(damaged("summary.json", "{\"final\": ").find("summary.json") != std::string::npos);
  CHECK(damaged("summary.json", "[1, 2]").find("no object `final`") != std::string::npos);
  CHECK(damaged("summary.json", std::string(100'000, '[')).find("summary.json") != std::string::npos);
  CHECK(damaged("metrics.jsonl", "{\"round\": 1}\n{\"round\"\n").find("metrics.jsonl:2") != std::string::npos);
  CHECK(damaged("metrics.jsonl", "3\n").find("is no object") != std::string::npos);
  CHECK(damaged("metrics.jsonl", std::string("\x00\xff\xfe\n", 4)).find("metrics.jsonl:1") != std::string::npos);
  std::filesystem::remove(dir.file("bad/metrics.jsonl"));
  CHECK(refused({dir.file("bad")}).find("metrics.jsonl") != std::string::npos);

  tiny::write(dir.file("table.sqlite"), "this is no database, whatever its name says");
  CHECK(refused({dir.file("table.sqlite")}).find("table.sqlite") != std::string::npos);
  tiny::write(dir.file("empty.sqlite"), "");
  CHECK(refused({dir.file("empty.sqlite")}).find("no such table") != std::string::npos);
}
