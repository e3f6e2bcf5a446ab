#include "coordinator/service.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/crypto/random.h"
#include "core/crypto/stream.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
constexpr const char* kLog = "coordinator";
/// A connection that sends this many frames we cannot use is closed.
constexpr std::uint32_t kComplaintsMax = 3;
/// Adapters that stay downloadable: the newest and those that devices may still be fetching.
constexpr std::size_t kAdaptersServed = 3;

RoundId round_of(const wire::Message& message) {
  return std::visit(
      [](const auto& m) {
        if constexpr (requires { RoundId{m.round}; }) {
          return m.round;
        } else {
          return RoundId{};
        }
      },
      message);
}

std::string describe(const RoundEnded& ended) {
  const RoundRow& row = ended.row;
  std::string out = ended.round.value == 0 ? "initial adapter" : "round " + std::to_string(ended.round.value);
  if (ended.round.value > 0) {
    out += ended.published ? " published version " + std::to_string(row.version.value) : std::string(" aborted");
    out += " (" + ended.reason + "): " + std::to_string(row.contributors) + " of " + std::to_string(row.invited) +
           " devices";
  }
  if (row.metrics.loss) out += ", held-out loss " + std::to_string(*row.metrics.loss);
  return out;
}
}  // namespace

Service::Service(RoundMachine machine, crypto::IdentityKey identity, ServiceSeams seams)
    : seams_(seams), identity_(std::move(identity)), machine_(std::move(machine)) {
  anchor_ms_ = seams_.clock.wall_ms() - seams_.clock.monotonic_ms();
}

Service::~Service() {
  seams_.transport.set_handlers({});
}

Result<std::unique_ptr<Service>> Service::create(TaskConfig config, crypto::IdentityKey identity, ServiceSeams seams) {
  COVEY_ASSIGN(auto machine, RoundMachine::create(std::move(config), [&registration = seams.registration](
                                                                         const DeviceId& device, std::uint64_t epoch) {
                 return registration.listed(device, epoch);
               }));
  machine.set_pool(seams.pool);
  COVEY_TRY(machine.restore(seams.store));
  return std::unique_ptr<Service>(new Service(std::move(machine), std::move(identity), seams));
}

Status Service::start() {
  seams_.transport.set_handlers({
      [this](net::ConnectionId id, const wire::Key& curve, ByteSpan frame) { on_frame(id, curve, frame); },
      [this](net::ConnectionId id) { on_closed(id); },
  });
  return handle(Started{});
}

std::int64_t Service::now_ms() const {
  return anchor_ms_ + seams_.clock.monotonic_ms();
}

std::optional<std::int64_t> Service::next_timer_ms() const {
  std::optional<std::int64_t> next;
  for (const auto& [id, at] : timers_) {
    if (!next || at - anchor_ms_ < *next) next = at - anchor_ms_;
  }
  return next;
}

std::int64_t Service::wait_ms(std::int64_t max_ms) const {
  const auto next = next_timer_ms();
  if (!next) return max_ms;
  return std::clamp<std::int64_t>(*next - seams_.clock.monotonic_ms(), 0, max_ms);
}

Status Service::run_due() {
  while (!failure_) {
    const std::int64_t now = now_ms();
    const auto due = std::ranges::min_element(timers_, {}, [](const auto& entry) { return entry.second; });
    if (due == timers_.end() || due->second > now) return {};
    const TimerId id = due->first;
    timers_.erase(due);
    COVEY_TRY(handle(TimerFired{id}));
  }
  return *failure_;
}

Status Service::evaluated(Evaluated answer) {
  return handle(answer);
}
Status Service::pause() {
  return handle(Pause{});
}
Status Service::resume() {
  return handle(Resume{});
}

void Service::announce(const wire::EndpointNotice& notice) {
  moving_ = wire::sign_endpoint(notice, identity_);
  told_.clear();
}

Status Service::revoke(const DeviceId& device) {
  return seams_.registration.revoke(device);
}

// ---- events and effects --------------------------------------------------------------------------------------------

Status Service::handle(Event event) {
  events_.push_back(std::move(event));
  if (!pumping_) pump();
  if (failure_) return *failure_;
  return {};
}

void Service::pump() {
  pumping_ = true;
  while (!events_.empty() && !failure_) {
    const Event event = std::move(events_.front());
    events_.pop_front();
    machine_.set_roster_epoch(seams_.registration.roster_epoch());
    if (machine_.config().selection.sortition && draw_epoch_ != seams_.registration.roster_epoch()) {
      draw_epoch_ = seams_.registration.roster_epoch();
      machine_.set_draw_root(seams_.registration.draw_root());
    }
    std::vector<Effect> effects = machine_.step(event, now_ms());
    for (Effect& effect : effects) {
      std::visit([this](auto& e) { perform(e); }, effect);
      if (failure_) break;  // what was not committed must not be told
    }
  }
  pumping_ = false;
}

void Service::perform(Persist& effect) {
  if (const Status committed = seams_.store.commit(effect.writes); !committed.ok()) {
    failure_ = committed.error();
    log_error(kLog, "stopping: " + failure_->message);
  }
}

void Service::perform(Send& effect) {
  const auto at = by_device_.find(effect.device);
  if (at == by_device_.end()) return;
  if (auto* offer = std::get_if<wire::TaskOffer>(&effect.message)) {
    wire::TaskOffer signed_offer = wire::sign_plan(std::move(offer->plan), identity_);
    signed_offer.left_ms = offer->left_ms;
    *offer = std::move(signed_offer);
  }
  reply(at->second, effect.message);
}

void Service::perform(SetTimer& effect) {
  timers_[effect.timer] = effect.at_ms;
}
void Service::perform(CancelTimer& effect) {
  timers_.erase(effect.timer);
}
void Service::perform(Evaluate& effect) {
  seams_.evaluator.evaluate(std::move(effect));
}

void Service::perform(DrawNoise& effect) {
  events_.emplace_back(NoiseDrawn{
      effect.round, seams_.noise_seed ? seams_.noise_seed() : crypto::random_bytes(crypto::kStreamSeedBytes)});
}

void Service::perform(Serve& effect) {
  const auto added = seams_.blobs.add(std::move(effect.content));
  if (!added.ok()) {
    failure_ = added.error();
    return;
  }
  COVEY_ASSERT(*added == effect.blob);
  std::erase(served_, effect.blob);
  served_.push_back(effect.blob);
  while (served_.size() > kAdaptersServed) {
    seams_.blobs.remove(served_.front());
    served_.pop_front();
  }
}

void Service::perform(RoundEnded& effect) {
  log_info(kLog, describe(effect));
  if (on_round_) on_round_(effect);
}

void Service::perform(Incident& effect) {
  ++stats_.incidents;
  log_warning(kLog,
              "round " + std::to_string(effect.round.value) + ": device " + effect.device.brief() + " " + effect.what);
}

// ---- connections ---------------------------------------------------------------------------------------------------

void Service::reply(net::ConnectionId id, const wire::Message& message) {
  const auto frame = wire::encode_frame(message, round_of(message), connections_[id].sequence);
  if (!frame.ok()) {
    log_error(kLog,
              std::string("cannot send ") + wire::to_string(wire::type_of(message)) + ": " + frame.error().message);
    return;
  }
  ++stats_.frames_out;
  stats_.bytes_out += frame->size();
  const Status sent = seams_.transport.send(id, *frame);  // what is lost the device asks for again
  if (!sent.ok()) log_debug(kLog, "a reply was dropped: " + sent.error().message);
}

void Service::complain(net::ConnectionId id, wire::ErrorReply error, bool close) {
  ++stats_.refused_frames;
  const bool enough = ++connections_[id].complaints >= kComplaintsMax;
  reply(id, error);
  if (close || enough) seams_.transport.close(id);
}

void Service::on_closed(net::ConnectionId id) {
  const auto at = connections_.find(id);
  if (at == connections_.end()) return;
  const auto device = at->second.device;
  connections_.erase(at);
  if (!device) return;
  const auto current = by_device_.find(*device);
  if (current == by_device_.end() || current->second != id) return;  // it has connected again meanwhile
  by_device_.erase(current);
  if (!failure_) (void)handle(DeviceGone{*device});  // a failure is kept and reported by run_due()
}

void Service::on_frame(net::ConnectionId id, const wire::Key& curve, ByteSpan frame) {
  if (failure_) return;
  ++stats_.frames_in;
  stats_.bytes_in += frame.size();
  Connection& connection = connections_[id];
  auto envelope = wire::decode_frame(frame);
  if (!envelope.ok()) {
    const bool hopeless = envelope.error().code == ErrorCode::unsupported;
    return complain(id, wire::complaint_about(envelope.error()), hopeless);
  }
  connection.sequence = envelope->sequence;
  if (const auto* enroll = std::get_if<wire::Enroll>(&envelope->message)) return on_enroll(id, curve, *enroll);
  if (const auto* hello = std::get_if<wire::Hello>(&envelope->message)) return on_hello(id, curve, *hello);
  if (!connection.device) {
    return complain(id, {wire::Complaint::not_enrolled, "say a signed hello first", {}}, true);
  }
  on_authenticated(id, *connection.device, std::move(envelope->message));
}

void Service::on_enroll(net::ConnectionId id, const wire::Key& curve, const wire::Enroll& message) {
  auto answer = seams_.registration.enroll(message, curve, machine_.config().task);
  if (!answer.ok()) {
    failure_ = answer.error();
    log_error(kLog, "stopping: " + failure_->message);
    return;
  }
  if (const auto* refusal = std::get_if<Refusal>(&*answer)) {
    log_warning(kLog, "an enrolment was refused: " + refusal->message);
    return complain(id, {refusal->complaint, refusal->message, {}}, true);
  }
  reply(id, std::get<wire::Enrolled>(*answer));
}

void Service::on_hello(net::ConnectionId id, const wire::Key& curve, const wire::Hello& message) {
  if (const auto refusal = seams_.registration.refuse_hello(message, curve)) {
    log_warning(kLog, "device " + DeviceId{message.identity}.brief() + " was turned away: " + refusal->message);
    return complain(id, {refusal->complaint, refusal->message, {}}, true);
  }
  const DeviceId device{message.identity};
  if (const auto old = by_device_.find(device); old != by_device_.end() && old->second != id) {
    const net::ConnectionId replaced = old->second;
    connections_[replaced].device.reset();
    seams_.transport.close(replaced);
  }
  connections_[id].device = device;
  by_device_[device] = id;
  seams_.transport.mark_authenticated(id);
  wire::Welcome welcome;
  welcome.server_ms = seams_.clock.wall_ms();
  welcome.roster_epoch = seams_.registration.roster_epoch();
  wire::sign(welcome, message.nonce, identity_);
  reply(id, welcome);
  if (!moving_) return;
  reply(id, *moving_);
  told_.insert(device);
}

void Service::on_authenticated(net::ConnectionId id, const DeviceId& device, wire::Message message) {
  if (const auto* request = std::get_if<wire::ManifestRequest>(&message)) {
    return reply(id, seams_.blobs.answer(*request));
  }
  if (const auto* request = std::get_if<wire::ChunkRequest>(&message)) return reply(id, seams_.blobs.answer(*request));
  if (const auto* request = std::get_if<wire::RosterRequest>(&message)) {
    const auto epochs = seams_.registration.roster_after(request->after_epoch);
    if (epochs.ok()) return reply(id, *epochs);
    log_error(kLog, epochs.error().message);
    return reply(id, wire::ErrorReply{wire::Complaint::not_found, "the roster cannot be read here", {}});
  }
  if (std::holds_alternative<wire::CheckIn>(message) && !seams_.registration.active(device)) {
    return complain(id, {wire::Complaint::revoked, "revoked", {}}, true);
  }
  (void)handle(MessageReceived{device, std::move(message)});  // a failure is kept and reported by run_due()
}

}  // namespace covey::coordinator
