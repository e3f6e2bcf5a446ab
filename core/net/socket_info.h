/// Internal to core/net: what the operating system knows of a TCP connection that libzmq owns. Linux.
/// Descriptors are libzmq's and may be closed and reused at any time, so a connection is named by descriptor and
/// cookie.
#pragma once

#include <cstdint>
#include <optional>

namespace covey::net::internal {

/// Number of the socket behind `fd` that no other socket shares while the machine is up. Empty: no socket any more.
std::optional<std::uint64_t> socket_cookie(int fd);

/// Bytes the kernel received on the connection so far. Empty: no TCP socket any more.
std::optional<std::uint64_t> received_bytes(int fd);

/// Shuts the connection down in both directions, if `fd` still is the socket with this cookie. Race-free: the check and
/// the shutdown go through a duplicate that cannot be reused in between. False: it was gone already.
bool shut_down(int fd, std::uint64_t cookie);

}  // namespace covey::net::internal
