/// A whole deployment on loopback for the end-to-end tests: the three programs as a person would run them, nothing
/// linked in. What the tests know of a run they learn from the commands' --json output and the devices' journals.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/formats/json.h"
#include "support/process.h"
#include "support/support.h"

namespace covey::test {

/// coordinator.yaml's interesting part; the rest is fixed in deployment.cpp. Defaults: small and quick.
/// COVEY_E2E_WORK=0.05 makes training and evaluations shorter by that factor, for programs built with sanitizers.
struct TaskOptions {
  int devices = 4;
  int rounds = 3;
  int goal = 4;
  int min = 1;
  int deadline_ms = 60'000;
  int round_pause_ms = 0;
  int local_steps = 20;
  int rank = 4;  ///< of the adapter
  double learning_rate = 0.01;
  int held_out_lines = 40;     ///< the more, the longer each evaluation; 0: none
  int checkpoint_ms = 100;     ///< of the devices
  std::string model = {};      ///< empty: the household base model
  std::string tokenizer = {};  ///< where it does not lie beside `model`
  std::string held_out = {};   ///< file; empty: the households' held-out lines
  int seq = 32;
  bool roster_key_apart = false;  ///< the coordinator cannot sign its roster by itself
  std::string mode = "secure";
  int phase_ms = 5'000;            ///< of secure aggregation
  std::string privacy_more = {};   ///< further keys of `privacy`
  int masked_per_version_max = 1;  ///< of the devices' policy
  std::string more = {};           ///< further lines of coordinator.yaml
  std::string local_more = {};     ///< further keys of `local`: ", prox_mu: 1"
};

/// What the household corpus and the base model are made from once per process; empty strings on failure (REQUIREd).
struct Base {
  std::string model;   ///< Hugging Face directory
  std::string corpus;  ///< household-01/train.txt, held_out.txt, ...
};
const Base& base_model();

/// Every program is killed and every file removed when the object goes.
class Deployment {
 public:
  explicit Deployment(TaskOptions options = {});

  // -- the coordinator
  void serve();             ///< starts it and waits until it answers
  void kill_coordinator();  ///< SIGKILL
  void signal_coordinator(int number) { coordinator_->signal(number); }
  void stop_coordinator();  ///< SIGTERM; exit status 0 is required
  [[nodiscard]] bool serving() { return coordinator_ && coordinator_->running(); }
  /// One command; nothing where it fails.
  std::optional<formats::Json> ask(const std::string& command);
  std::string invite(const std::string& options = "");
  /// Other further lines of coordinator.yaml, and another port to listen on; for the next serve().
  void reconfigure(const std::string& more, int port = 0);
  CommandResult coordinator_command(const std::string& arguments);
  std::string coordinator_log() const;
  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] pid_t coordinator_pid() const { return coordinator_->pid(); }
  [[nodiscard]] const std::string& coordinator_dir() const { return coordinator_dir_; }

  // -- devices, 0 ... n-1
  void enroll_all();  ///< each with an invite of its own and one household's lines
  CommandResult enroll(int device, const std::string& invite);
  void configure(int device);  ///< device.yaml: waits of a test's length
  void import(int device, const std::string& file);
  void run(int device);
  void run_all();
  void kill_device(int device);
  Process& device(int i) { return *devices_.at(i); }
  [[nodiscard]] bool device_running(int i) { return devices_.contains(i) && devices_.at(i)->running(); }
  std::optional<formats::Json> ask_device(int device, const std::string& command);
  CommandResult device_command(int device, const std::string& arguments);
  std::string device_dir(int device) const;
  std::string device_log(int device) const;

  // -- what the tests look at
  std::string phase();  ///< of the coordinator; "" where it does not answer
  std::int64_t number(const std::string& key);
  std::string device_phase(int device);
  bool wait_for_phase(const std::string& phase, int limit_ms = 20'000);
  bool wait_for_device_phase(int device, const std::string& phase, int limit_ms = 20'000);
  /// Until `rounds` are published and no device works on any. Restarts nothing.
  bool wait_until_finished(int limit_ms);
  /// Lines "round N accepted: ... update sent" of a device's journal, by round.
  std::map<std::int64_t, int> receipts(int device);
  /// Rounds published as asked for, `verify` clean, contributors of each round = receipts in the journals, each once.
  /// In secure mode a device that was killed before it heard of its receipt never asks again: contributors may be more.
  void check_ledger();
  /// All logs' ends, for the message of a failed check.
  std::string diary();

  [[nodiscard]] std::string file(const std::string& name) const { return dir_.file(name); }
  [[nodiscard]] const TaskOptions& options() const { return options_; }

 private:
  void write_settings();

  TempDir dir_;
  TaskOptions options_;
  int port_ = 0;
  std::string coordinator_dir_;
  std::unique_ptr<Process> coordinator_;
  std::map<int, std::unique_ptr<Process>> devices_;
};

/// The member, or the fallback.
std::int64_t int_of(const formats::Json& json, const std::string& key, std::int64_t fallback = -1);
double real_of(const formats::Json& json, const std::string& key, double fallback = -1);
std::string text_of(const formats::Json& json, const std::string& key);
/// `covey-model eval` on a file; REQUIREs success.
formats::Json evaluate(const std::string& model, const std::string& file, const std::string& more = "");
void write_file(const std::string& path, const std::string& text);
std::string read_file(const std::string& path);

}  // namespace covey::test
