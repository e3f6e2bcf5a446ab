/// Where a device finds its coordinator: the endpoint of its invite, and the one that the coordinator announced since
/// under its pinned identity (server key rotation, security.md section 3). Pure; the agent stores the row.
///
/// The newest announced endpoint is tried first from its time on. While it does not answer, every second attempt goes
/// to the endpoint before it, until the overlap is over. The device's clock decides which one is tried first and never
/// that one is not tried at all, but for an endpoint whose overlap is over.
#pragma once

#include <cstdint>

#include "core/base/result.h"
#include "core/net/transport.h"
#include "core/wire/messages.h"

namespace covey::store {
class Store;
}

namespace covey::client {

/// A row of the device's store; times are on the device's own clock.
struct EndpointRow {
  std::uint64_t number = 0;  ///< of the notice; 0: none yet, `before` is the invite's
  net::ServerAddress newest;
  net::ServerAddress before;
  std::int64_t from_ms = 0;
  std::int64_t overlap_until_ms = 0;

  template <class Archive>
  void serialize(Archive& a) {
    a(number, newest.endpoint, newest.curve, before.endpoint, before.curve, from_ms, overlap_until_ms);
  }
};

class EndpointBook {
 public:
  explicit EndpointBook(net::ServerAddress pinned) { row_.before = std::move(pinned); }
  /// What an earlier process learned. @errors corrupt_data, and what the store reports.
  [[nodiscard]] Status restore(store::Store& store);

  /// What came with a notice: the endpoint it came from, which is what to fall back on, and the coordinator's clock
  /// when the device's own showed `now_ms`.
  struct Heard {
    net::ServerAddress here;
    std::int64_t server_ms = 0;
    std::int64_t now_ms = 0;
  };
  /// @return whether row() changed and must be stored. False: a notice not newer than what is known.
  /// @errors invalid_argument: another task's, or no endpoint; nothing changes.
  Result<bool> learn(const wire::EndpointNotice& notice, const std::string& task, const Heard& heard);

  /// Where the next attempt goes.
  [[nodiscard]] const net::ServerAddress& choose(std::int64_t now_ms) const;
  /// The coordinator proved itself there; the next attempt begins with the preferred endpoint again.
  void reached() { failures_ = 0; }
  void failed() { ++failures_; }
  /// Attempts in a row at which nobody proved to be the coordinator.
  [[nodiscard]] int failures() const { return failures_; }
  [[nodiscard]] const EndpointRow& row() const { return row_; }

 private:
  EndpointRow row_;
  int failures_ = 0;
};

/// Stores the row: durable when it returns.
Status save_endpoints(store::Store& store, const EndpointRow& row);

}  // namespace covey::client
