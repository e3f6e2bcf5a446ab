#include "client/enroll.h"

#include <filesystem>
#include <optional>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/crypto/curve.h"
#include "core/crypto/key_file.h"
#include "core/net/zmq_client.h"
#include "core/wire/invite.h"
#include "core/wire/limits.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {

namespace fs = std::filesystem;

struct DeviceKeys {
  crypto::IdentityKey identity;
  crypto::CurveKeyPair curve;
};

/// The directory's keys; made where an earlier call did not get so far.
Result<DeviceKeys> load_or_create_keys(const std::string& directory) {
  std::error_code code;
  if (!fs::exists(identity_path(directory), code))
    COVEY_TRY(crypto::save_identity(identity_path(directory), crypto::IdentityKey::generate()));
  if (!fs::exists(curve_path(directory), code))
    COVEY_TRY(crypto::save_curve(curve_path(directory), crypto::CurveKeyPair::generate()));
  COVEY_TRY(crypto::load_or_create_key(storage_key_path(directory), "device"));
  COVEY_ASSIGN(auto identity, crypto::load_identity(identity_path(directory)));
  COVEY_ASSIGN(auto curve, crypto::load_curve(curve_path(directory)));
  return DeviceKeys{std::move(identity), std::move(curve)};
}

/// Sends one request on its own connection and waits for the answer.
Result<wire::Message> ask(net::ClientTransport& transport, const wire::Message& request, std::int64_t timeout_ms) {
  const SystemClock clock;
  std::optional<wire::Message> answer;
  bool closed = false;
  std::string bad;
  net::ClientTransport::Handlers handlers;
  handlers.on_frame = [&](ByteSpan frame) {
    auto envelope = wire::decode_frame(frame);
    if (envelope.ok()) {
      answer = std::move(envelope->message);
    } else {
      bad = envelope.error().message;
    }
  };
  handlers.on_closed = [&] { closed = true; };
  transport.set_handlers(std::move(handlers));
  const std::int64_t until = clock.monotonic_ms() + timeout_ms;
  closed = true;  // not connected yet
  while (!answer && clock.monotonic_ms() < until) {
    if (closed) {
      closed = false;
      COVEY_TRY(transport.connect());
      COVEY_ASSIGN(auto frame, wire::encode_frame(request, {}, 1));
      COVEY_TRY(transport.send(std::move(frame)));
    }
    COVEY_TRY(transport.poll(50));
    if (!bad.empty()) return Error{ErrorCode::corrupt_data, "the coordinator's answer: " + bad};
  }
  transport.set_handlers({});
  transport.disconnect();
  if (answer) return *std::move(answer);
  return Error{ErrorCode::unavailable,
               "the coordinator did not answer; is it running and reachable, and is the invite unused and in date?"};
}

}  // namespace

Result<Enrolment> enroll(const EnrollOptions& options) {
  COVEY_ASSIGN(const wire::Invite invite, wire::decode_invite(options.invite));
  if (invite.expires_ms < SystemClock().wall_ms())
    return Error{ErrorCode::invalid_argument, "invite: expired; ask the operator for a new one"};
  if (options.name.size() > wire::kNameBytesMax)
    return Error{ErrorCode::invalid_argument, "--name: at most " + std::to_string(wire::kNameBytesMax) + " bytes"};
  COVEY_TRY(make_folders(options.directory));
  std::error_code code;
  fs::permissions(options.directory, fs::perms::owner_all, code);
  if (load_enrolment(options.directory).ok())
    return Error{ErrorCode::already_exists, options.directory + ": is enrolled already; choose another --dir"};
  COVEY_ASSIGN(const DeviceKeys keys, load_or_create_keys(options.directory));

  COVEY_ASSIGN(const auto pair, crypto::CurveKeyPair::derive(invite.secret.span(), wire::kInviteCurvePurpose));
  net::ZmqClientOptions link;
  link.endpoint = invite.endpoint;
  link.server_key = invite.server_curve;
  link.public_key = pair.public_key().bytes;
  link.secret_key = pair.secret_copy();
  link.backoff_max_ms = 2'000;
  COVEY_ASSIGN(const auto transport, net::ZmqClient::create(std::move(link)));
  wire::Enroll request;
  request.invite = wire::invite_hash(invite.secret.span());
  request.curve = keys.curve.public_key().bytes;
  request.name = options.name;
  wire::sign(request, keys.identity);
  COVEY_ASSIGN(const wire::Message answer, ask(*transport, request, options.timeout_ms));
  if (const auto* error = std::get_if<wire::ErrorReply>(&answer))
    return Error{ErrorCode::permission_denied,
                 std::string("the coordinator refuses (") + wire::to_string(error->complaint) + "): " + error->message};
  const auto* enrolled = std::get_if<wire::Enrolled>(&answer);
  if (enrolled == nullptr || enrolled->task != invite.task)
    return Error{ErrorCode::corrupt_data, "the coordinator's answer is not one to an enrolment for this task"};

  const std::string yaml = options.directory + "/device.yaml";
  if (!fs::exists(yaml, code)) {
    COVEY_TRY(write_file_durably(yaml, device_config_template(options.weakest_mode, options.survivors_min)));
  }
  const Enrolment out{invite.endpoint,    invite.task,   invite.server_curve,
                      invite.coordinator, invite.roster, enrolled->roster_epoch};
  COVEY_TRY(save_enrolment(options.directory, out));
  return out;
}

}  // namespace covey::client
