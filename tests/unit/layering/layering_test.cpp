// Reads every #include of the tree and holds it against the directions of dependency that the design allows.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <vector>

#include "support/support.h"

namespace fs = std::filesystem;
using namespace covey;

namespace {

using Modules = std::set<std::string>;

/// What each module may include beside itself and core/base. core/ modules go by their own name.
std::map<std::string, Modules> allowed() {
  const Modules core = {"base",  "kernels", "formats", "text", "data",  "crypto",
                        "store", "config",  "wire",    "net",  "model", "train"};
  Modules daemon = core;
  daemon.insert({"adapters", "aggregation"});
  Modules simulations = daemon;
  simulations.insert({"client", "coordinator"});
  return {
      {"base", {}},
      {"kernels", {}},
      {"formats", {}},
      {"text", {"formats"}},
      {"data", {"text", "formats"}},
      {"crypto", {}},
      {"store", {}},
      {"config", {}},
      {"wire", {"crypto"}},
      {"net", {"wire", "crypto"}},
      {"model", {"kernels", "formats"}},
      {"train", {"model", "data"}},
      {"adapters", {"model", "train", "data", "text", "formats"}},
      {"aggregation", {"crypto", "wire"}},
      {"client", daemon},
      {"coordinator", daemon},
      {"simulations", simulations},
  };
}

/// "core/base/result.h" -> "base", "client/session.h" -> "client"; empty for what is not a module of ours.
std::string module_of(const std::string& path) {
  const auto slash = path.find('/');
  if (slash == std::string::npos) return "";
  const std::string first = path.substr(0, slash);
  if (first != "core") return first;
  const auto second = path.find('/', slash + 1);
  return second == std::string::npos ? "" : path.substr(slash + 1, second - slash - 1);
}

/// A program's own files (name_main.cpp, name_command*.cpp) stand above the modules: they read configuration files.
bool is_program(const std::string& file) {
  return file.find("_main.cpp") != std::string::npos || file.find("_command") != std::string::npos;
}

/// Includes of `text` that the module of `file` may not have, as "file: includes x".
std::vector<std::string> violations(const std::string& file, const std::string& text) {
  static const auto table = allowed();
  static const std::regex include(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::vector<std::string> out;
  const std::string module = module_of(file);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, include)) continue;
    const std::string target = module_of(match[1]);
    if (target == module || target == "base" || !table.contains(target)) continue;
    const bool program_reads_config = is_program(file) && target == "config";
    if (!table.at(module).contains(target) && !program_reads_config)
      out.push_back(file + ": includes " + match[1].str());
  }
  return out;
}

}  // namespace

TEST_CASE("no include goes against the design's layering") {
  const fs::path root = test::source_dir();
  std::size_t files = 0;
  for (const char* top : {"core", "adapters", "aggregation", "client", "coordinator", "simulations"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cpp") continue;
      ++files;
      std::ifstream in(entry.path());
      std::ostringstream text;
      text << in.rdbuf();
      for (const auto& line : violations(fs::relative(entry.path(), root).string(), text.str())) {
        FAIL_CHECK(line << "; move the code or the dependency (design: layout and direction of dependencies)");
      }
    }
  }
  CHECK(files > 10);
}

TEST_CASE("the layering check finds an include that breaks it") {
  CHECK(violations("core/kernels/gemm.cpp", "#include \"core/model/model.h\"\n").size() == 1);
  CHECK(violations("client/session.cpp", "#include \"coordinator/service.h\"\n").size() == 1);
  CHECK(violations("aggregation/clip.cpp", "#include \"adapters/lora.h\"\n").size() == 1);
  CHECK(
      violations("core/wire/codec.cpp", "#include \"core/crypto/hash.h\"\n#include \"core/base/result.h\"\n").empty());
}

TEST_CASE("platform code stays in client/platform_linux") {
  const fs::path root = test::source_dir();
  for (const auto& entry : fs::recursive_directory_iterator(root / "client")) {
    if (entry.path().extension() != ".cpp" && entry.path().extension() != ".h") continue;
    if (entry.path().string().find("platform_linux") != std::string::npos) continue;
    std::ifstream in(entry.path());
    std::ostringstream text;
    text << in.rdbuf();
    CHECK_MESSAGE(text.str().find("\"/sys/") == std::string::npos, entry.path().string() << " reads sysfs");
  }
}
