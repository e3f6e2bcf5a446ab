#include "client/secure_round.h"

#include <string.h>  // explicit_bzero

#include <utility>

#include "aggregation/secagg_words.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {

void wipe(std::vector<std::uint32_t>& words) {
  if (!words.empty()) explicit_bzero(words.data(), words.size() * sizeof words[0]);
  words.clear();
}

/// What may be told of a single device in this mode: times, which the coordinator sees anyway. Losses, steps and tokens
/// speak of its examples.
wire::TrainingReport report_of(const wire::TrainingReport& full) {
  wire::TrainingReport out;
  out.train_ms = full.train_ms;
  out.bytes_per_s = full.bytes_per_s;
  return out;
}

}  // namespace

Result<std::vector<std::uint32_t>> SecureRound::contribution_of(const Inputs& inputs,
                                                                const aggregation::SecAggSetup& setup) {
  const auto rounding = aggregation::seeded_bits(inputs.rounding_seed);
  const std::vector<float> update = aggregation::update_of_delta(*inputs.plan, inputs.outcome->delta);
  if (inputs.plan->noise.kind == wire::NoiseKind::none) {
    return aggregation::secagg_contribution(setup.spec, update, inputs.outcome->weight, rounding, setup.bits);
  }
  aggregation::dp::NoiseBits noise(inputs.noise_seed);
  return aggregation::secagg_noised_contribution(setup.spec, aggregation::dp::distributed_of(*inputs.plan), update,
                                                 rounding, noise, setup.bits);
}

Result<SecureRound> SecureRound::begin(Inputs inputs, aggregation::SecAggLedger& ledger) {
  const auto& plan = *inputs.plan;
  const auto& outcome = *inputs.outcome;
  aggregation::SecAggClientInputs client;
  COVEY_ASSIGN(client.setup, aggregation::SecAggSetup::of(plan, inputs.plan_hash,
                                                          aggregation::update_values(plan, outcome.delta.size())));
  COVEY_ASSIGN(auto contribution, contribution_of(inputs, client.setup));
  client.version = plan.base_version;
  client.identity = inputs.identity;
  client.roster = std::move(inputs.roster);
  client.draw = inputs.draw;
  client.seed = inputs.session_seed;
  client.masked_per_version_max = inputs.masked_per_version_max;
  COVEY_ASSIGN(auto machine, aggregation::SecAggClient::create(std::move(client)));
  SecureRound round(std::move(machine), plan);
  round.report_ = report_of(outcome.report);
  round.contribution_ = std::move(contribution);
  COVEY_ASSIGN(round.last_, round.client_.advertise(ledger));
  return round;
}

Result<wire::Message> SecureRound::on(const wire::SecureList& message, aggregation::SecAggLedger&) {
  COVEY_ASSIGN(auto answer, client_.share(message));
  return said(std::move(answer));
}

Result<wire::Message> SecureRound::on(const wire::SecureInbox& message, aggregation::SecAggLedger& ledger) {
  if (!update_.empty()) return last_;  // it is made once; the upload goes on from where it stands
  COVEY_ASSIGN(const auto masked, client_.mask(message, contribution_, ledger));
  wipe(contribution_);
  update_ = wire::encode(masked);
  content_ = wire::content_hash(update_);
  return said(wire::SubmitBegin{plan_.round, wire::UpdateKind::masked, content_, update_.size(), report_});
}

Result<wire::Message> SecureRound::on(const wire::SecureSurvivors& message, aggregation::SecAggLedger&) {
  COVEY_ASSIGN(auto answer, client_.agree(message));
  return said(std::move(answer));
}

Result<wire::Message> SecureRound::on(const wire::SecureUnmask& message, aggregation::SecAggLedger&) {
  COVEY_ASSIGN(auto answer, client_.unmask(message));
  return said(std::move(answer));
}

SessionPhase SecureRound::phase() const {
  using Phase = aggregation::SecAggClient::Phase;
  switch (client_.phase()) {
    case Phase::shared:
      return SessionPhase::secure_share;
    case Phase::masked:
      return SessionPhase::secure_mask;
    case Phase::agreed:
      return SessionPhase::secure_agree;
    case Phase::unmasked:
      return SessionPhase::secure_unmask;
    default:
      return SessionPhase::secure_advertise;
  }
}

}  // namespace covey::client
