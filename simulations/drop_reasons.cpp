#include "simulations/drop_reasons.h"

#include <map>
#include <string>

#include "coordinator/rows.h"
#include "core/wire/codec.h"

namespace covey::simulations {

Status add_drop_reasons(formats::Json& line, RoundId round, store::Store& store) {
  std::uint64_t rejected = 0;
  std::uint64_t silent = 0;
  std::uint64_t unneeded = 0;
  std::map<std::string, std::uint64_t> refusals;
  COVEY_TRY(store.scan("cohort", store::key_of(round), [&](ByteSpan /*key*/, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto row, wire::decode<coordinator::CohortRow>(value));
    rejected += row.state == coordinator::CohortState::rejected ? 1 : 0;
    silent += row.state == coordinator::CohortState::silent ? 1 : 0;
    unneeded += coordinator::in_play(row.state) ? 1 : 0;
    if (row.state == coordinator::CohortState::refused) ++refusals[wire::to_string(row.refusal)];
    return {};
  }));
  formats::Json reasons = formats::Json::object();
  for (const auto& [reason, count] : refusals) reasons.set(reason, count);
  line.set("rejected", rejected).set("silent", silent).set("unneeded", unneeded).set("refused_for", reasons);
  return {};
}

}  // namespace covey::simulations
