#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "aggregation/strategy.h"
#include "simulations/covey_sim.h"
#include "simulations/experiment.h"
#include "simulations/world.h"

namespace covey::simulations {
namespace {

constexpr double kShares[] = {0, 0.1, 0.2, 0.3};
constexpr double kAllowedLoss = 1.05;  ///< of the clean loss of the same rule

struct Cell {
  double loss = NAN;
  double success = NAN;
};

/// A row of the table: a rule on single updates, or on the means of groups.
struct Row {
  std::string name;
  aggregation::Strategy rule = aggregation::Strategy::mean;
  std::uint32_t groups = 0;
};

Result<std::vector<Row>> rows_of(const PoisonOptions& options) {
  std::vector<Row> out;
  for (const std::string& name : options.rules.empty() ? aggregation::strategy_names() : options.rules) {
    COVEY_ASSIGN(const auto rule, aggregation::strategy_of(name));
    out.push_back({options.groups > 0 ? "grouped " + name : name, rule, options.groups});
  }
  return out;
}

/// All devices of the round dealt into groups, each as large as can be.
void group(Experiment& experiment, std::uint32_t groups) {
  coordinator::Privacy& privacy = experiment.task.privacy;
  privacy.mode = wire::PrivacyMode::grouped;
  privacy.groups = groups;
  privacy.survivors_min = experiment.task.goal_count / groups;
}

Result<Cell> play(Experiment experiment, const Row& row, double share) {
  experiment.task.aggregation.rule = row.rule;
  if (row.groups > 0) group(experiment, row.groups);
  experiment.adversaries.share = share;
  COVEY_ASSIGN(const WorldResult result, run_world(experiment, {}));
  Cell cell;
  const formats::Json* final = result.summary.find("final");
  if (const formats::Json* loss = final->find("loss"); loss != nullptr && loss->is_number()) {
    cell.loss = *loss->as_double();
  }
  if (const formats::Json* success = result.summary.find("attack_success");
      success != nullptr && success->is_number()) {
    cell.success = *success->as_double();
  }
  return cell;
}

std::string shown(const Cell& cell) {
  char text[48];
  if (std::isnan(cell.success)) {
    std::snprintf(text, sizeof text, "%.4f", cell.loss);
  } else {
    std::snprintf(text, sizeof text, "%.4f %5.1f%%", cell.loss, 100 * cell.success);
  }
  return text;
}

}  // namespace

Status poison_command(const PoisonOptions& options) {
  COVEY_ASSIGN(Experiment experiment, load_experiment(options.experiment));
  if (options.threads) experiment.threads = *options.threads;
  COVEY_ASSIGN(const std::vector<Row> rows, rows_of(options));
  std::vector<Attack> attacks = {experiment.adversaries.attack};
  if (options.all_attacks) attacks = {Attack::sign_flip, Attack::scaled_noise, Attack::label_flip, Attack::backdoor};
  for (const Attack attack : attacks) {
    experiment.adversaries.attack = attack;
    std::printf("%s, scale %g: held-out loss%s after %llu rounds, by share of bad devices\n",
                attack_names()[static_cast<std::size_t>(attack)].c_str(), experiment.adversaries.scale,
                attack == Attack::label_flip || attack == Attack::backdoor ? " and attack success" : "",
                static_cast<unsigned long long>(experiment.task.rounds));
    std::printf("%-26s", "rule");
    for (const double share : kShares) std::printf(" %15.0f%%", 100 * share);
    std::printf("   at 20%%\n");
    for (const Row& row : rows) {
      std::printf("%-26s", row.name.c_str());
      double clean = NAN;
      double at_fifth = NAN;
      for (const double share : kShares) {
        COVEY_ASSIGN(const Cell cell, play(experiment, row, share));
        if (share == 0) clean = cell.loss;
        if (share == 0.2) at_fifth = cell.loss;
        std::printf(" %16s", shown(cell).c_str());
        std::fflush(stdout);
      }
      std::printf("   %+.1f%% %s\n", 100 * (at_fifth / clean - 1),
                  at_fifth <= kAllowedLoss * clean ? "holds" : "fails");
    }
  }
  return {};
}

}  // namespace covey::simulations
