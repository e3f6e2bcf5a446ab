#include "client/platform_linux/platform.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace covey::client {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

}  // namespace

// Source: Documentation/ABI/testing/sysfs-class-power and sysfs-class-net of the Linux kernel.
PowerAndNetwork power_and_network(const std::string& sysfs) {
  PowerAndNetwork out;
  std::error_code code;
  bool battery = false;
  bool mains = false;
  for (const auto& supply : fs::directory_iterator(sysfs + "/class/power_supply", code)) {
    const std::string type = first_line(supply.path() / "type");
    if (type == "Battery" && first_line(supply.path() / "scope") != "Device") battery = true;
    if ((type == "Mains" || type.starts_with("USB")) && first_line(supply.path() / "online") == "1") mains = true;
  }
  out.on_ac = mains || !battery;

  int up = 0;
  int modems = 0;
  for (const auto& link : fs::directory_iterator(sysfs + "/class/net", code)) {
    if (link.path().filename() == "lo" || first_line(link.path() / "carrier") != "1") continue;
    ++up;
    std::ifstream events(link.path() / "uevent");
    for (std::string line; std::getline(events, line);) modems += line == "DEVTYPE=wwan" ? 1 : 0;
  }
  out.metered = up > 0 && modems == up;
  return out;
}

void lower_thread_priority() {
  // On Linux a thread has its own nice value, named by its thread id.
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 10);
}

}  // namespace covey::client
