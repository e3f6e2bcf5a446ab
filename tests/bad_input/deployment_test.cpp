// The directories of coordinators and devices: configurations, keys, databases, invites.
#include <sys/stat.h>

#include <filesystem>

#include "bad_input/deployment.h"
#include "bad_input/expect.h"
#include "core/wire/invite.h"

using namespace covey;
using namespace covey::bad_input;

namespace fs = std::filesystem;

namespace {

/// A folder name that no other case has.
std::string fresh(const char* prefix) {
  static int number = 0;
  return prefix + std::to_string(number++);
}

/// `serve` with a changed configuration.
void refuse_settings(const std::string& name, std::string_view from, std::string_view to,
                     std::vector<std::string> fragments) {
  const std::string folder = fresh("cs");
  const std::string yaml = deployment().coordinator_copy(folder) + "/coordinator.yaml";
  write(yaml, replaced(slurp(yaml), from, to));
  expect_refusal({name, "covey-coordinator serve --config {}/" + folder + "/coordinator.yaml", std::move(fragments)},
                 fixture().path());
}

/// `command` of the coordinator on a copy of its directory that `damage` changed.
template <typename Damage>
void refuse_coordinator(const std::string& name, const std::string& command, Damage damage,
                        std::vector<std::string> fragments, int exit_code = 2) {
  const std::string folder = fresh("cd");
  damage(deployment().coordinator_copy(folder));
  expect_refusal({name, "covey-coordinator " + command + " --config {}/" + folder + "/coordinator.yaml",
                  std::move(fragments), exit_code},
                 fixture().path());
}

template <typename Damage>
void refuse_device(const std::string& name, const std::string& command, Damage damage,
                   std::vector<std::string> fragments, int exit_code = 2) {
  const std::string folder = fresh("dd");
  damage(deployment().device_copy(folder));
  expect_refusal({name, "covey-device " + command + " --dir {}/" + folder, std::move(fragments), exit_code},
                 fixture().path());
}

void keep(const std::string&) {}

std::string with_character_changed(std::string invite, std::size_t at) {
  invite[at] = invite[at] == 'a' ? 'b' : 'a';
  return invite;
}

}  // namespace

TEST_CASE("the good directories are taken") {
  deployment();
  expect_success("covey-coordinator verify --config {}/co/coordinator.yaml", fixture().path());
  expect_success("covey-coordinator status --config {}/co/coordinator.yaml", fixture().path());
  deployment().device_copy("good-device");
  expect_success("covey-device status --dir {}/good-device", fixture().path());
  expect_success("covey-device import {}/data.jsonl --dir {}/good-device", fixture().path());
}

TEST_CASE("a coordinator's directory is not made over another one, nor below a file") {
  deployment();
  const std::string before = slurp(fixture().file("co/identity.key"));
  expect_refusals(
      {{"made twice", "covey-coordinator init {}/co", {"co/coordinator.yaml", "exists"}},
       {"below a file", "covey-coordinator init {}/data.txt/co", {"data.txt/co"}},
       {"a task of two lines", "covey-coordinator init {}/co2 --task \"$(printf 'a\\nrounds: 0')\"", {"--task"}},
       {"a transport key made twice", "covey-coordinator rotate-key {}/co/curve.key", {"co/curve.key", "exists"}},
       {"a task without a name", "covey-coordinator init {}/co3 --task ''", {"--task"}}},
      fixture().path());
  CHECK(slurp(fixture().file("co/identity.key")) == before);
}

TEST_CASE("a coordinator's configuration that cannot be served") {
  write(fixture().file("blank.txt"), "\n \n");
  refuse_settings("misspelt key", "goal: 40", "gaol: 40", {"coordinator.yaml:", "gaol", "did you mean `goal`?"});
  refuse_settings("no task", "task: lamps\n", "", {"`task`", "missing"});
  refuse_settings("not an endpoint", "tcp://127.0.0.1:1", "127.0.0.1", {"listen", "tcp://ADDRESS:PORT"});
  refuse_settings("a port that is no number", "tcp://127.0.0.1:1", "tcp://127.0.0.1:http", {"tcp://127.0.0.1:http"});
  refuse_settings("an address of another machine", "tcp://127.0.0.1:1", "tcp://192.0.2.7:7400", {"192.0.2.7"});
  refuse_settings("no such model", "../model", "../elsewhere", {"elsewhere"});
  refuse_settings("a model that is a text", "../model", "../data.txt", {"data.txt"});
  refuse_settings("no such held-out file", "# file: held_out.jsonl", "file: elsewhere.jsonl", {"elsewhere.jsonl"});
  refuse_settings("held-out file without examples", "# file: held_out.jsonl", "file: ../blank.txt",
                  {"blank.txt", "no example"});
  refuse_settings("groups without their devices", "mode: secure", "mode: grouped", {"goal", "40", "8 groups"});
  refuse_settings("groups in another mode", "mode: secure", "mode: secure\n  groups: 8",
                  {"unknown key", "privacy.groups"});
  refuse_settings("unknown mode", "mode: secure", "mode: open", {"mode", "open", "robust"});
  refuse_settings("sums over one device", "survivors_min: 32", "survivors_min: 1", {"survivors_min", "1"});
  refuse_settings("a goal that no sum may have", "survivors_min: 32", "survivors_min: 41",
                  {"goal", "40", "survivors_min"});
  refuse_settings("more corrupt devices than any threshold bears", "corrupt_fraction: 0.1", "corrupt_fraction: 0.95",
                  {"corrupt"});
  refuse_settings("a layer that the model lacks", "[q_proj, v_proj]", "[q_projection]", {"q_projection"});
  refuse_settings("more wanted than asked for", "min: 32", "min: 41", {"`min`", "goal"});
  refuse_settings("rounds below 1", "rounds: 20 ", "rounds: 0 ", {"`rounds`", "0"});
  const std::string rotate = "exit_when_finished: false\nrotate: {listen: 'tcp://127.0.0.1:2', ";
  refuse_settings("a rotation without a key", "exit_when_finished: false", rotate + "overlap_h: 1}",
                  {"key", "missing"});
  refuse_settings("a next key that is not there", "exit_when_finished: false", rotate + "key: next.key}",
                  {"next.key", "rotate-key"});
  refuse_settings("a rotation to the key in use", "exit_when_finished: false", rotate + "key: curve.key}",
                  {"curve.key", "in use already"});
  refuse_settings("an overlap of no time", "exit_when_finished: false", rotate + "key: next.key, overlap_s: 0}",
                  {"overlap_s", "0"});
  refuse_settings("no such dashboard port", "{port: 0}", "{port: 70000}", {"port", "70000"});
  refuse_settings("no such roster key", "roster_key: roster.key", "roster_key: other.key", {"other.key", "roster_key"});
}

TEST_CASE("a coordinator's keys and database that are missing, damaged or open to others") {
  const auto rewrite = [](const char* file, const char* content) {
    return [file, content](const std::string& directory) {
      const auto mode = fs::status(directory + "/" + file).permissions();
      write(directory + "/" + file, content);
      fs::permissions(directory + "/" + file, mode);
    };
  };
  const auto remove = [](const char* file) {
    return [file](const std::string& directory) { fs::remove_all(directory + "/" + file); };
  };
  const auto make_folder = [](const char* file) {
    return [file](const std::string& directory) {
      for (const char* more : {"", "-wal", "-shm"}) fs::remove_all(directory + "/" + file + more);
      fs::create_directories(directory + "/" + file);
    };
  };
  // Nothing to parse is wrong here: the system's permissions are, as with a file that may not be read. Hence 1.
  refuse_coordinator(
      "key readable by others", "status", [](const std::string& d) { ::chmod((d + "/identity.key").c_str(), 0644); },
      {"identity.key", "others", "chmod 600"}, 1);
  refuse_coordinator("key missing", "status", remove("identity.key"), {"identity.key"});
  refuse_coordinator("key empty", "invite", rewrite("curve.key", ""), {"curve.key"});
  refuse_coordinator("key too short", "invite", rewrite("curve.key", "covey-key 1 curve\nabcd\n"),
                     {"curve.key", "64 hexadecimal", "backup"});
  refuse_coordinator(
      "key of another kind", "invite",
      [](const std::string& d) { fs::copy(d + "/roster.key", d + "/curve.key", fs::copy_options::overwrite_existing); },
      {"curve.key", "'roster'", "'curve'"});
  refuse_coordinator("key is a folder", "invite", make_folder("curve.key"), {"curve.key", "regular"});
  refuse_coordinator("public roster key damaged", "status", rewrite("roster.pub", "zz"), {"roster.pub", "public key"});
  refuse_coordinator("roster key of another task", "status",
                     [](const std::string& d) {
                       fs::remove(d + "/roster.key");
                       write(d + "/roster.key", "covey-key 1 roster\n" + std::string(64, 'a') + "\n");
                       ::chmod((d + "/roster.key").c_str(), 0600);
                     },
                     {"roster key"});
  refuse_coordinator("database overwritten", "status",
                     [](const std::string& d) {
                       for (const char* more : {"-wal", "-shm"}) fs::remove(d + "/coordinator.db" + more);
                       write(d + "/coordinator.db", std::string(20'000, 'x'));
                     },
                     {"coordinator.db", "backup"});
  refuse_coordinator("database cut off", "status",
                     [](const std::string& d) {
                       for (const char* more : {"-wal", "-shm"}) fs::remove(d + "/coordinator.db" + more);
                       fs::resize_file(d + "/coordinator.db", 5000);
                     },
                     {"coordinator.db"});
  refuse_coordinator("database is a folder", "status", make_folder("coordinator.db"),
                     {"coordinator.db", "is a folder", "move it away"});
  refuse_coordinator("lock is a folder", "status",
                     [](const std::string& d) {
                       fs::remove(d + "/lock");
                       fs::create_directories(d + "/lock");
                     },
                     {"lock"});
}

TEST_CASE("commands to a coordinator that it cannot follow") {
  refuse_coordinator("an invite for nobody", "invite --uses 0", keep, {"uses", "0"});
  refuse_coordinator("an invite for fewer", "invite --uses -3", keep, {"uses", "-3"});
  refuse_coordinator("an invite for a word", "invite --uses many", keep, {"--uses", "many"});
  refuse_coordinator("an invite of the past", "invite --expires-hours -1", keep, {"--expires-hours"});
  refuse_coordinator("an invite of no time", "invite --expires-hours nan", keep, {"--expires-hours"});
  refuse_coordinator("an invite to nowhere", "invite",
                     [](const std::string& d) {
                       write(d + "/coordinator.yaml",
                             replaced(slurp(d + "/coordinator.yaml"), "tcp://127.0.0.1:1", "tcp://0.0.0.0:7400"));
                     },
                     {"0.0.0.0", "advertise"});
  refuse_coordinator("an unknown device", "revoke nobody", keep, {"nobody", "devices"});
  refuse_coordinator("negative rounds", "rounds -4", keep, {"-4"});
  refuse_coordinator("nothing to export", "export --out {}/exported", keep, {"export", "serve"});
  refuse_coordinator("backup over a file", "backup {}/data.txt", keep, {"data.txt"});
  refuse_coordinator("backup below a file", "backup {}/data.txt/b", keep, {"data.txt/b"});
  refuse_coordinator("signing with another kind of key", "roster sign --key {}/co/identity.key", keep,
                     {"identity.key", "'identity'", "'roster'"});
  refuse_coordinator("signing with no key", "roster sign --key {}/nothing.key", keep, {"nothing.key"});
}

TEST_CASE("invites that are none, damaged, cut off, of another version, or too old") {
  const std::string invite = deployment().invite();
  auto parsed = wire::decode_invite(invite);
  REQUIRE_OK(parsed);
  parsed->expires_ms = 1'000;
  const auto expired = wire::encode_invite(*parsed);
  REQUIRE_OK(expired);
  parsed->expires_ms = INT64_MAX;
  parsed->endpoint = "somewhere over the rainbow";
  const auto nowhere = wire::encode_invite(*parsed);
  REQUIRE_OK(nowhere);
  write(fixture().file("large-invite"), "covey1:" + std::string(100'000, 'a'));
  const auto refuse = [](const std::string& name, const std::string& given, std::vector<std::string> fragments) {
    expect_refusal({name, "covey-device enroll --dir {}/never --timeout-s 1 " + given, std::move(fragments)},
                   fixture().path());
  };
  refuse("a word", "hello", {"invite", "covey1:"});
  refuse("empty", "''", {"invite", "covey1:"});
  refuse("another version", "covey7:abcd", {"invite", "another version"});
  refuse("one character changed", with_character_changed(invite, 40), {"invite", "damaged", "copy it whole"});
  refuse("the last character lost", invite.substr(0, invite.size() - 1), {"invite", "damaged"});
  refuse("half of it", invite.substr(0, invite.size() / 2), {"invite", "damaged"});
  refuse("the head alone", "covey1:", {"invite", "damaged"});
  refuse("expired", *expired, {"invite", "expired", "new one"});
  refuse("endpoint that is none", *nowhere, {"somewhere over the rainbow"});
  refuse("file that is not there", "@{}/no-invite", {"no-invite"});
  refuse("file that is a folder", "@{}/model", {"model", "regular"});
  refuse("file that is too large", "@{}/large-invite", {"large-invite"});
  refuse("file of something else", "@{}/data.txt", {"invite", "covey1:"});
  refuse("a name that is too long", "--name " + std::string(3000, 'n') + " " + invite, {"--name"});
  expect_refusal({"directory below a file", "covey-device enroll --dir {}/data.txt/d " + invite, {"data.txt/d"}},
                 fixture().path());
  deployment().device_copy("enrolled");
  expect_refusal({"enrolled already", "covey-device enroll --dir {}/enrolled " + invite, {"enrolled already", "--dir"}},
                 fixture().path());
}

TEST_CASE("a device's directory that is missing, damaged or open to others") {
  const auto yaml = [](const char* text) { return [text](const std::string& d) { write(d + "/device.yaml", text); }; };
  const auto pinned = [](const char* from, const char* to) {
    return [from, to](const std::string& d) {
      write(d + "/coordinator.json", replaced(slurp(d + "/coordinator.json"), from, to));
    };
  };
  expect_refusals({{"no directory named", "covey-device run", {"--config", "--dir"}},
                   {"no such directory", "covey-device run --dir {}/nowhere", {"nowhere/device.yaml"}},
                   {"a file for it", "covey-device status --dir {}/data.txt", {"data.txt"}},
                   {"import of nothing into nothing", "covey-device import", {"file"}}},
                  fixture().path());
  refuse_device("misspelt key", "run", yaml("policy: {only_on_acc: true}\n"),
                {"device.yaml:1:", "only_on_acc", "did you mean `only_on_ac`?"});
  refuse_device("wrong type", "run", yaml("policy: {only_on_ac: 1}\n"), {"only_on_ac", "true or false"});
  refuse_device("out of range", "run", yaml("training: {threads: 0}\n"), {"threads", "0", "from 1"});
  refuse_device("unknown mode", "status", yaml("policy: {weakest_mode: naked}\n"), {"weakest_mode", "naked", "secure"});
  refuse_device("not YAML", "status", yaml("policy: {\n"), {"device.yaml:"});
  refuse_device("not enrolled", "run", [](const std::string& d) { fs::remove(d + "/coordinator.json"); },
                {"not enrolled", "covey-device enroll"});
  refuse_device("pinned keys cut off", "run", pinned("\"coordinator\": \"", "\"coordinator\": \"zz"),
                {"coordinator.json", "coordinator", "64 hexadecimal"});
  refuse_device("pinned file broken", "status",
                [](const std::string& d) { write(d + "/coordinator.json", "{\"task\":"); }, {"coordinator.json"});
  refuse_device("pinned endpoint is none", "run", pinned("tcp://127.0.0.1:1", "nowhere"), {"nowhere"});
  refuse_device("epoch is negative", "status", pinned("\"roster_epoch\": 1", "\"roster_epoch\": -1"), {"roster_epoch"});
  refuse_device("database overwritten", "status",
                [](const std::string& d) { write(d + "/device.db", std::string(20'000, 'x')); }, {"device.db"});
  refuse_device(
      "key readable by others", "run",  // as above: permissions, hence 1
      [](const std::string& d) { ::chmod((d + "/identity.key").c_str(), 0666); }, {"identity.key", "chmod 600"}, 1);
  refuse_device("key cut off", "run", [](const std::string& d) { fs::resize_file(d + "/storage.key", 30); },
                {"storage.key", "hexadecimal"});
  refuse_device("key missing", "run", [](const std::string& d) { fs::remove(d + "/curve.key"); }, {"curve.key"});
  refuse_device("import of nothing", "import {}/nothing.txt", keep, {"nothing.txt"});
  refuse_device("import of a folder", "import {}/model", keep, {"model"});
  write(fixture().file("broken.jsonl"), "{\"text\": \"a\"}\n{\"text\": 5}\n");
  refuse_device("import of wrong lines", "import {}/broken.jsonl", keep, {"broken.jsonl:2", "text"});
}
