/// Device classes and links from measured data. Formats: a JSON list of phones with `Model`, `RAM` ("6GB") and
/// `CPU_F_AI_Score` (AI-Benchmark: floating-point inference on the CPU, larger is faster); packet traces of mahimahi,
/// one line per 1500-byte packet that may pass, the millisecond since the trace's begin.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "simulations/fleet.h"

namespace covey::simulations {

struct ScoreOptions {
  int classes = 5;            ///< phones, sorted by score, are cut into so many classes of equal size
  double median_gflops = 15;  ///< what the phone with the median score sustains: scores are relative speeds only
};

/// Each class has the median score and the median memory of its phones. Links and latency are those of the built-in
/// class that is nearest in speed; training_watts = 3 (gflops / 15)^0.25, the power law through the built-in classes.
/// @errors what Json::parse reports; invalid_argument: fewer phones than classes, or a phone without the fields.
Result<std::vector<DeviceClass>> classes_from_scores(std::string_view json, const std::string& where,
                                                     const ScoreOptions& options);
Result<std::vector<DeviceClass>> load_classes(const std::string& path, const ScoreOptions& options);

/// One direction of a link as it was recorded, repeated for ever. Shared by the devices that replay it.
class PacketTrace {
 public:
  static constexpr std::uint64_t kPacketBytes = 1500;
  static constexpr std::size_t kPacketsMax = 20'000'000;

  /// @errors invalid_argument: `where` and line: no number, time that goes back, no packet, or over the bound.
  static Result<PacketTrace> parse(std::string_view text, const std::string& where);

  /// When the last of `bytes` has passed, where the first may pass at `start_ms` or later. Cost O(log packets).
  [[nodiscard]] std::int64_t passed_ms(std::int64_t start_ms, std::uint64_t bytes) const;
  [[nodiscard]] std::int64_t period_ms() const { return period_ms_; }
  [[nodiscard]] double bytes_per_s() const;

 private:
  std::vector<std::int64_t> at_ms_;
  std::int64_t period_ms_ = 1;  ///< the trace begins again there
};

struct LinkTrace {
  std::string name;
  PacketTrace up;
  PacketTrace down;
};

/// Reads `path`.up and `path`.down.
Result<LinkTrace> load_link_trace(const std::string& path);

/// What carries a device's frames: a trace from a place of its own, or its class's rates.
struct Link {
  const LinkTrace* trace = nullptr;  ///< borrowed; null: the rates
  std::int64_t offset_ms = 0;        ///< the device stands so far into the trace at time 0
  double up_bytes_per_s = 0;
  double down_bytes_per_s = 0;

  [[nodiscard]] std::int64_t passed_ms(bool up, std::int64_t start_ms, std::uint64_t bytes) const;
};

/// @param index  of the device; its trace and place in it follow from it and `seed`.
Link draw_link(const DeviceClass& device, const std::vector<LinkTrace>& traces, std::uint64_t seed,
               std::uint64_t index);

}  // namespace covey::simulations
