#include "bad_input/deployment.h"

#include "bad_input/expect.h"
#include "core/wire/invite.h"

namespace covey::bad_input {

Deployment::Deployment() {
  expect_success("covey-coordinator init {}/co --task lamps", fixture().path());
  const std::string yaml = coordinator() + "/coordinator.yaml";
  // Port 1 of this machine: nobody listens there.
  write(yaml, replaced(replaced(slurp(yaml), "model: model\n", "model: ../model\n"), "127.0.0.1:7400", "127.0.0.1:1"));
  const auto made = test::run_command(
      command_line("covey-coordinator invite --config {}/co/coordinator.yaml --uses 9", fixture().path()));
  REQUIRE_MESSAGE(made.exit_code == 0, made.err);
  invite_ = made.out.substr(0, made.out.find('\n'));
  const auto parsed = wire::decode_invite(invite_);
  REQUIRE_OK(parsed);

  expect_refusal({"nobody answers",
                  "covey-device enroll --dir {}/de --timeout-s 1 " + invite_,
                  {"did not answer", "running and reachable"},
                  1},  // all was right but the network
                 fixture().path());
  write(fixture().file("de/device.yaml"), "policy: {weakest_mode: robust}\n");
  write(fixture().file("de/coordinator.json"),
        "{\"endpoint\": \"tcp://127.0.0.1:1\", \"task\": \"lamps\", \"server_curve\": \"" +
            to_hex(parsed->server_curve) + "\", \"coordinator\": \"" + to_hex(parsed->coordinator) +
            "\", \"roster\": \"" + to_hex(parsed->roster) + "\", \"roster_epoch\": 1}");
}

std::string Deployment::coordinator_copy(const std::string& name) const {
  copy_folder(coordinator(), fixture().file(name));
  return fixture().file(name);
}

std::string Deployment::device_copy(const std::string& name) const {
  copy_folder(fixture().file("de"), fixture().file(name));
  return fixture().file(name);
}

const Deployment& deployment() {
  static const Deployment made;
  return made;
}

}  // namespace covey::bad_input
