#include <chrono>
#include <cstdio>

#include "simulations/covey_sim.h"
#include "simulations/experiment.h"
#include "simulations/progress.h"
#include "simulations/run_directory.h"

namespace covey::simulations {
namespace {

using formats::Json;

std::string figure(const Json& from, const char* key, int digits = 4) {
  const Json* value = from.find(key);
  if (value == nullptr || !value->is_number()) return "-";
  char text[64];
  std::snprintf(text, sizeof text, "%.*g", digits, *value->as_double());
  return text;
}

/// What ran, with every default, and what the command line changed: `resolved` holds the file's own values.
std::string config_of(const Experiment& experiment, const RunOptions& options) {
  std::string out =
      "# " + options.experiment + " with all defaults; its paths are relative to the folder of that file.\n";
  if (options.seed)
    out += "# This run: --seed " + std::to_string(experiment.task.seed) + " in place of the one below.\n";
  if (options.threads)
    out += "# This run: --threads " + std::to_string(experiment.threads) + " (no result depends on it).\n";
  return out + experiment.resolved;
}

void print_table(const Json& summary, const std::string& out) {
  const Json& base = *summary.find("base");
  const Json& last = *summary.find("final");
  std::printf("%-28s %12s %12s\n", "held-out", "before", "after");
  std::printf("%-28s %12s %12s\n", "perplexity", figure(base, "perplexity").c_str(),
              figure(last, "perplexity").c_str());
  std::printf("%-28s %12s %12s\n", "next-token accuracy", figure(base, "accuracy").c_str(),
              figure(last, "accuracy").c_str());
  std::printf("\n%s devices, %s of %s rounds published, %s updates summed, %s devices died while training\n",
              figure(summary, "devices", 9).c_str(), figure(summary, "rounds_published", 9).c_str(),
              figure(summary, "rounds", 9).c_str(), figure(summary, "contributions", 9).c_str(),
              figure(summary, "crashes", 9).c_str());
  std::printf("modelled: %s virtual hours, %s J; moved: %s bytes up, %s bytes down\n",
              figure(summary, "virtual_hours").c_str(), figure(summary, "joules").c_str(),
              figure(summary, "bytes_up", 12).c_str(), figure(summary, "bytes_down", 12).c_str());
  const Json& measured = *summary.find("measured");
  if (measured.find("device_round_overhead") != nullptr) {
    std::printf("a device-round: %s ms of processor time to train, %s ms with all that simulates it (+%s)\n",
                figure(measured, "device_round_training_ms").c_str(), figure(measured, "device_round_all_ms").c_str(),
                figure(measured, "device_round_overhead", 2).c_str());
  }
  std::printf("took %s s (%s s of processor time), %s bytes of memory at most\n", figure(measured, "wall_s").c_str(),
              figure(measured, "process_cpu_s").c_str(), figure(measured, "peak_rss_bytes", 12).c_str());
  std::printf("report: %s/report.html\n", out.c_str());
}

}  // namespace

Status run_command(const RunOptions& options) {
  std::vector<KeyValue> set;
  for (const auto& text : options.set) {
    COVEY_ASSIGN(set.emplace_back(), KeyValue::parse(text));
  }
  COVEY_ASSIGN(Experiment experiment, load_experiment(options.experiment, set));
  if (options.threads) experiment.threads = *options.threads;
  if (options.seed) experiment.task.seed = *options.seed;

  Eta eta(experiment.task.rounds);
  const auto started = std::chrono::steady_clock::now();
  COVEY_ASSIGN(const auto ranks, join_ranks());
  RunDirectory directory;
  directory.ranks = ranks.get();
  directory.out = options.out;
  directory.config = config_of(experiment, options);
  directory.command_line = options.command_line;
  directory.resume = options.resume;
  directory.on_round = [&](const Json& round) {
    eta.update(*round.get_uint("version"),
               std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    const auto left = eta.left_s();
    show_progress_line("round " + figure(round, "round") + " of " + std::to_string(experiment.task.rounds) +
                       ": perplexity " + figure(round, "perplexity") + ", " + figure(round, "contributed") +
                       " contributed" + (left ? ", " + duration_words(*left) + " left" : ""));
  };
  const auto summary = run_into(experiment, directory);
  clear_progress_line();
  if (!summary.ok()) return summary.error();
  if (ranks) ranks->done();
  if (ranks && !ranks->first()) return {};
  if (options.json) {
    std::printf("%s\n", summary->dump().c_str());
  } else {
    print_table(*summary, options.out);
  }
  return {};
}

}  // namespace covey::simulations
