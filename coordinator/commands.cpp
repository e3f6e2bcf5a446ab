#include "coordinator/commands.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "coordinator/admin.h"
#include "coordinator/deployment.h"
#include "core/crypto/key_file.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
using formats::Json;

/// A daemon that starts has the store a while before it answers: ask both in turn.
constexpr std::int64_t kStartMs = 10'000;
constexpr int kTurnMs = 50;

Result<Json> ask(const CommandOptions& options, const Json& request) {
  const SystemClock clock;
  const std::int64_t give_up = clock.monotonic_ms() + kStartMs;
  for (;;) {
    COVEY_ASSIGN(auto settings, load_settings(options.config));
    auto answer = ask_admin(settings.data_dir + "/admin.sock", request);
    if (answer.ok() || answer.error().code != ErrorCode::unavailable) return answer;
    auto deployment = open_deployment(std::move(settings), clock, kTurnMs);
    if (deployment.ok()) {
      AdminContext context{*deployment, nullptr, {}};
      return run_admin(context, request);
    }
    if (deployment.error().code != ErrorCode::unavailable || clock.monotonic_ms() >= give_up) return deployment.error();
  }
}

std::string cell(const Json* value) {
  if (value == nullptr || value->is_null()) return "-";
  if (value->is_string()) {
    std::string text = *value->as_string();  // a device chose it: no control bytes reach the terminal
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
  }
  if (value->kind() == Json::Kind::real) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", *value->as_double());
    return text;
  }
  return value->dump();
}

void print_table(const Json& list, const std::vector<std::string>& columns) {
  std::vector<std::vector<std::string>> rows{columns};
  for (const Json& item : list.items()) {
    auto& row = rows.emplace_back();
    for (const std::string& column : columns) row.push_back(cell(item.find(column)));
  }
  std::vector<std::size_t> widths(columns.size());
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    while (!line.empty() && line.back() == ' ') line.pop_back();
    std::printf("%s\n", line.c_str());
  }
}
}  // namespace

Status print_result(const CommandOptions& options, const std::string& name, const Json& result) {
  if (options.json) {
    std::printf("%s\n", result.dump().c_str());
  } else if (name == "invite") {
    std::printf("%s\n", cell(result.find("invite")).c_str());
  } else if (name == "rounds") {
    print_table(*result.find("rounds"),
                {"round", "state", "contributors", "invited", "loss", "accuracy", "seconds", "reason"});
  } else if (name == "devices") {
    Json list = Json::array();
    for (Json device : result.find("devices")->items()) {
      device.set("device", cell(device.find("device")).substr(0, 16));
      list.push_back(std::move(device));
    }
    print_table(list, {"device", "name", "status", "processor", "tokens_per_s", "round_ms_mean", "contributed",
                       "refused", "failed", "late"});
  } else if (name == "verify") {
    for (const Json& check : result.find("checks")->items()) {
      const std::string problem = cell(check.find("problem"));
      std::printf("%-6s %s%s%s\n", problem.empty() ? "ok" : "FAILED", cell(check.find("check")).c_str(),
                  problem.empty() ? "" : ": ", problem.c_str());
    }
  } else {
    for (const auto& member : result.members()) {
      std::printf("%s: %s\n", member.key.c_str(), cell(&member.value).c_str());
    }
  }
  if (name == "verify") {
    COVEY_ASSIGN(const bool good, result.get_bool("ok"));
    if (!good) return Error{ErrorCode::internal, "verify: a check failed; restore a backup"};
  }
  return {};
}

Status run_command(const CommandOptions& options, const std::string& name, Json request) {
  request.set("command", name);
  COVEY_ASSIGN(const Json result, ask(options, request));
  return print_result(options, name, result);
}

Status sign_roster(const CommandOptions& options, const std::string& key_file) {
  COVEY_ASSIGN(const auto key, crypto::load_identity(key_file, "roster"));
  std::size_t signed_changes = 0;
  for (;;) {
    COVEY_ASSIGN(const Json next, ask(options, Json::object({{"command", "roster_next"}})));
    const Json* epoch = next.find("epoch");
    if (epoch == nullptr || epoch->is_null()) {
      COVEY_ASSIGN(const std::int64_t head, next.get_int("head"));
      return print_result(options, "roster sign",
                          Json::object({{"signed_changes", signed_changes}, {"roster_epoch", head}}));
    }
    const auto raw = from_hex(cell(epoch));
    if (!raw) return Error{ErrorCode::corrupt_data, "roster sign: the coordinator's epoch cannot be read"};
    COVEY_ASSIGN(const auto decoded, wire::decode<wire::RosterEpoch>(*raw));
    signed_changes += decoded.changes.size();
    const std::string document = to_hex(wire::encode(wire::sign_epoch(decoded, key)));
    COVEY_TRY(ask(options, Json::object({{"command", "roster_append"}, {"document", document}})));
  }
}

}  // namespace covey::coordinator
