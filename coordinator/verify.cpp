#include "coordinator/verify.h"

#include <map>
#include <set>

#include "coordinator/round_planner.h"
#include "coordinator/rows.h"
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
  COVEY_TRY(store.scan("receipts", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto id, store::number_in_key(key));
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    COVEY_ASSIGN(const auto row, wire::decode<ReceiptRow>(value));
    if (row.status == wire::ReceiptStatus::accepted) {
      out.accepted[id].insert(device);
      out.accepted_weight[id] += row.weight;
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
    const bool ended = round.state == RoundState::published || round.state == RoundState::aborted;
    if (!ended && id != tables.rounds.rbegin()->first) return "round " + number(id) + " was left open";
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
    if (accepted == tables.accepted.end() || accepted->second != devices) {
      return "the contributors of round " + number(id) + " differ from its acknowledged receipts";
    }
    if (row.weight != tables.accepted_weight.at(id)) {
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
  if (roster_public != nullptr) out.push_back({"roster chain", roster_chain(store, *roster_public)});
  return out;
}

}  // namespace covey::coordinator
