#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

#include "adapters/adapter_file.h"
#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "simulations/covey_sim.h"
#include "simulations/experiment.h"
#include "simulations/report.h"
#include "simulations/world.h"

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

/// One line that is written over itself, where someone is looking.
void show_progress(const Json& round, std::uint64_t rounds) {
  if (::isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\r\033[Kround %s of %llu: perplexity %s, %s contributed", figure(round, "round").c_str(),
               static_cast<unsigned long long>(rounds), figure(round, "perplexity").c_str(),
               figure(round, "contributed").c_str());
}

Status prepare_directory(const std::string& out) {
  if (std::filesystem::exists(out + "/metrics.jsonl")) {
    return Error{ErrorCode::already_exists, out + ": already holds a run; choose another --out or remove it"};
  }
  return make_folders(out);
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

Status save_adapter(const Experiment& experiment, const WorldResult& result, const std::string& out) {
  COVEY_ASSIGN(const auto bench, adapters::open_workbench(experiment.model, experiment.tokenizer));
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(result.adapter_layout));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench.model, std::move(layout), result.adapter));
  return adapters::save_adapter(out + "/adapter", adapter, experiment.model);
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
  std::printf("report: %s/report.html\n", out.c_str());
}

}  // namespace

Status run_command(const RunOptions& options) {
  COVEY_ASSIGN(Experiment experiment, load_experiment(options.experiment));
  if (options.threads) experiment.threads = *options.threads;
  if (options.seed) experiment.task.seed = *options.seed;
  COVEY_TRY(prepare_directory(options.out));
  COVEY_TRY(write_file_durably(options.out + "/config.yaml", config_of(experiment, options)));

  const auto started = std::chrono::steady_clock::now();
  WorldObserver observer;
  observer.on_round = [&](const Json& round) { show_progress(round, experiment.task.rounds); };
  COVEY_ASSIGN(WorldResult result, run_world(experiment, observer));
  if (::isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r\033[K");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();

  Json measured = *result.summary.find("measured");
  measured.set("wall_s", seconds);
  result.summary.set("measured", measured);
  result.summary.set("command", options.command_line).set("config", config_of(experiment, options));
  std::string lines;
  for (const auto& round : result.rounds) lines += round.dump() + "\n";
  COVEY_TRY(write_file_durably(options.out + "/metrics.jsonl", lines));
  COVEY_TRY(result.summary.save(options.out + "/summary.json"));
  COVEY_TRY(write_file_durably(options.out + "/report.html", render_report(result.summary, result.rounds)));
  COVEY_TRY(save_adapter(experiment, result, options.out));
  if (options.json) {
    std::printf("%s\n", result.summary.dump().c_str());
  } else {
    print_table(result.summary, options.out);
  }
  return {};
}

}  // namespace covey::simulations
