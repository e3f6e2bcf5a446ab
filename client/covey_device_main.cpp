#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>

#include "client/control_socket.h"
#include "client/device.h"
#include "client/enroll.h"
#include "core/base/command_line.h"
#include "core/base/file.h"
#include "core/base/log.h"

using namespace covey;
using namespace covey::client;
using formats::Json;

namespace {

std::atomic<bool> stop_requested{false};

void on_signal(int) {
  stop_requested.store(true);
}

std::string local_time(std::int64_t at_ms) {
  const std::time_t seconds = at_ms / 1000;
  std::tm parts{};
  localtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

ErrorCode code_named(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::internal); ++i)
    if (name == to_string(static_cast<ErrorCode>(i))) return static_cast<ErrorCode>(i);
  return ErrorCode::internal;
}

class Program {
 public:
  Program() : app_("Trains on this device's own examples for a Covey coordinator.", "covey-device") {
    app_.set_version_flag("--version", "covey-device " COVEY_VERSION);
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.add_flag("--json", json_, "Machine-readable output");
    add_enroll();
    add_run();
    add_import();
    ask_command("status", "What the device does, and why not", Json::object({{"command", "status"}}));
    ask_command("pause", "Take part in nothing until `resume`, over restarts too",
                Json::object({{"command", "pause"}}));
    ask_command("resume", "End a pause", Json::object({{"command", "resume"}}));
    add_journal();
    add_forget();
  }

  int run(int argc, char** argv) {
    if (const auto code = parse_command_line(app_, argc, argv)) return *code;
    return report_outcome(app_, chosen_());
  }

 private:
  CLI::App* add(const char* name, const char* what, std::function<Status()> command) {
    auto* sub = app_.add_subcommand(name, what);
    sub->callback([this, command = std::move(command)] { chosen_ = command; });
    return sub;
  }
  void add_config(CLI::App* sub) {
    sub->add_option("--config", config_path_, "The device.yaml that `enroll` wrote");
    sub->add_option("--dir", directory_, "The device's directory; its device.yaml is read");
  }

  void add_enroll() {
    auto* sub = add("enroll", "Join a coordinator's task with an invite", [this] { return enroll_now(); });
    sub->add_option("invite", invite_, "The invite, or @FILE that holds it")->required();
    sub->add_option("--dir", directory_, "Directory for keys and data; made where missing")->required();
    sub->add_option("--name", name_, "How the operator sees this device");
    sub->add_option("--weakest-mode", mode_, "Weakest privacy mode to accept: secure, grouped or robust")
        ->check(CLI::IsMember({"secure", "grouped", "robust"}));
    sub->add_option("--survivors-min", survivors_min_, "In secure mode: devices that a sum must have at least")
        ->check(CLI::Range(2, 1'000'000))
        ->capture_default_str();
    sub->add_option("--timeout-s", timeout_s_, "How long to wait for the coordinator")->check(CLI::Range(1, 3600));
  }
  void add_run() {
    auto* sub = add("run", "Take part in rounds until stopped or the task is finished", [this] { return run_now(); });
    add_config(sub);
    sub->add_option("--rounds", rounds_, "End after so many accepted updates")->check(CLI::Range(1, 1'000'000));
  }
  void add_import() {
    auto* sub = add("import", "Add examples: .txt one per line, .jsonl with text or prompt and response", [this] {
      const auto path = std::filesystem::absolute(file_).string();
      return ask(Json::object({{"command", "import"}, {"path", path}}));
    });
    sub->add_option("file", file_, "The file")->required();
    add_config(sub);
  }
  void add_journal() {
    auto* sub = add("journal", "What was done with this device's data", [this] {
      return ask(Json::object({{"command", "journal"}, {"last", last_}}));
    });
    sub->add_option("--last", last_, "So many newest entries")->check(CLI::Range(1, 1'000'000));
    add_config(sub);
  }
  void add_forget() {
    auto* sub = add("forget", "Erase the examples and what was made from them; --all: the whole device", [this] {
      return all_ ? forget_all() : ask(Json::object({{"command", "forget"}}));
    });
    sub->add_flag("--all", all_, "Keys, store, models and journal too; the device must enrol anew");
    add_config(sub);
  }
  void ask_command(const char* name, const char* what, Json request) {
    auto* sub = add(name, what, [this, request = std::move(request)] { return ask(request); });
    add_config(sub);
  }

  Result<DeviceConfig> config() const {
    if (config_path_.empty() && directory_.empty())
      return Error{ErrorCode::invalid_argument, "--config FILE or --dir DIR is needed"};
    return load_device_config(config_path_.empty() ? directory_ + "/device.yaml" : config_path_);
  }

  Status enroll_now() {
    EnrollOptions options;
    options.invite = invite_;
    if (invite_.starts_with("@")) {
      COVEY_ASSIGN(options.invite, read_text_file(invite_.substr(1), 8192));
    }
    options.directory = directory_;
    options.name = name_;
    options.survivors_min = survivors_min_;
    options.weakest_mode = mode_ == "robust"    ? wire::PrivacyMode::robust
                           : mode_ == "grouped" ? wire::PrivacyMode::grouped
                                                : wire::PrivacyMode::secure;
    options.timeout_ms = std::int64_t{timeout_s_} * 1000;
    COVEY_ASSIGN(const Enrolment enrolment, enroll(options));
    print(Json::object({{"task", enrolment.task},
                        {"endpoint", enrolment.endpoint},
                        {"roster_epoch", enrolment.roster_epoch},
                        {"config", directory_ + "/device.yaml"}}));
    return {};
  }

  Status run_now() {
    COVEY_ASSIGN(auto settings, config());
    COVEY_ASSIGN(const auto device, Device::open(std::move(settings)));
    std::signal(SIGTERM, on_signal);
    std::signal(SIGINT, on_signal);
    std::signal(SIGPIPE, SIG_IGN);
    COVEY_ASSIGN(const RunReport report, device->run({rounds_, &stop_requested}));
    const char* why = report.end == RunEnd::finished      ? "finished"
                      : report.end == RunEnd::rounds_done ? "rounds_done"
                                                          : "stopped";
    log_info("device", std::string("ends: ") + why);
    if (json_) {
      print(Json::object({{"end", why}, {"bytes_sent", report.bytes_sent}, {"bytes_received", report.bytes_received}}));
    }
    return {};
  }

  /// Through the daemon where one runs, else on the store itself. A daemon that starts has the store a while before it
  /// answers, so both are asked in turn.
  static Result<std::string> ask_either(const DeviceConfig& settings, const std::string& request) {
    constexpr int kTurns = 100;
    constexpr int kTurnMs = 50;
    const std::string socket = control_socket_path(settings.directory);
    for (int turn = 1;; ++turn) {
      auto through = control_ask(socket, request);
      if (through.ok() || through.error().code == ErrorCode::io_error) return through;
      auto device = Device::open(settings, kTurnMs);
      if (device.ok()) return (*device)->ask(request);
      if (device.error().code != ErrorCode::unavailable || turn == kTurns) return device.error();
    }
  }

  Status ask(const Json& request) {
    COVEY_ASSIGN(const auto settings, config());
    COVEY_ASSIGN(const std::string line, ask_either(settings, request.dump()));
    COVEY_ASSIGN(Json answer, Json::parse(line, "answer"));
    COVEY_ASSIGN(const bool ok, answer.get_bool("ok"));
    if (!ok) {
      COVEY_ASSIGN(const std::string code, answer.get_string("code"));
      COVEY_ASSIGN(std::string message, answer.get_string("error"));
      return Error{code_named(code), std::move(message)};
    }
    print(answer);
    return {};
  }

  Status forget_all() {
    COVEY_ASSIGN(auto settings, config());
    const std::string directory = settings.directory;
    // Opening it proves that no daemon has it, and that it is a device's directory.
    COVEY_TRY(Device::open(std::move(settings)));
    for (const char* name : {"device.db", "device.db-wal", "device.db-shm", "checkpoints", "blobs", "models",
                             "identity.key", "curve.key", "storage.key", "coordinator.json", "lock"}) {
      std::error_code code;
      std::filesystem::remove_all(directory + "/" + name, code);
      if (code) return Error{ErrorCode::io_error, directory + "/" + name + ": " + code.message()};
    }
    print(Json::object({{"forgotten", "all"}}));
    return {};
  }

  void print(const Json& answer) const {
    if (json_) {
      std::printf("%s\n", answer.dump().c_str());
      return;
    }
    for (const auto& member : answer.members()) {
      if (member.key == "ok") continue;
      if (member.key == "entries") {
        for (const auto& entry : member.value.items()) {
          const auto at = entry.get_int("at_ms");
          const auto line = entry.get_string("line");
          if (at.ok() && line.ok()) std::printf("%s  %s\n", local_time(*at).c_str(), line->c_str());
        }
        continue;
      }
      const auto text = member.value.as_string();
      std::printf("%-16s %s\n", member.key.c_str(), text.ok() ? text->c_str() : member.value.dump().c_str());
    }
  }

  CLI::App app_;
  std::function<Status()> chosen_;
  bool json_ = false;
  bool all_ = false;
  std::string config_path_, directory_, invite_, name_, file_;
  std::string mode_ = "secure";
  std::uint32_t survivors_min_ = SessionPolicy{}.survivors_min;
  int timeout_s_ = 30;
  std::uint64_t rounds_ = 0;
  std::int64_t last_ = 1000;
};

}  // namespace

int main(int argc, char** argv) {
  return Program().run(argc, argv);
}
