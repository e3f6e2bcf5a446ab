// GPT-2's vocabulary on wikitext, one core: ours beside npm's @huggingface/tokenizers, both in CPU time, best of five.
#include <ctime>
#include <iostream>

#include "core/base/file.h"
#include "core/text/tokenizer.h"
#include "interop/hf_tokenizers.h"
#include "support/support.h"

using namespace covey;  // NOLINT

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

TEST_CASE("GPT-2's tokenizer on wikitext gives the npm library's ids; how fast both are is printed") {
  const auto json = test::data_path("tok-gpt2/tokenizer.json");
  const auto valid = test::data_path("wikitext2-valid-test/valid.txt");
  const auto held_out = test::data_path("wikitext2-valid-test/test.txt");
  if (!json || !valid || !held_out) return;
  const auto tokenizer = text::load_tokenizer(*json);
  REQUIRE_OK(tokenizer);
  const std::string text = read_text_file(*valid).value() + read_text_file(*held_out).value();
  std::vector<std::int32_t> ids;
  double best = 1e9;
  for (int run = 0; run < 5; ++run) {
    const double started = cpu_seconds();
    ids = (*tokenizer)->encode(text, false);
    best = std::min(best, cpu_seconds() - started);
  }
  CHECK((*tokenizer)->decode(ids).value() == text);
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::cout << "covey: " << megabytes / best << " MB/s (" << megabytes << " MB, " << ids.size() << " tokens)\n";
  const auto theirs = interop::encode_with_hf(*json, {text}, 3);
  if (!theirs) return;
  std::cout << "@huggingface/tokenizers: " << megabytes / theirs->seconds << " MB/s, " << theirs->ids[0].size()
            << " tokens\n";
  CHECK(ids == theirs->ids[0]);
}
