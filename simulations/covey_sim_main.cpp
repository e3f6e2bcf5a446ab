#include <CLI/CLI.hpp>

#include "core/base/command_line.h"
#include "core/base/log.h"
#include "simulations/covey_sim.h"

using namespace covey;

int main(int argc, char** argv) {
  simulations::RunOptions run;
  simulations::CompareOptions compare;
  for (int i = 0; i < argc; ++i) run.command_line += (i > 0 ? " " : "") + std::string(argv[i]);
  compare.command_line = run.command_line;

  CLI::App app("Runs federated experiments: the deployed coordinator and devices on virtual time, training for real.",
               "covey-sim");
  app.set_version_flag("--version", "covey-sim " COVEY_VERSION);
  app.require_subcommand(1);
  CLI::App* command = app.add_subcommand(
      "run", "Run one experiment; writes metrics, summary, report.html, config.yaml and adapter/ to --out.");
  command->add_option("EXPERIMENT", run.experiment, "YAML file; simulations/README.md explains its keys")->required();
  command->add_option("--out", run.out, "directory for the results")->required();
  command->add_option("--threads", run.threads, "devices trained at the same time (no result depends on it)")
      ->check(CLI::Range(1, 1024));
  command->add_option("--seed", run.seed, "in place of the file's seed");
  command->add_option("--set", run.set, "key=value in place of the file's, as local.batch=4; again for more")
      ->take_all();
  command->add_flag("--resume", run.resume, "go on with the run in --out that was killed; the same bytes come out");
  command->add_flag("--json", run.json, "print summary.json on stdout");
  const CLI::App* attack = app.add_subcommand(
      "attack",
      "Play attacks on secure aggregation against the real machines; each once more without the check that stops it.");
  simulations::SweepOptions sweep;
  CLI::App* sweeping = app.add_subcommand(
      "sweep", "Run an experiment with many settings and seeds; results.sqlite. Again: goes on where it was killed.");
  sweeping->add_option("SWEEP", sweep.sweep, "YAML file; simulations/README.md explains it")->required();
  sweeping->add_option("--out", sweep.out, "directory for the results")->required();
  sweeping->add_option("--threads", sweep.threads, "devices trained at the same time")->check(CLI::Range(1, 1024));
  CLI::App* comparing = app.add_subcommand(
      "compare", "Lay runs side by side: means and confidence bands over seeds, as a page, CSV and JSON.");
  comparing
      ->add_option("RUN", compare.runs, "folder of a run or of a sweep, or its results.sqlite; LABEL=PATH names it")
      ->required();
  comparing->add_option("-o,--out", compare.out, "HTML file, or folder for comparison.html; .csv and .json beside it")
      ->required();
  CLI::Option* perplexity =
      comparing->add_option("--target-perplexity", compare.target_perplexity, "of \"time to target\"");
  comparing->add_option("--target-accuracy", compare.target_accuracy, "instead")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(perplexity);
  comparing->add_flag("--json", compare.json, "print the comparison as JSON on stdout");
  bool keys_json = false;
  CLI::App* keys = app.add_subcommand("keys", "List the keys of an experiment: meaning, default, range.");
  keys->add_flag("--json", keys_json, "as JSON");
  simulations::PoisonOptions poison;
  CLI::App* poisoning = app.add_subcommand(
      "poison", "Run an experiment under each aggregation rule with 0, 10, 20 and 30% bad devices; print the losses.");
  poisoning->add_option("EXPERIMENT", poison.experiment, "YAML file with `adversaries`")->required();
  poisoning->add_option("--rules", poison.rules, "some rules only")->delimiter(',');
  poisoning->add_option("--groups", poison.groups, "in grouped mode: the rules over so many groups' means")
      ->check(CLI::Range(3, 640));
  poisoning->add_option("--threads", poison.threads, "devices trained at the same time")->check(CLI::Range(1, 1024));
  poisoning->add_flag("--all-attacks", poison.all_attacks, "sign flip, scaled noise, label flip and backdoor in turn");
  simulations::FaultsOptions faults;
  CLI::App* torture = app.add_subcommand(
      "faults",
      "Run whole worlds under random faults, each twice: coordinator, devices, network, SQLite on bad disks.");
  torture->add_option("--seeds", faults.seeds, "how many worlds")
      ->check(CLI::Range(1, 1'000'000'000))
      ->capture_default_str();
  torture->add_option("--first", faults.first, "seed of the first one")->capture_default_str();
  torture->add_option("--threads", faults.threads, "worlds at the same time")->check(CLI::Range(1, 1024));
  CLI::Option* replay = torture->add_option("--replay", faults.replay, "this seed alone, with its list of faults");
  torture->add_flag("--minimize", faults.minimize, "leave out faults as long as it still fails")->needs(replay);
  simulations::PartitionOptions partition;
  CLI::App* dividing =
      app.add_subcommand("partition", "Show how an experiment's data would be divided among its devices.");
  dividing->add_option("EXPERIMENT", partition.experiment, "YAML file")->required();
  dividing->add_option("--out", partition.out, "HTML file for a plot");
  dividing->add_flag("--json", partition.json, "print figures as JSON");
  if (const auto code = parse_command_line(app, argc, argv)) return *code;
  set_log_level(LogLevel::warning);  // the coordinator's line per round is in metrics.jsonl
  if (sweeping->parsed()) return report_outcome(app, simulations::sweep_command(sweep));
  if (comparing->parsed()) return report_outcome(app, simulations::compare_command(compare));
  if (keys->parsed()) return report_outcome(app, simulations::keys_command(keys_json));
  if (poisoning->parsed()) return report_outcome(app, simulations::poison_command(poison));
  if (dividing->parsed()) return report_outcome(app, simulations::partition_command(partition));
  if (torture->parsed()) {
    set_log_level(LogLevel::off);  // coordinators that die say so, thousands of times
    return report_outcome(app, simulations::faults_command(faults));
  }
  return report_outcome(app, attack->parsed() ? simulations::attack_command() : simulations::run_command(run));
}
