/// The experiment on real input: examples/experiments/speakers.yaml with its paths made absolute.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "unit/simulations/tiny_world.h"

namespace covey::simulations {

inline void replace(std::string& text, const std::string& what, const std::string& with) {
  auto at = text.find(what);
  REQUIRE_MESSAGE(at != std::string::npos, what);
  for (; at != std::string::npos; at = text.find(what, at + with.size())) text.replace(at, what.size(), with);
}

/// Nothing where the data is missing (the test says so).
inline std::optional<std::string> speakers_experiment(const test::TempDir& dir, int rounds) {
  const auto model = test::data_path("stories260K/stories260K.bin");
  const auto play = test::data_path("tinyshakespeare/input.txt");
  if (!model || !play) return std::nullopt;
  auto yaml = read_text_file(test::source_dir() + "/examples/experiments/speakers.yaml");
  REQUIRE_OK(yaml);
  replace(*yaml, "../../../shared/data/stories260K/stories260K.bin", *model);
  replace(*yaml, "../../../shared/data/tinyshakespeare/input.txt", *play);
  replace(*yaml, "rounds: 20", "rounds: " + std::to_string(rounds));
  tiny::write(dir.file("speakers.yaml"), *yaml);
  return dir.file("speakers.yaml");
}

/// Runs covey-sim and gives metrics.jsonl.
inline std::string metrics_of_run(const std::string& experiment, const std::string& out, const std::string& options) {
  const auto result =
      test::run_command(test::bin_dir() + "/covey-sim run " + experiment + " --out " + out + " " + options);
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  const auto metrics = read_text_file(out + "/metrics.jsonl");
  REQUIRE_OK(metrics);
  return *metrics;
}

}  // namespace covey::simulations
