// What must not be linked: the coordinator evaluates but never trains, the device serves no web pages.
#include "support/support.h"

using namespace covey::test;

namespace {

int symbols(const std::string& program, const std::string& pattern) {
  const auto all = run_command("nm -C '" + bin_dir() + "/" + program + "' | grep -cE '" + pattern + "'");
  return all.out.empty() ? -1 : std::stoi(all.out);
}

const char* const kTraining = "covey::train::(LocalTrainer|Optimizer)::";

}  // namespace

TEST_CASE("the coordinator links no optimizer and no trainer") {
  REQUIRE(symbols("covey-coordinator", "covey::train::evaluate") > 0);  // its symbols are there to be seen
  CHECK(symbols("covey-coordinator", kTraining) == 0);
  CHECK(symbols("covey-device", kTraining) > 0);
}

TEST_CASE("the device links no web server") {
  CHECK(symbols("covey-device", "httplib::") == 0);
  CHECK(symbols("covey-coordinator", "httplib::") > 0);
}
