// Unigram and the normalizers around it, on a vocabulary small enough to try every cut.
#include <limits>

#include "core/base/rng.h"
#include "core/formats/sentencepiece.h"
#include "core/text/normalizer.h"
#include "core/text/pipeline.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using formats::TokenizerSpec;

namespace {

using Ids = std::vector<std::int32_t>;

TokenizerSpec small_unigram() {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::unigram;
  spec.vocab = {"<unk>", "a", "b", "ab", "ba", "aab", "bb"};
  spec.scores = {0, -2.0, -2.5, -3.1, -3.7, -4.9, -5.3};
  spec.hidden = {true, false, false, false, false, false, false};
  spec.unk_token = "<unk>";
  spec.fuse_unk = true;
  return spec;
}

double score(const TokenizerSpec& spec, const Ids& ids) {
  double sum = 0;
  for (const auto id : ids) sum += spec.scores[static_cast<std::size_t>(id)];
  return sum;
}

/// The best sum over all ways to cut `text`.
double best_score(const TokenizerSpec& spec, std::string_view text) {
  if (text.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (std::size_t id = 1; id < spec.vocab.size(); ++id) {
    if (!text.starts_with(spec.vocab[id])) continue;
    best = std::max(best, spec.scores[id] + best_score(spec, text.substr(spec.vocab[id].size())));
  }
  return best;
}

std::string normal(const TokenizerSpec::Normalizer& step, std::string_view text) {
  const auto normalizer = text::Normalizer::make({step});
  REQUIRE_OK(normalizer);
  return normalizer->apply(text);
}

}  // namespace

TEST_CASE("Unigram finds the cut of the highest score among all cuts") {
  const TokenizerSpec spec = small_unigram();
  const auto tokenizer = *text::make_tokenizer(spec);
  for (int bits = 0; bits < 1 << 9; ++bits) {
    std::string text;
    for (int i = 0; i < 9; ++i) text += (bits >> i & 1) != 0 ? 'a' : 'b';
    const Ids ids = tokenizer->encode(text, false);
    CHECK(tokenizer->decode(ids).value() == text);
    CHECK(score(spec, ids) == doctest::Approx(best_score(spec, text)).epsilon(1e-12));
  }
  CHECK(tokenizer->encode("axyb", false) == Ids{1, 0, 2});  // unknown characters in a row are one token
}

TEST_CASE("normalizers do what their names say") {
  using Kind = TokenizerSpec::Normalizer::Kind;
  CHECK(normal({.kind = Kind::lowercase},
               "\xC3\x84"
               "B\xC4\xB0\xCE\xA3") ==
        "\xC3\xA4"
        "bi\xCC\x87\xCF\x83");
  CHECK(normal({.kind = Kind::strip}, "\t a b \n") == "a b");
  CHECK(normal({.kind = Kind::strip, .right = false}, "  a ") == "a ");
  CHECK(normal({.kind = Kind::strip_accents}, "e\xCC\x81x") == "ex");
  CHECK(normal({.kind = Kind::collapse_spaces}, "  a   b ") == "a b");
  CHECK(normal({.kind = Kind::nmt},
               "a\x01"
               "b\tc\xE2\x80\x8B") == "ab c ");
  CHECK(normal({.kind = Kind::bert}, "\xC3\x89t\xC3\xA9\x07\t\xE4\xB8\xAD!") == "ete  \xE4\xB8\xAD !");
  CHECK(normal({.kind = Kind::replace, .pattern = " {2,}", .is_regex = true, .content = "_"}, "a   b c") == "a_b c");
}

TEST_CASE("a normalizer that could make gigabytes of a short text is refused") {
  using Kind = TokenizerSpec::Normalizer::Kind;
  const std::vector<TokenizerSpec::Normalizer> steps(
      4, {.kind = Kind::replace, .pattern = "a", .content = std::string(60, 'a')});
  const auto made = text::Normalizer::make(steps);
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().code == ErrorCode::unsupported);
}
