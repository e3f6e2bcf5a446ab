#include "simulations/world.h"

#include <malloc.h>

#include <algorithm>

#include "adapters/adapter.h"
#include "coordinator/settings.h"
#include "core/base/rng.h"
#include "core/crypto/stream.h"
#include "simulations/modelled_world.h"
#include "simulations/own_cost.h"
#include "simulations/world_impl.h"

namespace covey::simulations {
namespace {

constexpr std::int64_t kWallStartMs = 1'767'225'600'000;  // 2026-01-01T00:00:00Z

/// In memory nothing is encrypted: a CURVE key is only a name here.
wire::Key curve_from(std::uint64_t seed, std::uint64_t index) {
  wire::Key key{};
  Rng rng(derive_seed(seed, world_seed::kKeys + 100), index);
  for (auto& byte : key) byte = static_cast<std::uint8_t>(rng.next_u32());
  return key;
}

}  // namespace

crypto::IdentityKey world_identity(std::uint64_t seed, std::uint64_t index) {
  Bytes bytes(32);
  Rng rng(derive_seed(seed, world_seed::kKeys), index);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.next_u32());
  return *crypto::IdentityKey::from_seed(bytes);  // 32 bytes are what it takes
}

RealWorld::RealWorld(const Experiment& experiment, const WorldObserver& observer)
    : experiment_(experiment),
      observer_(observer),
      queue_(kWallStartMs),
      evaluation_pool_(experiment.threads),
      training_(experiment.threads, observer.ranks) {}

Status RealWorld::prepare() {
  COVEY_ASSIGN(bench_, adapters::open_workbench(experiment_.model, experiment_.tokenizer));
  COVEY_ASSIGN(data_,
               load_device_data(experiment_.data, experiment_.devices, static_cast<int>(experiment_.task.local.seq),
                                *bench_.tokenizer, data_seed(experiment_)));
  if (experiment_.central) {
    COVEY_ASSIGN(data_.devices, all_on_one(data_.devices));
    std::ranges::fill(data_.held_out_of, 0U);
  }
  ::malloc_trim(0);  // the texts are gone: what they took should be
  task_ = experiment_.task;
  COVEY_ASSIGN(const auto files, coordinator::model_files(experiment_.model, experiment_.tokenizer));
  COVEY_TRY(coordinator::serve_model(task_, files, blobs_));
  COVEY_TRY(coordinator::add_adapter(task_, *bench_.model, experiment_.adapter));
  for (const auto& file : task_.model) preinstalled_.insert(file.blob);

  auto coordinator_key = world_identity(task_.seed, 0);
  const auto roster_key = world_identity(task_.seed, 1);
  coordinator_ = coordinator_key.public_key().bytes;
  roster_ = roster_key.public_key().bytes;
  COVEY_ASSIGN(registration_, coordinator::Registration::open(store_, roster_, std::nullopt, queue_.clock()));
  network_ = std::make_unique<net::MemoryNetwork>(
      [this](net::MemoryNetwork::Delivery delivery) { deliver(std::move(delivery)); }, registration_.get());
  COVEY_TRY(make_devices());
  // All devices in few epochs: each device verifies the chain, and its bytes are part of what the world measures.
  COVEY_TRY(registration_->sign_pending(roster_key));
  if (experiment_.roster_known) {
    COVEY_ASSIGN(const auto head, follow_roster(*registration_, roster_));
    for (auto& device : devices_) COVEY_TRY(device->store.commit(std::vector{known_roster_row(head, device->curve)}));
  }
  COVEY_ASSIGN(service_, coordinator::Service::create(task_, std::move(coordinator_key),
                                                      {store_, network_->server(), *registration_, blobs_, *this,
                                                       queue_.clock(), [this] { return noise_seed(); }}));
  service_->on_round([this](const coordinator::RoundEnded& ended) { round_ended(ended); });
  return {};
}

Status RealWorld::make_devices() {
  const std::size_t count = data_.devices.devices();
  const auto kinds = draw_classes(experiment_.classes, count, derive_seed(task_.seed, world_seed::kFleet));
  Rng starts(derive_seed(task_.seed, world_seed::kStart));
  const auto bad = draw_adversaries(experiment_.adversaries, count, derive_seed(task_.seed, world_seed::kAdversary));
  for (std::size_t i = 0; i < count; ++i) {
    auto device = std::make_unique<WorldDevice>();
    device->index = i;
    device->kind = &experiment_.classes[kinds[i]];
    device->id = world_identity(task_.seed, 2 + i).device_id();
    device->curve = curve_from(task_.seed, i);
    device->link = draw_link(*device->kind, experiment_.traces, derive_seed(task_.seed, world_seed::kLinks), i);
    device->bad = bad[i];
    COVEY_TRY(registration_->admit(device->id, device->curve, data_.devices.key(i)));
    const auto start_ms = static_cast<std::int64_t>(starts.below(task_.check_back_ms + 1));
    queue_.at(start_ms, [this, d = device.get()] { start_life(*d); });
    devices_.push_back(std::move(device));
  }
  return {};
}

void RealWorld::poison(RoundId round, std::span<float> delta, std::size_t device) const {
  poison_delta(experiment_.adversaries, delta,
               derive_seed(derive_seed(task_.seed, world_seed::kAdversary), round.value << 32 | device));
}

/// Of the simulated system generator: a world repeats, noise included.
Bytes RealWorld::noise_seed() {
  Bytes out(crypto::kStreamSeedBytes);
  Rng rng(derive_seed(task_.seed, world_seed::kNoise), noise_seeds_++);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
  return out;
}

Status RealWorld::run() {
  cpu_begin_ = process_cpu_seconds();
  COVEY_TRY(service_->start());
  pump_server();
  COVEY_TRY(queue_.run_until([this] { return service_->finished() || failure_; }, experiment_.virtual_ms_max, rounds_));
  return failure_ ? Status(*failure_) : Status();
}

Result<train::Evaluation> RealWorld::measure(std::vector<float> values, std::span<const train::TokenRow> rows) {
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(task_.adapter_layout));
  COVEY_ASSIGN(values,
               coordinator::adapter_of_version(task_, layout, *bench_.model, std::move(values), evaluation_pool_));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench_.model, std::move(layout), std::move(values)));
  train::EvaluateOptions options;
  options.seq = static_cast<int>(task_.local.seq);
  return train::evaluate(*bench_.model, adapter.spec(), adapter.view(), rows, options, evaluation_pool_);
}

void RealWorld::evaluate(coordinator::Evaluate request) {
  coordinator::Evaluated answer;
  answer.version = request.version;
  if (!data_.held_out.empty()) {
    const auto now = [&] { return measure(std::move(request.adapter), data_.held_out); };
    const auto once = [&]() -> Result<train::Evaluation> {
      return observer_.journal != nullptr ? observer_.journal->evaluation(request.version, now) : now();
    };
    const double cpu_begin = process_cpu_seconds();
    const double training_begin = training_.cpu_seconds();
    const auto measured = observer_.ranks != nullptr ? evaluate_once(*observer_.ranks, once) : once();
    const double others = training_.cpu_seconds() - training_begin;  // jobs that ended beside it
    evaluation_cpu_ += std::max(0.0, process_cpu_seconds() - cpu_begin - others);
    if (measured.ok()) {
      answer.loss = measured->loss;
      answer.accuracy = measured->accuracy;
      answer.tokens = static_cast<std::uint64_t>(measured->tokens);
    } else {
      note(measured.error());
    }
  }
  queue_.after(0, [this, answer] {
    note(service_->evaluated(answer));
    pump_server();
  });
}

std::uint64_t data_seed(const Experiment& experiment) {
  return derive_seed(experiment.task.seed, world_seed::kData);
}

Result<WorldResult> run_world(const Experiment& experiment, const WorldObserver& observer) {
  if (experiment.modelled) return run_modelled_world(experiment, observer);
  RealWorld world(experiment, observer);
  COVEY_TRY(world.prepare());
  COVEY_TRY(world.run());
  return world.result();
}

}  // namespace covey::simulations
