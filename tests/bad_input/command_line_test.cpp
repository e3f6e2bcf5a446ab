// The command line itself: usage errors, --help and --version.
#include <map>
#include <sstream>

#include "bad_input/expect.h"
#include "bad_input/fixture.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

const std::map<std::string, std::vector<std::string>>& programs() {
  static const std::map<std::string, std::vector<std::string>> known = {
      {"covey-model",
       {"info", "plan", "analyze", "tokenize", "detokenize", "eval", "generate", "train", "pretrain", "corpus",
        "convert", "quantize", "adapter", "golden", "bench"}},
      {"covey-model adapter", {"info", "export", "import", "merge"}},
      {"covey-coordinator",
       {"init", "serve", "rotate-key", "invite", "roster", "status", "devices", "rounds", "pause", "resume", "revoke",
        "export", "backup", "verify"}},
      {"covey-coordinator roster", {"sign"}},
      {"covey-device", {"enroll", "run", "import", "status", "pause", "resume", "journal", "forget"}},
      {"covey-sim", {"run", "sweep", "compare", "keys", "attack", "poison", "faults", "partition"}}};
  return known;
}

/// Name and sentence of each subcommand that --help lists.
std::map<std::string, std::string> listed(const std::string& help) {
  std::map<std::string, std::string> out;
  std::istringstream in(help.substr(std::min(help.find("Subcommands:"), help.size())));
  std::string line;
  std::getline(in, line);
  while (std::getline(in, line) && line.starts_with("  ")) {
    std::istringstream words(line);
    std::string name;
    std::string sentence;
    words >> name;
    std::getline(words >> std::ws, sentence);
    out[name] = sentence;
  }
  return out;
}

test::CommandResult help_of(const std::string& command) {
  const auto result = test::run_command(command_line(command + " --help", "."));
  CAPTURE(command);
  CAPTURE(result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  CHECK(result.out.find("Usage:") != std::string::npos);
  return result;
}

}  // namespace

TEST_CASE("help lists every subcommand with a sentence, and each of them has help of its own") {
  for (const auto& [program, names] : programs()) {
    const auto commands = listed(help_of(program).out);
    CAPTURE(program);
    CHECK(commands.size() == names.size());
    for (const std::string& name : names) {
      CAPTURE(name);
      REQUIRE(commands.contains(name));
      CHECK(commands.at(name).size() >= 10);
      CHECK(commands.at(name).find(' ') != std::string::npos);
      help_of(program + " " + name);
    }
  }
}

TEST_CASE("version prints the program's name and number on stdout") {
  for (const char* program : {"covey-model", "covey-coordinator", "covey-device", "covey-sim"}) {
    const auto result = test::run_command(command_line(std::string(program) + " --version", "."));
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    CHECK(result.out.starts_with(std::string(program) + " 0."));
  }
}

TEST_CASE("a command line that cannot be is refused in one line that names the word") {
  expect_refusals(
      {
          {"no command", "covey-model", {"--help"}},
          {"no command", "covey-coordinator", {"--help"}},
          {"no command", "covey-device", {"--help"}},
          {"no command", "covey-sim", {"--help"}},
          {"unknown command", "covey-model trian", {"trian", "--help"}},
          {"unknown command", "covey-coordinator start", {"start", "--help"}},
          {"unknown command", "covey-device enrol x", {"enrol", "--help"}},
          {"unknown command", "covey-sim simulate", {"simulate", "--help"}},
          {"unknown option", "covey-model info {}/model --fast", {"--fast", "--help"}},
          {"unknown option", "covey-coordinator status --verbose", {"--verbose"}},
          {"unknown option", "covey-device run --dir {} --forever", {"--forever"}},
          {"unknown option", "covey-sim run {}/experiment.yaml --out {}/o --gpu", {"--gpu"}},
          {"argument missing", "covey-model info", {"MODEL"}},
          {"option missing", "covey-model eval {}/model", {"--data"}},
          {"option missing", "covey-sim run {}/experiment.yaml", {"--out"}},
          {"option without value", "covey-model eval {}/model --data", {"--data"}},
          {"subcommand of adapter missing", "covey-model adapter", {"--help"}},
          {"subcommand of roster missing", "covey-coordinator roster", {"--help"}},
          {"not a number", "covey-model generate {}/model --tokens many", {"--tokens", "many"}},
          {"number out of range", "covey-model generate {}/model --tokens 0", {"--tokens", "0"}},
          {"number beyond 64 bits", "covey-model generate {}/model --tokens 99999999999999999999", {"--tokens"}},
          {"negative threads", "covey-model eval {}/model --data {}/data.txt --threads -1", {"--threads", "-1"}},
          {"temperature is no number", "covey-model generate {}/model --temperature hot", {"--temperature", "hot"}},
          {"rank 0", "covey-model plan {}/model --rank 0", {"--rank", "0"}},
          {"unknown shape", "covey-model bench --shape gpt9", {"--shape", "gpt9"}},
          {"dtype not in this version", "covey-model bench --dtype q4_0", {"--dtype", "q4_0"}},
          {"no seeds", "covey-sim faults --seeds 0", {"--seeds", "0"}},
          {"minimize nothing", "covey-sim faults --minimize", {"--minimize", "--replay"}},
          {"seed is a word", "covey-sim run {}/experiment.yaml --out {}/o --seed lucky", {"--seed", "lucky"}},
          {"threads 0", "covey-sim run {}/experiment.yaml --out {}/o --threads 0", {"--threads", "0"}},
          {"unknown format", "covey-coordinator export --format onnx --out x", {"--format", "onnx"}},
          {"unknown mode", "covey-device enroll x --dir {}/d --weakest-mode open", {"--weakest-mode", "open"}},
          {"waiting for no time", "covey-device enroll x --dir {}/d --timeout-s 0", {"--timeout-s", "0"}},
          {"journal of no entries", "covey-device journal --dir {}/d --last 0", {"--last", "0"}},
          {"a newline in the word", "covey-model \"$(printf 'a\\nb')\"", {"a b"}},
      },
      fixture().path());
}
