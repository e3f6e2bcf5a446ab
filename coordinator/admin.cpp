#include "coordinator/admin.h"
#include "coordinator/privacy_report.h"

#include <algorithm>

#include "aggregation/strategy.h"
#include "coordinator/export_adapter.h"
#include "coordinator/rows.h"
#include "coordinator/verify.h"
#include "core/crypto/random.h"
#include "core/wire/codec.h"

namespace covey::coordinator {

namespace {
using formats::Json;

Json metrics_json(const Metrics& metrics) {
  Json out = Json::object();
  out.set("loss", metrics.loss ? Json(*metrics.loss) : Json());
  out.set("accuracy", metrics.accuracy ? Json(*metrics.accuracy) : Json());
  out.set("tokens", metrics.tokens);
  return out;
}

Json round_json(const RoundRow& row) {
  // In secure mode devices report nothing of their own: there are no such figures.
  const auto plan = wire::decode<wire::RoundPlan>(row.plan);
  const bool told = plan.ok() && plan->mode == wire::PrivacyMode::robust;
  const auto reported = [&](auto figure) { return told ? Json(figure) : Json(); };
  return Json::object(
      {{"round", row.round.value},
       {"state", to_string(row.state)},
       {"version", row.version.value},
       {"invited", row.invited},
       {"refused", row.refused},
       {"contributors", row.contributors},
       {"late", row.late},
       {"weight", row.weight},
       {"update_bytes", row.update_bytes},
       {"tokens", reported(row.tokens)},
       {"train_loss_first", reported(row.train_loss_first)},
       {"train_loss_last", reported(row.train_loss_last)},
       {"delta_norm", row.delta_norm},
       {"seconds", static_cast<double>(std::max<std::int64_t>(row.ended_ms - row.started_ms, 0)) / 1000},
       {"started_ms", row.started_ms},
       {"ended_ms", row.ended_ms},
       {"loss", row.metrics.loss ? Json(*row.metrics.loss) : Json()},
       {"accuracy", row.metrics.accuracy ? Json(*row.metrics.accuracy) : Json()},
       {"reason", row.reason}});
}

Result<std::vector<RoundRow>> read_rounds_table(store::Store& store) {
  std::vector<RoundRow> out;
  COVEY_TRY(store.scan("rounds", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(auto row, wire::decode<RoundRow>(value));
    out.push_back(std::move(row));
    return {};
  }));
  return out;
}

Result<std::vector<VersionRow>> read_versions_table(store::Store& store) {
  std::vector<VersionRow> out;
  COVEY_TRY(store.scan("versions", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(auto row, wire::decode<VersionRow>(value));
    out.push_back(std::move(row));
    return {};
  }));
  return out;
}

Result<Json> status(AdminContext& context) {
  store::Store& store = *context.deployment.store;
  const Registration& registration = *context.deployment.registration;
  COVEY_ASSIGN(const auto rounds, read_rounds_table(store));
  COVEY_ASSIGN(const auto versions, read_versions_table(store));
  COVEY_ASSIGN(const auto paused, store.get("task", store::key_of("paused")));
  const Settings& settings = context.deployment.settings;
  const auto published = std::ranges::count(rounds, RoundState::published, &RoundRow::state);
  Json out = Json::object();
  out.set("task", settings.task.task).set("serving", context.service != nullptr);
  out.set("phase", context.service != nullptr ? to_string(context.service->machine().phase()) : "stopped");
  out.set("paused", paused && !paused->empty() && paused->front() != 0);
  out.set("round", rounds.empty() ? 0 : rounds.back().round.value);
  out.set("published", published).set("aborted", std::ranges::count(rounds, RoundState::aborted, &RoundRow::state));
  out.set("rounds", settings.task.rounds);
  out.set("version", versions.empty() ? 0 : versions.back().version.value);
  out.set("first", versions.empty() ? Json() : metrics_json(versions.front().metrics));
  out.set("newest", versions.empty() ? Json() : metrics_json(versions.back().metrics));
  out.set("enrolled", registration.devices().size()).set("pending_roster_changes", registration.pending());
  out.set("roster_epoch", registration.roster_epoch()).set("open_invites", registration.open_invites());
  out.set("privacy", wire::to_string(settings.task.privacy.mode));
  out.set("threat_model", aggregation::threat_model(settings.task.privacy.mode, settings.roster_key.empty(),
                                                    settings.task.selection.sortition));
  COVEY_ASSIGN(const auto privacy, read_privacy_report(settings.task, store));
  if (privacy) {
    Json dp = Json::object();
    dp.set("epsilon", privacy->epsilon).set("delta", privacy->delta).set("epsilon_max", privacy->epsilon_max);
    dp.set("rounds_charged", privacy->rounds_charged).set("clip_norm", privacy->clip_norm);
    dp.set("mechanism", privacy->mechanism).set("unit", privacy->unit);
    dp.set("protects_from", privacy->protects_from).set("assumptions", privacy->assumptions);
    out.set("differential_privacy", dp).set("privacy_guarantee", privacy->words());
  }
  if (context.service != nullptr) {
    const ServiceStats& stats = context.service->stats();
    out.set("endpoint", context.endpoint).set("connected", context.service->connected());
    out.set("collected", in_round(context.service->machine().phase()) ? context.service->machine().collected() : 0U);
    out.set("bytes_in", stats.bytes_in).set("bytes_out", stats.bytes_out);
    out.set("refused_frames", stats.refused_frames).set("incidents", stats.incidents);
    if (context.rotation) {
      out.set("rotation", Json::object({{"endpoint", context.rotation->endpoint},
                                        {"from_ms", context.rotation->from_ms},
                                        {"overlap_until_ms", context.rotation->until_ms},
                                        {"told", context.service->told()}}));
    }
  }
  return out;
}

Result<Json> devices(AdminContext& context) {
  std::map<DeviceId, DeviceRow> rows;
  COVEY_TRY(context.deployment.store->scan("devices", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key));
    COVEY_ASSIGN(rows[device], wire::decode<DeviceRow>(value));
    return {};
  }));
  Json list = Json::array();
  for (const auto& [device, enrolled] : context.deployment.registration->devices()) {
    const DeviceRow& row = rows[device];
    const wire::Capabilities& capabilities = row.capabilities;
    const char* state = enrolled.status == wire::DeviceStatus::revoked ? "revoked"
                        : enrolled.epoch == 0                          ? "pending"
                                                                       : "active";
    list.push_back(Json::object({{"device", device.hex()},
                                 {"name", enrolled.name},
                                 {"status", state},
                                 {"processor", capabilities.processor},
                                 {"cores", capabilities.cores},
                                 {"memory_bytes", capabilities.memory_bytes},
                                 {"isa", capabilities.isa},
                                 {"tokens_per_s", row.tokens_per_s},
                                 {"bytes_per_s", row.bytes_per_s},
                                 {"round_ms_mean", row.round_ms_mean},
                                 {"invited", row.invited},
                                 {"contributed", row.contributed},
                                 {"refused", row.refused},
                                 {"failed", row.failed},
                                 {"late", row.late},
                                 {"last_seen_ms", row.last_seen_ms}}));
  }
  return Json::object({{"devices", std::move(list)}});
}

Result<Json> rounds(AdminContext& context, const Json& request) {
  COVEY_ASSIGN(const std::int64_t last, request.get_int_between("last", 0, 1'000'000, 0));
  COVEY_ASSIGN(const auto rows, read_rounds_table(*context.deployment.store));
  const std::size_t skip =
      last > 0 && rows.size() > static_cast<std::size_t>(last) ? rows.size() - static_cast<std::size_t>(last) : 0;
  Json list = Json::array();
  for (std::size_t i = skip; i < rows.size(); ++i) list.push_back(round_json(rows[i]));
  return Json::object({{"rounds", std::move(list)}});
}

Result<Json> invite(AdminContext& context, const Json& request) {
  Deployment& deployment = context.deployment;
  COVEY_ASSIGN(const std::int64_t uses, request.get_int_between("uses", 1, 100'000, 1));
  COVEY_ASSIGN(const double hours, request.get_double("expires_hours", 24));
  if (!(hours > 0 && hours <= 24 * 3650)) {
    return Error{ErrorCode::invalid_argument, "invite: --expires-hours is above 0, at most ten years"};
  }
  InviteOptions options;
  COVEY_ASSIGN(const net::ServerAddress address, deployment.invite_address(context.endpoint));
  options.endpoint = address.endpoint;
  options.task = deployment.settings.task.task;
  options.server_curve = address.curve;
  options.coordinator = deployment.identity.public_key().bytes;
  options.uses = static_cast<std::uint32_t>(uses);
  options.expires_ms = SystemClock().wall_ms() + static_cast<std::int64_t>(hours * 3'600'000);
  COVEY_ASSIGN(const auto made, deployment.registration->invite(options, crypto::random_secret(32)));
  COVEY_ASSIGN(const std::string text, wire::encode_invite(made));
  return Json::object({{"invite", text}, {"uses", uses}, {"expires_ms", options.expires_ms}});
}

Result<Json> pause(AdminContext& context, bool on) {
  if (context.service != nullptr) {
    COVEY_TRY(on ? context.service->pause() : context.service->resume());
  } else {
    COVEY_TRY(
        context.deployment.store->put("task", store::key_of("paused"), Bytes{static_cast<std::uint8_t>(on ? 1 : 0)}));
  }
  return Json::object({{"paused", on}});
}

Result<Json> revoke(AdminContext& context, const Json& request) {
  COVEY_ASSIGN(const std::string name, request.get_string("device"));
  std::optional<DeviceId> found;
  for (const auto& [device, row] : context.deployment.registration->devices()) {
    if (name.size() < 8 || !device.hex().starts_with(name)) {
      if (row.name != name) continue;
    }
    if (found)
      return Error{ErrorCode::invalid_argument, "revoke: `" + name + "` names several devices; give more digits"};
    found = device;
  }
  if (!found) return Error{ErrorCode::not_found, "revoke: no device `" + name + "`; `devices` lists them"};
  COVEY_TRY(context.service != nullptr ? context.service->revoke(*found)
                                       : context.deployment.registration->revoke(*found));
  return Json::object({{"revoked", found->hex()}, {"roster_epoch", context.deployment.registration->roster_epoch()}});
}

Result<Json> roster_next(AdminContext& context) {
  const auto epoch = context.deployment.registration->next_epoch();
  return Json::object({{"epoch", epoch ? Json(to_hex(wire::encode(*epoch))) : Json()},
                       {"head", context.deployment.registration->roster_epoch()}});
}

Result<Json> roster_append(AdminContext& context, const Json& request) {
  COVEY_ASSIGN(const std::string text, request.get_string("document"));
  const auto raw = from_hex(text);
  if (!raw) return Error{ErrorCode::invalid_argument, "roster: the document is not hexadecimal"};
  COVEY_ASSIGN(const auto document, wire::decode<wire::SignedRosterEpoch>(*raw));
  COVEY_TRY(context.deployment.registration->append(document));
  return Json::object({{"head", context.deployment.registration->roster_epoch()}});
}

/// The newest version and its values are read at once, since the loop may publish the next one; the rest takes its
/// time.
Result<AdminWork> export_work(AdminContext& context, const Json& request) {
  ExportOptions options;
  COVEY_ASSIGN(options.out, request.get_string("out"));
  COVEY_ASSIGN(options.format, request.get_string("format", options.format));
  COVEY_ASSIGN(const auto versions, read_versions_table(*context.deployment.store));
  if (versions.empty()) return Error{ErrorCode::not_found, "export: there is no version yet; run `serve` first"};
  const ModelVersion version = versions.back().version;
  COVEY_ASSIGN(auto content, context.deployment.store->get("adapters", store::key_of(version)));
  if (!content) return Error{ErrorCode::corrupt_data, "export: the newest adapter is missing; run `verify`"};
  const Settings& settings = context.deployment.settings;
  return AdminWork([&settings, options, version, content = *std::move(content)]() -> Result<Json> {
    COVEY_TRY(export_adapter(settings, content, options));
    return Json::object({{"version", version.value}, {"format", options.format}, {"out", options.out}});
  });
}

Json checks_json(const std::vector<Check>& checks) {
  Json list = Json::array();
  bool good = true;
  for (const Check& check : checks) {
    good = good && check.problem.empty();
    list.push_back(Json::object({{"check", check.name}, {"ok", check.problem.empty()}, {"problem", check.problem}}));
  }
  return Json::object({{"ok", good}, {"checks", std::move(list)}});
}

AdminWork verify_work(AdminContext& context) {
  Deployment& deployment = context.deployment;
  const bool beside = context.service != nullptr;
  return [&deployment, beside]() -> Result<Json> {
    const std::string copy = deployment.settings.data_dir + "/verify.db";
    COVEY_ASSIGN(const auto checks, beside ? verify_copy(*deployment.store, copy, &deployment.roster_public)
                                           : verify_store(*deployment.store, &deployment.roster_public));
    return checks_json(checks);
  };
}

Result<AdminWork> backup_work(AdminContext& context, const Json& request) {
  COVEY_ASSIGN(const std::string path, request.get_string("path"));
  store::Store& store = *context.deployment.store;
  return AdminWork([&store, path]() -> Result<Json> {
    COVEY_TRY(store.backup(path));
    return Json::object({{"backup", path}});
  });
}

AdminWork or_error(Result<AdminWork> work) {
  if (work.ok()) return *std::move(work);
  return [error = work.error()]() -> Result<Json> { return error; };
}
}  // namespace

std::optional<AdminWork> slow_admin(AdminContext& context, const Json& request) {
  const auto command = request.get_string("command");
  if (!command.ok()) return std::nullopt;
  if (*command == "export") return or_error(export_work(context, request));
  if (*command == "backup") return or_error(backup_work(context, request));
  if (*command == "verify") return verify_work(context);
  return std::nullopt;
}

Result<Json> run_admin(AdminContext& context, const Json& request) {
  COVEY_ASSIGN(const std::string command, request.get_string("command"));
  if (command == "status") return status(context);
  if (command == "devices") return devices(context);
  if (command == "rounds") return rounds(context, request);
  if (command == "invite") return invite(context, request);
  if (command == "pause" || command == "resume") return pause(context, command == "pause");
  if (command == "revoke") return revoke(context, request);
  if (command == "roster_next") return roster_next(context);
  if (command == "roster_append") return roster_append(context, request);
  if (const auto work = slow_admin(context, request)) return (*work)();
  return Error{ErrorCode::invalid_argument, "admin: there is no command `" + command + "`"};
}

}  // namespace covey::coordinator
