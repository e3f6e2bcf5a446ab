#include "client/agent.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {

constexpr std::string_view kAgentLog = "agent";
/// From so many attempts in a row on, the owner is told what may be wrong.
constexpr int kUnreachedTold = 3;

RoundId round_of(const wire::Message& message) {
  return std::visit(
      [](const auto& m) {
        if constexpr (requires { m.round; }) {
          return m.round;
        } else {
          return RoundId{};
        }
      },
      message);
}

AgentConfig with_own_keys(AgentConfig config) {
  config.session.identity = config.identity.public_key().bytes;
  config.session.curve = config.curve;
  return config;
}

}  // namespace

Agent::Agent(AgentConfig config, AgentSeams seams)
    : config_(with_own_keys(std::move(config))),
      seams_(std::move(seams)),
      session_([this] {
        config_.session.identity_key = &config_.identity;
        return config_.session;
      }()),
      endpoints_(config_.server) {
  anchor_ms_ = seams_.clock.wall_ms() - seams_.clock.monotonic_ms();
  net::ClientTransport::Handlers handlers;
  handlers.on_frame = [this](ByteSpan frame) { on_frame(frame); };
  handlers.on_closed = [this] { on_closed(); };
  seams_.transport.set_handlers(std::move(handlers));
}

Agent::~Agent() {
  seams_.transport.set_handlers({});
}

std::int64_t Agent::now_ms() const {
  return anchor_ms_ + seams_.clock.monotonic_ms();
}

Status Agent::start(const wire::Capabilities& capabilities) {
  COVEY_TRY(session_.restore(seams_.store));
  COVEY_TRY(endpoints_.restore(seams_.store));
  events_.emplace_back(CapabilitiesChanged{capabilities});
  events_.emplace_back(Started{});
  return pump();
}

Status Agent::resume(const wire::Capabilities& capabilities, const RestingAgent& resting) {
  COVEY_TRY(session_.resume(seams_.store, resting.session, capabilities));
  COVEY_TRY(endpoints_.restore(seams_.store));
  if (resting.wake_ms) timers_[SessionTimer::wake] = *resting.wake_ms + anchor_ms_;
  return {};
}

std::optional<RestingAgent> Agent::rest() {
  const bool idle = !pumping_ && !failure_ && !linked_ && !fetching_ && events_.empty() && endpoints_.failures() == 0;
  const bool waits = timers_.empty() || (timers_.size() == 1 && timers_.begin()->first == SessionTimer::wake);
  if (!idle || !waits) return std::nullopt;
  const auto session = session_.rest();
  if (!session) return std::nullopt;
  return RestingAgent{*session, next_timer_ms(), std::move(config_.identity)};
}

Status Agent::handle(Event event) {
  events_.push_back(std::move(event));
  return pump();
}

Status Agent::run_due() {
  const std::int64_t now = now_ms();
  for (;;) {
    auto due = timers_.end();
    for (auto it = timers_.begin(); it != timers_.end(); ++it) {
      if (it->second <= now && (due == timers_.end() || it->second < due->second)) due = it;
    }
    if (due == timers_.end()) break;
    events_.emplace_back(TimerFired{due->first});
    timers_.erase(due);
    COVEY_TRY(pump());
  }
  if (fetching_ && now >= fetch_heard_ms_ + config_.session.reply_ms) {
    seams_.downloads.abandon();
    events_.emplace_back(FetchFailed{std::exchange(fetching_, std::nullopt)->blob, "no answer in time"});
  }
  poll_trainer();
  return pump();
}

std::optional<std::int64_t> Agent::next_timer_ms() const {
  std::optional<std::int64_t> next;
  const auto consider = [&](std::int64_t at) { next = next ? std::min(*next, at) : at; };
  for (const auto& [timer, at] : timers_) consider(at - anchor_ms_);
  if (fetching_) consider(fetch_heard_ms_ + config_.session.reply_ms - anchor_ms_);
  return next;
}

std::int64_t Agent::wait_ms(std::int64_t max_ms) const {
  const auto next = next_timer_ms();
  if (!next) return max_ms;
  return std::clamp<std::int64_t>(*next - seams_.clock.monotonic_ms(), 0, max_ms);
}

void Agent::poll_trainer() {
  while (auto event = seams_.trainer.poll()) {
    if (auto* done = std::get_if<TrainingDone>(&*event)) {
      seams_.random(done->seed);
      seams_.random(done->session_seed);
      seams_.random(done->noise_seed);
    }
    events_.push_back(*std::move(event));
  }
}

/// Steps the session over all events that wait. What an effect causes at once joins the queue, so steps do not nest.
Status Agent::pump() {
  if (failure_) return *failure_;
  if (pumping_) return {};
  pumping_ = true;
  while (!events_.empty() && !failure_) {
    const Event event = std::move(events_.front());
    events_.pop_front();
    for (auto& effect : session_.step(event, now_ms())) {
      auto done = execute(std::move(effect));
      if (done.ok()) continue;
      failure_ = done.error();
      break;
    }
  }
  pumping_ = false;
  if (failure_) return *failure_;
  return {};
}

Status Agent::execute(Effect effect) {
  return std::visit([this](auto& e) { return perform(std::move(e)); }, effect);
}

Status Agent::perform(Persist effect) {
  return seams_.store.commit(effect.writes);
}

Status Agent::perform(Connect) {
  welcomed_ = false;
  sequence_ = 0;
  linked_ = true;
  heard_.here = server();
  if (!heard_.here.endpoint.empty()) seams_.transport.set_server(heard_.here);
  if (auto done = seams_.transport.connect(); !done.ok()) {
    lose_link(done.error().message);
    return {};
  }
  wire::Hello hello;
  hello.curve = config_.curve;
  hello.sent_ms = seams_.clock.wall_ms();
  seams_.random(nonce_);
  hello.nonce = nonce_;
  hello.roster_epoch = session_.roster_epoch();
  wire::sign(hello, config_.identity);
  send(hello);
  return {};
}

Status Agent::perform(Disconnect) {
  if (linked_ && !welcomed_) endpoints_.failed();
  linked_ = false;
  if (fetching_) seams_.downloads.abandon();
  fetching_.reset();
  seams_.transport.disconnect();
  return {};
}

Status Agent::perform(Send effect) {
  send(effect.message);
  return {};
}

Status Agent::perform(SetTimer effect) {
  timers_[effect.timer] = effect.at_ms;
  return {};
}

Status Agent::perform(CancelTimer effect) {
  timers_.erase(effect.timer);
  return {};
}

Status Agent::perform(Fetch effect) {
  fetching_ = effect.file;
  fetch_started_ms_ = fetch_heard_ms_ = now_ms();
  follow(seams_.downloads.begin(effect.file));
  return {};
}

Status Agent::perform(Train effect) {
  seams_.downloads.keep_only(effect.plan);
  seams_.trainer.start(effect.plan);
  return {};
}

Status Agent::perform(StopTraining effect) {
  seams_.trainer.stop(effect.keep_checkpoint);
  return {};
}

void Agent::send(const wire::Message& message) {
  auto frame = wire::encode_frame(message, round_of(message), ++sequence_);
  if (!frame.ok()) return lose_link(frame.error().message);
  const std::size_t size = frame->size();
  if (auto sent = seams_.transport.send(*std::move(frame)); !sent.ok()) return lose_link(sent.error().message);
  bytes_sent_ += size;
}

/// Ends the connection from our side and says so to the session.
void Agent::lose_link(const std::string& why) {
  if (!linked_) return;
  log_warning(kAgentLog, "connection ended: " + why);
  if (!welcomed_) endpoints_.failed();
  linked_ = false;
  if (fetching_) seams_.downloads.abandon();
  fetching_.reset();
  seams_.transport.disconnect();
  events_.emplace_back(ConnectionLost{why});
}

/// The connection ended. Empty: there is nothing to tell but that.
std::string Agent::unreached() {
  if (welcomed_) return {};
  const std::string& endpoint = heard_.here.endpoint;
  endpoints_.failed();
  if (endpoints_.failures() < kUnreachedTold || endpoint.empty()) return {};
  std::string line = "no answer from the coordinator at " + endpoint + " (" + std::to_string(endpoints_.failures()) +
                     " tries in a row); if it has moved meanwhile, enrol with a new invite";
  if (endpoints_.failures() == kUnreachedTold) log_warning(kAgentLog, line);
  return line;
}

/// The coordinator moves: durable before anything is made of it. From the next connection on it is tried first.
void Agent::learn_endpoint(const wire::SignedEndpoint& document) {
  const auto notice = wire::open_endpoint(document, config_.session.coordinator);
  if (!notice.ok()) return lose_link(notice.error().message);
  const auto news = endpoints_.learn(*notice, config_.session.task, heard_);
  if (!news.ok()) return lose_link(news.error().message);
  if (!*news) return;
  if (auto stored = save_endpoints(seams_.store, endpoints_.row()); !stored.ok()) {
    failure_ = stored.error();
    return;
  }
  log_info(kAgentLog,
           "the coordinator moves to " + notice->endpoint + " (notice " + std::to_string(notice->number) + ")");
}

void Agent::on_closed() {
  if (!linked_) return;
  std::string why = unreached();
  linked_ = false;
  if (fetching_) seams_.downloads.abandon();
  fetching_.reset();
  events_.emplace_back(ConnectionLost{std::move(why)});
  static_cast<void>(pump());  // a failure is kept and comes out of run_due
}

void Agent::on_frame(ByteSpan frame) {
  if (!linked_) return;
  bytes_received_ += frame.size();
  auto envelope = wire::decode_frame(frame);
  if (!envelope.ok()) {
    lose_link(envelope.error().message);
  } else if (auto* welcome = std::get_if<wire::Welcome>(&envelope->message); welcome != nullptr && !welcomed_) {
    welcomed_ = wire::signature_ok(*welcome, nonce_, config_.session.coordinator);
    if (welcomed_) {
      endpoints_.reached();
      heard_.server_ms = welcome->server_ms;
      heard_.now_ms = now_ms();
      events_.emplace_back(MessageReceived{std::move(envelope->message)});
    } else {
      lose_link("whoever answers is not the coordinator that this device enrolled with");
    }
  } else if (const auto* moved = std::get_if<wire::SignedEndpoint>(&envelope->message)) {
    if (welcomed_) learn_endpoint(*moved);
  } else {
    const auto* error = std::get_if<wire::ErrorReply>(&envelope->message);
    const bool about_blob = std::holds_alternative<wire::ManifestReply>(envelope->message) ||
                            std::holds_alternative<wire::ChunkReply>(envelope->message) ||
                            (error != nullptr && error->complaint == wire::Complaint::not_found);
    if (fetching_ && about_blob) {
      fetch_heard_ms_ = now_ms();
      follow(seams_.downloads.on_message(envelope->message));
    } else if (welcomed_ || error != nullptr) {
      events_.emplace_back(MessageReceived{std::move(envelope->message)});
    }
  }
  static_cast<void>(pump());
}

void Agent::follow(Downloads::Step step) {
  for (const auto& message : step.send) send(message);
  if (!fetching_) return;  // sending lost the link
  if (!step.failure.empty()) {
    events_.emplace_back(FetchFailed{std::exchange(fetching_, std::nullopt)->blob, step.failure});
  } else if (step.complete) {
    const auto took = static_cast<std::uint32_t>(std::min<std::int64_t>(now_ms() - fetch_started_ms_, UINT32_MAX));
    events_.emplace_back(Fetched{std::exchange(fetching_, std::nullopt)->blob, step.bytes, took});
  }
}

}  // namespace covey::client
