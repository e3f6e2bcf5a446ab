#include "coordinator/dashboard.h"

#include <httplib.h>

#include <mutex>
#include <thread>

extern "C" {
extern const char covey_chart_js[];
extern const char covey_chart_js_end[];
extern const char covey_dashboard_html[];
extern const char covey_dashboard_html_end[];
}

namespace covey::coordinator {

namespace {
using formats::Json;

double number(const Json& object, const char* key) {
  const auto value = object.get_double(key, 0.0);
  return value.ok() ? *value : 0;
}

std::string prometheus(const Json& status) {
  std::string out;
  const auto gauge = [&](const char* name, const char* help, double value) {
    out += std::string("# HELP covey_") + name + " " + help + "\n# TYPE covey_" + name + " gauge\ncovey_" + name + " " +
           Json(value).dump() + "\n";
  };
  gauge("round", "Newest round started", number(status, "round"));
  gauge("rounds_published", "Rounds published", number(status, "published"));
  gauge("rounds_aborted", "Rounds aborted", number(status, "aborted"));
  gauge("version", "Newest adapter version", number(status, "version"));
  gauge("devices_enrolled", "Devices enrolled", number(status, "enrolled"));
  gauge("devices_connected", "Devices connected", number(status, "connected"));
  gauge("updates_collected", "Updates in the running sum", number(status, "collected"));
  gauge("received_bytes", "Frame bytes received", number(status, "bytes_in"));
  gauge("sent_bytes", "Frame bytes sent", number(status, "bytes_out"));
  gauge("refused_frames", "Frames refused", number(status, "refused_frames"));
  gauge("incidents", "Things a correct device does not do", number(status, "incidents"));
  if (const Json* newest = status.find("newest"); newest != nullptr && newest->contains("loss")) {
    const auto loss = newest->get_double("loss", -1.0);
    if (loss.ok() && *loss >= 0) gauge("held_out_loss", "Of the newest version, nats per token", *loss);
  }
  return out;
}
}  // namespace

struct Dashboard::Impl {
  httplib::Server server;
  std::thread thread;
  std::mutex mutex;
  std::string status = "{}";
  std::string metrics;
};

Dashboard::Dashboard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Dashboard::~Dashboard() {
  impl_->server.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<Dashboard>> Dashboard::start(int port) {
  auto impl = std::make_unique<Impl>();
  Impl* raw = impl.get();
  impl->server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  impl->server.Get("/", [](const httplib::Request&, httplib::Response& response) {
    response.set_content(covey_dashboard_html,
                         static_cast<std::size_t>(covey_dashboard_html_end - covey_dashboard_html), "text/html");
  });
  impl->server.Get("/chart.js", [](const httplib::Request&, httplib::Response& response) {
    response.set_content(covey_chart_js, static_cast<std::size_t>(covey_chart_js_end - covey_chart_js),
                         "text/javascript");
  });
  impl->server.Get("/api/status", [raw](const httplib::Request&, httplib::Response& response) {
    const std::lock_guard lock(raw->mutex);
    response.set_content(raw->status, "application/json");
  });
  impl->server.Get("/metrics", [raw](const httplib::Request&, httplib::Response& response) {
    const std::lock_guard lock(raw->mutex);
    response.set_content(raw->metrics, "text/plain; version=0.0.4");
  });
  if (!impl->server.bind_to_port("127.0.0.1", port)) {
    return Error{ErrorCode::unavailable,
                 "dashboard: port " + std::to_string(port) + " is taken; change `dashboard.port`"};
  }
  impl->thread = std::thread([raw] { raw->server.listen_after_bind(); });
  return std::unique_ptr<Dashboard>(new Dashboard(std::move(impl)));
}

void Dashboard::refresh(AdminContext& context) {
  const auto status = run_admin(context, Json::object({{"command", "status"}}));
  const auto rounds = run_admin(context, Json::object({{"command", "rounds"}}));
  const auto devices = run_admin(context, Json::object({{"command", "devices"}}));
  if (!status.ok() || !rounds.ok() || !devices.ok()) return;
  Json all = Json::object({{"status", *status}});
  if (const Json* list = rounds->find("rounds")) all.set("rounds", *list);
  if (const Json* list = devices->find("devices")) all.set("devices", *list);
  const std::lock_guard lock(impl_->mutex);
  impl_->status = all.dump();
  impl_->metrics = prometheus(*status);
}

}  // namespace covey::coordinator
