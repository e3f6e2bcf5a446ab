// Secrets stay where they belong: no log line at any level shows one.
#include <algorithm>
#include <csignal>
#include <map>

#include "bad_input/deployment.h"
#include "bad_input/expect.h"
#include "core/crypto/curve.h"
#include "core/wire/invite.h"
#include "support/process.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

/// Hexadecimal in both cases, Z85, and the bytes themselves.
void add_forms(std::map<std::string, std::string>& forms, const std::string& name, ByteSpan secret) {
  REQUIRE(secret.size() == 32);
  std::string hex = to_hex(secret);
  forms[name + " in hexadecimal"] = hex;
  std::transform(hex.begin(), hex.end(), hex.begin(), [](char c) { return c >= 'a' && c <= 'f' ? c - 'a' + 'A' : c; });
  forms[name + " in upper-case hexadecimal"] = hex;
  const auto z85 = crypto::z85_encode(secret);
  REQUIRE_OK(z85);
  forms[name + " in Z85"] = *z85;
  forms[name + " as bytes"] = std::string(as_text(secret));
}

void add_key_file(std::map<std::string, std::string>& forms, const std::string& path) {
  const std::string text = slurp(path);
  const auto begin = text.find('\n') + 1;
  const auto secret = from_hex(text.substr(begin, 64));
  REQUIRE(secret.has_value());
  add_forms(forms, path, *secret);
}

test::CommandResult debug(const std::string& command) {
  return test::run_command("COVEY_LOG=debug " + command_line(command, fixture().path()));
}

}  // namespace

TEST_CASE("no log shows a secret, from making keys to a trained round, at level debug") {
  const std::string folder = fixture().file("secret-co");
  const std::string config = folder + "/coordinator.yaml";
  std::string logs = debug("covey-coordinator init {}/secret-co --task lamps").err;
  std::string yaml = slurp(config);
  yaml = replaced(yaml, "model: model\n", "model: ../model\n");
  yaml = replaced(yaml, "127.0.0.1:7400", "127.0.0.1:" + std::to_string(test::free_port()));
  yaml = replaced(yaml, "rounds: 20 ", "rounds: 1 ");
  yaml = replaced(yaml, "goal: 40", "goal: 1 ");
  yaml = replaced(yaml, "min: 32", "min: 1 ");
  yaml = replaced(yaml, "mode: secure", "mode: robust");  // one device alone is no sum
  yaml = replaced(yaml, "check_back_s: 5 ", "check_back_s: 1 ");
  yaml = replaced(yaml, "seq: 128", "seq: 16");
  yaml = replaced(yaml, "steps_max: 1000", "steps_max: 2");
  write(config, yaml);

  test::Process server(
      {"/usr/bin/env", "COVEY_LOG=debug", test::bin_dir() + "/covey-coordinator", "serve", "--config", config},
      folder + "/log");
  REQUIRE_MESSAGE(test::eventually(60'000, [&] { return server.output().find("serving task") != std::string::npos; }),
                  server.output());
  const auto made = debug("covey-coordinator invite --config {}/secret-co/coordinator.yaml");
  REQUIRE_MESSAGE(made.exit_code == 0, made.err);
  const std::string invite_text = made.out.substr(0, made.out.find('\n'));
  logs += made.err;  // the invite itself belongs on stdout
  for (const std::string& command :
       {"covey-device enroll --dir {}/secret-de --weakest-mode robust --name lamp --timeout-s 30 " + invite_text,
        std::string("covey-device import {}/data.txt --dir {}/secret-de"),
        std::string("covey-device run --dir {}/secret-de --rounds 1"),
        std::string("covey-device journal --dir {}/secret-de"), std::string("covey-device status --dir {}/secret-de"),
        std::string("covey-coordinator status --config {}/secret-co/coordinator.yaml"),
        std::string("covey-coordinator devices --config {}/secret-co/coordinator.yaml")}) {
    const auto result = debug(command);
    CHECK_MESSAGE(result.exit_code == 0, result.err);
    logs += result.out + result.err;
  }
  server.signal(SIGTERM);
  CHECK(server.wait(30'000) == 0);
  logs += server.output();
  CAPTURE(logs);
  CHECK(logs.find("published version 1") != std::string::npos);  // the round was a real one

  std::map<std::string, std::string> forms;
  for (const char* key : {"secret-co/identity.key", "secret-co/roster.key", "secret-co/curve.key",
                          "secret-de/identity.key", "secret-de/curve.key", "secret-de/storage.key"}) {
    add_key_file(forms, fixture().file(key));
  }
  const auto invite = wire::decode_invite(invite_text);
  REQUIRE_OK(invite);
  add_forms(forms, "the invite's secret", invite->secret.span());
  const auto pair = crypto::CurveKeyPair::derive(invite->secret.span(), wire::kInviteCurvePurpose);
  REQUIRE_OK(pair);
  add_forms(forms, "the invite's transport key", pair->secret_key());
  forms["the invite"] = invite_text;
  CHECK(forms.size() == 33);
  for (const auto& [name, form] : forms) {
    CAPTURE(name);
    CHECK(logs.find(form) == std::string::npos);
    CHECK(logs.find(form.substr(0, 16)) == std::string::npos);
  }
}
