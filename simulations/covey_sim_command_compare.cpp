#include <cmath>
#include <cstdio>
#include <filesystem>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "simulations/comparison.h"
#include "simulations/covey_sim.h"
#include "simulations/report_page.h"

namespace covey::simulations {
namespace {

using formats::Json;

Result<std::optional<ComparedTarget>> target_of(const CompareOptions& options, const ComparedRuns& runs) {
  if (options.target_accuracy) {
    return std::optional(ComparedTarget{true, *options.target_accuracy,
                                        "held-out accuracy " + percent_words(*options.target_accuracy) + " or more"});
  }
  if (!options.target_perplexity) return default_target(runs);
  if (!(*options.target_perplexity > 0) || !std::isfinite(*options.target_perplexity)) {
    return Error{ErrorCode::invalid_argument, "--target-perplexity: write a number above 0"};
  }
  return std::optional(
      ComparedTarget{false, std::log(*options.target_perplexity),
                     "held-out perplexity " + short_number(*options.target_perplexity, 6) + " or less"});
}

void print_comparison(const Json& comparison, const std::string& page) {
  std::printf("%-24s %5s %11s %9s %10s %9s %11s %11s %10s\n", "setting", "seeds", "perplexity", "+-", "accuracy", "+-",
              "MB moved", "memory MB", "energy J");
  for (const auto& setting : comparison.find("settings")->items()) {
    const auto of = [&](const char* name, const char* part) {
      return json_double(setting.find("figures")->find(name), part);
    };
    const auto words = [](double value, int digits) {
      return std::isfinite(value) ? short_number(value, digits) : std::string("-");
    };
    std::printf("%-24s %5zu %11s %9s %10s %9s %11s %11s %10s\n", json_text(setting, "label").c_str(),
                setting.find("seeds")->size(), words(of("perplexity", "mean"), 5).c_str(),
                words(of("perplexity", "half"), 2).c_str(), words(of("accuracy", "mean"), 4).c_str(),
                words(of("accuracy", "half"), 2).c_str(),
                words((of("bytes_up", "mean") + of("bytes_down", "mean")) / 1e6, 4).c_str(),
                words(of("training_bytes", "mean") / 1e6, 4).c_str(), words(of("joules", "mean"), 4).c_str());
  }
  std::printf("+-: half of the 95%% confidence interval of the mean over seeds (Student's t)\ncomparison: %s\n",
              page.c_str());
}

}  // namespace

Status compare_command(const CompareOptions& options) {
  COVEY_ASSIGN(const ComparedRuns runs, read_compared_runs(options.runs));
  COVEY_ASSIGN(const auto target, target_of(options, runs));
  for (const auto& folder : runs.skipped) {
    std::fprintf(stderr, "covey-sim: %s: not complete, left out\n", folder.c_str());
  }
  const Json comparison = comparison_json(runs, target);
  std::filesystem::path page(options.out);
  if (page.extension() != ".html") page /= "comparison.html";
  if (page.has_parent_path()) COVEY_TRY(make_folders(page.parent_path().string()));
  COVEY_TRY(write_file_durably(page.string(), comparison_html(runs, comparison, options.command_line)));
  const auto beside = [&](const char* extension) {
    return std::filesystem::path(page).replace_extension(extension).string();
  };
  COVEY_TRY(write_file_durably(beside(".csv"), comparison_csv(comparison)));
  COVEY_TRY(write_file_durably(beside(".curves.csv"), curves_csv(comparison)));
  COVEY_TRY(comparison.save(beside(".json")));
  if (options.json) {
    std::printf("%s\n", comparison.dump().c_str());
  } else {
    print_comparison(comparison, page.string());
  }
  return {};
}

}  // namespace covey::simulations
