// The guard's decisions, without a socket.
#include "core/net/guard.h"

#include <doctest/doctest.h>

using namespace covey::net;

namespace {

GuardLimits small() {
  return {.connections_max = 3,
          .hello_deadline_ms = 1000,
          .undelivered_max = 1000,
          .undelivered_before_hello_max = 100,
          .undelivered_total_max = 1500,
          .heartbeat_bytes_per_s = 0};
}

/// A connection that said hello: descriptor 10 + n, cookie 100 + n, serial n.
void join(Guard& guard, int n, std::int64_t now_ms = 0) {
  const auto serial = static_cast<std::uint64_t>(n);
  CHECK(!guard.accepted(10 + n, 100 + serial, now_ms));
  guard.bind(serial, 10 + n, 100 + serial, now_ms);
  guard.authenticated(serial);
}

std::vector<Cut> sample(Guard& guard, int n, std::uint64_t received, std::int64_t now_ms = 1) {
  const Guard::Sample one{10 + n, 100 + static_cast<std::uint64_t>(n), received};
  return guard.judge({&one, 1}, now_ms);
}

}  // namespace

TEST_CASE("a connection without a signed hello is cut at the deadline and not before") {
  Guard guard(small());
  CHECK(!guard.accepted(11, 101, 0));
  CHECK(guard.judge({}, 999).empty());
  const auto cuts = guard.judge({}, 1000);
  REQUIRE(cuts.size() == 1);
  CHECK(cuts[0].fd == 11);
  CHECK(cuts[0].cookie == 101);
  CHECK(cuts[0].reason == CutReason::no_hello);
  CHECK(guard.judge({}, 5000).empty());  // named once
}

TEST_CASE("a frame is no hello") {
  Guard guard(small());
  guard.accepted(11, 101, 0);
  guard.bind(1, 11, 101, 0);
  CHECK(guard.judge({}, 1000).size() == 1);
}

TEST_CASE("a connection that said hello stays") {
  Guard guard(small());
  join(guard, 1);
  CHECK(guard.judge({}, 1'000'000).empty());
}

TEST_CASE("bytes that never become frames are counted, delivered ones are not") {
  Guard guard(small());
  join(guard, 1);
  CHECK(sample(guard, 1, 1000).empty());
  guard.delivered(1, 5000);
  CHECK(sample(guard, 1, 6000).empty());
  const auto cuts = sample(guard, 1, 6001);
  REQUIRE(cuts.size() == 1);
  CHECK(cuts[0].reason == CutReason::undelivered);
}

TEST_CASE("before the hello the allowance is small") {
  Guard guard(small());
  guard.accepted(11, 101, 0);
  CHECK(sample(guard, 1, 100).empty());
  CHECK(sample(guard, 1, 101).size() == 1);
}

TEST_CASE("heartbeats of a day do not add up to a cut") {
  GuardLimits limits = small();
  limits.heartbeat_bytes_per_s = 8;
  Guard guard(limits);
  join(guard, 1);
  const std::int64_t day_s = 86'400;
  const std::uint64_t heartbeats = day_s / 15 * (2 + 7 + 33) * 2;  // a PING and a PONG every 15 s
  CHECK(sample(guard, 1, heartbeats, day_s * 1000).empty());
}

TEST_CASE("where all connections together hold too much, the worst go first") {
  Guard guard(small());
  join(guard, 1);
  join(guard, 2);
  join(guard, 3);
  const Guard::Sample samples[] = {{11, 101, 400}, {12, 102, 900}, {13, 103, 500}};
  const auto cuts = guard.judge(samples, 1);
  REQUIRE(cuts.size() == 1);
  CHECK(cuts[0].fd == 12);
  CHECK(cuts[0].reason == CutReason::undelivered_total);
}

TEST_CASE("above the cap the oldest silent connection goes, and the new one where none is silent") {
  Guard guard(small());
  join(guard, 1);
  guard.accepted(12, 102, 0);
  guard.accepted(13, 103, 0);
  const auto first = guard.accepted(14, 104, 0);
  REQUIRE(first);
  CHECK(first->fd == 12);
  guard.disconnected(12);
  guard.bind(3, 13, 103, 0);
  guard.authenticated(3);
  guard.bind(4, 14, 104, 0);
  guard.authenticated(4);
  const auto second = guard.accepted(15, 105, 0);
  REQUIRE(second);
  CHECK(second->fd == 15);
}

TEST_CASE("a connection that was cut and has yet to end takes nobody's place") {
  Guard guard(small());
  guard.accepted(11, 101, 0);
  guard.accepted(12, 102, 0);
  guard.accepted(13, 103, 0);
  CHECK(guard.accepted(14, 104, 0)->fd == 11);
  guard.disconnected(12);
  CHECK(!guard.accepted(15, 105, 0));
  CHECK(guard.accepted(16, 106, 0)->fd == 13);
}

TEST_CASE("a descriptor that is reused does not pass its past on") {
  Guard guard(small());
  join(guard, 1);
  CHECK(sample(guard, 1, 900).empty());
  guard.disconnected(11);
  CHECK(guard.take_closed() == std::vector<std::uint64_t>{1});
  CHECK(!guard.accepted(11, 201, 10));
  // A sample taken of the old socket says nothing about the new one.
  CHECK(sample(guard, 1, 100'000, 11).empty());
  guard.delivered(1, 1'000'000);  // credit of the old connection
  const Guard::Sample fresh{11, 201, 101};
  CHECK(guard.judge({&fresh, 1}, 12).size() == 1);
}

TEST_CASE("a frame may come before the monitor tells of its connection") {
  Guard guard(small());
  guard.bind(7, 11, 101, 0);
  guard.delivered(7, 500);
  guard.authenticated(7);
  guard.accepted(11, 101, 0);
  CHECK(guard.judge({}, 5000).empty());
  CHECK(sample(guard, 1, 1500, 5001).empty());
  CHECK(sample(guard, 1, 1501, 5002).size() == 1);
  guard.disconnected(11);
  CHECK(guard.take_closed() == std::vector<std::uint64_t>{7});
}

TEST_CASE("a frame whose connection the monitor never names is given up") {
  Guard guard(small());
  guard.bind(7, 11, 101, 0);
  guard.judge({}, 4999);
  CHECK(guard.take_closed().empty());
  guard.judge({}, 5000);
  CHECK(guard.take_closed() == std::vector<std::uint64_t>{7});
}

TEST_CASE("the frames of a newer serial win a descriptor, and the older connection has ended") {
  Guard guard(small());
  guard.accepted(11, 101, 0);
  guard.bind(7, 11, 101, 0);  // a late frame of the descriptor's last owner
  guard.authenticated(7);
  guard.bind(8, 11, 101, 1);
  CHECK(guard.take_closed() == std::vector<std::uint64_t>{7});
  CHECK(guard.judge({}, 1000).size() == 1);  // 8 has said no hello
}

TEST_CASE("the server's own closing is carried out at its time") {
  Guard guard(small());
  join(guard, 1);
  guard.close(1, 300);
  CHECK(guard.judge({}, 299).empty());
  const auto cuts = guard.judge({}, 300);
  REQUIRE(cuts.size() == 1);
  CHECK(cuts[0].reason == CutReason::asked);
}

TEST_CASE("a third connection of one key pushes out that key's oldest, and nobody else's") {
  Guard guard({.connections_max = 10});
  const covey::wire::Key one{1};
  const covey::wire::Key other{2};
  for (const int n : {1, 2, 3, 4}) {
    CHECK(guard.admit(static_cast<std::uint64_t>(n), n == 2 ? other : one, 2, 0));
    join(guard, n);
  }
  const auto cuts = guard.judge({}, 1);
  REQUIRE(cuts.size() == 1);
  CHECK(cuts[0].fd == 11);
  CHECK(cuts[0].reason == CutReason::same_key);
  // The places of those that ended are free again, in whatever order they end.
  for (const int n : {3, 4, 1, 2}) guard.disconnected(10 + n);
  CHECK(guard.take_closed() == std::vector<std::uint64_t>{3, 4, 1, 2});
  for (const int n : {5, 6}) {
    CHECK(guard.admit(static_cast<std::uint64_t>(n), one, 2, 2));
    join(guard, n, 2);
  }
  CHECK(guard.judge({}, 3).empty());
}

TEST_CASE("handshakes of one key that no frame follows are refused from the fifth on, until the hello is overdue") {
  Guard guard({.connections_max = 100, .hello_deadline_ms = 1000});
  const covey::wire::Key key{1};
  for (std::uint64_t serial = 1; serial <= 4; ++serial) CHECK(guard.admit(serial, key, 2, 0));
  CHECK_FALSE(guard.admit(5, key, 2, 999));
  CHECK(guard.admit(5, covey::wire::Key{2}, 2, 999));
  CHECK(guard.admit(6, key, 2, 1000));
  join(guard, 6, 1000);  // one that speaks is silent no more
  for (std::uint64_t serial = 7; serial <= 10; ++serial) CHECK(guard.admit(serial, key, 2, 1001));
  CHECK_FALSE(guard.admit(11, key, 2, 1001));
}
