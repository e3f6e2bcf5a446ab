#include "core/config/reader.h"

#include <string>

#include "core/base/file.h"
#include "core/config/suggest.h"
#include "support/support.h"

using namespace covey;
using covey::config::Document;

namespace {

struct Sample {
  std::int64_t rounds = 0;
  double rate = 0;
  bool compare = false;
  std::string model;
  std::string mode;
  std::int64_t deadline_ms = 0;
  std::int64_t clients = 0;
  std::vector<std::int64_t> seeds;
  std::vector<double> shares;
  std::vector<std::string> sites;
  std::vector<std::string> tiers;
};

Sample read(Document& file) {
  Sample out;
  auto root = file.root();
  out.model = root.text("model", config::required);
  out.rounds = root.int64("rounds", 20, 1, 1000);
  out.rate = root.real("learning_rate", 0.5, 0, 10);
  out.compare = root.boolean("compare", false);
  out.mode = root.choice("mode", {"robust", "secure"}, "robust");
  out.seeds = root.int64s("seeds", std::vector<std::int64_t>{1, 2}, 0, 99);
  out.shares = root.reals("shares", std::vector<double>{}, 0, 1);
  out.sites = root.texts("sites", std::vector<std::string>{"q_proj"});
  auto round = root.section("round");
  out.clients = round.int64("clients", 8, 1, 100);
  out.deadline_ms = round.duration_ms("deadline", 60'000, 1'000, 3'600'000);
  for (auto& tier : root.sections("tiers")) {
    out.tiers.push_back(tier.text("name", config::required) + "/" + std::to_string(tier.int64("count", 1, 1, 9)));
  }
  return out;
}

/// The one-line message of a text that must be refused.
std::string refusal(const std::string& text) {
  auto file = Document::parse(text, "run.yaml");
  if (!file.ok()) {
    CHECK(file.error().code == ErrorCode::invalid_argument);
    return file.error().message;
  }
  (void)read(*file);
  const Status finished = file->finish();
  if (finished.ok()) return "(accepted)";
  CHECK(finished.error().code == ErrorCode::invalid_argument);
  return finished.error().message;
}

Sample accepted(const std::string& text) {
  auto file = Document::parse(text, "run.yaml");
  REQUIRE_OK(file);
  const Sample out = read(*file);
  REQUIRE_OK(file->finish());
  return out;
}

}  // namespace

TEST_CASE("defaults hold where the file says nothing") {
  const Sample s = accepted("model: tiny\n");
  CHECK(s.model == "tiny");
  CHECK(s.rounds == 20);
  CHECK(s.rate == 0.5);
  CHECK_FALSE(s.compare);
  CHECK(s.mode == "robust");
  CHECK(s.seeds == std::vector<std::int64_t>{1, 2});
  CHECK(s.clients == 8);
  CHECK(s.deadline_ms == 60'000);
  CHECK(s.tiers.empty());
}

TEST_CASE("every kind of value is read") {
  const Sample s = accepted(
      "model: \"a b: c\"   # quoted\nrounds: 7\nlearning_rate: 1e-3\ncompare: true\nmode: secure\nseeds: [3, 4]\n"
      "shares: 0.25\nsites:\n  - k_proj\n  - v_proj\nround:\n  clients: 3\n  deadline_min: 1.5\n"
      "tiers:\n  - name: phone\n    count: 2\n  - {name: board}\n");
  CHECK(s.model == "a b: c");
  CHECK(s.rounds == 7);
  CHECK(s.rate == 1e-3);
  CHECK(s.compare);
  CHECK(s.mode == "secure");
  CHECK(s.seeds == std::vector<std::int64_t>{3, 4});
  CHECK(s.shares == std::vector<double>{0.25});
  CHECK(s.sites == std::vector<std::string>{"k_proj", "v_proj"});
  CHECK(s.clients == 3);
  CHECK(s.deadline_ms == 90'000);
  CHECK(s.tiers == std::vector<std::string>{"phone/2", "board/1"});
}

TEST_CASE("a duration is read in the unit that its key names") {
  CHECK(accepted("model: m\nround: {deadline_ms: 1500}").deadline_ms == 1500);
  CHECK(accepted("model: m\nround: {deadline_s: 2.5}").deadline_ms == 2500);
  CHECK(accepted("model: m\nround: {deadline_h: 1}").deadline_ms == 3'600'000);
}

TEST_CASE("an alias stands for what its anchor holds") {
  const Sample s = accepted("model: m\nround: &r {clients: 5}\nseeds: &s [7]\nshares: []\n");
  CHECK(s.clients == 5);
  auto file = Document::parse("a: &x {n: 3}\nb: *x\n", "run.yaml");
  REQUIRE_OK(file);
  auto root = file->root();
  CHECK(root.section("a").int64("n", 1, 0, 9) == 3);
  CHECK(root.section("b").int64("n", 1, 0, 9) == 3);
  REQUIRE_OK(file->finish());
}

TEST_CASE("a bad configuration gets one line that says what, where and how to mend it") {
  struct Case {
    const char* text;
    const char* message;
  };
  const Case cases[] = {
      {"rounds: 3\n", "run.yaml:1:1: `model` is missing; add a line `model: ...`"},
      {"", "run.yaml:1:1: `model` is missing; add a line `model: ...`"},
      {"model:\n", "run.yaml:1:1: `model` has no value; write `model: ...` or remove it"},
      {"model: m\nruonds: 3\n", "run.yaml:2:1: unknown key `ruonds`; did you mean `rounds`?"},
      {"modle: m\n", "run.yaml:1:1: unknown key `modle`; did you mean `model`?"},
      {"model: m\nround:\n  client: 3\n", "run.yaml:3:3: unknown key `round.client`; did you mean `clients`?"},
      {"model: m\nxyzzy: 3\n",
       "run.yaml:2:1: unknown key `xyzzy`; known here: compare, learning_rate, mode, model, round, rounds, seeds, "
       "shares, sites, tiers"},
      {"model: m\nrounds: many\n", "run.yaml:2:9: `rounds` must be a whole number from 1 to 1000, not \"many\""},
      {"model: m\nrounds: \"3\"\n", "run.yaml:2:9: `rounds` must be a whole number from 1 to 1000, not \"3\""},
      {"model: m\nrounds: 3.5\n", "run.yaml:2:9: `rounds` must be a whole number from 1 to 1000, not \"3.5\""},
      {"model: m\nrounds: 0\n", "run.yaml:2:9: `rounds` is 0; it must be from 1 to 1000"},
      {"model: m\nrounds: 99999999999999999999\n",
       "run.yaml:2:9: `rounds` is 99999999999999999999; it must be from 1 to 1000"},
      {"model: m\nrounds: [3]\n", "run.yaml:2:9: `rounds` must be a whole number from 1 to 1000, not a list"},
      {"model: m\nrounds: {a: 3}\n", "run.yaml:2:9: `rounds` must be a whole number from 1 to 1000, not a section"},
      {"model: m\nlearning_rate: -1\n", "run.yaml:2:16: `learning_rate` is -1; it must be from 0 to 10"},
      {"model: m\nlearning_rate: nan\n", "run.yaml:2:16: `learning_rate` must be a number from 0 to 10, not \"nan\""},
      {"model: m\nlearning_rate: inf\n", "run.yaml:2:16: `learning_rate` must be a number from 0 to 10, not \"inf\""},
      {"model: m\ncompare: yes\n", "run.yaml:2:10: `compare` must be true or false, not \"yes\""},
      {"model: m\ncompare: 1\n", "run.yaml:2:10: `compare` must be true or false, not \"1\""},
      {"model: m\nmode: secur\n", "run.yaml:2:7: `mode` must be one of robust, secure, not \"secur\""},
      {"model: [m]\n", "run.yaml:1:8: `model` must be a text, not a list"},
      {"model: \"a\\x01b\"\n", "run.yaml:1:8: `model` holds a control character; remove it"},
      {"model: m\nseeds: [1, x]\n", "run.yaml:2:12: each of `seeds` must be a whole number from 0 to 99, not \"x\""},
      {"model: m\nseeds: {a: 1}\n", "run.yaml:2:8: `seeds` must be a list of whole numbers, not a section"},
      {"model: m\nshares: [0.5, 1.5]\n", "run.yaml:2:15: each of `shares` is 1.5; it must be from 0 to 1"},
      {"model: m\nsites: [[q]]\n", "run.yaml:2:9: each of `sites` must be a text, not a list"},
      {"model: m\nround: 3\n", "run.yaml:2:8: `round` must be a section of `key: value` lines, not \"3\""},
      {"model: m\nround: {deadline: 3}\n",
       "run.yaml:2:19: `round.deadline` has no unit; write `deadline_ms`, `deadline_s`, `deadline_min` or "
       "`deadline_h`"},
      {"model: m\nround: {deadline_s: 3, deadline_ms: 3000}\n",
       "run.yaml:2:21: `round.deadline_s` and `deadline_ms` say the same; keep one"},
      {"model: m\nround: {deadline_s: 0.5}\n", "run.yaml:2:21: `round.deadline_s` is 0.5; it must be from 1 to 3600"},
      {"model: m\ntiers: {name: a}\n",
       "run.yaml:2:8: `tiers` must be a list of sections, each begun by `- `, at most 10000 of them"},
      {"model: m\ntiers: [{count: 1}]\n", "run.yaml:2:9: `tiers[0].name` is missing; add a line `name: ...`"},
      {"model: m\ntiers:\n  - {name: a}\n  - {name: b, cuont: 2}\n",
       "run.yaml:4:15: unknown key `tiers[1].cuont`; did you mean `count`?"},
      {"model: m\ntiers: [3]\n", "run.yaml:2:9: `tiers[0]` must be a section of `key: value` lines, not \"3\""},
      {"model: m\nmodel: n\n", "run.yaml:2:1: the key `model` stands here twice, first in line 1; remove one"},
      {"model: m\nround: {clients: 1, clients: 2}\n",
       "run.yaml:2:21: the key `clients` stands here twice, first in line 2; remove one"},
      {"- a\n- b\n", "run.yaml:1:1: must hold lines of `key: value`"},
      {"just a sentence\n", "run.yaml:1:1: must hold lines of `key: value`"},
      {"? [a, b]\n: c\n", "run.yaml:1:3: a key must be a name; write `name: value`"},
      {"model: !!python/object:os.system m\n",
       "run.yaml:1:8: the tag tag:yaml.org,2002:python/object:os.system is not supported; leave it out"},
      {"a: &x [*x]\n", "run.yaml:1:8: an alias refers to itself; write the values out"},
      {"model: m\n---\nmodel: n\n", "run.yaml:3:1: a second document begins; keep one per file"},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.text));
    CHECK(refusal(c.text) == std::string(c.message));
  }
}

TEST_CASE("text that is not YAML is refused with its position") {
  for (const std::string text : {"model: [a, b\n", "model: \"open\n", "model: m\n\trounds: 3\n", "a: b: c\n",
                                 "model: *nowhere\n", "{a: b", "model: m\n rounds: 3\n", "model: 'open", "&"}) {
    CAPTURE(text);
    const std::string message = refusal(text);
    CAPTURE(message);
    CHECK(message.starts_with("run.yaml:"));
    CHECK(message.find("is not YAML") != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("aliases that multiply, deep nesting, zero bytes and huge files are refused quickly") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 9; ++j) bomb += ", " + before;
    bomb += "]\n";
  }
  CHECK(refusal(bomb).find("more than 100000 values with aliases written out") != std::string::npos);
  CHECK(refusal("model: " + std::string(100, '[')).find("nested deeper than 32 levels") != std::string::npos);
  CHECK(refusal(std::string(100'000, '[')).find("nested deeper than 32 levels") != std::string::npos);
  CHECK(refusal(std::string("model: m\0", 9)) == "run.yaml: holds bytes of zero; this is not a text file");
  CHECK(refusal(std::string((1 << 20) + 1, '#')) == "run.yaml: has more than 1 MiB; this is not a configuration file");
}

TEST_CASE("a file may end with the mark of a document's end, or without a newline") {
  CHECK(accepted("---\nmodel: m\nrounds: 3\n...\n").rounds == 3);
  CHECK(accepted("model: m\nrounds: 3").rounds == 3);
  CHECK(accepted("rounds: 3\nmodel: |\n  two\n  lines\n").model == "two\nlines\n");
}

TEST_CASE("a missing file is named") {
  const test::TempDir dir;
  const auto file = Document::load(dir.file("none.yaml"));
  REQUIRE_FALSE(file.ok());
  CHECK(file.error().code == ErrorCode::not_found);
  CHECK(file.error().message.starts_with(dir.file("none.yaml")));
}

TEST_CASE("rules between keys are reported at the key") {
  auto file = Document::parse("model: m\nround:\n  clients: 9\n", "run.yaml");
  REQUIRE_OK(file);
  (void)read(*file);
  file->root().section("round").problem("clients", "is more than the fleet has; lower it");
  CHECK(file->finish().error().message == "run.yaml:3:12: `round.clients` is more than the fleet has; lower it");
}

TEST_CASE("free maps give their keys in order") {
  auto file = Document::parse("fleet: {zeta: 1, alpha: 2}\n", "run.yaml");
  REQUIRE_OK(file);
  auto fleet = file->root().section("fleet");
  CHECK(fleet.keys() == std::vector<std::string>{"zeta", "alpha"});
  CHECK(fleet.has("alpha"));
  CHECK_FALSE(fleet.has("beta"));
  for (const std::string& key : fleet.keys()) CHECK(fleet.int64(key, 0, 1, 2) >= 1);
  REQUIRE_OK(file->finish());
}

TEST_CASE("the resolved copy shows defaults and reads back to the same values") {
  const std::string text =
      "model: \"a \\\"b\\\": c # d\"\nmode: secure\nlearning_rate: 0.1\nround: {deadline_s: 90}\n"
      "sites: [\"true\", plain, \"1\", \"x y\\nz\"]\ntiers: [{name: phone, count: 2}, {name: \"\"}]\n";
  auto file = Document::parse(text, "run.yaml");
  REQUIRE_OK(file);
  const Sample first = read(*file);
  REQUIRE_OK(file->finish());
  const std::string resolved = file->resolved();
  CHECK(resolved.find("rounds: 20\n") != std::string::npos);
  CHECK(resolved.find("  deadline_ms: 90000\n") != std::string::npos);
  auto again = Document::parse(resolved, "resolved.yaml");
  REQUIRE_OK(again);
  const Sample second = read(*again);
  REQUIRE_OK(again->finish());
  CHECK(again->resolved() == resolved);
  CHECK(first.model == second.model);
  CHECK(first.rate == second.rate);
  CHECK(first.sites == second.sites);
  CHECK(first.tiers == second.tiers);
  CHECK(first.deadline_ms == second.deadline_ms);
}

TEST_CASE("edit distance counts slips of a hand") {
  CHECK(config::edit_distance("rounds", "ruonds") == 1);
  CHECK(config::edit_distance("", "abc") == 3);
  CHECK(config::edit_distance("kitten", "sitting") == 3);
  CHECK(config::edit_distance("same", "same") == 0);
}
