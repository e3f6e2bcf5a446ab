/// Internal to core/crypto: makes libsodium ready before its first use.
#pragma once

namespace covey::crypto::internal {

/// Initializes once per process; ends the process where the system has no entropy, since going on would be unsafe.
void ready();

}  // namespace covey::crypto::internal
