#include "coordinator/rows.h"

#include <bit>

#include "core/crypto/hash.h"
#include "core/wire/codec_impl.h"

namespace covey::coordinator {

const char* to_string(RoundState state) {
  switch (state) {
    case RoundState::open:
      return "open";
    case RoundState::closed:
      return "closed";
    case RoundState::published:
      return "published";
    case RoundState::aborted:
      return "aborted";
  }
  return "unknown";
}

const char* to_string(CohortState state) {
  switch (state) {
    case CohortState::not_drawn:
      return "not_drawn";
    case CohortState::invited:
      return "invited";
    case CohortState::accepted:
      return "accepted";
    case CohortState::refused:
      return "refused";
    case CohortState::contributed:
      return "contributed";
    case CohortState::rejected:
      return "rejected";
    case CohortState::late:
      return "late";
    case CohortState::silent:
      return "silent";
  }
  return "unknown";
}

Bytes encode_values(std::span<const float> values) {
  Bytes out;
  out.reserve(values.size() * 4);
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(bits >> shift));
  }
  return out;
}

Result<std::vector<float>> decode_values(ByteSpan bytes, std::size_t values) {
  if (bytes.size() != values * 4) {
    return Error{ErrorCode::corrupt_data, "adapter: " + std::to_string(bytes.size()) + " bytes where " +
                                              std::to_string(values) + " values were expected"};
  }
  std::vector<float> out(values);
  for (std::size_t i = 0; i < values; ++i) {
    const auto* at = bytes.data() + 4 * i;
    out[i] = std::bit_cast<float>(std::uint32_t{at[0]} | std::uint32_t{at[1]} << 8 | std::uint32_t{at[2]} << 16 |
                                  std::uint32_t{at[3]} << 24);
  }
  return out;
}

wire::Hash chain_hash(const wire::Hash& previous, const VersionRow& row) {
  crypto::Hasher hasher("covey version chain 1");
  return hasher.update(previous)
      .update_u64(row.version.value)
      .update_u64(row.round.value)
      .update(row.adapter.blob)
      .finish()
      .bytes;
}

}  // namespace covey::coordinator

COVEY_WIRE_RECORD(covey::coordinator::VersionRow);
COVEY_WIRE_RECORD(covey::coordinator::PrivacyRow);
COVEY_WIRE_RECORD(covey::coordinator::RoundRow);
COVEY_WIRE_RECORD(covey::coordinator::CohortRow);
COVEY_WIRE_RECORD(covey::coordinator::ReceiptRow);
COVEY_WIRE_RECORD(covey::coordinator::ContributorsRow);
COVEY_WIRE_RECORD(covey::coordinator::GroupSumsRow);
COVEY_WIRE_RECORD(covey::coordinator::DeviceRow);
