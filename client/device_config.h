/// What a device's owner decides (device.yaml), and what enrolment pinned (coordinator.json beside it).
#pragma once

#include <cstdint>
#include <string>

#include "client/eligibility.h"
#include "client/session.h"
#include "core/base/result.h"

namespace covey::client {

struct DeviceConfig {
  std::string directory;  ///< keys, store, files; default: the folder of device.yaml
  SessionPolicy policy;
  EligibilityRules eligibility;
  int threads = 1;
  std::uint64_t memory_bytes_max = 0;
  std::uint64_t disk_bytes_max = 0;  ///< models and adapters
  std::int64_t checkpoint_ms = 10'000;
  std::int64_t reply_ms = 30'000;
  std::int64_t rest_ms = 200;
  std::int64_t backoff_max_ms = 60'000;
};

/// @errors those of config::Document, with file and line.
Result<DeviceConfig> load_device_config(const std::string& path);
/// The file that `enroll` writes: every key with its default and a comment.
std::string device_config_template(wire::PrivacyMode weakest_mode,
                                   std::uint32_t survivors_min = SessionPolicy{}.survivors_min);

/// Whom this device works for; never changed after enrolment.
struct Enrolment {
  std::string endpoint;
  std::string task;
  wire::Key server_curve{};
  wire::Key coordinator{};
  wire::Key roster{};
  std::uint64_t roster_epoch = 0;
};
/// @errors not_found: says to enrol; corrupt_data.
Result<Enrolment> load_enrolment(const std::string& directory);
[[nodiscard]] Status save_enrolment(const std::string& directory, const Enrolment& enrolment);

/// Paths inside a device's directory.
std::string identity_path(const std::string& directory);
std::string curve_path(const std::string& directory);
std::string storage_key_path(const std::string& directory);
std::string control_socket_path(const std::string& directory);

}  // namespace covey::client
