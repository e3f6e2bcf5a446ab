#include "core/wire/invite.h"

#include "support/support.h"

using namespace covey;
using namespace covey::wire;

namespace {

Invite sample() {
  Invite invite;
  invite.endpoint = "tcp://127.0.0.1:7400";
  invite.task = "assistant";
  invite.server_curve.fill(1);
  invite.coordinator.fill(2);
  invite.roster.fill(3);
  invite.secret = SecretBytes(Bytes(32, 0x5a));
  invite.expires_ms = 1'764'000'000'000;
  return invite;
}

}  // namespace

TEST_CASE("an invite survives its text form, with white space around it") {
  const auto text = encode_invite(sample());
  REQUIRE_OK(text);
  const auto back = decode_invite("\n " + *text + "\r\n");
  REQUIRE_OK(back);
  CHECK(back->endpoint == "tcp://127.0.0.1:7400");
  CHECK(back->task == "assistant");
  CHECK(back->server_curve == sample().server_curve);
  CHECK(back->coordinator == sample().coordinator);
  CHECK(back->roster == sample().roster);
  CHECK(to_hex(back->secret.span()) == to_hex(Bytes(32, 0x5a)));
  CHECK(back->expires_ms == 1'764'000'000'000);
}

TEST_CASE("an invite with any one character changed, lost or added is refused without repeating it") {
  const auto text = encode_invite(sample());
  REQUIRE_OK(text);
  for (std::size_t i = 0; i < text->size(); ++i) {
    std::string changed = *text;
    changed[i] = changed[i] == '7' ? '8' : '7';
    const auto got = decode_invite(changed);
    REQUIRE_FALSE(got.ok());
    CHECK(got.error().code == ErrorCode::invalid_argument);
    CHECK(got.error().message.find("5a5a") == std::string::npos);
    CHECK_FALSE(decode_invite(text->substr(0, i)).ok());
  }
  CHECK_FALSE(decode_invite(*text + "00").ok());
}

TEST_CASE("an invite of another version says so, and one without a secret is never written") {
  const auto got = decode_invite("covey2:00");
  REQUIRE_FALSE(got.ok());
  CHECK(got.error().message.find("another version") != std::string::npos);
  Invite invite = sample();
  invite.secret = SecretBytes();
  CHECK_FALSE(encode_invite(invite).ok());
  invite = sample();
  invite.endpoint = std::string(256, 'x');
  CHECK_FALSE(encode_invite(invite).ok());
}
