#include "deployment.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace covey::test {

namespace {
namespace fs = std::filesystem;
using formats::Json;

std::string program(const std::string& name) {
  return "'" + bin_dir() + "/" + name + "'";
}

std::optional<Json> parsed(const CommandResult& result) {
  if (result.exit_code != 0) return std::nullopt;
  auto json = Json::parse(result.out, "answer");
  if (!json.ok()) return std::nullopt;
  return *std::move(json);
}

std::string end_of(const std::string& text, std::size_t bytes = 2'000) {
  return text.size() <= bytes ? text : "..." + text.substr(text.size() - bytes);
}

void must(const std::string& command) {
  const auto result = run_command(command);
  REQUIRE_MESSAGE(result.exit_code == 0, command, ": ", result.err);
}
}  // namespace

std::int64_t int_of(const Json& json, const std::string& key, std::int64_t fallback) {
  const auto value = json.get_int(key);
  return value.ok() ? *value : fallback;
}

double real_of(const Json& json, const std::string& key, double fallback) {
  const auto value = json.get_double(key);
  return value.ok() ? *value : fallback;
}

std::string text_of(const Json& json, const std::string& key) {
  const auto value = json.get_string(key);
  return value.ok() ? *value : "";
}

Json evaluate(const std::string& model, const std::string& file, const std::string& more) {
  const auto result =
      run_command(program("covey-model") + " eval '" + model + "' --data '" + file + "' " + more + " --json");
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = parsed(result);
  REQUIRE(json.has_value());
  return *json;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  REQUIRE(out.good());
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

const Base& base_model() {
  static const TempDir dir;
  static const Base base = [] {
    Base out{dir.file("base"), dir.file("corpus")};
    must(program("covey-model") + " corpus --out '" + out.corpus + "' --households 8 --unseen 0 --lines 60");
    write_file(dir.file("pretrain.yaml"),
               "data: corpus/general/train.txt\n"
               "vocab_size: 320\n"
               "model: {layers: 2, hidden_size: 32, intermediate_size: 64, heads: 2, kv_heads: 2, context: 64}\n"
               "training: {lr: 0.003, batch: 16, seq: 32, steps: 200}\n");
    must(program("covey-model") + " pretrain --config '" + dir.file("pretrain.yaml") + "' --out '" + out.model + "'");
    return out;
  }();
  return base;
}

static TaskOptions scaled(TaskOptions options) {
  const char* work = std::getenv("COVEY_E2E_WORK");
  if (work == nullptr) return options;
  const auto less = [&](int count) { return std::max(1, static_cast<int>(std::atof(work) * count)); };
  options.local_steps = less(options.local_steps);
  if (options.held_out_lines > 100) options.held_out_lines = less(options.held_out_lines);
  return options;
}

Deployment::Deployment(TaskOptions options)
    : options_(scaled(std::move(options))), port_(free_port()), coordinator_dir_(dir_.file("coordinator")) {
  must(program("covey-coordinator") + " init '" + coordinator_dir_ + "' --task e2e");
  write_settings();
}

void Deployment::write_settings() {
  const TaskOptions& o = options_;
  std::string held_out = o.held_out;
  if (held_out.empty() && o.held_out_lines > 0) {
    // The same lines again and again where a long evaluation is wanted.
    const std::string lines = read_file(base_model().corpus + "/held_out.txt");
    REQUIRE(!lines.empty());
    std::istringstream in(lines);
    std::string text;
    std::string line;
    for (int i = 0; i < o.held_out_lines; ++i) {
      if (!std::getline(in, line)) {
        in.clear();
        in.seekg(0);
        std::getline(in, line);
      }
      text += line + "\n";
    }
    held_out = coordinator_dir_ + "/held_out.txt";
    write_file(held_out, text);
  }
  std::ostringstream y;
  y << "task: e2e\nlisten: tcp://127.0.0.1:" << port_ << "\n"
    << "model: " << (o.model.empty() ? base_model().model : o.model) << "\n";
  if (!o.tokenizer.empty()) y << "tokenizer: " << o.tokenizer << "\n";
  y << "adapter: {rank: " << o.rank << ", alpha: 8, targets: [all-linear]}\n";
  if (!held_out.empty()) {
    y << "held_out: {file: " << held_out << ", examples_max: 1000000, batch: 16, seq: " << o.seq << "}\n";
  }
  y << "rounds: " << o.rounds << "\ngoal: " << o.goal << "\nmin: " << o.min << "\ndeadline_ms: " << o.deadline_ms
    << "\nround_pause_ms: " << o.round_pause_ms << "\ncheck_back_ms: 100\n"
    << "local: {steps: " << o.local_steps << ", batch: 4, seq: " << o.seq << ", learning_rate: " << o.learning_rate
    << o.local_more << "}\n"
    << "privacy: {mode: " << o.mode << ", survivors_min: 2, phase_ms: " << o.phase_ms << o.privacy_more << "}\n"
    << (o.roster_key_apart ? "" : "roster_key: roster.key\n") << o.more;
  write_file(coordinator_dir_ + "/coordinator.yaml", y.str());
}

void Deployment::reconfigure(const std::string& more, int port) {
  options_.more = more;
  if (port != 0) port_ = port;
  write_settings();
}

// ---- the coordinator -----------------------------------------------------------------------------------------------

void Deployment::serve() {
  coordinator_ = std::make_unique<Process>(
      std::vector<std::string>{"covey-coordinator", "serve", "--config", coordinator_dir_ + "/coordinator.yaml"},
      file("coordinator.log"));
  const bool up = eventually(20'000, [&] {
    if (!coordinator_->running()) return true;
    const auto status = ask("status");
    return status && status->get_bool("serving").ok() && *status->get_bool("serving");
  });
  REQUIRE_MESSAGE((up && coordinator_->running()), diary());
}

void Deployment::kill_coordinator() {
  coordinator_->kill_now();
}

void Deployment::stop_coordinator() {
  coordinator_->signal(SIGTERM);
  const auto status = coordinator_->wait(20'000);
  REQUIRE_MESSAGE(status.has_value(), diary());
  CHECK_MESSAGE(*status == 0, diary());
}

CommandResult Deployment::coordinator_command(const std::string& arguments) {
  return run_command(program("covey-coordinator") + " " + arguments + " --config '" + coordinator_dir_ +
                     "/coordinator.yaml'");
}

std::optional<Json> Deployment::ask(const std::string& command) {
  return parsed(coordinator_command(command + " --json"));
}

std::string Deployment::invite(const std::string& options) {
  const auto answer = ask("invite " + options);
  REQUIRE_MESSAGE(answer.has_value(), diary());
  return text_of(*answer, "invite");
}

std::string Deployment::coordinator_log() const {
  return read_file(file("coordinator.log"));
}

// ---- devices -------------------------------------------------------------------------------------------------------

std::string Deployment::device_dir(int device) const {
  return file("device-" + std::to_string(device));
}

std::string Deployment::device_log(int device) const {
  return read_file(device_dir(device) + ".log");
}

CommandResult Deployment::enroll(int device, const std::string& invite) {
  const std::string name = "device-" + std::to_string(device);
  return run_command(program("covey-device") + " enroll '" + invite + "' --dir '" + device_dir(device) + "' --name " +
                     name + " --weakest-mode " + options_.mode + " --timeout-s 10");
}

void Deployment::configure(int device) {
  write_file(device_dir(device) + "/device.yaml",
             "policy: {weakest_mode: " + options_.mode +
                 ", survivors_min: 2, masked_per_version_max: " + std::to_string(options_.masked_per_version_max) +
                 ", only_on_ac: false, allow_metered: true}\n"
                 "training: {threads: 1, checkpoint_ms: " +
                 std::to_string(options_.checkpoint_ms) +
                 "}\n"
                 "connection: {reply_s: 3, rest_ms: 50, backoff_max_s: 1}\n");
}

void Deployment::import(int device, const std::string& path) {
  const auto result = device_command(device, "import '" + path + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
}

void Deployment::enroll_all() {
  for (int i = 0; i < options_.devices; ++i) {
    const auto result = enroll(i, invite());
    REQUIRE_MESSAGE(result.exit_code == 0, result.err, diary());
    configure(i);
    import(i, base_model().corpus + "/household-0" + std::to_string(i % 8 + 1) + "/train.txt");
  }
}

void Deployment::run(int device) {
  devices_[device] = std::make_unique<Process>(
      std::vector<std::string>{"covey-device", "run", "--config", device_dir(device) + "/device.yaml"},
      device_dir(device) + ".log");
}

void Deployment::run_all() {
  for (int i = 0; i < options_.devices; ++i) run(i);
}

void Deployment::kill_device(int device) {
  devices_.at(device)->kill_now();
}

CommandResult Deployment::device_command(int device, const std::string& arguments) {
  return run_command(program("covey-device") + " " + arguments + " --config '" + device_dir(device) + "/device.yaml'");
}

std::optional<Json> Deployment::ask_device(int device, const std::string& command) {
  return parsed(device_command(device, command + " --json"));
}

// ---- what the tests look at ----------------------------------------------------------------------------------------

std::string Deployment::phase() {
  const auto status = ask("status");
  return status ? text_of(*status, "phase") : "";
}

std::int64_t Deployment::number(const std::string& key) {
  const auto status = ask("status");
  return status ? int_of(*status, key) : -1;
}

std::string Deployment::device_phase(int device) {
  const auto status = ask_device(device, "status");
  return status ? text_of(*status, "phase") : "";
}

bool Deployment::wait_for_phase(const std::string& wanted, int limit_ms) {
  return eventually(limit_ms, [&] { return phase() == wanted; });
}

bool Deployment::wait_for_device_phase(int device, const std::string& wanted, int limit_ms) {
  return eventually(limit_ms, [&] { return device_phase(device) == wanted; });
}

bool Deployment::wait_until_finished(int limit_ms) {
  return eventually(limit_ms, [&] {
    if (phase() != "finished") return false;
    for (const auto& [i, process] : devices_) {
      if (process->running()) return false;  // `run` ends where the coordinator says that the task is finished
    }
    return true;
  });
}

std::map<std::int64_t, int> Deployment::receipts(int device) {
  std::map<std::int64_t, int> out;
  const auto journal = ask_device(device, "journal");
  REQUIRE_MESSAGE(journal.has_value(), diary());
  const auto entries = journal->get_array("entries");
  REQUIRE_OK(entries);
  for (const Json& entry : (*entries)->items()) {
    const std::string line = text_of(entry, "line");
    long long round = 0;
    if (line.find(" accepted: ") == std::string::npos || line.find("update sent") == std::string::npos) continue;
    REQUIRE_MESSAGE(std::sscanf(line.c_str(), "round %lld", &round) == 1, line);
    ++out[round];
  }
  return out;
}

void Deployment::check_ledger() {
  const auto status = ask("status");
  REQUIRE_MESSAGE(status.has_value(), diary());
  CHECK_MESSAGE(int_of(*status, "published") == options_.rounds, diary());
  CHECK(int_of(*status, "version") == options_.rounds);
  CHECK_MESSAGE(int_of(*status, "incidents", 0) == 0, diary());
  const auto verified = coordinator_command("verify");
  CHECK_MESSAGE(verified.exit_code == 0, verified.out, verified.err);

  std::map<std::int64_t, int> acknowledged;
  for (int i = 0; i < options_.devices; ++i) {
    int total = 0;
    for (const auto& [round, count] : receipts(i)) {
      CHECK_MESSAGE(count == 1, "device ", i, " has ", count, " receipts of round ", round);
      acknowledged[round] += count;
      total += count;
    }
    const auto own = ask_device(i, "status");
    REQUIRE(own.has_value());
    CHECK(int_of(*own, "receipts") == total);
  }
  const auto rounds = ask("rounds");
  REQUIRE(rounds.has_value());
  const auto list = rounds->get_array("rounds");
  REQUIRE_OK(list);
  int published = 0;
  for (const Json& round : (*list)->items()) {
    const std::int64_t id = int_of(round, "round");
    const bool agrees = options_.mode != "robust" ? int_of(round, "contributors") >= acknowledged[id]
                                                  : int_of(round, "contributors") == acknowledged[id];
    CHECK_MESSAGE(agrees, "round ", id, "\n", diary());
    published += text_of(round, "state") == "published" ? 1 : 0;
  }
  CHECK(published == options_.rounds);
}

std::string Deployment::diary() {
  std::string out = "\n--- coordinator\n" + end_of(coordinator_log());
  for (int i = 0; i < options_.devices; ++i) {
    const std::string log = device_log(i);
    if (!log.empty()) out += "\n--- device " + std::to_string(i) + "\n" + end_of(log, 800);
  }
  return out;
}

}  // namespace covey::test
