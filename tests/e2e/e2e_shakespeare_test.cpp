// The main job on real input: a published base model, a real corpus cut by who speaks.
#include <algorithm>

#include "core/data/partition.h"
#include "deployment.h"

using namespace covey;
using namespace covey::test;

namespace {

/// One line per example, as the programs read .txt files.
std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text + "\n";
}

}  // namespace

TEST_CASE("stories260K learns Shakespeare from eight speakers' devices") {
  const auto model = data_path("stories260K/stories260K.bin");
  const auto tokenizer = data_path("stories260K/tok512.bin");
  const auto play = data_path("tinyshakespeare/input.txt");
  if (!model || !tokenizer || !play) return;

  const auto examples = data::parse_play(read_file(*play), *play);
  REQUIRE_OK(examples);
  auto parts = data::partition_by_key(*examples);
  std::ranges::stable_sort(parts, std::greater<>{}, [](const data::Part& part) { return part.examples.size(); });
  parts.resize(8);

  const TempDir texts;
  std::string held_out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto split = data::hold_out(parts[i].examples.size(), 0.1, i + 1);
    REQUIRE_OK(split);
    std::string train;
    for (const std::size_t at : split->train) train += one_line(parts[i].examples[at].text);
    for (const std::size_t at : split->held_out) held_out += one_line(parts[i].examples[at].text);
    write_file(texts.file(std::to_string(i) + ".txt"), train);
  }
  write_file(texts.file("held_out.txt"), held_out);

  Deployment run({.devices = 8,
                  .rounds = 3,
                  .goal = 8,
                  .deadline_ms = 200'000,
                  .local_steps = 30,
                  .learning_rate = 0.01,
                  .model = *model,
                  .tokenizer = *tokenizer,
                  .held_out = texts.file("held_out.txt"),
                  .seq = 64});
  run.serve();
  for (int i = 0; i < 8; ++i) {
    REQUIRE(run.enroll(i, run.invite()).exit_code == 0);
    run.configure(i);
    run.import(i, texts.file(std::to_string(i) + ".txt"));
  }
  run.run_all();
  REQUIRE_MESSAGE(run.wait_until_finished(250'000), run.diary());
  run.check_ledger();

  REQUIRE(run.coordinator_command("export --format peft --out '" + run.file("adapter") + "'").exit_code == 0);
  const std::string common = "--tokenizer '" + *tokenizer + "' --seq 64";
  const auto before = evaluate(*model, texts.file("held_out.txt"), common);
  const auto after = evaluate(*model, texts.file("held_out.txt"), common + " --adapter '" + run.file("adapter") + "'");
  MESSAGE("perplexity on held-out lines: ", real_of(before, "perplexity"), " -> ", real_of(after, "perplexity"));
  CHECK(real_of(after, "perplexity") < 0.7 * real_of(before, "perplexity"));
}
