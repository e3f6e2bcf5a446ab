#include "client/device.h"

#include <bit>
#include <filesystem>

#include "client/device_running.h"
#include "core/base/cpu.h"
#include "core/base/log.h"
#include "core/crypto/key_file.h"
#include "core/crypto/random.h"
#include "core/store/sqlite_store.h"

namespace covey::client {
namespace {

constexpr std::string_view kDeviceLog = "device";
constexpr std::int64_t kEligibilityEvery_ms = 1'000;
constexpr std::int64_t kBusyWait_ms = 20;
constexpr std::int64_t kIdleWait_ms = 100;

AgentConfig agent_config(const DeviceConfig& config, const Enrolment& enrolment, crypto::IdentityKey identity,
                         const wire::Key& curve) {
  SessionConfig session;
  session.task = enrolment.task;
  session.coordinator = enrolment.coordinator;
  session.roster = enrolment.roster;
  session.policy = config.policy;
  session.reply_ms = config.reply_ms;
  session.rest_ms = config.rest_ms;
  session.backoff_max_ms = config.backoff_max_ms;
  session.jitter_seed = crypto::random_u64();
  return AgentConfig{std::move(session), std::move(identity), curve, {enrolment.endpoint, enrolment.server_curve}};
}

}  // namespace

Device::~Device() = default;

Result<std::unique_ptr<Device>> Device::open(DeviceConfig config, int lock_wait_ms) {
  COVEY_TRY(crypto::init());
  std::unique_ptr<Device> device(new Device(std::move(config)));
  const std::string& directory = device->config_.directory;
  COVEY_ASSIGN(device->enrolment_, load_enrolment(directory));
  store::SqliteOptions options;
  options.path = directory + "/device.db";
  options.lock_wait_ms = lock_wait_ms;
  COVEY_ASSIGN(device->store_, store::SqliteStore::open(options));
  COVEY_ASSIGN(device->examples_, ExampleStore::open(*device->store_));
  COVEY_ASSIGN(const auto paused, device->store_->get(kDeviceTable, store::key_of("paused")));
  device->paused_ = paused.has_value();
  return device;
}

Result<RunReport> Device::run(const RunOptions& options) {
  const std::string& directory = config_.directory;
  COVEY_ASSIGN(auto identity, crypto::load_identity(identity_path(directory)));
  COVEY_ASSIGN(const auto curve, crypto::load_curve(curve_path(directory)));
  COVEY_ASSIGN(auto storage_key, crypto::read_key_file(storage_key_path(directory), "device"));
  std::error_code code;
  std::filesystem::create_directories(directory + "/checkpoints", code);
  if (code) return Error{ErrorCode::io_error, directory + "/checkpoints: " + code.message()};

  COVEY_ASSIGN(const auto files, DiskPlanFiles::open(directory, config_.disk_bytes_max));
  net::ZmqClientOptions link;
  link.endpoint = enrolment_.endpoint;
  link.server_key = enrolment_.server_curve;
  link.public_key = curve.public_key().bytes;
  link.secret_key = curve.secret_copy();
  link.backoff_max_ms = config_.backoff_max_ms;
  COVEY_ASSIGN(const auto transport, net::ZmqClient::create(std::move(link)));
  WorkerTrainerOptions training;
  training.checkpoint_directory = directory + "/checkpoints";
  training.storage_key = std::move(storage_key);
  training.threads = config_.threads;
  training.memory_bytes_max = config_.memory_bytes_max;
  training.checkpoint_ms = config_.checkpoint_ms;
  training.on_thread_start = lower_thread_priority;
  const wire::Key own = identity.public_key().bytes;
  for (std::size_t i = 0; i < 8; ++i) training.device = training.device << 8 | own[i];
  const SystemClock clock;
  WorkerTrainer trainer(std::move(training), *files, *examples_, clock);
  Agent agent(
      agent_config(config_, enrolment_, std::move(identity), curve.public_key().bytes),
      {*store_, *transport, *files, trainer, clock, [](std::span<std::uint8_t> out) { crypto::random_fill(out); }});
  auto control = ControlServer::open(control_socket_path(directory));
  if (!control.ok()) log_warning(kDeviceLog, control.error().message + "; commands cannot reach this daemon");

  Running running{agent, *transport, trainer, clock, control.ok() ? &control.value() : nullptr, {}, 0};
  {
    const std::lock_guard lock(mutex_);
    is_running_ = true;
    running_ = &running;
  }
  auto end = loop(running, options);
  {
    const std::lock_guard lock(mutex_);
    is_running_ = false;
    running_ = nullptr;
  }
  answer_questions();
  if (!end.ok()) return std::move(end).error();
  return RunReport{*end, agent.bytes_sent(), agent.bytes_received()};
}

Result<RunEnd> Device::loop(Running& running, const RunOptions& options) {
  auto& agent = running.agent;
  running.eligibility = eligibility_now(config_.eligibility, paused_);
  if (!running.eligibility.eligible) COVEY_TRY(agent.handle(EligibilityChanged{false, running.eligibility.reason}));
  COVEY_TRY(agent.start(capabilities()));
  const std::uint64_t receipts_before = agent.session().receipts_accepted();
  log_info(kDeviceLog, "task " + enrolment_.task + " at " + agent.server().endpoint);
  for (;;) {
    if (options.stop != nullptr && options.stop->load()) return RunEnd::stopped;
    if (agent.session().finished()) return RunEnd::finished;
    if (options.rounds > 0 && agent.session().receipts_accepted() - receipts_before >= options.rounds)
      return RunEnd::rounds_done;
    const bool busy = agent.session().phase() == SessionPhase::training;
    COVEY_TRY(running.transport.poll(agent.wait_ms(busy ? kBusyWait_ms : kIdleWait_ms)));
    COVEY_TRY(agent.run_due());
    COVEY_TRY(check_eligibility(running));
    if (running.control != nullptr) running.control->serve([this](const std::string& line) { return answer(line); });
    answer_questions();
  }
}

Status Device::check_eligibility(Running& running) {
  const std::int64_t now = running.clock.monotonic_ms();
  if (now < running.eligibility_due_ms) return {};
  running.eligibility_due_ms = now + kEligibilityEvery_ms;
  const Eligibility next = eligibility_now(config_.eligibility, paused_);
  if (next == running.eligibility) return {};
  running.eligibility = next;
  log_info(kDeviceLog, next.eligible ? "eligible" : "not eligible: " + next.reason);
  return running.agent.handle(EligibilityChanged{next.eligible, next.reason});
}

std::string Device::ask(const std::string& request) {
  std::unique_lock lock(mutex_);
  if (!is_running_) return answer(request);
  auto question = std::make_shared<Question>();
  question->request = request;
  auto reply = question->answer.get_future();
  questions_.push_back(std::move(question));
  lock.unlock();
  return reply.get();
}

void Device::answer_questions() {
  std::deque<std::shared_ptr<Question>> asked;
  {
    const std::lock_guard lock(mutex_);
    asked.swap(questions_);
  }
  for (const auto& question : asked) question->answer.set_value(answer(question->request));
}

wire::Capabilities Device::capabilities() const {
  wire::Capabilities out;
  out.software = "covey " COVEY_VERSION;
  out.processor = cpu_name();
  out.cores = static_cast<std::uint32_t>(cpu_count());
  // Rounded down to a power of two: the exact size would help to recognise a device.
  out.memory_bytes = std::bit_floor(std::uint64_t{memory_bytes()});
  out.training_memory_bytes_max = config_.memory_bytes_max;
  out.isa = to_string(chosen_isa());
  out.examples = examples_->rounded_count();
  out.weakest_mode = config_.policy.weakest_mode;
  return out;
}

}  // namespace covey::client
