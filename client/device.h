/// One enrolled device on this machine: its store, keys, files, trainer and agent, run as a loop on the caller's
/// thread. The daemon, the commands (while no daemon runs) and the C API all use it.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client/device_config.h"
#include "client/example_store.h"
#include "core/base/result.h"
#include "core/formats/json.h"
#include "core/store/store.h"

namespace covey::client {

struct RunOptions {
  std::uint64_t rounds = 0;                 ///< ends after so many accepted receipts; 0: never for that reason
  const std::atomic<bool>* stop = nullptr;  ///< ends soon after it is set
};
enum class RunEnd { stopped, rounds_done, finished };
struct RunReport {
  RunEnd end = RunEnd::stopped;
  std::uint64_t bytes_sent = 0;  ///< frames, of this run
  std::uint64_t bytes_received = 0;
};

/// run() belongs to one thread at a time; ask() may be called from any.
class Device {
 public:
  /// @errors not_found: not enrolled; unavailable: another process still has the store after `lock_wait_ms`; what store
  /// and key files report.
  static Result<std::unique_ptr<Device>> open(DeviceConfig config, int lock_wait_ms = 2'000);
  ~Device();

  /// Takes part in rounds until told otherwise; also answers DIR/control.sock. @errors a failed disk ends it.
  Result<RunReport> run(const RunOptions& options);

  /// One JSON object in, one out, both on one line: {"command": "status"|"pause"|"resume"|"journal"|"import"|"add"|
  /// "forget"}. Answers {"ok": true, ...} or {"ok": false, "code": ..., "error": ...}. Waits for the loop where it
  /// runs.
  std::string ask(const std::string& request);

 private:
  struct Running;
  struct Question {
    std::string request;
    std::promise<std::string> answer;
  };
  explicit Device(DeviceConfig config) : config_(std::move(config)) {}
  Result<RunEnd> loop(Running& running, const RunOptions& options);
  void answer_questions();
  Status check_eligibility(Running& running);
  [[nodiscard]] wire::Capabilities capabilities() const;

  std::string answer(const std::string& request);
  Result<formats::Json> dispatch(const formats::Json& request);
  Result<formats::Json> status();
  Result<formats::Json> set_paused(bool paused);
  Result<formats::Json> journal(const formats::Json& request);
  Result<formats::Json> import_file(const formats::Json& request);
  Result<formats::Json> add_text(const formats::Json& request);
  Result<formats::Json> forget();
  Status examples_changed();

  DeviceConfig config_;
  Enrolment enrolment_;
  std::unique_ptr<store::Store> store_;
  std::optional<ExampleStore> examples_;
  bool paused_ = false;  ///< by the user; a row of the store

  std::mutex mutex_;  // guards the three below, and everything above while nothing runs
  bool is_running_ = false;
  std::deque<std::shared_ptr<Question>> questions_;
  Running* running_ = nullptr;  ///< the loop's own
};

}  // namespace covey::client
