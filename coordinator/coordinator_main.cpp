#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>

#include "coordinator/commands.h"
#include "coordinator/daemon.h"
#include "coordinator/deployment.h"
#include "core/base/command_line.h"

using namespace covey;
using namespace covey::coordinator;
using formats::Json;

namespace {

std::string absolute(const std::string& path) {
  std::error_code error;
  const auto out = std::filesystem::absolute(path, error);
  return error ? path : out.string();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Schedules federated rounds, sums the devices' updates and publishes adapter versions.",
               "covey-coordinator");
  app.set_version_flag("--version", "covey-coordinator " COVEY_VERSION);
  app.require_subcommand(1);
  CommandOptions options;
  std::function<Status()> chosen;

  const auto add = [&](CLI::App& parent, const char* name, const char* what) {
    CLI::App* command = parent.add_subcommand(name, what);
    command->add_option("--config", options.config, "coordinator.yaml")->capture_default_str();
    command->add_flag("--json", options.json, "print one JSON object on stdout");
    return command;
  };
  const auto ask = [&](CLI::App* command, const char* name, std::function<Json()> request) {
    command->callback([&options, &chosen, name, request] {
      chosen = [&options, name, request] { return run_command(options, name, request()); };
    });
  };
  const auto plain = [] { return Json::object(); };

  std::string directory;
  std::string task = "task";
  auto* init = app.add_subcommand("init", "make a directory with keys and a commented configuration");
  init->add_option("DIR", directory)->required();
  init->add_option("--task", task, "name of the task")->capture_default_str();
  init->add_flag("--json", options.json);
  init->callback([&] {
    chosen = [&]() -> Status {
      COVEY_TRY(init_deployment(directory, task));
      return print_result(options, "init",
                          Json::object({{"directory", directory}, {"config", directory + "/coordinator.yaml"}}));
    };
  });

  add(app, "serve", "run the coordinator until SIGTERM")->callback([&] {
    chosen = [&] { return serve(options.config); };
  });

  std::string next_key;
  auto* rotate_key = app.add_subcommand("rotate-key", "make the next transport key, for `rotate` in the configuration");
  rotate_key->add_option("FILE", next_key)->required();
  rotate_key->add_flag("--json", options.json);
  rotate_key->callback([&] {
    chosen = [&]() -> Status {
      COVEY_TRY(make_transport_key(next_key));
      return print_result(options, "rotate-key", Json::object({{"key", next_key}}));
    };
  });

  std::int64_t uses = 1;
  double hours = 24;
  auto* invite = add(app, "invite", "print an invite for devices, one line");
  invite->add_option("--uses", uses, "devices that may enrol with it")->capture_default_str();
  invite->add_option("--expires-hours", hours)->capture_default_str();
  ask(invite, "invite", [&] { return Json::object({{"uses", uses}, {"expires_hours", hours}}); });

  auto* roster = app.add_subcommand("roster", "the signed list of devices");
  roster->require_subcommand(1);
  std::string key_file = "roster.key";
  auto* sign = add(*roster, "sign", "sign the changes that wait, with the roster key kept apart");
  sign->add_option("--key", key_file, "roster key file")->capture_default_str();
  sign->callback([&] { chosen = [&] { return sign_roster(options, key_file); }; });

  ask(add(app, "status", "where the task stands"), "status", plain);
  ask(add(app, "devices", "what is known of each device"), "devices", plain);
  std::int64_t last = 0;
  auto* rounds = add(app, "rounds", "what each round brought");
  rounds->add_option("N", last, "only the last N");
  ask(rounds, "rounds", [&] { return Json::object({{"last", last}}); });
  ask(add(app, "pause", "finish the round in progress and start no other"), "pause", plain);
  ask(add(app, "resume", "go on after a pause"), "resume", plain);
  std::string device;
  auto* revoke = add(app, "revoke", "exclude a device from its next connection and the next round on");
  revoke->add_option("DEVICE", device, "name, or the first 8 or more digits")->required();
  ask(revoke, "revoke", [&] { return Json::object({{"device", device}}); });
  std::string format = "peft";
  std::string out;
  auto* exported = add(app, "export", "write the newest adapter");
  exported->add_option("--format", format)->check(CLI::IsMember({"peft", "gguf"}))->capture_default_str();
  exported->add_option("--out", out, "directory of peft, file that ends in .gguf")->required();
  ask(exported, "export", [&] { return Json::object({{"format", format}, {"out", absolute(out)}}); });
  auto* backup = add(app, "backup", "copy the database while it is in use");
  backup->add_option("FILE", out)->required();
  ask(backup, "backup", [&] { return Json::object({{"path", absolute(out)}}); });
  ask(add(app, "verify", "check the database and what must hold between its tables"), "verify", plain);

  if (const auto code = parse_command_line(app, argc, argv)) return *code;
  return report_outcome(app, chosen());
}
