#include "coordinator/daemon.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "aggregation/strategy.h"
#include "coordinator/admin.h"
#include "coordinator/admin_worker.h"
#include "coordinator/dashboard.h"
#include "coordinator/deployment.h"
#include "coordinator/evaluation.h"
#include "coordinator/service.h"
#include "core/base/cpu.h"
#include "core/base/log.h"
#include "core/base/thread_pool.h"
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

/// The listening server, and the rotation it is in.
struct Door {
  std::unique_ptr<net::ZmqServer> server;
  std::optional<RotationRow> rotation;
  std::string first;  ///< the endpoint that ends with the overlap; empty: it has ended, or nothing rotates
};

Result<Door> open_door(const Deployment& deployment, const Clock& clock) {
  const Settings& settings = deployment.settings;
  Door out;
  if (deployment.next_curve) {
    COVEY_ASSIGN(out.rotation, find_rotation(*deployment.store, deployment.next_curve->public_key().bytes));
  }
  const bool moved = out.rotation && out.rotation->over(clock.wall_ms());
  net::ZmqServerOptions options;
  options.endpoint = moved ? settings.rotate->listen : settings.listen;
  const auto& pair = moved ? *deployment.next_curve : deployment.curve;
  options.public_key = pair.public_key().bytes;
  options.secret_key = pair.secret_copy();
  COVEY_ASSIGN(out.server, net::ZmqServer::create(std::move(options), *deployment.registration));
  if (!deployment.next_curve) return out;
  std::string bound = out.server->endpoint();
  if (!moved) {
    out.first = bound;
    COVEY_ASSIGN(bound, out.server->listen_also(settings.rotate->listen, deployment.next_curve->secret_copy()));
  }
  // Devices are told only of an endpoint that listens already.
  NextEndpoint next;
  COVEY_ASSIGN(next.endpoint, told_endpoint(settings.rotate->advertise, bound, "rotate"));
  next.curve = deployment.next_curve->public_key().bytes;
  next.overlap_ms = settings.rotate->overlap_ms;
  COVEY_ASSIGN(out.rotation, begin_rotation(*deployment.store, next, clock.wall_ms()));
  return out;
}

/// The first endpoint is given up when the overlap is over.
Status end_overlap(Door& door, const Clock& clock) {
  if (door.first.empty() || !door.rotation->over(clock.wall_ms())) return {};
  const std::string endpoint = std::exchange(door.first, {});
  log_info("coordinator",
           "the overlap is over: " + endpoint + " is given up, devices come to " + door.rotation->endpoint);
  return door.server->stop_listening(endpoint);
}

struct Parts {
  Service& service;
  Door& door;
  EvaluationWorker& evaluation;
  AdminSocket& admin;
  AdminWorker& slow;
  AdminContext& context;
  Dashboard* dashboard = nullptr;
};

Status run_loop(const Parts& parts, const Clock& clock) {
  auto& [service, door, evaluation, admin, slow, context, dashboard] = parts;
  const bool leaves = context.deployment.settings.exit_when_finished;
  std::int64_t finished_at = -1;
  std::int64_t snapshot_at = 0;
  while (stop_requested == 0) {
    COVEY_TRY(door.server->poll(service.wait_ms(kTickMs)));
    COVEY_TRY(end_overlap(door, clock));
    while (auto answer = evaluation.take()) COVEY_TRY(service.evaluated(*answer));
    COVEY_TRY(service.run_due());
    admin.poll([&](const formats::Json& request) -> AdminAnswer {
      if (auto work = slow_admin(context, request)) return slow.run(*std::move(work));
      return run_admin(context, request);
    });
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
  COVEY_ASSIGN(auto evaluation, EvaluationWorker::create(bench, task, config.held_out));
  COVEY_ASSIGN(auto identity, crypto::IdentityKey::from_seed(deployment.identity.seed().span()));
  COVEY_ASSIGN(auto door, open_door(deployment, clock));
  ThreadPool pool(cpu_count());
  COVEY_ASSIGN(auto service,
               Service::create(
                   std::move(task), std::move(identity),
                   {*deployment.store, *door.server, *deployment.registration, blobs, *evaluation, clock, {}, &pool}));
  if (door.rotation) service->announce(notice_of(*door.rotation, config.task.task));
  COVEY_ASSIGN(auto admin, AdminSocket::listen(deployment.socket_path()));
  AdminContext context{deployment, service.get(), door.server->endpoint(), door.rotation};
  AdminWorker slow;  // ends, with the command it is at, before what its commands look at
  std::unique_ptr<Dashboard> dashboard;
  if (config.dashboard_port > 0) {
    COVEY_ASSIGN(dashboard, Dashboard::start(config.dashboard_port));
    log_info("coordinator", "dashboard: http://127.0.0.1:" + std::to_string(config.dashboard_port) + "/");
  }
  COVEY_TRY(service->start());
  log_info("coordinator", "serving task " + config.task.task + " on " + door.server->endpoint() + " (" +
                              aggregation::threat_model(config.task.privacy.mode, config.roster_key.empty(),
                                                        config.task.selection.sortition) +
                              ")");
  if (door.rotation) {
    log_info("coordinator", "devices are told to come to " + door.rotation->endpoint +
                                (door.first.empty() ? "; the overlap is over" : ", which is served beside it"));
  }
  const Status ended = run_loop({*service, door, *evaluation, *admin, slow, context, dashboard.get()}, clock);
  log_info("coordinator", ended.ok() ? "stopped" : "stopped: " + ended.error().message);
  return ended;
}

}  // namespace covey::coordinator
