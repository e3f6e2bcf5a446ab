// A device's lives, its links, its rests. A device that waits for its next check-in is what its disk holds and a few
// numbers; agent, transport, downloads and trainer are made again when its time has come.
#include <algorithm>
#include <bit>

#include "core/base/rng.h"
#include "simulations/world_impl.h"

namespace covey::simulations {

// ---- lives ---------------------------------------------------------------------------------------------------------

void RealWorld::start_life(WorldDevice& device) {
  ++device.life;
  make_live(device, world_identity(task_.seed, 2 + device.index));
  note(device.live->agent->start(capabilities_of(device)));
  keep_hours(device);
  pump(device);
}

void RealWorld::make_live(WorldDevice& device, crypto::IdentityKey identity) {
  device.live = std::make_unique<LiveDevice>(preinstalled_, shelf_, device.downloaded);
  load_.agents_max = std::max(load_.agents_max, ++load_.agents);
  LiveDevice& live = *device.live;
  VirtualTrainer::Hooks hooks;
  hooks.on_start = [this, &device](const wire::RoundPlan& plan, std::int64_t ms) { training_begins(device, plan, ms); };
  hooks.on_ready = [this, &device] { pump(device); };
  hooks.on_failure = [this](const Error& error) { note(error); };
  if (device.bad) {
    hooks.on_delta = [this, &device](RoundId round, std::span<float> delta) { poison(round, delta, device.index); };
  }
  live.trainer = std::make_unique<VirtualTrainer>(
      SharedWorld{queue_, training_, bench_, observer_.journal, load_}, device.index, *device.kind,
      [this, &device] { return rows_of(device); }, live.downloads, std::move(hooks));
  live.transport = network_->make_client(device.curve, device.index);
  live.agent = std::make_unique<client::Agent>(
      client::AgentConfig{session_of(device), std::move(identity), device.curve},
      client::AgentSeams{device.store, *live.transport, live.downloads, *live.trainer, queue_.clock(),
                         [this, &device](std::span<std::uint8_t> out) { draw_random(device, out); }});
}

void RealWorld::wake(WorldDevice& device) {
  const auto resting = std::move(device.resting);
  make_live(device, std::move(resting->identity));
  note(device.live->agent->resume(capabilities_of(device), *resting));
}

void RealWorld::rest_if_idle(WorldDevice& device) {
  if (observer_.keep_agents || !device.live || !device.live->trainer->idle()) return;
  auto resting = device.live->agent->rest();
  if (!resting) return;
  // Whoever stands at the same epoch has the same roster: one is enough for all.
  auto& known = rosters_[resting->session.roster];
  if (auto active = known.lock()) {
    resting->session.active = active;
  } else {
    known = resting->session.active;
  }
  device.store.share_active(resting->session.active);
  device.downloaded = device.live->downloads.held();
  end_live(device);
  device.resting = std::make_unique<client::RestingAgent>(*std::move(resting));
}

void RealWorld::end_live(WorldDevice& device) {
  LiveDevice& live = *device.live;
  live.agent.reset();
  live.transport.reset();
  live.trainer->stop(false);
  device.trained_ms += live.trainer->trained_ms();
  device.live.reset();
  --load_.agents;
}

void RealWorld::crash(WorldDevice& device) {
  if (!device.live && !device.resting) return;
  ++crashes_;
  network_->break_connection(device.index);
  if (device.live) end_live(device);
  device.resting.reset();
  device.downloaded.clear();
  device.wake_up.cancel();
  queue_.after(experiment_.away_ms, [this, &device] { start_life(device); });
}

// ---- what a device is ----------------------------------------------------------------------------------------------

client::SessionConfig RealWorld::session_of(const WorldDevice& device) const {
  client::SessionConfig session;
  session.task = task_.task;
  session.coordinator = coordinator_;
  session.roster = roster_;
  session.policy.weakest_mode = task_.privacy.mode;
  session.policy.survivors_min = task_.privacy.survivors_min;
  session.policy.corrupt_fraction_min = task_.privacy.corrupt_fraction;
  session.jitter_seed = derive_seed(derive_seed(task_.seed, world_seed::kJitter), device.index);
  return session;
}

wire::Capabilities RealWorld::capabilities_of(const WorldDevice& device) const {
  wire::Capabilities capabilities;
  capabilities.software = "covey-sim";
  capabilities.processor = device.kind->name;
  capabilities.memory_bytes = device.kind->memory_bytes;
  capabilities.training_memory_bytes_max = device.kind->memory_bytes;
  capabilities.examples = std::bit_floor(std::uint64_t{data_.devices.count(device.index)});
  capabilities.weakest_mode = task_.privacy.mode;
  return capabilities;
}

Result<std::vector<train::TokenRow>> RealWorld::rows_of(const WorldDevice& device) const {
  COVEY_ASSIGN(auto rows, data_.devices.read(device.index, phase_at(experiment_.data, queue_.now_ms())));
  if (device.bad) poison_rows(experiment_.adversaries.attack, rows, bench_.model->config().vocab_size);
  return rows;
}

/// Tells the device when it may train and when not, from now until its life ends.
void RealWorld::keep_hours(WorldDevice& device) {
  if (!experiment_.availability.diurnal) return;
  const AvailabilityOf hours(experiment_.availability, derive_seed(task_.seed, world_seed::kHours), device.index);
  const auto window = hours.window(queue_.now_ms());
  const bool now = window.begin_ms <= queue_.now_ms();
  if (device.resting) wake(device);
  note(device.live->agent->handle(client::EligibilityChanged{now, now ? "" : "not charging"}));
  queue_.at(now ? window.end_ms : window.begin_ms, [this, &device, life = device.life] {
    if ((!device.live && !device.resting) || device.life != life) return;
    keep_hours(device);
    pump(device);
  });
}

void RealWorld::training_begins(WorldDevice& device, const wire::RoundPlan& plan, std::int64_t modelled_ms) {
  ++trained_;
  if (experiment_.dropout <= 0 || device.crashed_in == plan.round) return;
  Rng rng(derive_seed(derive_seed(task_.seed, world_seed::kDropout), device.index), plan.round.value);
  if (rng.uniform() >= experiment_.dropout) return;
  device.crashed_in = plan.round;
  queue_.after(static_cast<std::int64_t>(rng.uniform() * static_cast<double>(modelled_ms)),
               [this, &device] { crash(device); });
}

/// Seeds of rounding and keys come from a stream of their own: how often a device had to connect cannot reach a result.
void RealWorld::draw_random(WorldDevice& device, std::span<std::uint8_t> out) const {
  const bool nonce = out.size() == sizeof(wire::Nonce);
  std::uint64_t& position = nonce ? device.nonces_position : device.random_position;
  Rng stream(derive_seed(task_.seed, nonce ? world_seed::kNonces : world_seed::kRandom), device.index);
  stream.seek(position);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(stream.next_u32());
  position = stream.position();
}

// ---- time and links ------------------------------------------------------------------------------------------------

void RealWorld::pump(WorldDevice& device) {
  const auto again = [this, &device] { pump(device); };
  if (device.resting) {
    const auto wake_ms = device.resting->wake_ms;
    if (!wake_ms || *wake_ms > queue_.now_ms()) return device.wake_up.set(queue_, wake_ms, again);
    wake(device);
  }
  if (!device.live) return;
  note(device.live->transport->poll(0));
  note(device.live->agent->run_due());
  device.wake_up.set(queue_, device.live->agent->next_timer_ms(), again);
  rest_if_idle(device);
}

void RealWorld::pump_server() {
  note(network_->server().poll(0));
  note(service_->run_due());
  server_wake_up_.set(queue_, service_->next_timer_ms(), [this] { pump_server(); });
}

void RealWorld::deliver(net::MemoryNetwork::Delivery delivery) {
  WorldDevice& device = *devices_[delivery.client];
  const bool up = delivery.to_server;
  std::int64_t& free_ms = up ? device.up_free_ms : device.down_free_ms;
  std::int64_t& last_ms = up ? device.up_last_ms : device.down_last_ms;
  const std::int64_t begin_ms = std::max(free_ms, queue_.now_ms());
  free_ms = device.link.passed_ms(up, begin_ms, delivery.bytes);
  last_ms = std::max(last_ms, free_ms + device.kind->latency_ms);
  (up ? device.bytes_up : device.bytes_down) += delivery.bytes;
  device.radio_ms += free_ms - begin_ms;
  queue_.at(last_ms, [this, &device, up, run = std::move(delivery.run)] {
    run();
    if (up) {
      pump_server();
    } else {
      pump(device);
    }
  });
}

}  // namespace covey::simulations
