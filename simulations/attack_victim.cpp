#include "simulations/attack_victim.h"

#include <deque>
#include <utility>

#include "core/base/assert.h"
#include "core/wire/message.h"

namespace covey::simulations {
namespace {

wire::Message through_frame(const wire::Message& message) {
  const auto frame = wire::encode_frame(message);
  const auto back = frame.ok() ? wire::decode_frame(*frame) : Result<wire::Envelope>(frame.error());
  COVEY_ASSERT(back.ok());  // both sides' messages are ours
  return back.ok() ? back->message : message;
}

}  // namespace

AttackVictim::AttackVictim(client::SessionConfig config, std::vector<float> delta)
    : session_(std::move(config)), delta_(std::move(delta)) {}

std::vector<wire::Message> AttackVictim::meet(std::uint64_t roster_epoch, const Coordinator& coordinator) {
  std::vector<wire::Message> said;
  std::deque<client::Event> events;
  if (!std::exchange(started_, true)) {
    wire::Capabilities capabilities;
    capabilities.examples = 64;
    events.emplace_back(client::CapabilitiesChanged{capabilities});
    events.emplace_back(client::Started{});
  } else {
    now_ += std::int64_t{3600} * 1000;  // whatever made it wait is over
    events.emplace_back(client::ConnectionLost{});
    events.emplace_back(client::TimerFired{client::SessionTimer::wake});
  }
  const auto hear = [&](const wire::Message& message) {
    events.emplace_back(client::MessageReceived{through_frame(message)});
  };
  while (!events.empty()) {
    const client::Event event = std::move(events.front());
    events.pop_front();
    for (const auto& effect : session_.step(event, now_)) {
      if (const auto* persist = std::get_if<client::Persist>(&effect)) {
        const Status kept = store_.commit(persist->writes);
        COVEY_ASSERT(kept.ok());
      } else if (std::holds_alternative<client::Connect>(effect)) {
        connected_ = true;
        hear(wire::Welcome{0, roster_epoch, {}});
      } else if (std::holds_alternative<client::Disconnect>(effect)) {
        connected_ = false;
      } else if (const auto* fetch = std::get_if<client::Fetch>(&effect)) {
        events.emplace_back(client::Fetched{fetch->file.blob, fetch->file.bytes, 1});
      } else if (const auto* train = std::get_if<client::Train>(&effect)) {
        events.emplace_back(client::TrainingDone{train->plan.round, {delta_, 1, {}}, {1}, {2}, {3}});
      } else if (const auto* send = std::get_if<client::Send>(&effect)) {
        said.push_back(through_frame(send->message));
        for (const auto& answer : coordinator(said.back())) hear(answer);
      }
    }
  }
  return said;
}

}  // namespace covey::simulations
