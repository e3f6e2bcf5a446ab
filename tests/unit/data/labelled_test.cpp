#include "core/data/labelled.h"

#include <algorithm>
#include <set>

#include "core/formats/tokenizer_spec.h"
#include "core/text/pipeline.h"
#include "support/support.h"
#include "support/word_tokenizer.h"

using namespace covey;
using data::Example;
using data::kNoTarget;
using Ids = std::vector<std::int32_t>;

namespace {

constexpr std::int32_t kCls = 2, kSep = 3, kMask = 4;

/// Words a to j are ids 5 to 14.
std::shared_ptr<const text::Tokenizer> letters() {
  auto spec =
      formats::parse_tokenizer_json(test::word_tokenizer_json({"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}), "t");
  REQUIRE_OK(spec);
  auto tokenizer = text::make_tokenizer(*std::move(spec));
  REQUIRE_OK(tokenizer);
  return *tokenizer;
}

Example pair_of(const std::string& text, const std::string& second) {
  Example out{.prompt = {}, .text = text};
  out.text_pair = second;
  return out;
}

data::TokenRow row_of(const Example& example, const data::PairFrame& frame) {
  auto row = data::class_row(*letters(), example, 1, frame);
  REQUIRE_OK(row);
  CHECK(row->consistent());
  CHECK(row->is_class);
  CHECK(row->targets == Ids{1});
  return *row;
}

data::TokenRow long_row(std::size_t tokens) {
  data::TokenRow row;
  row.ids = {kCls};
  row.targets = {kNoTarget};
  for (std::size_t i = 0; i < tokens; ++i) {
    row.ids.push_back(static_cast<std::int32_t>(5 + i % 90));
    row.targets.push_back(row.ids.back());
  }
  return row;
}

}  // namespace

TEST_CASE("a classifier's row has one text or two in the tokenizer's frame, and the frame stays whole when it is cut") {
  CHECK(row_of(pair_of("a b c", ""), {.types = true}).ids == Ids{kCls, 5, 6, 7, kSep});
  CHECK(row_of(pair_of("a b c", ""), {.seq_max = 4}).ids == Ids{kCls, 5, 6, kSep});
  CHECK(row_of(pair_of("a b c", ""), {.types = true}).types.empty());
  const auto both = row_of(pair_of("a b", "c"), {.types = true});
  CHECK(both.ids == Ids{kCls, 5, 6, kSep, 7, kSep});
  CHECK(both.types == Ids{0, 0, 0, 0, 1, 1});
  CHECK(row_of(pair_of("a b", "c"), {}).types.empty());
  const auto doubled = row_of(pair_of("a b", "c"), {.double_separator = true, .types = true});
  CHECK(doubled.ids == Ids{kCls, 5, 6, kSep, kSep, 7, kSep});
  CHECK(doubled.types == Ids{0, 0, 0, 0, 0, 1, 1});
  // The longer text loses tokens first.
  CHECK(row_of(pair_of("a b c d", "e f"), {.seq_max = 6}).ids == Ids{kCls, 5, kSep, 9, 10, kSep});
  const auto no_room = data::class_row(*letters(), pair_of("a", "b"), 1, {.seq_max = 3});
  REQUIRE_FALSE(no_room.ok());
  CHECK(no_room.error().message.find("leaves no room") != std::string::npos);
}

TEST_CASE("a text to be masked becomes framed rows whose special tokens are never masked") {
  const auto rows = data::maskable_rows(*letters(), {.prompt = {}, .text = "a b c d e"}, 5);
  REQUIRE_OK(rows);
  REQUIRE(rows->size() == 2);
  CHECK((*rows)[0].ids == Ids{kCls, 5, 6, 7, kSep});
  CHECK((*rows)[0].targets == Ids{kNoTarget, 5, 6, 7, kNoTarget});
  CHECK((*rows)[1].ids == Ids{kCls, 8, 9, kSep});
  CHECK(data::maskable_rows(*letters(), {.prompt = {}, .text = ""}, 5)->empty());
  CHECK_FALSE(data::maskable_rows(*letters(), {.prompt = {}, .text = "a"}, 2).ok());
}

TEST_CASE("masking takes 15 of 100 tokens, makes 80 of 100 of these the mask and 10 random, and repeats itself") {
  const data::Masking masking{.mask_id = kMask, .vocab = 100, .share = 0.15, .seed = 7};
  const data::TokenRow row = long_row(200);
  int masked = 0, kept = 0, other = 0;
  std::set<Ids> seen;
  for (std::uint64_t number = 0; number < 100; ++number) {
    Ids ids = row.ids, targets = row.targets;
    data::mask_row(masking, 3, number, ids, targets);
    CHECK(targets[0] == kNoTarget);
    int chosen = 0;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      if (targets[t] == kNoTarget) {
        CHECK(ids[t] == row.ids[t]);
        continue;
      }
      ++chosen;
      CHECK(targets[t] == row.ids[t]);
      ++(ids[t] == kMask ? masked : ids[t] == row.ids[t] ? kept : other);
    }
    CHECK(chosen == 30);
    seen.insert(ids);
    Ids again = row.ids, again_targets = row.targets;
    data::mask_row(masking, 3, number, again, again_targets);
    CHECK(again == ids);
    CHECK(again_targets == targets);
  }
  CHECK(seen.size() == 100);
  // 3000 draws: five standard deviations of a share of 0.8 are 0.037, of 0.1 are 0.027.
  CHECK(masked / 3000.0 == doctest::Approx(0.8).epsilon(0.037 / 0.8));
  CHECK(kept / 3000.0 == doctest::Approx(0.1).epsilon(0.3));
  CHECK(other / 3000.0 == doctest::Approx(0.1).epsilon(0.3));
  // A short row still has one target.
  Ids ids = {kCls, 5}, targets = {kNoTarget, 5};
  data::mask_row(masking, 0, 0, ids, targets);
  CHECK(targets[1] == 5);
  CHECK_FALSE(data::Masking{.mask_id = 100, .vocab = 100}.check().ok());
  CHECK_FALSE(data::Masking{.mask_id = 4, .vocab = 100, .share = 1}.check().ok());
}

TEST_CASE("a batcher masks every epoch anew, and the same again when it goes on from a position") {
  const std::vector<data::TokenRow> rows(5, long_row(40));
  const data::BatcherOptions options{.batch = 2, .seed = 3, .masking = data::Masking{.mask_id = kMask, .vocab = 100}};
  auto first = *data::Batcher::create(rows, options);
  std::vector<Ids> all;
  for (int step = 0; step < 6; ++step) {
    const auto batch = first.next();
    all.emplace_back(batch.ids.begin(), batch.ids.end());
  }
  CHECK(all[0] != all[3]);
  auto second = *data::Batcher::create(rows, options);
  REQUIRE_OK(second.seek({1, 0}));
  for (std::size_t step = 3; step < 6; ++step) CHECK(std::ranges::equal(second.next().ids, all[step]));
}

TEST_CASE("a source's row ends with the end token, and the decoder reads the target moved by one") {
  const auto tokenizer = letters();
  const Example example{.prompt = "a b c", .text = "d e"};
  const auto row = data::source_row(*tokenizer, example, {.seq_max = 10, .target_seq_max = 10, .start_id = 0});
  REQUIRE_OK(row);
  CHECK(row->ids == Ids{kCls, 5, 6, 7, kSep});
  CHECK(row->targets == Ids{kCls, 8, 9, kSep});
  CHECK(row->second_ids == Ids{0, kCls, 8, 9});
  CHECK(row->consistent());
  const auto cut = data::source_row(*tokenizer, example, {.seq_max = 3, .target_seq_max = 3, .start_id = 0});
  REQUIRE_OK(cut);
  CHECK(cut->ids == Ids{kCls, 5, kSep});
  CHECK(cut->targets == Ids{kCls, 8, kSep});
  CHECK_FALSE(data::source_row(*tokenizer, example, {.seq_max = 2}).ok());
}

TEST_CASE("rows of classes and of sources are batched, and kinds do not mix") {
  data::TokenRow one{.ids = {5, 6}, .targets = {1}}, two{.ids = {7}, .targets = {0}};
  one.is_class = two.is_class = true;
  one.types = {0, 1};
  const std::vector<data::TokenRow> classes = {one, two};
  auto batcher = data::Batcher::create(classes, {.batch = 2, .shuffle = false});
  REQUIRE_OK(batcher);
  const auto batch = batcher->next();
  CHECK(std::ranges::equal(batch.ids, Ids{5, 6, 7, 0}));
  CHECK(std::ranges::equal(batch.types, Ids{0, 1, 0, 0}));
  CHECK(std::ranges::equal(batch.targets, Ids{1, 0}));
  const data::TokenRow a{.ids = {5, 6}, .targets = {8, 9, 3}, .types = {}, .second_ids = {0, 8, 9}};
  const data::TokenRow b{.ids = {7}, .targets = {3}, .types = {}, .second_ids = {0}};
  const std::vector<data::TokenRow> sources = {a, b};
  auto pairs = data::Batcher::create(sources, {.batch = 2, .shuffle = false});
  REQUIRE_OK(pairs);
  const auto both = pairs->next();
  CHECK(both.T == 2);
  CHECK(both.T2 == 3);
  CHECK(std::ranges::equal(both.second_ids, Ids{0, 8, 9, 0, 0, 0}));
  CHECK(std::ranges::equal(both.targets, Ids{8, 9, 3, 3, kNoTarget, kNoTarget}));
  const std::vector<data::TokenRow> mixed = {one, a};
  CHECK_FALSE(data::Batcher::create(mixed, {}).ok());
  CHECK_FALSE(data::Batcher::create(classes, {.masking = data::Masking{.mask_id = 4, .vocab = 9}}).ok());
  data::TokenRow wrong = one;
  wrong.types = {0};
  const std::vector<data::TokenRow> broken = {wrong};
  CHECK_FALSE(data::Batcher::create(broken, {}).ok());
}

TEST_CASE("labels are numbered in their order, and odd ones are refused") {
  const auto labels = data::Labels::create({"no", "yes"});
  REQUIRE_OK(labels);
  CHECK(labels->find("yes") == 1);
  CHECK_FALSE(labels->find("maybe").has_value());
  CHECK_FALSE(data::Labels::create({"one"}).ok());
  CHECK_FALSE(data::Labels::create({"a", "a"}).ok());
  CHECK_FALSE(data::Labels::create({"a", ""}).ok());
  std::vector<Example> examples(3, Example{.prompt = {}, .text = "t"});
  examples[0].label = "z";
  examples[1].label = "b";
  examples[2].label = "z";
  const auto found = data::Labels::of(examples);
  REQUIRE_OK(found);
  CHECK(std::ranges::equal(found->names(), std::vector<std::string>{"b", "z"}));
  examples[1].label.reset();
  examples[1].line = 8;
  CHECK(data::Labels::of(examples).error().message.find("line 8") != std::string::npos);
}

TEST_CASE("examples with labels, pairs, sources and targets are read from JSONL and from CSV") {
  const auto jsonl = data::parse_jsonl(
      "{\"text\": \"a\", \"text_pair\": \"b\", \"label\": \"yes\"}\n{\"text\": \"c\", \"label\": 3}\n"
      "{\"source\": \"s\", \"target\": \"t\"}\n{\"text\": \"d\", \"label\": [1]}\n",
      "d.jsonl");
  REQUIRE_OK(jsonl);
  CHECK((*jsonl)[0].text_pair == "b");
  CHECK((*jsonl)[0].label == "yes");
  CHECK((*jsonl)[1].label == "3");
  CHECK((*jsonl)[1].line == 2);
  CHECK((*jsonl)[2].prompt == "s");
  CHECK((*jsonl)[2].text == "t");
  CHECK_FALSE((*jsonl)[3].label.has_value());

  const auto csv = data::parse_csv_examples(
      "\xEF\xBB\xBFlabel,text,text_pair\r\nyes,\"a, \"\"b\"\"\nc\",d\r\n\r\n2,plain,\r\n", "d.csv");
  REQUIRE_OK(csv);
  REQUIRE(csv->size() == 2);
  CHECK((*csv)[0].text == "a, \"b\"\nc");
  CHECK((*csv)[0].text_pair == "d");
  CHECK((*csv)[0].label == "yes");
  CHECK((*csv)[0].line == 2);
  CHECK((*csv)[1].label == "2");
  CHECK((*csv)[1].line == 5);
  const auto pairs = data::parse_csv_examples("source,target\na,b", "d.csv");
  REQUIRE_OK(pairs);
  CHECK((*pairs)[0].prompt == "a");
  CHECK((*pairs)[0].text == "b");
}

TEST_CASE("a CSV file that is none is refused with its line and without its content") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"text,label\nSECRET\n", "d.csv:2: has 1 fields, the first line has 2"},
      {"text,label\n\"SECRET\n\n", "d.csv:2: a quoted field has no end"},
      {"text,label\nSEC\"RET,1\n", "d.csv:2: a quote inside a field"},
      {"text,label\n\"a\nb\"SECRET,1\n", "d.csv:3: text after a closing quote"},
      {"SECRET,label\n1,2\n", "d.csv:1: the first line must name the columns"},
      {"text,label\n", "holds no example"},
      {"", "holds no example"},
  };
  for (const auto& [content, expected] : cases) {
    CAPTURE(content);
    const auto result = data::parse_csv_examples(content, "d.csv");
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.find(expected) != std::string::npos);
    CHECK(result.error().message.find("SECRET") == std::string::npos);
  }
  CHECK_FALSE(data::parse_csv_examples("text\nabcdef\n", "d", {.line_bytes_max = 5}).ok());
  CHECK_FALSE(data::parse_csv_examples("text\na\nb\n", "d", {.examples_max = 2}).ok());
}
