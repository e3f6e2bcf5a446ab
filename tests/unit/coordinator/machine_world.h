/// A round machine with its store, its timers and a few well-behaved devices, all in one thread and on a virtual clock.
/// The coordinator can be killed between any two effects: what is left is the store.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "coordinator/round_machine.h"
#include "core/store/memory_store.h"

namespace covey::coordinator::test_world {

DeviceId device_number(int number);
/// P = 16 values, robust mode, 16-bit words.
TaskConfig small_task();
/// The update device `number` makes for a plan: the same bytes every time; `variant` gives a different one.
Bytes update_of(int number, const Bytes& encoded_plan, std::uint32_t weight = 1, int variant = 0);

/// What a device does; it answers each message at once.
struct ScriptedDevice {
  int number = 0;
  bool silent = false;  ///< accepts, then never sends its update
  bool refuses = false;
  std::int64_t train_ms = 0;           ///< between offer and upload
  std::int64_t first_check_in_ms = 0;  ///< when it first turns up
  std::uint32_t weight = 1;
  wire::PrivacyMode weakest_mode = wire::PrivacyMode::robust;

  // its state
  std::optional<Bytes> plan;    ///< offer it works on
  std::optional<Bytes> update;  ///< trained, not yet acknowledged
  std::set<std::uint64_t> accepted;
  std::set<std::uint64_t> late;
  std::int64_t wake_ms = 0;
  bool finished = false;
};

/// `count` devices, numbered from 1: the i-th weighs i and trains for 50 i ms.
inline std::vector<ScriptedDevice> fleet(int count) {
  std::vector<ScriptedDevice> out;
  for (int i = 1; i <= count; ++i) {
    ScriptedDevice& device = out.emplace_back();
    device.number = i;
    device.train_ms = 50 * i;
    device.weight = static_cast<std::uint32_t>(i);
  }
  return out;
}

class World {
 public:
  World(TaskConfig config, std::vector<ScriptedDevice> devices);

  /// Runs until the task is finished and everything is quiet; false when `until_ms` comes first.
  bool run(std::int64_t until_ms = 10'000'000);
  /// The coordinator dies when it has executed this many effects, and comes back at once.
  void crash_after_effects(std::uint64_t count) { crash_at_ = count; }
  [[nodiscard]] std::uint64_t effects_executed() const { return executed_; }

  /// One event by hand, its effects executed.
  void step(const Event& event);
  void deliver(int device, wire::Message message) { step(MessageReceived{device_number(device), std::move(message)}); }
  void restart();

  RoundMachine& machine() { return *machine_; }
  store::MemoryStore& store() { return store_; }
  std::int64_t now = 0;
  /// Device number of the front of the queue -> order in which waiting devices are served; default as they came.
  std::function<void(std::deque<std::pair<int, wire::Message>>&)> reorder;

  std::vector<ScriptedDevice> devices;
  std::vector<std::pair<DeviceId, wire::Message>> sent;  ///< everything the coordinator sent
  std::vector<RoundEnded> ended;
  std::vector<Incident> incidents;
  std::map<TimerId, std::int64_t> timers;
  std::uint64_t commits_with_sum = 0;
  bool scripted = true;  ///< devices answer by themselves

 private:
  void execute(Effect& effect);
  void device_hears(ScriptedDevice& device, const wire::Message& message);
  void device_wakes(ScriptedDevice& device);
  void upload(ScriptedDevice& device);

  TaskConfig config_;
  store::MemoryStore store_;
  std::optional<RoundMachine> machine_;
  std::deque<std::pair<int, wire::Message>> inbox_;
  std::deque<Evaluated> evaluated_;
  std::deque<RoundId> noise_wanted_;
  std::uint64_t executed_ = 0;
  std::optional<std::uint64_t> crash_at_;
  bool crashed_ = false;
};

}  // namespace covey::coordinator::test_world
