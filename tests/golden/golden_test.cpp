#include "adapters/golden.h"

#include <filesystem>

#include "core/base/file.h"
#include "support/support.h"

using namespace covey;
using namespace covey::adapters;

namespace {

GoldenReport report_of(const std::string& directory) {
  ThreadPool pool(2);
  return check_golden_case(directory, pool);
}

}  // namespace

TEST_CASE("the engine and the training loop agree with the reference on every quantity of every family") {
  const auto root = test::golden_path("llama");
  if (!root) return;
  std::size_t cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(*root).parent_path())) {
    if (!entry.is_directory()) continue;
    const GoldenReport report = report_of(entry.path().string());
    CHECK_MESSAGE(report.passed(), report.line());
    CHECK(report.checks.size() >= 6);  // logits and loss, plain and adapted, gradient, jvp
    ++cases;
  }
  CHECK(cases >= 34);
  CHECK(report_of(*root).checks.size() == 13);  // this one has a prompt and trajectories too
}

TEST_CASE("a case that differs a little fails, and says where") {
  const auto path = test::golden_path("llama");
  if (!path) return;
  const test::TempDir dir;
  std::filesystem::copy(*path, dir.path(), std::filesystem::copy_options::recursive);
  // The wrong norm epsilon: the smallest of the usual mistakes.
  auto config = read_text_file(dir.file("config.json"));
  REQUIRE_OK(config);
  const auto at = config->find("1e-05");
  REQUIRE(at != std::string::npos);
  config->replace(at, 5, "1e-03");
  REQUIRE_OK(write_file_durably(dir.file("config.json"), *config));
  const GoldenReport report = report_of(dir.path());
  CHECK_FALSE(report.passed());
  CHECK(report.line().find("(!)") != std::string::npos);
  CHECK(report.failure.empty());
}

TEST_CASE("a family that the engine does not know fails with its name") {
  const auto path = test::golden_path("gpt2");
  if (!path) return;
  const test::TempDir dir;
  std::filesystem::copy(*path, dir.path(), std::filesystem::copy_options::recursive);
  auto config = read_text_file(dir.file("config.json"));
  REQUIRE_OK(config);
  const auto at = config->find("\"gpt2\"");
  REQUIRE(at != std::string::npos);
  config->replace(at, 6, "\"gpt9\"");
  REQUIRE_OK(write_file_durably(dir.file("config.json"), *config));
  const GoldenReport report = report_of(dir.path());
  CHECK_FALSE(report.passed());
  CHECK(report.line().find("FAILED ") == 0);
  CHECK(report.failure.find("gpt9") != std::string::npos);
  CHECK_FALSE(report_of("/nowhere").passed());
}
