#include "client/session_rows.h"

#include "client/endpoints.h"
#include "client/roster.h"
#include "core/wire/codec_impl.h"

COVEY_WIRE_RECORD(covey::client::OpenRound);
COVEY_WIRE_RECORD(covey::client::Ledger);
COVEY_WIRE_RECORD(covey::client::ResidualRow);
COVEY_WIRE_RECORD(covey::client::RosterHead);
COVEY_WIRE_RECORD(covey::client::JournalEntry);
COVEY_WIRE_RECORD(covey::client::ExampleRow);
COVEY_WIRE_RECORD(covey::client::EndpointRow);

namespace covey::client {

const char* to_string(SessionPhase phase) {
  switch (phase) {
    case SessionPhase::resting:
      return "resting";
    case SessionPhase::connecting:
      return "connecting";
    case SessionPhase::checking_in:
      return "checking_in";
    case SessionPhase::fetching:
      return "fetching";
    case SessionPhase::training:
      return "training";
    case SessionPhase::submitting:
      return "submitting";
    case SessionPhase::secure_advertise:
      return "secure_advertise";
    case SessionPhase::secure_share:
      return "secure_share";
    case SessionPhase::secure_mask:
      return "secure_mask";
    case SessionPhase::secure_agree:
      return "secure_agree";
    case SessionPhase::secure_unmask:
      return "secure_unmask";
  }
  return "unknown";
}

Result<std::vector<JournalEntry>> read_journal(store::Store& store) {
  std::vector<JournalEntry> entries;
  COVEY_TRY(store.scan(kJournalTable, {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(auto entry, wire::decode<JournalEntry>(value));
    entries.push_back(std::move(entry));
    return {};
  }));
  return entries;
}

}  // namespace covey::client
