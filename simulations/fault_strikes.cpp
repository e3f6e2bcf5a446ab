#include <algorithm>

#include "core/wire/frame.h"
#include "simulations/fault_world_impl.h"

namespace covey::simulations {
namespace {

std::size_t place_of(coordinator::Phase phase) {
  using coordinator::Phase;
  switch (phase) {
    case Phase::idle:
    case Phase::finished:
      return 0;
    case Phase::collecting:
      return 1;
    case Phase::secure_share:
      return 2;
    case Phase::secure_mask:
      return 3;
    case Phase::secure_agree:
      return 4;
    case Phase::secure_unmask:
      return 5;
    case Phase::evaluating:
      return 6;
  }
  return 0;
}

}  // namespace

// ---- faults --------------------------------------------------------------------------------------------------------

void FaultWorld::strike(FaultKind kind, std::uint64_t times) {
  if (times == 0 || !service_) return;
  outcome_.strikes[static_cast<std::size_t>(kind)][place_of(service_->machine().phase())] += times;
}

void FaultWorld::break_disk(Machine& machine, const FaultEntry& entry) {
  machine.armed = entry.kind;
  const bool cut = entry.kind == FaultKind::lost_write || entry.kind == FaultKind::torn_write;
  machine.survival = entry.kind == FaultKind::lost_write ? Survival::nothing : Survival::random;
  machine.disk.arm(cut                                 ? Fault::crash
                   : entry.kind == FaultKind::io_error ? Fault::io_error
                                                       : Fault::full,
                   static_cast<std::uint64_t>(entry.amount));
}

void FaultWorld::begin(const FaultEntry& entry) {
  const auto each = [&](auto&& act) {
    for (const auto& device : devices_) {
      if ((entry.devices >> device->index & 1U) != 0) act(*device);
    }
  };
  switch (entry.kind) {
    case FaultKind::loss:
    case FaultKind::delay:
    case FaultKind::reorder:
    case FaultKind::duplicate:
    case FaultKind::partition:
      active_.push_back(&entry);
      return;
    case FaultKind::dropout:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device.gone = true;
        device_dies(device);
      });
    case FaultKind::clock_skew:
      strike(entry.kind);
      if (entry.coordinator) {
        server_.clock.skew_ms = entry.amount;
        server_.back_ms = entry.for_ms;
        if (service_) coordinator_dies();
        return;
      }
      return each([&](FaultDevice& device) {
        device.clock.skew_ms = entry.amount;
        device.back_ms = entry.for_ms;
        device_dies(device);
      });
    case FaultKind::kill_device:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device.back_ms = entry.for_ms;
        device_dies(device);
      });
    case FaultKind::kill_coordinator:
      strike(entry.kind);
      server_.back_ms = entry.for_ms;
      if (service_) coordinator_dies();
      return;
    case FaultKind::bit_flip:
      strike(entry.kind);
      return each([&](FaultDevice& device) {
        device_dies(device);
        const std::uint64_t bytes = device.disk.file_bytes(kFaultDatabase);
        if (bytes == 0) return;
        (void)device.disk.flip_bit(kFaultDatabase, static_cast<std::uint64_t>(entry.amount) % bytes, entry.number % 8);
      });
    case FaultKind::lost_write:
    case FaultKind::torn_write:
    case FaultKind::io_error:
    case FaultKind::full_disk:
      if (entry.coordinator) return break_disk(server_, entry);
      return each([&](FaultDevice& device) { break_disk(device, entry); });
  }
}

void FaultWorld::end(const FaultEntry& entry) {
  std::erase(active_, &entry);
  if (entry.kind == FaultKind::full_disk && entry.coordinator) server_.disk.arm(Fault::none, 0);
  for (const auto& device : devices_) {
    if ((entry.devices >> device->index & 1U) == 0) continue;
    if (entry.kind == FaultKind::full_disk && !entry.coordinator) device->disk.arm(Fault::none, 0);
    if (entry.kind == FaultKind::dropout) {
      device->gone = false;
      start_device(*device);
    }
  }
}

void FaultWorld::faults_end() {
  quiet_ = true;
  active_.clear();
  server_.disk.arm(Fault::none, 0);
  server_.clock.skew_ms = 0;
  for (const auto& device : devices_) {
    device->disk.arm(Fault::none, 0);
    device->clock.skew_ms = 0;
    device->gone = false;
    start_device(*device);
  }
}

// ---- time and messages ---------------------------------------------------------------------------------------------

void FaultWorld::deliver(net::MemoryNetwork::Delivery delivery) {
  FaultDevice& device = *devices_[delivery.client];
  const bool up = delivery.to_server;
  if (leaving_ != nullptr && !up) look_at_answer(device);
  if (leaving_ != nullptr && up && scenario_.secure) look_at_question(device);
  const wire::Hash content = leaving_ != nullptr ? crypto::hash(*leaving_).bytes : wire::Hash{};
  if (plant_ == Plant::deaf && quiet_) return;
  std::int64_t extra_ms = 0;
  std::int64_t overtaken_ms = 0;
  bool twice = false;
  const bool frame = !delivery.opens && !delivery.closes;
  for (const FaultEntry* entry : active_) {
    if ((entry->devices >> device.index & 1U) == 0) continue;
    Rng& rng = entry_dice_.at(entry->number);
    switch (entry->kind) {
      case FaultKind::partition:
        strike(entry->kind);
        return;
      case FaultKind::loss:
        if (frame && rng.uniform() < entry->share) return strike(entry->kind);
        break;
      case FaultKind::delay:
        strike(entry->kind);
        extra_ms += entry->amount;
        break;
      case FaultKind::duplicate:
        if (!frame || rng.uniform() >= entry->share) break;
        strike(entry->kind);
        twice = true;
        break;
      case FaultKind::reorder:
        if (!frame || rng.uniform() >= entry->share) break;
        strike(entry->kind);
        overtaken_ms = 1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(entry->amount)));
        break;
      default:
        break;
    }
  }
  std::int64_t& last_ms = up ? device.up_last_ms : device.down_last_ms;
  last_ms = std::max(last_ms, queue_.now_ms() + device.latency_ms + extra_ms);
  auto shared = std::make_shared<net::MemoryNetwork::Delivery>(std::move(delivery));
  if (twice) {
    auto copy = std::make_shared<net::MemoryNetwork::Delivery>(*shared);
    queue_.at(last_ms + device.latency_ms, [this, &device, copy, content] { arrive(device, *copy, content); });
  }
  queue_.at(last_ms + overtaken_ms, [this, &device, shared, content] { arrive(device, *shared, content); });
}

void FaultWorld::look_at_answer(const FaultDevice& device) {
  const auto envelope = wire::decode_frame(*leaving_);
  if (envelope.ok() && store_) checks_.said(device.id, envelope->message, *store_);
}

void FaultWorld::look_at_question(const FaultDevice& device) {
  const auto header = wire::parse_frame(*leaving_);
  if (!header.ok() || header->header.type != static_cast<std::uint16_t>(wire::MessageType::submit_begin)) return;
  if (service_) masked_[service_->machine().version().version].insert(device.id);
}

/// Of the devices that may still send a masked update for the present version there are too few for a round: the price
/// of one masked update per version (security.md section 4), which a fleet larger than a few cohorts does not pay.
bool FaultWorld::exhausted() const {
  if (!scenario_.secure || !service_) return false;
  const auto masked = masked_.find(service_->machine().version().version);
  if (masked == masked_.end()) return false;
  const auto left = std::ranges::count_if(devices_, [&](const auto& d) { return !masked->second.contains(d->id); });
  return left < static_cast<std::ptrdiff_t>(scenario_.least);
}

void FaultWorld::arrive(FaultDevice& device, const net::MemoryNetwork::Delivery& delivery, const wire::Hash& content) {
  trace_.update_u64(static_cast<std::uint64_t>(queue_.now_ms()))
      .update_u64(std::uint64_t{device.index} << 32 | delivery.bytes << 1 | (delivery.to_server ? 1U : 0U))
      .update(content);
  delivery.run();
  if (delivery.to_server) {
    pump_coordinator();
  } else {
    pump(device);
  }
}

void FaultWorld::pump(FaultDevice& device) {
  if (!device.agent) return;
  (void)device.transport->poll(0);
  const Status done = device.agent->run_due();
  strike(device.armed, device.new_strikes());
  if (!done.ok() || device.disk.crashed()) return device_dies(device);
  device.wake_up.set(queue_, device.agent->next_timer_ms(), [this, &device] { pump(device); });
}

void FaultWorld::pump_coordinator() {
  if (!service_) return;
  (void)tap_->poll(0);
  const Status done = service_->run_due();
  strike(server_.armed, server_.new_strikes());
  if (!done.ok() || server_.disk.crashed()) return coordinator_dies();
  const Status audited = checks_.audit(*store_);
  if (!audited.ok() || server_.disk.crashed()) return coordinator_dies();
  server_wake_up_.set(queue_, service_->next_timer_ms(), [this] { pump_coordinator(); });
}

void FaultWorld::evaluate(coordinator::Evaluate request) {
  Rng rng = dice(kWork);
  coordinator::Evaluated answer;
  answer.version = request.version;
  answer.loss = 1.0 / static_cast<double>(1 + request.version.value);
  answer.tokens = 1;
  queue_.after(10 + static_cast<std::int64_t>(rng.below(200)), [this, answer, life = service_life_] {
    if (!service_ || life != service_life_) return;
    (void)service_->evaluated(answer);  // a failed commit shows in run_due()
    pump_coordinator();
  });
}

/// A process that cannot go on dies and comes back. After the faults have ended nothing may fail any more.
void FaultWorld::look(const Status& status, const char* what) {
  if (status.ok()) return;
  if (quiet_ && !server_.disk.crashed()) {
    checks_.violated(Checker::store, std::string(what) + " fails without a fault: " + status.error().message);
  }
  coordinator_dies();
}

}  // namespace covey::simulations
