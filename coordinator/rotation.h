/// Server key rotation (security.md section 3): a second endpoint with a CURVE key of its own is served beside the
/// first until the overlap is over, and every device that says hello is told of it under the pinned identity.
/// coordinator.yaml:
///
///   rotate: {listen: tcp://0.0.0.0:7401, advertise: tcp://coordinator.example.org:7401, key: next.key, overlap_h: 168}
///
/// 1  `covey-coordinator rotate-key next.key`, the section above, restart: the overlap begins, and is a row.
/// 2  When it is over the first endpoint is given up; a device that was not told by then needs a new invite.
/// 3  Later the second endpoint becomes `listen`, its key `curve.key`, and the section goes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/config/reader.h"
#include "core/store/store.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

struct RotationSettings {
  std::string listen;                     ///< ZeroMQ endpoint
  std::string advertise;                  ///< what devices are told; empty: `listen` as bound
  std::string key;                        ///< file with the next CURVE key
  std::int64_t overlap_ms = 7 * kDay_ms;  ///< taken when the rotation begins
};

/// Nothing where the section is absent. @param folder  what `key` is relative to.
std::optional<RotationSettings> read_rotation(config::Section& root, const std::string& folder);

/// The newest rotation, in table "task" under "rotation". Times: wall clock.
struct RotationRow {
  std::uint64_t number = 0;  ///< of the notice: 1, 2, ...
  std::string endpoint;
  wire::Key curve{};
  std::int64_t from_ms = 0;
  std::int64_t until_ms = 0;  ///< end of the overlap

  [[nodiscard]] bool over(std::int64_t now_ms) const { return now_ms >= until_ms; }

  template <class Archive>
  void serialize(Archive& a) {
    a(number, endpoint, curve, from_ms, until_ms);
  }
};

/// The rotation to this key, where it has begun. @errors corrupt_data, and what the store reports.
Result<std::optional<RotationRow>> find_rotation(store::Store& store, const wire::Key& curve);

/// The rotation to `next`, as stored. One to a key that the store does not know begins now; one that only changed its
/// endpoint keeps its times and gets a new number, so that devices follow. Durable when it returns.
struct NextEndpoint {
  std::string endpoint;  ///< as devices are told
  wire::Key curve{};
  std::int64_t overlap_ms = 0;
};
Result<RotationRow> begin_rotation(store::Store& store, const NextEndpoint& next, std::int64_t now_ms);

wire::EndpointNotice notice_of(const RotationRow& row, const std::string& task);

}  // namespace covey::coordinator
