#include "coordinator/rotation.h"

#include <filesystem>

#include "core/wire/codec_impl.h"
#include "core/wire/limits.h"

namespace covey::coordinator {

namespace {

Bytes row_key() {
  return store::key_of("rotation");
}

Result<std::optional<RotationRow>> newest_rotation(store::Store& store) {
  COVEY_ASSIGN(const auto stored, store.get("task", row_key()));
  if (!stored) return std::optional<RotationRow>();
  auto row = wire::decode<RotationRow>(*stored);
  if (!row.ok()) return row.error().in("store: rotation");
  return std::optional<RotationRow>(*std::move(row));
}
}  // namespace

std::optional<RotationSettings> read_rotation(config::Section& root, const std::string& folder) {
  if (!root.has("rotate")) return std::nullopt;
  auto section = root.section("rotate");
  RotationSettings out;
  out.listen = section.text("listen", config::required);
  if (!out.listen.empty() && !out.listen.starts_with("tcp://")) {
    section.problem("listen", "is no endpoint; write tcp://ADDRESS:PORT");
  }
  out.advertise = section.text("advertise", "");
  if (out.advertise.size() > wire::kEndpointBytesMax) section.problem("advertise", "is longer than 255 bytes");
  const std::string key = section.text("key", config::required);
  out.key = (std::filesystem::path(folder) / key).lexically_normal().string();
  out.overlap_ms = section.duration_ms("overlap", out.overlap_ms, 1'000, 366 * kDay_ms);
  return out;
}

Result<std::optional<RotationRow>> find_rotation(store::Store& store, const wire::Key& curve) {
  COVEY_ASSIGN(auto row, newest_rotation(store));
  if (row && row->curve != curve) row.reset();
  return row;
}

Result<RotationRow> begin_rotation(store::Store& store, const NextEndpoint& next, std::int64_t now_ms) {
  COVEY_ASSIGN(const auto known, newest_rotation(store));
  RotationRow row;
  if (known) row = *known;
  if (known && row.curve == next.curve && row.endpoint == next.endpoint) return row;
  if (!known || row.curve != next.curve) {
    row.curve = next.curve;
    row.from_ms = now_ms;
    row.until_ms = now_ms + next.overlap_ms;
  }
  row.endpoint = next.endpoint;
  ++row.number;
  COVEY_TRY(store.put("task", row_key(), wire::encode(row)));
  return row;
}

wire::EndpointNotice notice_of(const RotationRow& row, const std::string& task) {
  wire::EndpointNotice notice;
  notice.number = row.number;
  notice.task = task;
  notice.endpoint = row.endpoint;
  notice.curve = row.curve;
  notice.from_ms = row.from_ms;
  notice.overlap_until_ms = row.until_ms;
  return notice;
}

}  // namespace covey::coordinator

COVEY_WIRE_RECORD(covey::coordinator::RotationRow);
