#include "simulations/secagg_world.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "aggregation/clip.h"
#include "aggregation/quantize.h"
#include "aggregation/secagg_words.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"

namespace covey::simulations {
namespace {

using namespace aggregation;  // NOLINT: this file is about nothing else

std::array<std::uint8_t, 32> entropy_of(std::uint64_t seed, std::uint64_t who, std::uint64_t what) {
  return crypto::Hasher("covey secagg world 1").update_u64(seed).update_u64(who).update_u64(what).finish().bytes;
}

}  // namespace

WireBytes upload_cost(std::uint64_t content) {
  const auto size = [](const wire::Message& message) {
    const auto frame = wire::encode_frame(message);
    return frame.ok() ? frame->size() : 0;
  };
  const std::uint64_t chunks = (content + wire::kChunkBytes - 1) / wire::kChunkBytes;
  // A chunk's frame is that of an empty one and its bytes.
  return {size(wire::SubmitBegin{}) + chunks * size(wire::SubmitChunk{}) + content,
          chunks * size(wire::SubmitNext{}) + size(wire::Receipt{})};
}

SecAggVerify SignatureMemory::verifier() {
  return [this](std::string_view domain, const wire::Key& key, ByteSpan message, const wire::Signature& signature) {
    const auto question = crypto::Hasher(domain).update(key).update(signature).update(message).finish();
    const auto known = known_.find(question);
    if (known != known_.end()) return known->second;
    const bool good = crypto::verify_in(domain, crypto::PublicKey{key}, message, crypto::Signature{signature});
    known_.emplace(question, good);
    return good;
  };
}

SecAggWorld::SecAggWorld(const SecAggWorldOptions& given) : options(given), rng_(given.seed, 0x736563) {
  plan.task = "secagg";
  plan.round = RoundId{options.round};
  plan.mode = wire::PrivacyMode::secure;
  plan.clip_norm = 1;
  plan.value_bits = options.value_bits;
  plan.weight_max = options.weight_max;
  plan.cohort_invited = options.devices;
  plan.min_count = options.survivors_min;
  plan.adapter.name = "adapter";
  plan.seed = options.seed;
  plan.secure = {options.assumptions.corrupt_fraction, options.assumptions.dropout_fraction, options.survivors_min};
  if (options.groups > 0) plan.mode = wire::PrivacyMode::grouped;
  plan.secure.groups = options.groups;
  if (options.remember_signatures) seam.verify = memory_.verifier();
  auto made = SecAggSetup::of(plan, wire::plan_hash(wire::encode(plan)), options.values);
  if (!made.ok()) return;  // create() below would refuse the same; server stays empty
  setup = *made;
  devices.resize(options.devices);
  for (std::uint32_t i = 0; i < options.devices; ++i) {
    Device& device = devices[i];
    device.identity =
        std::make_unique<crypto::IdentityKey>(*crypto::IdentityKey::from_seed(entropy_of(options.seed, i, 0)));
    roster_.insert(device.key());
    device.weight = static_cast<std::uint32_t>(1 + rng_.below(options.weight_max));
    device.delta.resize(options.values);
    for (float& value : device.delta) value = static_cast<float>(rng_.normal() * 0.3);
    const auto words = secagg_contribution(setup.spec, device.delta, device.weight,
                                           seeded_bits(entropy_of(options.seed, i, 1)), setup.bits);
    if (words.ok()) device.contribution = *words;
    if (i < options.drops.size()) device.drop = options.drops[i];
    make_client(device, setup, i);
  }
  auto machine = SecAggServer::create_with_seam(setup, roster(), seam);
  if (machine.ok()) server.emplace(*std::move(machine));
}

SecAggRoster SecAggWorld::roster() const {
  return [this](const wire::Key& identity) { return roster_.contains(identity); };
}

void SecAggWorld::make_client(Device& device, const SecAggSetup& with, std::uint64_t which) {
  SecAggClientInputs inputs;
  inputs.setup = with;
  inputs.version = plan.base_version;
  inputs.identity = device.identity.get();
  inputs.roster = roster();
  inputs.draw = draw;
  inputs.seed = entropy(which);
  auto made = SecAggClient::create_with_seam(std::move(inputs), seam);
  if (made.ok()) device.client.emplace(*std::move(made));
}

std::array<std::uint8_t, 32> SecAggWorld::entropy(std::uint64_t which) const {
  return entropy_of(options.seed, which, 2);
}

SessionSecrets SecAggWorld::secrets(std::uint64_t which) const {
  return *session_secrets(entropy(which));  // 32 bytes always have them
}

std::vector<std::uint32_t> SecAggWorld::order() {
  std::vector<std::uint32_t> out(devices.size());
  std::iota(out.begin(), out.end(), 0U);
  if (options.shuffle) rng_.shuffle(out);
  return out;
}

std::optional<wire::Message> SecAggWorld::due(std::uint32_t device) {
  auto message = server->due(devices[device].id());
  if (tamper) tamper(device, message);
  return message;
}

/// For each device that is still there: what is due to it, to `step`, which answers and hands the answer over.
template <class Question, class Step>
void SecAggWorld::each(DropAt phase, Step&& step) {
  for (const std::uint32_t i : order()) {
    Device& device = devices[i];
    if (left_out_ == device.id()) continue;
    if (device.drop <= phase) {
      if (device.drop == phase) server->on_gone(device.id());
      continue;
    }
    const auto message = due(i);
    if (!message || !std::holds_alternative<Question>(*message)) continue;
    const auto question = deliver(std::get<Question>(*message), device.bytes.received);
    const int times = options.shuffle && rng_.below(8) == 0 ? 2 : 1;
    for (int repeat = 0; repeat < times; ++repeat) {
      const Status status = step(i, device, question);
      if (status.ok()) continue;
      device.failure = status.error().message;
      server->on_gone(device.id());
      break;
    }
  }
}

void SecAggWorld::advertise() {
  for (const std::uint32_t i : order()) {
    Device& device = devices[i];
    if (device.drop == DropAt::advertise || left_out_ == device.id()) continue;
    auto made = device.client->advertise(device.ledger);
    if (!made.ok()) {
      device.failure = made.error().message;
      continue;
    }
    const auto status = server->on_advertise(device.id(), sent(i, *made));
    if (!status.ok()) device.failure = status.error().message;
  }
}

void SecAggWorld::advertise_others(std::uint32_t left_out) {
  left_out_ = devices[left_out].id();
  advertise();
  left_out_.reset();
}

void SecAggWorld::mask_all_but(const DeviceId& left_out) {
  left_out_ = left_out;
  mask();
  left_out_.reset();
}

void SecAggWorld::share() {
  each<wire::SecureList>(DropAt::share, [&](std::uint32_t i, Device& device, const wire::SecureList& list) -> Status {
    COVEY_ASSIGN(const auto boxes, device.client->share(list));
    return server->on_boxes(device.id(), sent(i, boxes));
  });
}

void SecAggWorld::mask() {
  each<wire::SecureInbox>(DropAt::mask, [&](std::uint32_t i, Device& device, const wire::SecureInbox& inbox) -> Status {
    auto made = device.client->mask(inbox, device.contribution, device.ledger, options.pool);
    if (made.ok())
      device.masked = *std::move(made);
    else if (made.error().code != ErrorCode::already_exists)
      return made.error();
    const Bytes content = wire::encode(*device.masked);
    const WireBytes cost = upload_cost(content.size());
    device.bytes.sent += cost.sent;
    device.bytes.received += cost.received;
    COVEY_ASSIGN(const auto update, wire::decode<wire::MaskedUpdate>(content));
    COVEY_TRY(server->on_masked(device.id(), update));
    if (std::ranges::find(counted_masked_, i) == counted_masked_.end()) counted_masked_.push_back(i);
    return {};
  });
}

void SecAggWorld::agree() {
  each<wire::SecureSurvivors>(DropAt::agree,
                              [&](std::uint32_t i, Device& device, const wire::SecureSurvivors& survivors) -> Status {
                                COVEY_ASSIGN(const auto agreed, device.client->agree(survivors));
                                return server->on_agree(device.id(), sent(i, agreed));
                              });
}

void SecAggWorld::unmask() {
  each<wire::SecureUnmask>(DropAt::unmask,
                           [&](std::uint32_t i, Device& device, const wire::SecureUnmask& request) -> Status {
                             COVEY_ASSIGN(const auto shares, device.client->unmask(request));
                             return server->on_shares(device.id(), sent(i, shares));
                           });
}

Result<RunningSum> SecAggWorld::run() {
  if (!server) return Error{ErrorCode::invalid_argument, "secure round: the plan is impossible"};
  advertise();
  COVEY_TRY(server->close_advertise());
  return finish_from_share();
}

Result<RunningSum> SecAggWorld::finish_from_share() {
  share();
  COVEY_TRY(server->close_share());
  mask();
  COVEY_TRY(server->close_mask());
  agree();
  COVEY_TRY(server->close_agree());
  unmask();
  return server->finish(options.pool);
}

Result<RunningSum> SecAggWorld::clear_sum(const std::vector<std::uint32_t>& contributors) const {
  std::vector<std::int64_t> sum(options.values);
  std::uint64_t weight = 0;
  for (const std::uint32_t i : contributors) {
    const auto q = quantize(devices[i].delta, *clip_factor(devices[i].delta, setup.spec.clip_norm) * setup.spec.scale(),
                            setup.spec.magnitude_max(), seeded_bits(entropy_of(options.seed, i, 1)));
    for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += std::int64_t{q[j]} * devices[i].weight;
    weight += devices[i].weight;
  }
  return RunningSum::from_parts(setup.spec, std::move(sum), weight, static_cast<std::uint32_t>(contributors.size()));
}

}  // namespace covey::simulations
