#include "machine_world.h"

#include <algorithm>

#include "adapters/layout.h"
#include "aggregation/update.h"
#include "core/base/rng.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "tests/support/support.h"

namespace covey::coordinator::test_world {

DeviceId device_number(int number) {
  DeviceId id;
  id.key.fill(static_cast<std::uint8_t>(number));
  id.key[0] = static_cast<std::uint8_t>(number >> 8);
  return id;
}

TaskConfig small_task() {
  adapters::AdapterLayout layout;
  layout.lora.push_back({.path = "model.layers.0.self_attn.q_proj", .in = 4, .out = 4, .rank = 2, .alpha = 4});
  layout.size = 16;
  TaskConfig config;
  config.task = "test";
  config.adapter_layout = layout.canonical();
  config.initial.resize(16);
  for (std::size_t i = 0; i < 16; ++i) config.initial[i] = 0.01F * static_cast<float>(i);
  config.rounds = 3;
  config.goal_count = 4;
  config.min_count = 2;
  config.deadline_ms = 10'000;
  config.check_back_ms = 100;
  config.server_optimizer.kind = aggregation::ServerOptimizerKind::fedadam;
  config.server_optimizer.learning_rate = 0.1;
  config.privacy.mode = wire::PrivacyMode::robust;
  config.privacy.weight_max = 16;
  return config;
}

Bytes update_of(int number, const Bytes& encoded_plan, std::uint32_t weight, int variant) {
  const auto plan = wire::decode<wire::RoundPlan>(encoded_plan);
  REQUIRE_OK(plan);
  const std::uint64_t seed =
      derive_seed(plan->round.value * 1000 + static_cast<std::uint64_t>(variant), static_cast<std::uint64_t>(number));
  std::vector<float> delta(16);
  CounterRng(seed).fill_normal(delta);
  std::array<std::uint8_t, 32> bits{};
  bits[0] = static_cast<std::uint8_t>(number);
  bits[1] = static_cast<std::uint8_t>(variant);
  const auto update =
      aggregation::protect(*plan, wire::plan_hash(encoded_plan), delta, weight, aggregation::seeded_bits(bits));
  REQUIRE_OK(update);
  return wire::encode(*update);
}

World::World(TaskConfig config, std::vector<ScriptedDevice> scripts)
    : devices(std::move(scripts)), config_(std::move(config)) {
  for (ScriptedDevice& device : devices) device.wake_ms = device.first_check_in_ms;
  restart();
}

void World::restart() {
  auto machine = RoundMachine::create(config_);
  REQUIRE_OK(machine);
  machine_.emplace(std::move(*machine));
  REQUIRE_OK(machine_->restore(store_));
  timers.clear();
  inbox_.clear();
  evaluated_.clear();
  noise_wanted_.clear();
  for (ScriptedDevice& device : devices) {
    // Its connection broke: what was under way is announced again, a question without an answer is asked again.
    const bool waiting = device.wake_ms == INT64_MAX && !device.finished;
    if (waiting || device.update || device.plan) device.wake_ms = now;
  }
  step(Started{});
}

void World::step(const Event& event) {
  if (const auto* timer = std::get_if<TimerFired>(&event)) timers.erase(timer->timer);
  std::vector<Effect> effects = machine_->step(event, now);
  for (Effect& effect : effects) {
    execute(effect);
    ++executed_;
    if (crash_at_ && executed_ == *crash_at_) {
      crash_at_.reset();
      crashed_ = true;
      return;
    }
  }
}

void World::execute(Effect& effect) {
  if (auto* persist = std::get_if<Persist>(&effect)) {
    for (const auto& write : persist->writes) commits_with_sum += write.table == "sums" && write.value ? 1 : 0;
    REQUIRE_OK(store_.commit(persist->writes));
  } else if (auto* send = std::get_if<Send>(&effect)) {
    sent.emplace_back(send->device, send->message);
    if (!scripted) return;
    for (ScriptedDevice& device : devices) {
      if (device_number(device.number) == send->device) device_hears(device, send->message);
    }
  } else if (auto* timer = std::get_if<SetTimer>(&effect)) {
    timers[timer->timer] = timer->at_ms;
  } else if (auto* cancel = std::get_if<CancelTimer>(&effect)) {
    timers.erase(cancel->timer);
  } else if (auto* evaluate = std::get_if<Evaluate>(&effect)) {
    double loss = 0;
    for (const float value : evaluate->adapter) loss += value * value;
    evaluated_.push_back({evaluate->version, loss, 0.5, 100});
  } else if (auto* noise = std::get_if<DrawNoise>(&effect)) {
    noise_wanted_.push_back(noise->round);
  } else if (auto* round = std::get_if<RoundEnded>(&effect)) {
    ended.push_back(*round);
  } else if (auto* incident = std::get_if<Incident>(&effect)) {
    incidents.push_back(*incident);
  }
}

void World::upload(ScriptedDevice& device) {
  const auto plan = wire::decode<wire::RoundPlan>(*device.plan);
  if (!device.update) device.update = update_of(device.number, *device.plan, device.weight);
  wire::SubmitBegin begin;
  begin.round = plan->round;
  begin.content = wire::content_hash(*device.update);
  begin.bytes = device.update->size();
  begin.report = {.steps = 3, .tokens = 64, .train_ms = 5, .tokens_per_s = 100, .loss_first = 2, .loss_last = 1};
  inbox_.emplace_back(device.number, begin);
}

void World::device_wakes(ScriptedDevice& device) {
  device.wake_ms = INT64_MAX;
  if (device.plan && !device.refuses) return upload(device);
  wire::CheckIn check_in;
  check_in.capabilities.weakest_mode = device.weakest_mode;
  inbox_.emplace_back(device.number, check_in);
}

void World::device_hears(ScriptedDevice& device, const wire::Message& message) {
  if (const auto* back = std::get_if<wire::CheckBack>(&message)) {
    device.finished = back->reason == wire::WaitReason::finished;
    device.wake_ms = device.finished ? INT64_MAX : now + back->retry_after_ms;
  } else if (const auto* offer = std::get_if<wire::TaskOffer>(&message)) {
    const auto plan = wire::decode<wire::RoundPlan>(offer->plan);
    REQUIRE_OK(plan);
    wire::TaskAnswer answer{plan->round, !device.refuses,
                            device.refuses ? wire::RefusalReason::memory : wire::RefusalReason::none};
    inbox_.emplace_back(device.number, answer);
    if (device.refuses) {
      device.wake_ms = now + 1000;
      return;
    }
    device.plan = offer->plan;
    device.update.reset();
    device.wake_ms = device.silent ? now + 1'000'000 : now + device.train_ms;
  } else if (const auto* next = std::get_if<wire::SubmitNext>(&message)) {
    const std::size_t at = std::size_t{next->chunk} * wire::kChunkBytes;
    REQUIRE(device.update);
    const std::size_t size = std::min<std::size_t>(wire::kChunkBytes, device.update->size() - at);
    const auto begin = device.update->begin() + static_cast<std::ptrdiff_t>(at);
    inbox_.emplace_back(device.number, wire::SubmitChunk{next->round, next->chunk,
                                                         Bytes(begin, begin + static_cast<std::ptrdiff_t>(size))});
  } else if (const auto* receipt = std::get_if<wire::Receipt>(&message)) {
    if (receipt->status == wire::ReceiptStatus::accepted) device.accepted.insert(receipt->round.value);
    if (receipt->status == wire::ReceiptStatus::late) device.late.insert(receipt->round.value);
    device.plan.reset();
    device.update.reset();
    device.wake_ms = now + 10;
  }
}

bool World::run(std::int64_t until_ms) {
  while (now <= until_ms) {
    if (crashed_) {
      crashed_ = false;
      restart();
      continue;
    }
    if (!noise_wanted_.empty()) {
      const RoundId round = noise_wanted_.front();
      noise_wanted_.pop_front();
      step(NoiseDrawn{round, Bytes(32, static_cast<std::uint8_t>(round.value))});
      continue;
    }
    if (!evaluated_.empty()) {
      const Evaluated answer = evaluated_.front();
      evaluated_.pop_front();
      step(answer);
      continue;
    }
    if (!inbox_.empty()) {
      if (reorder) reorder(inbox_);
      auto [device, message] = std::move(inbox_.front());
      inbox_.pop_front();
      deliver(device, std::move(message));
      continue;
    }
    std::int64_t next = INT64_MAX;
    for (const auto& [id, at] : timers) next = std::min(next, at);
    for (const ScriptedDevice& device : devices) next = std::min(next, device.wake_ms);
    if (next == INT64_MAX) return machine_->phase() == Phase::finished;
    now = std::max(now, next);
    for (ScriptedDevice& device : devices) {
      if (device.wake_ms <= now) device_wakes(device);
    }
    for (const auto& [id, at] : std::map<TimerId, std::int64_t>(timers)) {
      if (at > now || crashed_) continue;
      step(TimerFired{id});
    }
    const bool all_told = std::ranges::all_of(devices, [](const ScriptedDevice& d) { return d.finished || d.silent; });
    if (machine_->phase() == Phase::finished && (all_told || devices.empty())) return true;
  }
  return false;
}

}  // namespace covey::coordinator::test_world
