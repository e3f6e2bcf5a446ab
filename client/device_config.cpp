#include "client/device_config.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/config/reader.h"
#include "core/formats/json.h"

namespace covey::client {
namespace {

using formats::Json;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kMillion = 1'000'000;
constexpr std::int64_t kHour_ms = 3600 * 1000;

wire::PrivacyMode mode_of(const std::string& name) {
  if (name == "robust") return wire::PrivacyMode::robust;
  return name == "grouped" ? wire::PrivacyMode::grouped : wire::PrivacyMode::secure;
}

Status read_key(const Json& json, std::string_view name, wire::Key& out) {
  COVEY_ASSIGN(const std::string text, json.get_string(name));
  const auto bytes = from_hex(text);
  if (!bytes || bytes->size() != out.size()) return json.error_at(name, "must be 64 hexadecimal digits");
  std::memcpy(out.data(), bytes->data(), out.size());
  return {};
}

std::string enrolment_path(const std::string& directory) {
  return directory + "/coordinator.json";
}

/// Half of the processors, so that the device stays usable.
int default_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
}

}  // namespace

Result<DeviceConfig> load_device_config(const std::string& path) {
  COVEY_ASSIGN(auto file, config::Document::load(path));
  auto root = file.root();
  DeviceConfig out;
  const auto here = std::filesystem::absolute(path).parent_path();
  out.directory = (here / root.text("directory", ".")).lexically_normal().string();
  if (out.directory.size() > 1 && out.directory.ends_with('/')) out.directory.pop_back();

  auto policy = root.section("policy");
  out.policy.weakest_mode = mode_of(policy.choice("weakest_mode", {"secure", "grouped", "robust"}, "secure"));
  out.policy.survivors_min =
      static_cast<std::uint32_t>(policy.int64("survivors_min", out.policy.survivors_min, 2, kMillion));
  out.policy.corrupt_fraction_min = policy.real("corrupt_fraction_min", out.policy.corrupt_fraction_min, 0, 0.9);
  out.policy.sortition = policy.boolean("sortition", false);
  out.policy.listed_share_min = policy.real("listed_share_min", out.policy.listed_share_min, 0.001, 1);
  out.policy.masked_per_version_max =
      static_cast<std::uint32_t>(policy.int64("masked_per_version_max", out.policy.masked_per_version_max, 1, 1'000));
  out.policy.epsilon_max = policy.real("epsilon_max", 0, 0, 1e6);
  out.policy.delta = policy.real("delta", out.policy.delta, 1e-300, 0.5);
  out.policy.coordinator_noise = policy.boolean("coordinator_noise", false);
  out.policy.separation_min =
      static_cast<std::uint32_t>(policy.int64("separation_min", out.policy.separation_min, 1, kMillion));
  out.eligibility.only_on_ac = policy.boolean("only_on_ac", true);
  out.eligibility.allow_metered = policy.boolean("allow_metered", false);
  out.eligibility.state_file = policy.text("state_file", "");
  if (!out.eligibility.state_file.empty()) out.eligibility.state_file = (here / out.eligibility.state_file).string();
  out.policy.rounds_per_day_max = static_cast<std::uint32_t>(policy.int64("rounds_per_day_max", 0, 0, kMillion));
  out.policy.steps_max = static_cast<std::uint32_t>(policy.int64("steps_max", 100'000, 1, kMillion));
  out.policy.upload_bytes_max = static_cast<std::uint64_t>(policy.int64("upload_mib_max", 256, 1, 512) * kMiB);

  auto training = root.section("training");
  out.threads = static_cast<int>(training.int64("threads", default_threads(), 1, 256));
  out.memory_bytes_max = static_cast<std::uint64_t>(training.int64("memory_mib_max", 2048, 1, kMillion) * kMiB);
  out.disk_bytes_max = static_cast<std::uint64_t>(training.int64("disk_mib_max", 8192, 1, kMillion) * kMiB);
  out.policy.model_bytes_max = out.disk_bytes_max;
  out.checkpoint_ms = training.duration_ms("checkpoint", 10'000, 0, kHour_ms);

  auto connection = root.section("connection");
  out.reply_ms = connection.duration_ms("reply", 30'000, 100, kHour_ms);
  out.rest_ms = connection.duration_ms("rest", 200, 0, kHour_ms);
  out.backoff_max_ms = connection.duration_ms("backoff_max", 60'000, 100, kHour_ms);
  COVEY_TRY(file.finish());
  return out;
}

std::string device_config_template(wire::PrivacyMode weakest_mode, std::uint32_t survivors_min) {
  return std::string(
             "# What this device allows. Every key may be left out: the values below are the defaults,\n"
             "# but for `weakest_mode` and `survivors_min`, which options of `covey-device enroll` set.\n"
             "policy:\n"
             "  # secure: the coordinator sees sums only; grouped: sums of groups; robust: it sees your updates\n"
             "  weakest_mode: ") +
         wire::to_string(weakest_mode) +
         "\n"
         "  # updates are only ever summed with those of so many devices, this one counted (grouped: of its group)\n"
         "  survivors_min: " +
         std::to_string(survivors_min) +
         "\n"
         "  corrupt_fraction_min: 0.05  # share of a round's devices that may collude without learning anything\n"
         "  sortition: false  # true: only rounds whose devices are drawn by a lot that this device checks\n"
         "  listed_share_min: 0.25  # then: so many of the devices drawn on average must be in the round's list\n"
         "  masked_per_version_max: 1  # more: a coordinator that repeats a round can single out this device's update\n"
         "  epsilon_max: 0  # secure mode: what all rounds with noise may tell of this device; rounds without noise "
         "are\n"
         "                  # refused then. 0: no bound\n"
         "  delta: 1.0e-6  # at which epsilon is counted\n"
         "  coordinator_noise: false  # true: noise that the coordinator adds over the rounds counts, too (it protects "
         "from\n"
         "                            # everyone but the coordinator)\n"
         "  separation_min: 1  # rounds between this device's updates where a plan has such noise\n"
         "  only_on_ac: true\n"
         "  allow_metered: false\n"
         "  rounds_per_day_max: 0  # 0: any number\n"
         "  steps_max: 100000  # of one round\n"
         "  upload_mib_max: 256  # of one round\n"
         "training:\n"
         "  # threads: half of the processors\n"
         "  memory_mib_max: 2048\n"
         "  disk_mib_max: 8192\n"
         "  checkpoint_s: 10\n"
         "connection:\n"
         "  reply_s: 30\n"
         "  rest_ms: 200\n"
         "  backoff_max_s: 60\n";
}

Result<Enrolment> load_enrolment(const std::string& directory) {
  auto json = Json::load(enrolment_path(directory));
  if (!json.ok()) {
    if (json.error().code != ErrorCode::not_found) return json.error();
    return Error{ErrorCode::not_found,
                 directory + ": not enrolled; run `covey-device enroll INVITE --dir " + directory + "`"};
  }
  Enrolment out;
  COVEY_ASSIGN(out.endpoint, json->get_string("endpoint"));
  COVEY_ASSIGN(out.task, json->get_string("task"));
  COVEY_TRY(read_key(*json, "server_curve", out.server_curve));
  COVEY_TRY(read_key(*json, "coordinator", out.coordinator));
  COVEY_TRY(read_key(*json, "roster", out.roster));
  COVEY_ASSIGN(out.roster_epoch, json->get_uint("roster_epoch"));
  return out;
}

Status save_enrolment(const std::string& directory, const Enrolment& enrolment) {
  return Json::object({{"endpoint", enrolment.endpoint},
                       {"task", enrolment.task},
                       {"server_curve", to_hex(enrolment.server_curve)},
                       {"coordinator", to_hex(enrolment.coordinator)},
                       {"roster", to_hex(enrolment.roster)},
                       {"roster_epoch", enrolment.roster_epoch}})
      .save(enrolment_path(directory));
}

std::string identity_path(const std::string& directory) {
  return directory + "/identity.key";
}
std::string curve_path(const std::string& directory) {
  return directory + "/curve.key";
}
std::string storage_key_path(const std::string& directory) {
  return directory + "/storage.key";
}
std::string control_socket_path(const std::string& directory) {
  return directory + "/control.sock";
}

}  // namespace covey::client
