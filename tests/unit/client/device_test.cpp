#include "client/device.h"

#include <filesystem>
#include <thread>

#include "client/control_socket.h"
#include "client/platform_linux/platform.h"
#include "core/base/file.h"
#include "core/crypto/key_file.h"
#include "support/support.h"

using namespace covey;
using namespace covey::client;
using formats::Json;

extern "C" int covey_c_api_use(const char* config_path, char* status, size_t status_size);

namespace {

namespace fs = std::filesystem;

/// A directory as `enroll` leaves it, for a coordinator that is not there.
void enrolled(const std::string& directory) {
  REQUIRE_OK(crypto::save_identity(identity_path(directory), crypto::IdentityKey::generate()));
  REQUIRE_OK(crypto::save_curve(curve_path(directory), crypto::CurveKeyPair::generate()));
  REQUIRE_OK(crypto::load_or_create_key(storage_key_path(directory), "device"));
  Enrolment enrolment;
  enrolment.endpoint = "tcp://127.0.0.1:9";
  enrolment.task = "assistant";
  enrolment.server_curve = crypto::CurveKeyPair::generate().public_key().bytes;
  REQUIRE_OK(save_enrolment(directory, enrolment));
  REQUIRE_OK(write_file_durably(directory + "/device.yaml", device_config_template(wire::PrivacyMode::robust)));
}

std::unique_ptr<Device> open_device(const std::string& directory) {
  auto config = load_device_config(directory + "/device.yaml");
  REQUIRE_OK(config);
  auto device = Device::open(*std::move(config));
  REQUIRE_OK(device);
  return *std::move(device);
}

Json ask(Device& device, const Json& request) {
  auto answer = Json::parse(device.ask(request.dump()));
  REQUIRE_OK(answer);
  return *answer;
}

void write(const std::string& path, const std::string& text) {
  REQUIRE_OK(write_file_durably(path, text));
}

}  // namespace

TEST_CASE("the configuration that enroll writes reads back, and a misspelt key is named") {
  test::TempDir dir;
  write(dir.file("device.yaml"), device_config_template(wire::PrivacyMode::grouped));
  const auto config = load_device_config(dir.file("device.yaml"));
  REQUIRE_OK(config);
  CHECK(config->policy.weakest_mode == wire::PrivacyMode::grouped);
  CHECK(config->directory == dir.path());
  CHECK(config->eligibility.only_on_ac);
  write(dir.file("bad.yaml"), "policy:\n  weakest_modus: robust\n");
  const auto bad = load_device_config(dir.file("bad.yaml"));
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.error().message.find("weakest_mode") != std::string::npos);
  write(dir.file("empty.yaml"), "policy:\n");
  const auto empty = load_device_config(dir.file("empty.yaml"));
  REQUIRE_OK(empty);
  CHECK(empty->policy.weakest_mode == wire::PrivacyMode::secure);
}

TEST_CASE("battery, metered network and the user's pause make a device ineligible") {
  CHECK(judge({}, {true, false}, false).eligible);
  CHECK_FALSE(judge({}, {false, false}, false).eligible);
  CHECK_FALSE(judge({}, {true, true}, false).eligible);
  CHECK_FALSE(judge({}, {true, false}, true).eligible);
  CHECK(judge({false, true, ""}, {false, true}, false).eligible);
  test::TempDir dir;
  write(dir.file("state"), "power: battery\n");
  CHECK(eligibility_now({true, false, dir.file("state")}, false).reason == "on battery");
  write(dir.file("state"), "power: sun\n");
  CHECK_FALSE(eligibility_now({true, false, dir.file("state")}, false).eligible);
}

TEST_CASE("power and network are read from sysfs") {
  test::TempDir dir;
  const auto put = [&](const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(dir.file(path)).parent_path());
    write(dir.file(path), text + "\n");
  };
  CHECK(power_and_network(dir.path()).on_ac);  // no battery, no network: a server in a rack
  put("class/power_supply/BAT0/type", "Battery");
  CHECK_FALSE(power_and_network(dir.path()).on_ac);
  put("class/power_supply/AC/type", "Mains");
  put("class/power_supply/AC/online", "1");
  CHECK(power_and_network(dir.path()).on_ac);
  put("class/net/wwan0/carrier", "1");
  put("class/net/wwan0/uevent", "DEVTYPE=wwan\nINTERFACE=wwan0");
  CHECK(power_and_network(dir.path()).metered);
  put("class/net/eth0/carrier", "1");
  put("class/net/eth0/uevent", "INTERFACE=eth0");
  CHECK_FALSE(power_and_network(dir.path()).metered);
}

TEST_CASE("a device that is not enrolled says how to enrol, and one store belongs to one process") {
  test::TempDir dir;
  write(dir.file("device.yaml"), "policy:\n");
  const auto config = load_device_config(dir.file("device.yaml"));
  REQUIRE_OK(config);
  const auto device = Device::open(*config);
  REQUIRE_FALSE(device.ok());
  CHECK(device.error().message.find("covey-device enroll") != std::string::npos);
  test::TempDir other;
  enrolled(other.path());
  const auto first = open_device(other.path());
  auto again = load_device_config(other.file("device.yaml"));
  const auto second = Device::open(*again);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code == ErrorCode::unavailable);
}

TEST_CASE("commands work alike on the store and through the socket of a running daemon") {
  test::TempDir dir;
  enrolled(dir.path());
  write(dir.file("texts.txt"), "turn on the light\nplay music\n");
  const Json import = Json::object({{"command", "import"}, {"path", dir.file("texts.txt")}});
  const Json status = Json::object({{"command", "status"}});
  const auto device = open_device(dir.path());
  CHECK(*ask(*device, import).get_int("examples") == 2);
  CHECK(*ask(*device, status).get_string("phase") == "stopped");
  CHECK_FALSE(*ask(*device, Json::object({{"command", "dance"}})).get_bool("ok"));
  CHECK(ask(*device, Json::object({{"command", "import"}, {"path", "/nowhere.txt"}})).find("error") != nullptr);

  std::atomic<bool> stop{false};
  std::thread loop([&] {
    const auto end = device->run({0, &stop});
    REQUIRE_OK(end);
    CHECK(end->end == RunEnd::stopped);
  });
  const std::string socket = control_socket_path(dir.path());
  Result<std::string> answer = Error{};
  for (int i = 0; i < 500 && !answer.ok(); ++i) {
    answer = control_ask(socket, status.dump());
    if (!answer.ok()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  REQUIRE_OK(answer);
  CHECK(*Json::parse(*answer)->get_bool("running"));
  REQUIRE_OK(control_ask(socket, Json::object({{"command", "pause"}}).dump()));
  const auto paused = Json::parse(*control_ask(socket, status.dump()));
  CHECK(*paused->get_bool("paused"));
  CHECK(*paused->get_string("phase") == "resting");
  CHECK(*ask(*device, import).get_int("examples") == 4);  // from another thread
  const auto forgot = Json::parse(*control_ask(socket, Json::object({{"command", "forget"}}).dump()));
  CHECK(*forgot->get_int("forgotten") == 4);
  stop = true;
  loop.join();
  CHECK(control_ask(socket, status.dump()).error().code == ErrorCode::unavailable);
  CHECK(*ask(*device, status).get_bool("paused"));
  CHECK(*ask(*device, status).get_int("examples") == 0);
}

TEST_CASE("the C interface opens, feeds, runs and stops a device, and says what is wrong") {
  test::TempDir dir;
  enrolled(dir.path());
  std::string status(4096, '\0');
  CHECK(covey_c_api_use(dir.file("device.yaml").c_str(), status.data(), status.size()) == 0);
  const auto json = Json::parse(status.c_str());
  REQUIRE_OK(json);
  CHECK(*json->get_int("examples") == 2);
  CHECK(*json->get_string("task") == "assistant");
}
