#include <algorithm>
#include <map>
#include <set>

#include "core/base/file.h"
#include "core/data/batcher.h"
#include "core/data/examples.h"
#include "core/data/partition.h"
#include "core/text/bpe_train.h"
#include "core/text/pipeline.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using data::Example;
using Ids = std::vector<std::int32_t>;

namespace {
std::shared_ptr<const text::Tokenizer> byte_tokenizer() {
  return *text::make_tokenizer(*text::train_bpe("", 258));
}
}  // namespace

TEST_CASE("text files give one example per line, JSONL one per object") {
  const test::TempDir dir;
  REQUIRE_OK(write_file_durably(dir.file("a.txt"), std::string_view("one\r\n\n  \ntwo")));
  const auto lines = data::read_examples(dir.file("a.txt"));
  REQUIRE_OK(lines);
  REQUIRE(lines->size() == 2);
  CHECK((*lines)[0].text == "one");
  CHECK((*lines)[1].text == "two");
  REQUIRE_OK(
      write_file_durably(dir.file("a.jsonl"), std::string_view("{\"text\": \"x\\ny\", \"key\": \"k\", \"n\": 3}\n\n"
                                                               "{\"prompt\": \"p\", \"completion\": \"c\"}\n"
                                                               "{\"prompt\": \"p\", \"response\": \"r\"}")));
  const auto json = data::read_examples(dir.file("a.jsonl"));
  REQUIRE_OK(json);
  REQUIRE(json->size() == 3);
  CHECK((*json)[0].text == "x\ny");
  CHECK((*json)[0].key == "k");
  CHECK((*json)[1].prompt == "p");
  CHECK((*json)[1].text == "c");
  CHECK((*json)[2].text == "r");
}

TEST_CASE("broken data files are refused with file, line and nothing of their content") {
  const std::string good = "{\"text\": \"fine\"}\n";
  const std::pair<std::string, const char*> cases[] = {
      {"", "no example"},
      {"\n \n", "no example"},
      {good + "SECRET", "d.jsonl:2:1: is not valid JSON"},
      {good + "\n{\"text\": \"SECRET", "d.jsonl:3:1"},
      {good + "{\"text\": 5}", "d.jsonl:2: text: expected a string"},
      {good + "{\"text\": null}", "d.jsonl:2: text: expected a string"},
      {good + "[1]", "d.jsonl:2"},
      {good + "\"SECRET\"", "d.jsonl:2"},
      {good + "{}", "d.jsonl:2: needs"},
      {good + "{\"prompt\": \"SECRET\"}", "d.jsonl:2: completion: is missing"},
      {good + "{\"completion\": \"SECRET\"}", "d.jsonl:2: needs"},
      {good + "{\"text\": \"a\", \"prompt\": \"SECRET\"}", "d.jsonl:2: needs either"},
      {good + "{\"text\": \"SECRET\", \"text\": \"b\"}", "d.jsonl:2: holds the key \"text\" twice"},
      {good + "{\"text\": \"\xFF\xFE\"}", "d.jsonl:2:"},
      {good + "{\"text\": \"SECRET\"} {}", "d.jsonl:2:"},
      {good + "{\"text\": \"a\", \"key\": 7}", "d.jsonl:2: key: expected a string"},
      {good + "{\"text\": \"a\", \"x\": " + std::string(50, '[') + std::string(50, ']') + "}", "nested deeper"},
      {good + "{\"text\": \"\\ud800\"}", "d.jsonl:2:"},
  };
  for (const auto& [content, expected] : cases) {
    CAPTURE(content);
    const auto result = data::parse_jsonl(content, "d.jsonl");
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.find(expected) != std::string::npos);
    CHECK(result.error().message.find("SECRET") == std::string::npos);
    CHECK(result.error().message.find('\n') == std::string::npos);
    CHECK(exit_code(result.error()) == 2);
  }
  CHECK(data::parse_lines("abcdef\n", "d", {.line_bytes_max = 5}).error().message.starts_with("d:1:"));
  CHECK(data::parse_lines("a\nb\n", "d", {.examples_max = 1}).error().message.starts_with("d:2:"));
  CHECK(data::read_examples("/nonexistent/d.txt").error().code == ErrorCode::not_found);
}

TEST_CASE("only the completion is predicted") {
  const auto tokenizer = byte_tokenizer();
  const auto id = [&](char c) { return tokenizer->encode(std::string(1, c), false)[0]; };
  const auto whole = data::tokenize(*tokenizer, {"", "ab", ""}, 10);
  CHECK(whole.ids == Ids{0, id('a'), id('b')});
  CHECK(whole.targets == Ids{id('a'), id('b'), 1});
  const auto pair = data::tokenize(*tokenizer, {"pq", "ab", ""}, 10);
  CHECK(pair.ids == Ids{0, id('p'), id('q'), id('a'), id('b')});
  CHECK(pair.targets == Ids{data::kNoTarget, data::kNoTarget, id('a'), id('b'), 1});
  const auto cut = data::tokenize(*tokenizer, {"pq", "ab", ""}, 3);
  CHECK(cut.ids == Ids{0, id('p'), id('q')});
  CHECK(cut.targets == Ids{data::kNoTarget, data::kNoTarget, id('a')});
  const std::vector<Example> examples = {{"", "ab", ""}, {"", "", ""}, {"pqr", "a", ""}};
  CHECK(data::tokenize_all(*tokenizer, examples, 3).size() == 1);
  CHECK(data::tokenize_all(*tokenizer, examples, 9).size() == 2);
}

TEST_CASE("a token that joins prompt and completion is predicted") {
  const auto tokenizer = *text::make_tokenizer(*text::train_bpe("xy xy xy xy", 260));
  const auto joined = tokenizer->encode("xy", false);
  REQUIRE(joined.size() == 1);
  const auto row = data::tokenize(*tokenizer, {"x", "y", ""}, 8);
  CHECK(row.ids == Ids{0, joined[0]});
  CHECK(row.targets == Ids{joined[0], 1});
}

TEST_CASE("batches pad to their longest row and cover every row once per epoch") {
  std::vector<data::TokenRow> rows;
  for (int i = 1; i <= 10; ++i)
    rows.push_back({Ids(static_cast<std::size_t>(i), i), Ids(static_cast<std::size_t>(i), 100 + i)});
  auto batcher = data::Batcher::create(rows, {.batch = 4, .shuffle = true, .seed = 7});
  REQUIRE_OK(batcher);
  std::vector<Ids> seen_per_epoch;
  for (int epoch = 0; epoch < 2; ++epoch) {
    Ids seen;
    for (int step = 0; step < 3; ++step) {
      const auto batch = batcher->next();
      CHECK(batch.B == (step < 2 ? 4 : 2));
      CHECK(batch.T == *std::ranges::max_element(batch.lengths));
      for (int b = 0; b < batch.B; ++b) {
        const auto row = batch.ids.subspan(static_cast<std::size_t>(b * batch.T), static_cast<std::size_t>(batch.T));
        const auto targets =
            batch.targets.subspan(static_cast<std::size_t>(b * batch.T), static_cast<std::size_t>(batch.T));
        seen.push_back(row[0]);
        CHECK(batch.lengths[static_cast<std::size_t>(b)] == row[0]);
        for (int t = 0; t < batch.T; ++t) {
          const auto i = static_cast<std::size_t>(t);
          CHECK(row[i] == (t < row[0] ? row[0] : 0));
          CHECK(targets[i] == (t < row[0] ? 100 + row[0] : data::kNoTarget));
        }
      }
    }
    CHECK(std::set<std::int32_t>(seen.begin(), seen.end()).size() == 10);
    seen_per_epoch.push_back(seen);
  }
  CHECK(seen_per_epoch[0] != seen_per_epoch[1]);
}

TEST_CASE("a batcher goes on where another one stood") {
  std::vector<data::TokenRow> rows;
  for (int i = 0; i < 7; ++i) rows.push_back({{i}, {i}});
  auto first = *data::Batcher::create(rows, {.batch = 3, .seed = 5});
  auto second = *data::Batcher::create(rows, {.batch = 3, .seed = 5});
  for (int step = 0; step < 4; ++step) (void)first.next();
  REQUIRE_OK(second.seek(first.position()));
  for (int step = 0; step < 5; ++step) {
    const auto a = first.next();
    const Ids ids(a.ids.begin(), a.ids.end());
    CHECK(std::ranges::equal(second.next().ids, ids));
  }
  CHECK_FALSE(second.seek({0, 8}).ok());
  CHECK_FALSE(data::Batcher::create({}, {}).ok());
  CHECK_FALSE(data::Batcher::create(rows, {.batch = 0}).ok());
  const std::vector<data::TokenRow> empty = {{}};
  CHECK_FALSE(data::Batcher::create(empty, {}).ok());
}

TEST_CASE("a play is cut into speeches and given to its speakers") {
  const auto play = data::parse_play("A:\none\ntwo\n\nB:\nthree:\n\ngoes on\n\n\nA:\nfour\n", "p");
  REQUIRE_OK(play);
  REQUIRE(play->size() == 4);
  CHECK((*play)[0].text == "one\ntwo");
  CHECK((*play)[1].text == "three:");
  CHECK((*play)[2].key == "B");
  const auto parts = data::partition_by_key(*play);
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].key == "A");
  CHECK(parts[0].examples[1].text == "four");
  CHECK(data::parse_play("\nwords\n", "p").error().message.starts_with("p:2:"));
  CHECK_FALSE(data::parse_play("A:\n\nB:\n", "p").ok());
}

TEST_CASE("tinyshakespeare has its speakers") {
  const auto path = test::data_path("tinyshakespeare/input.txt");
  if (!path) return;
  const auto play = data::parse_play(*read_text_file(*path), *path);
  REQUIRE_OK(play);
  const auto parts = data::partition_by_key(*play);
  CHECK(play->size() > 7000);
  CHECK(parts.size() > 200);
  const auto largest = std::ranges::max_element(parts, {}, [](const data::Part& p) { return p.examples.size(); });
  CHECK(largest->key == "GLOUCESTER");
}

namespace {
std::vector<Example> labelled(int labels, int each) {
  std::vector<Example> out;
  for (int i = 0; i < labels * each; ++i) {
    Example example{"", std::to_string(i), ""};
    example.label = std::to_string(i % labels);
    out.push_back(std::move(example));
  }
  return out;
}

/// The mean over parts of the largest label's share.
double purity(const std::vector<data::Part>& parts) {
  double sum = 0;
  for (const auto& part : parts) {
    std::map<std::string, double> counts;
    for (const auto& example : part.examples) counts[*example.label] += 1;
    double most = 0;
    for (const auto& [label, count] : counts) most = std::max(most, count);
    sum += most / static_cast<double>(part.examples.size());
  }
  return sum / static_cast<double>(parts.size());
}
}  // namespace

TEST_CASE("a partition by label gives every example away once, and purer parts for a smaller alpha") {
  const auto examples = labelled(10, 200);
  double before = 2;
  for (const double alpha : {0.05, 0.5, 100.0}) {
    CAPTURE(alpha);
    const auto parts = data::partition_by_label(examples, 20, alpha, 7);
    REQUIRE_OK(parts);
    std::set<std::string> all;
    for (const auto& part : *parts) {
      CHECK(!part.examples.empty());
      for (const auto& example : part.examples) CHECK(all.insert(example.text).second);
    }
    CHECK(all.size() == examples.size());
    CHECK(purity(*parts) < before);
    before = purity(*parts);
  }
  CHECK(before < 0.16);  // ten labels alike: 0.1, and what chance adds
  CHECK(purity(*data::partition_by_label(examples, 20, 0.05, 7)) > 0.6);
  CHECK_FALSE(data::partition_by_label(examples, 20, 0, 7).ok());
  CHECK_FALSE(data::partition_by_label(std::vector<Example>(5), 2, 1, 7).ok());  // no labels
}

TEST_CASE("amounts drawn from a Dirichlet distribution have its variance") {
  // Var of a part's share: (1/k)(1 - 1/k) / (k alpha + 1), k parts (Johnson, Kotz: Continuous multivariate
  // distributions).
  const auto examples = labelled(1, 4000);
  for (const double alpha : {0.3, 2.0}) {
    CAPTURE(alpha);
    double square = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      const auto parts = data::partition_by_quantity(examples, 10, alpha, seed);
      REQUIRE_OK(parts);
      for (const auto& part : *parts) {
        const double share = static_cast<double>(part.examples.size()) / 4000;
        square += (share - 0.1) * (share - 0.1) / 400;
      }
    }
    const double expected = 0.1 * 0.9 / (10 * alpha + 1);
    CHECK(square == doctest::Approx(expected).epsilon(0.25));
  }
}

TEST_CASE("an even partition and a held-out share are exact and repeat") {
  std::vector<Example> examples;
  for (int i = 0; i < 23; ++i) examples.push_back({"", std::to_string(i), ""});
  const auto parts = data::partition_iid(examples, 5, 3);
  REQUIRE_OK(parts);
  std::set<std::string> all;
  for (const auto& part : *parts) {
    CHECK((part.examples.size() == 4 || part.examples.size() == 5));
    for (const auto& example : part.examples) all.insert(example.text);
  }
  CHECK(all.size() == 23);
  CHECK((*parts)[0].examples[0].text == data::partition_iid(examples, 5, 3)->at(0).examples[0].text);
  CHECK_FALSE(data::partition_iid(examples, 24, 3).ok());
  CHECK_FALSE(data::partition_iid(examples, 0, 3).ok());

  const auto split = data::hold_out(100, 0.2, 1);
  REQUIRE_OK(split);
  CHECK(split->held_out.size() == 20);
  std::vector<std::size_t> both = split->train;
  both.insert(both.end(), split->held_out.begin(), split->held_out.end());
  std::ranges::sort(both);
  for (std::size_t i = 0; i < both.size(); ++i) CHECK(both[i] == i);
  CHECK(data::hold_out(100, 0.2, 1)->held_out == split->held_out);
  CHECK(data::hold_out(100, 0.2, 2)->held_out != split->held_out);
  CHECK(data::hold_out(2, 0.99, 2)->train.size() == 1);
  CHECK(data::hold_out(2, 0.01, 2)->held_out.size() == 1);
  CHECK(data::hold_out(0, 0.5, 2)->train.empty());
  CHECK(data::hold_out(9, 0, 2)->held_out.empty());
  CHECK_FALSE(data::hold_out(9, 1.0, 2).ok());
}
