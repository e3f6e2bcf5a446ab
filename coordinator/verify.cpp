#include "coordinator/verify.h"

#include <filesystem>
#include <map>
#include <set>

#include "adapters/layout.h"
#include "aggregation/running_sum.h"
#include "coordinator/round_planner.h"
#include "coordinator/rows.h"
#include "core/store/sqlite_store.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
using DevicesByRound = std::map<std::uint64_t, std::set<DeviceId>>;

std::string number(std::uint64_t value) {
  return std::to_string(value);
}

/// Everything the checks compare; rows that do not decode are problems of their own.
struct Tables {
  std::map<std::uint64_t, VersionRow> versions;
  std::map<std::uint64_t, RoundRow> rounds;
  std::map<std::uint64_t, ContributorsRow> contributors;
  DevicesByRound accepted;
  std::map<std::uint64_t, std::uint64_t> accepted_weight;  ///< of a round's acknowledged receipts
  DevicesByRound cohort;
  std::map<std::uint64_t, Bytes> sums;
  std::set<std::uint64_t> masked_sums;  ///< rounds with a sum whose masks are still on
  std::map<std::uint64_t, std::map<DeviceId, wire::Hash>> accepted_content;
  struct Kept {
    wire::Hash content{};
    std::string problem;  ///< why it is no update of its round
  };
  std::map<std::uint64_t, std::map<DeviceId, Kept>> updates;  ///< of rules that look at single updates

  [[nodiscard]] bool weights_known(std::uint64_t round) const {
    const auto at = rounds.find(round);
    if (at == rounds.end()) return true;
    const auto plan = wire::decode<wire::RoundPlan>(at->second.plan);
    return !plan.ok() || plan->mode == wire::PrivacyMode::robust;
  }
};

Status read_tables(store::Store& store, Tables& out) {
  COVEY_TRY(store.scan("versions", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(out.versions[id], wire::decode<VersionRow>(value));
    return {};
  }));
  COVEY_TRY(store.scan("rounds", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(out.rounds[id], wire::decode<RoundRow>(value));
    return {};
  }));
  COVEY_TRY(store.scan("contributors", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(out.contributors[id], wire::decode<ContributorsRow>(value));
    return {};
  }));
  COVEY_TRY(store.scan("sums", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    out.sums[id] = Bytes(value.begin(), value.end());
    return {};
  }));
  COVEY_TRY(store.scan(kSecureTable, {}, [&](ByteSpan key, ByteSpan) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    if (as_text(key.subspan(8)).ends_with(kMaskedSum)) out.masked_sums.insert(id);
    return {};
  }));
  COVEY_TRY(store.scan("updates", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    const auto update = wire::decode<wire::ClearUpdate>(value);
    out.updates[id][device] = {wire::content_hash(value), update.ok() ? "" : update.error().message};
    return {};
  }));
  COVEY_TRY(store.scan("receipts", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    COVEY_ASSIGN(const auto row, wire::decode<ReceiptRow>(value));
    if (row.status == wire::ReceiptStatus::accepted) {
      out.accepted[id].insert(device);
      out.accepted_weight[id] += row.weight;
      out.accepted_content[id][device] = row.content;
    }
    return {};
  }));
  return store.scan("cohort", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    COVEY_ASSIGN(const auto row, wire::decode<CohortRow>(value));
    if (row.state != CohortState::not_drawn) out.cohort[id].insert(device);
    return {};
  });
}

std::string rounds_have_versions(const Tables& tables) {
  for (const auto& [id, round] : tables.rounds) {
    if (round.state != RoundState::published) continue;
    const auto version = tables.versions.find(round.version.value);
    if (version == tables.versions.end()) return "round " + number(id) + " is published without a version";
    if (version->second.round.value != id) return "the version of round " + number(id) + " names another round";
  }
  for (const auto& [id, version] : tables.versions) {
    if (id == 0) continue;
    const auto round = tables.rounds.find(version.round.value);
    if (round == tables.rounds.end() || round->second.state != RoundState::published) {
      return "version " + number(id) + " has no published round";
    }
  }
  return {};
}

std::string rounds_are_in_order(const Tables& tables) {
  std::uint64_t wanted = 1;
  for (const auto& [id, round] : tables.rounds) {
    if (id != wanted++) return "round " + number(wanted - 1) + " is missing";
    if (!has_ended(round.state) && id != tables.rounds.rbegin()->first) return "round " + number(id) + " was left open";
  }
  return {};
}

std::string version_chain(const Tables& tables) {
  wire::Hash previous{};
  std::uint64_t wanted = 0;
  for (const auto& [id, version] : tables.versions) {
    if (id != wanted++) return "version " + number(wanted - 1) + " is missing";
    if (chain_hash(previous, version) != version.chain) return "the chain is broken at version " + number(id);
    previous = version.chain;
  }
  return {};
}

std::string contributors_are_receipts(const Tables& tables) {
  for (const auto& [id, row] : tables.contributors) {
    const std::set<DeviceId> devices(row.devices.begin(), row.devices.end());
    if (devices.size() != row.devices.size()) return "round " + number(id) + " counts a device twice";
    const auto accepted = tables.accepted.find(id);
    if (accepted == tables.accepted.end() && devices.empty()) continue;  // aborted before the first update was in
    if (accepted == tables.accepted.end() || accepted->second != devices) {
      return "the contributors of round " + number(id) + " differ from its acknowledged receipts";
    }
    // In secure mode nobody but the device knows its weight: receipts say 0, and only the sum has one.
    if (tables.accepted_weight.at(id) != (tables.weights_known(id) ? row.weight : 0)) {
      return "the summed weight of round " + number(id) + " differs from its acknowledged receipts";
    }
    const auto cohort = tables.cohort.find(id);
    for (const DeviceId& device : devices) {
      if (cohort == tables.cohort.end() || !cohort->second.contains(device)) {
        return "round " + number(id) + " counts " + device.brief() + ", which was not invited";
      }
    }
  }
  for (const auto& [id, devices] : tables.accepted) {
    if (!tables.contributors.contains(id)) return "round " + number(id) + " has receipts that were not summed";
  }
  return {};
}

std::string rounds_count_contributors(const Tables& tables) {
  for (const auto& [id, round] : tables.rounds) {
    if (round.state == RoundState::open) continue;
    const auto row = tables.contributors.find(id);
    const std::size_t counted = row == tables.contributors.end() ? 0 : row->second.devices.size();
    if (counted != round.contributors) {
      return "round " + number(id) + " says " + number(round.contributors) + " contributors, its list " +
             number(counted);
    }
    if (row != tables.contributors.end() && row->second.weight != round.weight) {
      return "round " + number(id) + " says weight " + number(round.weight) + ", its contributors " +
             number(row->second.weight);
    }
  }
  return {};
}

/// What the sum of a round in progress must be, as far as that is known without the updates in it.
std::string sum_of(const RoundRow& round, const Bytes& stored, const ContributorsRow& contributors) {
  const auto plan = wire::decode<wire::RoundPlan>(round.plan);
  if (!plan.ok()) return "the plan cannot be read: " + plan.error().message;
  if (plan->mode != wire::PrivacyMode::robust) return {};  // masked words: nothing can be said of them
  const auto layout = adapters::AdapterLayout::parse(plan->adapter_layout);
  if (!layout.ok()) return layout.error().message;
  const auto spec =
      aggregation::UpdateSpec::of(*plan, aggregation::update_values(*plan, static_cast<std::size_t>(layout->size)));
  const auto sum = aggregation::RunningSum::restore(spec, stored);
  if (!sum.ok()) return sum.error().message;
  if (sum->contributors() != contributors.devices.size()) {
    return "it counts " + number(sum->contributors()) + " contributors, their list " +
           number(contributors.devices.size());
  }
  if (sum->weight() != contributors.weight) {
    return "it has weight " + number(sum->weight()) + ", its contributors " + number(contributors.weight);
  }
  return {};
}

std::string running_sums(const Tables& tables) {
  for (const auto& [id, stored] : tables.sums) {
    const auto round = tables.rounds.find(id);
    if (round == tables.rounds.end()) return "there is a sum of round " + number(id) + ", but no such round";
    if (has_ended(round->second.state)) {
      return "the sum of round " + number(id) + " outlived the round";
    }
    const auto contributors = tables.contributors.find(id);
    if (contributors == tables.contributors.end()) return "the sum of round " + number(id) + " has no contributors";
    const std::string problem = sum_of(round->second, stored, contributors->second);
    if (!problem.empty()) return "the sum of round " + number(id) + ": " + problem;
  }
  for (const auto& [id, round] : tables.rounds) {
    const auto contributors = tables.contributors.find(id);
    const bool some = contributors != tables.contributors.end() && !contributors->second.devices.empty();
    const bool kept = tables.sums.contains(id) || tables.updates.contains(id) || tables.masked_sums.contains(id);
    if (!has_ended(round.state) && some && !kept) return "the sum of round " + number(id) + " is missing";
  }
  return {};
}

/// Where a rule keeps single updates they are all there is of the sum, and each is what its receipt acknowledged.
std::string kept_updates(const Tables& tables) {
  for (const auto& [id, updates] : tables.updates) {
    const auto round = tables.rounds.find(id);
    if (round == tables.rounds.end() || has_ended(round->second.state)) {
      return "updates of round " + number(id) + " outlived the round";
    }
    const auto receipts = tables.accepted_content.find(id);
    const std::size_t acknowledged = receipts == tables.accepted_content.end() ? 0 : receipts->second.size();
    if (acknowledged != updates.size()) {
      return "round " + number(id) + " keeps " + number(updates.size()) + " updates and has acknowledged " +
             number(acknowledged);
    }
    for (const auto& [device, kept] : updates) {
      const auto receipt = receipts->second.find(device);
      if (receipt == receipts->second.end() || receipt->second != kept.content) {
        return "the update that round " + number(id) + " keeps of " + device.brief() + " is not the one acknowledged";
      }
      if (!kept.problem.empty()) return "the update of " + device.brief() + ": " + kept.problem;
    }
  }
  return {};
}

std::string newest_adapter(store::Store& store, const Tables& tables) {
  if (tables.versions.empty()) return {};
  const auto& [id, version] = *tables.versions.rbegin();
  const auto content = store.get("adapters", store::key_of(id));
  if (!content.ok()) return content.error().message;
  if (!content->has_value()) return "the values of version " + number(id) + " are missing";
  const auto blob = adapter_blob(version.version, **content);
  if (!blob.ok()) return blob.error().message;
  return blob->blob == version.adapter.blob ? "" : "the values of version " + number(id) + " are not what it names";
}

std::string roster_chain(store::Store& store, const wire::Key& roster_public) {
  wire::Hash previous{};
  std::uint64_t last = 0;
  const Status read = store.scan("roster", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto document, wire::decode<wire::SignedRosterEpoch>(value));
    COVEY_ASSIGN(const auto epoch, wire::open_epoch(document, roster_public));
    if (epoch.epoch != last + 1 || epoch.previous != previous) {
      return Error{ErrorCode::corrupt_data, "epoch " + number(last + 1) + " does not follow the one before"};
    }
    last = epoch.epoch;
    previous = wire::hash_of(document);
    return {};
  });
  return read.ok() ? "" : read.error().message;
}
}  // namespace

Result<std::vector<Check>> verify_store(store::Store& store, const wire::Key* roster_public) {
  std::vector<Check> out;
  const Status integrity = store.verify();
  out.push_back({"database integrity", integrity.ok() ? "" : integrity.error().message});
  Tables tables;
  const Status read = read_tables(store, tables);
  out.push_back({"every row can be read", read.ok() ? "" : read.error().message});
  if (!read.ok()) return out;
  out.push_back({"rounds follow each other", rounds_are_in_order(tables)});
  out.push_back({"published rounds and versions belong together", rounds_have_versions(tables)});
  out.push_back({"version chain", version_chain(tables)});
  out.push_back({"newest adapter", newest_adapter(store, tables)});
  out.push_back({"contributors are the acknowledged receipts, each once", contributors_are_receipts(tables)});
  out.push_back({"rounds count their contributors", rounds_count_contributors(tables)});
  out.push_back({"running sum fits its contributors (its words cannot be recomputed)", running_sums(tables)});
  out.push_back({"kept updates are the acknowledged ones", kept_updates(tables)});
  if (roster_public != nullptr) out.push_back({"roster chain", roster_chain(store, *roster_public)});
  return out;
}

Result<std::vector<Check>> verify_copy(store::Store& store, const std::string& path, const wire::Key* roster_public) {
  const auto remove = [&path] {
    for (const char* ending : {"", "-wal", "-shm", "-journal"}) {
      std::error_code ignored;
      std::filesystem::remove(path + ending, ignored);
    }
  };
  remove();  // of a process that was killed
  COVEY_TRY(store.backup(path));
  Result<std::vector<Check>> checks = [&]() -> Result<std::vector<Check>> {
    const auto copy = store::SqliteStore::open({path, "", false});
    if (copy.ok()) return verify_store(**copy, roster_public);
    if (copy.error().code != ErrorCode::corrupt_data) return copy.error();
    return std::vector<Check>{{"database integrity", copy.error().message}};
  }();
  remove();
  return checks;
}

}  // namespace covey::coordinator
