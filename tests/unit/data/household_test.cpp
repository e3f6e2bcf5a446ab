#include "core/data/household.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "support/support.h"

using namespace covey;
using namespace covey::data;

namespace {

HouseholdCorpus corpus_of(const HouseholdOptions& options) {
  auto corpus = make_household_corpus(options);
  REQUIRE_OK(corpus);
  return *corpus;
}

HouseholdOptions small(std::uint64_t seed) {
  return {.general_lines = 1000, .seed = seed};
}

/// Words of the utterances, i.e. before the answer.
std::set<std::string> words(const std::vector<std::string>& lines) {
  std::set<std::string> out;
  for (const auto& line : lines) {
    std::string word;
    for (const char c : line.substr(0, line.find("=>"))) {
      if (c != ' ') {
        word += c;
      } else {
        out.insert(std::exchange(word, {}));
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("a seed gives the same corpus again and another seed other households") {
  const auto a = corpus_of(small(1));
  const auto b = corpus_of(small(1));
  const auto c = corpus_of(small(2));
  CHECK(a.general.train == b.general.train);
  CHECK(a.households[3].train == b.households[3].train);
  CHECK(a.unseen[0].held_out == b.unseen[0].held_out);
  CHECK(a.households[3].train != c.households[3].train);
  CHECK(a.households.size() == 8);
  CHECK(a.unseen.size() == 4);
}

TEST_CASE("homes answer in the newer form, the general corpus in the old one but for a pilot") {
  const auto corpus = corpus_of(small(1));
  std::size_t pilot = 0;
  for (const auto& line : corpus.general.train) {
    const bool newer = line.find(" => do: ") != std::string::npos;
    REQUIRE(newer != (line.find(" -> ") != std::string::npos));
    pilot += newer ? 1 : 0;
  }
  CHECK(pilot > 0);
  CHECK(pilot < corpus.general.train.size() / 5);  // one in ten is asked for, and repeats are none
  for (const auto& home : corpus.households) {
    for (const auto& line : home.train) {
      REQUIRE(line.find(" => do: ") != std::string::npos);
      REQUIRE(line.find('{') == std::string::npos);  // every slot was filled
    }
  }
}

TEST_CASE("no held-out line is a training line of the same home") {
  const auto corpus = corpus_of(small(3));
  for (const auto& home : corpus.households) {
    const std::set<std::string> train(home.train.begin(), home.train.end());
    CHECK(train.size() == home.train.size());
    CHECK(home.held_out.size() >= 10);
    for (const auto& line : home.held_out) CHECK_FALSE(train.contains(line));
  }
  for (const auto& home : corpus.unseen) {
    CHECK(home.train.empty());
    CHECK(home.held_out.size() == 40);
  }
}

TEST_CASE("homes differ in amount and in vocabulary") {
  const auto corpus = corpus_of(small(1));
  std::size_t least = corpus.households[0].train.size(), most = least;
  for (const auto& home : corpus.households) {
    least = std::min(least, home.train.size());
    most = std::max(most, home.train.size());
  }
  CHECK(most > 2 * least);
  const auto first = words(corpus.households[1].train);
  const auto second = words(corpus.households[2].train);
  std::vector<std::string> common;
  std::set_intersection(first.begin(), first.end(), second.begin(), second.end(), std::back_inserter(common));
  CHECK(common.size() < 0.8 * static_cast<double>(std::min(first.size(), second.size())));
}

TEST_CASE("sizes outside their range are named") {
  CHECK(make_household_corpus({.households = 0}).error().message.find("households") == 0);
  CHECK(make_household_corpus({.unseen = -1}).error().message.find("unseen") == 0);
  CHECK(make_household_corpus({.lines_mean = 0}).error().message.find("lines_mean") == 0);
}
