#include "client/session_rows.h"

#include "core/wire/codec_impl.h"

COVEY_WIRE_RECORD(covey::client::OpenRound);
COVEY_WIRE_RECORD(covey::client::Ledger);
COVEY_WIRE_RECORD(covey::client::JournalEntry);
COVEY_WIRE_RECORD(covey::client::ExampleRow);

namespace covey::client {

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
