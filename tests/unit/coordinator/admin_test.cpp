// admin.sock and the thread behind it: a slow command holds nobody up.
#include "coordinator/admin_worker.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using formats::Json;

Json command(const char* name) {
  return Json::object({{"command", name}});
}
}  // namespace

TEST_CASE("while a slow command is worked on, the loop turns and other commands are answered") {
  const test::TempDir dir;
  const std::string path = dir.file("admin.sock");
  auto socket = AdminSocket::listen(path);
  REQUIRE_OK(socket);
  std::promise<void> gate;
  const std::shared_future<void> opened = gate.get_future().share();
  AdminWorker worker;
  const auto turn = [&] {
    (*socket)->poll([&](const Json& request) -> AdminAnswer {
      const std::string name = *request.get_string("command");
      if (name == "slow") {
        return worker.run([opened]() -> Result<Json> {
          opened.wait();
          return Json::object({{"took", "long"}});
        });
      }
      if (name == "fails") {
        return worker.run([]() -> Result<Json> { return Error{ErrorCode::not_found, "no such thing"}; });
      }
      return Result<Json>(Json::object({{"took", "nothing"}}));
    });
  };
  const auto ready = [](const std::future<Result<Json>>& answer) {
    return answer.wait_for(std::chrono::milliseconds(1)) == std::future_status::ready;
  };
  const auto asked = [&](const char* name) {
    return std::async(std::launch::async, [&path, name] { return ask_admin(path, command(name)); });
  };
  auto slow = asked("slow");
  for (int n = 0; n < 20; ++n) turn();
  for (int n = 0; n < 3; ++n) {
    auto quick = asked("quick");
    for (int turns = 0; turns < 5'000 && !ready(quick); ++turns) turn();
    REQUIRE(ready(quick));
    const auto answer = quick.get();
    REQUIRE_OK(answer);
    CHECK(*answer->get_string("took") == "nothing");
  }
  auto fails = asked("fails");  // waits behind the slow one
  for (int n = 0; n < 20; ++n) turn();
  CHECK_FALSE(ready(slow));
  CHECK_FALSE(ready(fails));
  gate.set_value();
  for (int turns = 0; turns < 5'000 && !(ready(slow) && ready(fails)); ++turns) turn();
  REQUIRE(ready(slow));
  REQUIRE(ready(fails));
  CHECK(*slow.get()->get_string("took") == "long");
  const auto failed = fails.get();
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code == ErrorCode::not_found);
  CHECK(failed.error().message == "no such thing");
}

}  // namespace covey::coordinator
