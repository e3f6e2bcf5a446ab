/// Everything the device asks of the operating system beyond POSIX; a port replaces this folder. Thread-safe.
#pragma once

#include <string>

namespace covey::client {

struct PowerAndNetwork {
  bool on_ac = true;     ///< mains, or a machine without a battery
  bool metered = false;  ///< every link that is up is a modem's
};

/// Reads `sysfs`/class/power_supply and `sysfs`/class/net. What cannot be read counts as the harmless case of a machine
/// without a battery on an unmetered network.
PowerAndNetwork power_and_network(const std::string& sysfs = "/sys");

/// The calling thread yields to everything else that wants to run.
void lower_thread_priority();

}  // namespace covey::client
