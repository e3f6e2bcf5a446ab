#include <chrono>
#include <cstdio>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "simulations/covey_sim.h"
#include "simulations/progress.h"
#include "simulations/results_table.h"
#include "simulations/run_directory.h"
#include "simulations/sweep.h"

namespace covey::simulations {
namespace {

using formats::Json;

std::string command_of(const Sweep& sweep, const SweepPoint& point, const std::string& folder) {
  std::string out = "covey-sim run " + sweep.experiment;
  for (const auto& pair : point.set) out += " --set '" + pair.text() + "'";
  return out + " --seed " + std::to_string(point.seed) + " --out " + folder;
}

Status run_point(const Sweep& sweep, const SweepPoint& point, const SweepOptions& options, ResultsTable& table,
                 const std::function<void(const Json&)>& on_round) {
  COVEY_ASSIGN(Experiment experiment, load_experiment(sweep.experiment, point.set));
  experiment.task.seed = point.seed;
  if (options.threads) experiment.threads = *options.threads;
  const std::string folder = options.out + "/runs/" + point.name;
  RunDirectory directory;
  directory.out = folder;
  directory.command_line = command_of(sweep, point, folder);
  directory.config = "# " + directory.command_line + "\n" + experiment.resolved;
  directory.resume = true;
  directory.on_round = on_round;
  COVEY_ASSIGN(const auto summary, run_into(experiment, directory));
  COVEY_ASSIGN(const auto files, read_run(folder));
  COVEY_TRY(table.put(point, folder, summary, files.rounds));
  const Json& last = *summary.find("final");
  const auto loss = last.get_double("loss");
  std::printf("%-32s loss %.4f  %s\n", point.name.c_str(), loss.ok() ? *loss : 0.0, folder.c_str());
  std::fflush(stdout);
  return {};
}

}  // namespace

Status sweep_command(const SweepOptions& options) {
  COVEY_ASSIGN(const Sweep sweep, load_sweep(options.sweep));
  COVEY_TRY(make_folders(options.out + "/runs"));
  COVEY_TRY(write_file_durably(options.out + "/sweep.yaml", sweep.resolved));
  COVEY_ASSIGN(ResultsTable table, ResultsTable::open(options.out + "/results.sqlite"));
  Eta eta(sweep.points.size());
  const auto started = std::chrono::steady_clock::now();
  std::size_t failed = 0;
  for (std::size_t i = 0; i < sweep.points.size(); ++i) {
    eta.update(i, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    const auto left = eta.left_s();
    const auto on_round = [&](const Json& round) {
      show_progress_line("run " + std::to_string(i + 1) + " of " + std::to_string(sweep.points.size()) + ", round " +
                         round.find("round")->dump() + (left ? ", " + duration_words(*left) + " left" : ""));
    };
    const Status outcome = run_point(sweep, sweep.points[i], options, table, on_round);
    clear_progress_line();
    if (outcome.ok()) continue;
    ++failed;  // the others still run: a point that diverges is a result, too
    std::fprintf(stderr, "covey-sim: %s: %s\n", sweep.points[i].name.c_str(), outcome.error().message.c_str());
  }
  std::printf("%zu runs, %zu failed; %s/results.sqlite\nside by side: covey-sim compare %s -o %s\n",
              sweep.points.size(), failed, options.out.c_str(), options.out.c_str(), options.out.c_str());
  if (failed == 0) return {};
  return Error{ErrorCode::internal, std::to_string(failed) + " runs failed; the same command tries them again"};
}

}  // namespace covey::simulations
