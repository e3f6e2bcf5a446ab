// The answers of Device::ask: what the commands and the C API see.
#include <filesystem>

#include "adapters/workbench.h"
#include "client/device_running.h"
#include "client/endpoints.h"
#include "client/session_rows.h"

namespace covey::client {
namespace {

using formats::Json;

}  // namespace

std::string Device::answer(const std::string& request) {
  const auto parsed = Json::parse(request, "request");
  auto result = parsed.ok() ? dispatch(*parsed) : Result<Json>(parsed.error());
  if (result.ok()) return result->set("ok", true).dump();
  return Json::object({{"ok", false}, {"code", to_string(result.error().code)}, {"error", result.error().message}})
      .dump();
}

Result<Json> Device::dispatch(const Json& request) {
  COVEY_ASSIGN(const std::string command, request.get_string("command"));
  if (command == "status") return status();
  if (command == "pause") return set_paused(true);
  if (command == "resume") return set_paused(false);
  if (command == "journal") return journal(request);
  if (command == "import") return import_file(request);
  if (command == "add") return add_text(request);
  if (command == "forget") return forget();
  return Error{ErrorCode::invalid_argument, "request: unknown command"};
}

Result<Json> Device::status() {
  Json out = Json::object();
  out.set("running", running_ != nullptr);
  EndpointBook endpoints({enrolment_.endpoint, enrolment_.server_curve});
  COVEY_TRY(endpoints.restore(*store_));
  out.set("task", enrolment_.task).set("endpoint", endpoints.choose(SystemClock().wall_ms()).endpoint);
  out.set("weakest_mode", wire::to_string(config_.policy.weakest_mode));
  out.set("paused", paused_);
  const Eligibility eligible =
      running_ != nullptr ? running_->eligibility : eligibility_now(config_.eligibility, paused_);
  out.set("eligible", eligible.eligible).set("reason", eligible.reason);
  out.set("examples", examples_->count()).set("example_bytes", examples_->bytes());
  const auto tell = [&](const Session& session) {
    out.set("phase", running_ != nullptr ? to_string(session.phase()) : "stopped");
    out.set("round", session.round() ? Json(session.round()->value) : Json());
    out.set("receipts", session.receipts_accepted()).set("bytes_submitted", session.bytes_submitted());
    out.set("roster_epoch", session.roster_epoch());
    out.set("finished", session.finished()).set("problem", session.last_problem());
  };
  if (running_ != nullptr) {
    tell(running_->agent.session());
    out.set("bytes_sent", running_->agent.bytes_sent()).set("bytes_received", running_->agent.bytes_received());
  } else {
    SessionConfig config;
    config.coordinator = enrolment_.coordinator;
    Session session(std::move(config));
    COVEY_TRY(session.restore(*store_));
    tell(session);
  }
  return out;
}

Result<Json> Device::set_paused(bool paused) {
  const Bytes key = store::key_of("paused");
  COVEY_TRY(paused ? store_->put(kDeviceTable, key, {1}) : store_->erase(kDeviceTable, key));
  paused_ = paused;
  if (running_ != nullptr) {
    running_->eligibility_due_ms = 0;
    COVEY_TRY(check_eligibility(*running_));
  }
  return Json::object({{"paused", paused}});
}

Result<Json> Device::journal(const Json& request) {
  COVEY_ASSIGN(const std::int64_t last, request.get_int_between("last", 1, 1'000'000, 1'000));
  COVEY_ASSIGN(const auto entries, read_journal(*store_));
  Json list = Json::array();
  const std::size_t count = std::min(entries.size(), static_cast<std::size_t>(last));
  for (std::size_t i = entries.size() - count; i < entries.size(); ++i)
    list.push_back(Json::object({{"at_ms", entries[i].at_ms}, {"line", entries[i].line}}));
  Json out = Json::object();
  out.set("entries", std::move(list));
  return out;
}

Result<Json> Device::import_file(const Json& request) {
  COVEY_ASSIGN(const std::string path, request.get_string("path"));
  COVEY_ASSIGN(const auto examples, adapters::read_examples(path));
  COVEY_TRY(examples_->add(examples));
  COVEY_TRY(examples_changed());
  return Json::object({{"imported", examples.size()}, {"examples", examples_->count()}});
}

Result<Json> Device::add_text(const Json& request) {
  COVEY_ASSIGN(std::string text, request.get_string("text"));
  COVEY_ASSIGN(std::string prompt, request.get_string("prompt", ""));
  const std::vector<adapters::TextExample> one = {{std::move(prompt), std::move(text)}};
  COVEY_TRY(examples_->add(one));
  COVEY_TRY(examples_changed());
  return Json::object({{"examples", examples_->count()}});
}

/// Examples, and everything made from them that has not left yet: the open round and its checkpoints.
Result<Json> Device::forget() {
  const std::uint64_t count = examples_->count();
  if (running_ != nullptr) {
    COVEY_TRY(running_->agent.handle(Forgotten{}));
  } else {
    SessionConfig config;
    config.coordinator = enrolment_.coordinator;
    Session session(std::move(config));
    if (const Status restored = session.restore(*store_); !restored.ok()) {
      // A round that cannot be read must not keep the examples alive.
      const std::vector<store::Write> writes = {{kSessionTable, open_key(), std::nullopt},
                                                {kSessionTable, update_key(), std::nullopt}};
      COVEY_TRY(store_->commit(writes));
    }
    for (const auto& effect : session.step(Forgotten{}, SystemClock().wall_ms())) {
      if (const auto* persist = std::get_if<Persist>(&effect)) COVEY_TRY(store_->commit(persist->writes));
    }
    std::error_code ignored;
    std::filesystem::remove_all(config_.directory + "/checkpoints", ignored);
  }
  COVEY_TRY(examples_->wipe());
  COVEY_TRY(examples_changed());
  return Json::object({{"forgotten", count}});
}

Status Device::examples_changed() {
  if (running_ == nullptr) return {};
  return running_->agent.handle(CapabilitiesChanged{capabilities()});
}

}  // namespace covey::client
