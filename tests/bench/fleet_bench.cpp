// What a world costs beside the training it is for: the same experiment with fleets of several sizes, each in a process
// of its own. Prints processor time of a device-round, of its training alone, and what an idle device takes in memory.
//
//   fleet_bench EXPERIMENT.yaml [--set KEY=VALUE]... DEVICES...        e.g. households.yaml 1000 10000 100000
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/formats/json.h"
#include "simulations/world.h"

using namespace covey;               // NOLINT
using namespace covey::simulations;  // NOLINT

namespace {

struct Options {
  std::string experiment;
  std::vector<KeyValue> set;
  std::vector<std::size_t> devices;
};

std::optional<Options> parse(int count, char** words) {
  Options out;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--set" && i + 1 < count) {
      auto pair = KeyValue::parse(words[++i]);
      if (!pair.ok()) return std::nullopt;
      out.set.push_back(*std::move(pair));
    } else if (out.experiment.empty()) {
      out.experiment = word;
    } else {
      out.devices.push_back(std::strtoull(word.c_str(), nullptr, 10));
    }
  }
  if (out.experiment.empty() || out.devices.empty()) return std::nullopt;
  return out;
}

/// The summary's `measured`; where it fails, one line on stderr.
std::optional<formats::Json> run(const Options& options, std::size_t devices) {
  auto set = options.set;
  set.push_back({"devices", std::to_string(devices)});
  const auto experiment = load_experiment(options.experiment, set);
  const auto result = experiment.ok() ? run_world(*experiment) : Result<WorldResult>(experiment.error());
  if (result.ok()) return *result->summary.find("measured");
  std::fprintf(stderr, "fleet_bench: %s\n", result.error().message.c_str());
  return std::nullopt;
}

/// In a child, so that one fleet's memory is not another's.
std::optional<formats::Json> run_apart(const Options& options, std::size_t devices) {
  int ends[2];
  if (::pipe(ends) != 0) return std::nullopt;
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    const auto measured = run(options, devices);
    const std::string line = measured ? measured->dump() : "";
    const bool sent = ::write(ends[1], line.data(), line.size()) == static_cast<ssize_t>(line.size());
    ::_exit(measured && sent ? 0 : 1);
  }
  ::close(ends[1]);
  std::string line;
  char part[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], part, sizeof part)) > 0;)
    line.append(part, static_cast<std::size_t>(got));
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  const auto measured = formats::Json::parse(line, "a child's result");
  return measured.ok() ? std::optional(*measured) : std::nullopt;
}

double figure(const formats::Json& measured, const char* key) {
  const auto value = measured.get_double(key);
  return value.ok() ? *value : 0;
}

}  // namespace

int main(int count, char** words) {
  set_log_level(LogLevel::warning);
  const auto options = parse(count, words);
  if (!options) {
    std::fprintf(stderr, "usage: fleet_bench EXPERIMENT.yaml [--set KEY=VALUE]... DEVICES...\n");
    return 2;
  }
  std::printf("%9s %13s %12s %10s %9s %8s %8s %11s %13s\n", "devices", "device-rounds", "training ms", "all ms",
              "overhead", "RSS MB", "agents", "row buffers", "B more/device");
  double before_rss = 0;
  std::size_t before_devices = 0;
  for (const auto devices : options->devices) {
    const auto measured = run_apart(*options, devices);
    if (!measured) return 1;
    const double rss = figure(*measured, "rss_bytes");
    const double more =
        devices > before_devices ? (rss - before_rss) / static_cast<double>(devices - before_devices) : 0.0;
    std::printf("%9zu %13.0f %12.2f %10.2f %8.1f%% %8.1f %8.0f %11.0f %13.0f\n", devices,
                figure(*measured, "device_rounds"), figure(*measured, "device_round_training_ms"),
                figure(*measured, "device_round_all_ms"), 100 * figure(*measured, "device_round_overhead"), rss / 1e6,
                figure(*measured, "agents_max"), figure(*measured, "row_buffers_max"), more);
    std::fflush(stdout);
    before_rss = rss;
    before_devices = devices;
  }
  return 0;
}
