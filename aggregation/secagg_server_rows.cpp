// Durable rows of secure aggregation, and restart. Nothing in them is secret: keys are public, boxes are sealed, the
// sum is masked. Shares never become rows; devices send them again.
#include <algorithm>
#include <utility>

#include "aggregation/secagg_client.h"
#include "aggregation/secagg_server_impl.h"
#include "core/crypto/hash.h"
#include "core/wire/codec_impl.h"

namespace covey::aggregation {
namespace {

struct HeadRow {
  std::uint8_t phase = 0;
  std::uint8_t reason = 0;
  std::optional<wire::SecureList> list;
  std::vector<std::uint16_t> shared;
  std::vector<std::uint16_t> dead;
  std::vector<wire::SignatureFrom> signatures;

  template <class Archive>
  void serialize(Archive& a) {
    a(phase, reason, list, shared, dead, signatures);
  }
};

struct BoxesRow {
  std::vector<std::pair<std::uint16_t, wire::SecureBoxes>> senders;

  template <class Archive>
  void serialize(Archive& a) {
    a(senders);
  }
};

struct SumRow {
  std::vector<std::pair<std::uint16_t, wire::Hash>> contributors;  ///< and what each sent
  std::vector<std::uint32_t> words;

  template <class Archive>
  void serialize(Archive& a) {
    a(contributors, words);
  }
};

Error corrupt(const char* what) {
  return {ErrorCode::corrupt_data, std::string("stored secure round: ") + what + "; restore the last backup"};
}

bool indices_ok(std::span<const std::uint16_t> indices, std::size_t n) {
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= n || (i > 0 && indices[i - 1] >= indices[i])) return false;
  }
  return true;
}

}  // namespace
}  // namespace covey::aggregation

COVEY_WIRE_RECORD(covey::aggregation::SecAggLedger);

namespace covey::aggregation {

std::vector<SecAggRow> SecAggServer::take_rows(bool with_sum) {
  Machine& m = *machine_;
  std::vector<SecAggRow> out;
  const bool over = m.phase == Phase::dead || m.phase == Phase::finished;
  if (std::exchange(m.head_changed, false)) {
    HeadRow head;
    head.phase = static_cast<std::uint8_t>(m.phase);
    head.reason = static_cast<std::uint8_t>(m.reason);
    if (!over && m.phase != Phase::advertise) head.list = m.list;
    if (!over) {
      head.shared.assign(m.shared.begin(), m.shared.end());
      head.dead = m.dead;
      for (const auto& [from, signature] : m.signatures) head.signatures.push_back({from, signature});
    }
    out.push_back({"head", wire::encode(head)});
  }
  if (std::exchange(m.boxes_changed, false)) {
    if (m.boxes.empty()) {
      out.push_back({"boxes", std::nullopt});
    } else {
      BoxesRow row;
      for (const auto& [from, boxes] : m.boxes) row.senders.emplace_back(from, boxes);
      out.push_back({"boxes", wire::encode(row)});
    }
  }
  if (m.sum_changed && (with_sum || over)) {
    m.sum_changed = false;
    if (over) {
      out.push_back({"sum", std::nullopt});
    } else {
      SumRow row;
      for (const std::uint16_t index : m.survivors)
        row.contributors.emplace_back(index, m.counted[{Phase::mask, index}]);
      row.words = m.sum;
      out.push_back({"sum", wire::encode(row)});
    }
  }
  return out;
}

Result<SecAggServer> SecAggServer::restore(SecAggSetup setup, SecAggRoster roster, std::span<const SecAggRow> rows) {
  COVEY_ASSIGN(SecAggServer server, create(std::move(setup), std::move(roster)));
  Machine& m = *server.machine_;
  const auto newest = [&](std::string_view key) -> const Bytes* {
    for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
      if (row->key == key) return row->value ? &*row->value : nullptr;
    }
    return nullptr;
  };
  const Bytes* head_bytes = newest("head");
  if (head_bytes == nullptr) return server;  // nothing but advertised keys was there: they come again
  COVEY_ASSIGN(HeadRow head, wire::decode<HeadRow>(*head_bytes));
  if (head.phase > static_cast<std::uint8_t>(Phase::dead) ||
      head.reason > static_cast<std::uint8_t>(wire::SecureReason::not_drawn)) {
    return corrupt("its phase is none");
  }
  m.phase = static_cast<Phase>(head.phase);
  m.reason = static_cast<wire::SecureReason>(head.reason);
  if (m.phase == Phase::advertise || m.phase == Phase::finished || m.phase == Phase::dead) return server;
  const bool ours = head.list && head.list->round == m.setup.round && head.list->plan == m.setup.plan &&
                    head.list->roster_epoch == m.setup.roster_epoch;
  if (!ours) return corrupt("belongs to another plan");
  const std::size_t n = head.list->devices.size();
  if (!indices_ok(head.shared, n) || !indices_ok(head.dead, n)) return corrupt("an index is outside the list");
  COVEY_ASSIGN(m.params, secagg_params(static_cast<std::uint32_t>(n), m.setup.assumptions));
  m.take_list(*std::move(head.list));
  if (m.phase == Phase::share) return server;  // boxes come again
  m.shared.insert(head.shared.begin(), head.shared.end());
  m.dead = std::move(head.dead);

  const Bytes* sum_bytes = newest("sum");
  if (sum_bytes == nullptr) return corrupt("its sum is missing");
  COVEY_ASSIGN(SumRow sum, wire::decode<SumRow>(*sum_bytes));
  if (sum.words.size() != m.setup.words()) return corrupt("its sum has another length");
  m.sum = std::move(sum.words);
  for (const auto& [index, content] : sum.contributors) {
    if (!m.shared.contains(index)) return corrupt("a contributor is outside the list");
    m.survivors.insert(index);
    m.counted[{Phase::mask, index}] = content;
  }
  if (m.phase == Phase::mask) {
    const Bytes* boxes_bytes = newest("boxes");
    if (boxes_bytes == nullptr) return corrupt("its boxes are missing");
    COVEY_ASSIGN(BoxesRow row, wire::decode<BoxesRow>(*boxes_bytes));
    for (auto& [from, boxes] : row.senders) {
      if (!m.shared.contains(from) || boxes.boxes.size() != m.neighbours[from].size()) {
        return corrupt("its boxes do not fit the list");
      }
      m.counted[{Phase::share, from}] = crypto::hash(wire::encode(boxes)).bytes;
      m.boxes.emplace(from, std::move(boxes));
    }
    return server;
  }
  if (m.survivors.size() + m.dead.size() != n) return corrupt("survivors and dead are not the list");
  for (const auto& [from, signature] : head.signatures) {
    if (!m.survivors.contains(from)) return corrupt("a signature is of no survivor");
    m.signatures.emplace(from, signature);
    m.counted[{Phase::agree, from}] =
        crypto::hash(wire::encode(wire::SecureAgree{m.setup.round, m.session, signature})).bytes;
  }
  return server;
}

}  // namespace covey::aggregation
