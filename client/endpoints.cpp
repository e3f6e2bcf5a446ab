#include "client/endpoints.h"

#include <algorithm>

#include "core/base/clock.h"
#include "core/store/store.h"
#include "core/wire/codec.h"

namespace covey::client {
namespace {

constexpr const char* kTable = "device";
constexpr std::int64_t kOverlapMax_ms = 3650 * kDay_ms;

Bytes row_key() {
  return store::key_of("endpoint");
}

/// From the coordinator's clock to the device's, without overflow whatever either says.
std::int64_t on_own_clock(std::int64_t at_ms, std::int64_t server_ms, std::int64_t now_ms) {
  const double ahead = static_cast<double>(at_ms) - static_cast<double>(server_ms);
  const double bound = static_cast<double>(kOverlapMax_ms);
  return now_ms + static_cast<std::int64_t>(std::clamp(ahead, -bound, bound));
}

}  // namespace

Status EndpointBook::restore(store::Store& store) {
  COVEY_ASSIGN(const auto stored, store.get(kTable, row_key()));
  if (!stored) return {};
  auto row = wire::decode<EndpointRow>(*stored);
  if (!row.ok()) return row.error().in("device store: the announced endpoint");
  row_ = *std::move(row);
  return {};
}

Result<bool> EndpointBook::learn(const wire::EndpointNotice& notice, const std::string& task, const Heard& heard) {
  if (notice.number <= row_.number) return false;
  if (notice.task != task) return Error{ErrorCode::invalid_argument, "endpoint notice: it is another task's"};
  if (!notice.endpoint.starts_with("tcp://")) {
    return Error{ErrorCode::invalid_argument, "endpoint notice: it names no endpoint"};
  }
  row_.number = notice.number;
  row_.before = heard.here;
  row_.newest = {notice.endpoint, notice.curve};
  row_.from_ms = on_own_clock(notice.from_ms, heard.server_ms, heard.now_ms);
  row_.overlap_until_ms = on_own_clock(notice.overlap_until_ms, heard.server_ms, heard.now_ms);
  failures_ = 0;
  return true;
}

const net::ServerAddress& EndpointBook::choose(std::int64_t now_ms) const {
  if (row_.number == 0) return row_.before;
  if (now_ms >= row_.overlap_until_ms) return row_.newest;
  const bool newest_first = now_ms >= row_.from_ms;
  const bool first = failures_ % 2 == 0;
  return newest_first == first ? row_.newest : row_.before;
}

Status save_endpoints(store::Store& store, const EndpointRow& row) {
  return store.put(kTable, row_key(), wire::encode(row));
}

}  // namespace covey::client
