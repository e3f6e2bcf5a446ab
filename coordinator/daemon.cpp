#include "coordinator/daemon.h"

#include <algorithm>
#include <csignal>

#include "coordinator/admin.h"
#include "coordinator/dashboard.h"
#include "coordinator/deployment.h"
#include "coordinator/evaluation.h"
#include "coordinator/service.h"
#include "core/base/log.h"
#include "core/net/zmq_server.h"

namespace covey::coordinator {

namespace {
volatile std::sig_atomic_t stop_requested = 0;

void request_stop(int) {
  stop_requested = 1;
}

/// The admin socket and the evaluation answer within this.
constexpr std::int64_t kTickMs = 20;
/// How long devices may still come and hear that the task is finished: one more check-back of each, within bounds.
std::int64_t farewell_ms(const Settings& settings) {
  return std::min<std::int64_t>(2 * std::int64_t{settings.task.check_back_ms} + 1'500, 30'000);
}
constexpr std::int64_t kSnapshotMs = 1'000;

Result<std::unique_ptr<net::ZmqServer>> open_server(const Deployment& deployment) {
  net::ZmqServerOptions options;
  options.endpoint = deployment.settings.listen;
  options.public_key = deployment.curve.public_key().bytes;
  options.secret_key = deployment.curve.secret_copy();
  return net::ZmqServer::create(std::move(options), *deployment.registration);
}

Status run_loop(Service& service, net::ZmqServer& server, EvaluationWorker& evaluation, AdminSocket& admin,
                AdminContext& context, Dashboard* dashboard, const Clock& clock) {
  const bool leaves = context.deployment.settings.exit_when_finished;
  std::int64_t finished_at = -1;
  std::int64_t snapshot_at = 0;
  while (stop_requested == 0) {
    COVEY_TRY(server.poll(service.wait_ms(kTickMs)));
    while (auto answer = evaluation.take()) COVEY_TRY(service.evaluated(*answer));
    COVEY_TRY(service.run_due());
    admin.poll([&](const formats::Json& request) { return run_admin(context, request); });
    const std::int64_t now = clock.monotonic_ms();
    if (dashboard != nullptr && now >= snapshot_at) {
      snapshot_at = now + kSnapshotMs;
      dashboard->refresh(context);
    }
    if (!service.finished()) continue;
    if (finished_at < 0) {
      finished_at = now;
      log_info("coordinator", "the task is finished");
    }
    if (leaves && now - finished_at >= farewell_ms(context.deployment.settings)) break;
  }
  return {};
}
}  // namespace

Status serve(const std::string& config_path) {
  std::signal(SIGTERM, request_stop);
  std::signal(SIGINT, request_stop);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  SystemClock clock;
  COVEY_ASSIGN(auto settings, load_settings(config_path));
  COVEY_ASSIGN(auto deployment, open_deployment(std::move(settings), clock));
  const Settings& config = deployment.settings;
  COVEY_ASSIGN(auto bench, adapters::open_workbench(config.model, config.tokenizer));
  TaskConfig task = config.task;
  if (auto added = add_adapter(task, *bench.model, config.adapter); !added.ok()) return added.error().in(config_path);
  net::BlobServer blobs;
  COVEY_ASSIGN(const auto files, model_files(config.model, config.tokenizer));
  COVEY_TRY(serve_model(task, files, blobs));
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(task.adapter_layout));
  COVEY_ASSIGN(auto evaluation, EvaluationWorker::create(bench, std::move(layout), config.held_out));
  COVEY_ASSIGN(auto identity, crypto::IdentityKey::from_seed(deployment.identity.seed().span()));
  COVEY_ASSIGN(auto server, open_server(deployment));
  COVEY_ASSIGN(auto service,
               Service::create(std::move(task), std::move(identity),
                               {*deployment.store, *server, *deployment.registration, blobs, *evaluation, clock}));
  COVEY_ASSIGN(auto admin, AdminSocket::listen(deployment.socket_path()));
  AdminContext context{deployment, service.get(), server->endpoint()};
  std::unique_ptr<Dashboard> dashboard;
  if (config.dashboard_port > 0) {
    COVEY_ASSIGN(dashboard, Dashboard::start(config.dashboard_port));
    log_info("coordinator", "dashboard: http://127.0.0.1:" + std::to_string(config.dashboard_port) + "/");
  }
  COVEY_TRY(service->start());
  log_info("coordinator", "serving task " + config.task.task + " on " + server->endpoint() + " (" +
                              threat_model(config.task.privacy.mode) + ")");
  const Status ended = run_loop(*service, *server, *evaluation, *admin, context, dashboard.get(), clock);
  log_info("coordinator", ended.ok() ? "stopped" : "stopped: " + ended.error().message);
  return ended;
}

}  // namespace covey::coordinator
