#include "support/process.h"

#include "support/support.h"

using namespace covey;

TEST_CASE("a child process is seen running, killed and reaped") {
  const test::TempDir dir;
  test::Process sleeper({"/bin/sleep", "30"}, dir.file("log"));
  CHECK(sleeper.running());
  sleeper.kill_now();
  CHECK(sleeper.wait(0) == 128 + 9);
  test::Process echo({"/bin/echo", "hello"}, dir.file("log2"));
  CHECK(echo.wait(5000) == 0);
  CHECK(echo.output() == "hello\n");
}
