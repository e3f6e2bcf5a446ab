// The life of a key rotation as the coordinator keeps it.
#include "coordinator/rotation.h"

#include "core/store/memory_store.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
constexpr std::int64_t kNow = 1'700'000'000'000;
const NextEndpoint kSecond{"tcp://c.example.org:7401", wire::Key{2}, 1'000};
}  // namespace

TEST_CASE("a rotation begins once, keeps its times over restarts, and is over when its overlap is") {
  store::MemoryStore store;
  const auto none = find_rotation(store, kSecond.curve);
  REQUIRE_OK(none);
  CHECK_FALSE(none->has_value());
  const auto begun = begin_rotation(store, kSecond, kNow);
  REQUIRE_OK(begun);
  CHECK(begun->number == 1);
  CHECK(begun->from_ms == kNow);
  CHECK_FALSE(begun->over(kNow + 999));
  CHECK(begun->over(kNow + 1'000));
  const auto again = begin_rotation(store, kSecond, kNow + 700);
  REQUIRE_OK(again);
  CHECK(again->number == 1);
  CHECK(again->until_ms == kNow + 1'000);
  const auto found = find_rotation(store, kSecond.curve);
  REQUIRE_OK(found);
  REQUIRE(found->has_value());
  CHECK((*found)->endpoint == kSecond.endpoint);
  CHECK_FALSE(find_rotation(store, wire::Key{3})->has_value());
}

TEST_CASE("another endpoint of the same key and the next key get higher numbers, so that devices follow") {
  store::MemoryStore store;
  REQUIRE_OK(begin_rotation(store, kSecond, kNow));
  const auto moved = begin_rotation(store, {"tcp://c.example.org:7500", kSecond.curve, 1'000}, kNow + 500);
  REQUIRE_OK(moved);
  CHECK(moved->number == 2);
  CHECK(moved->until_ms == kNow + 1'000);
  const auto third = begin_rotation(store, {"tcp://c.example.org:7402", wire::Key{3}, 2'000}, kNow + 5'000);
  REQUIRE_OK(third);
  CHECK(third->number == 3);
  CHECK(third->from_ms == kNow + 5'000);
  CHECK(third->until_ms == kNow + 7'000);
  const auto notice = notice_of(*third, "home");
  CHECK(notice.number == 3);
  CHECK(notice.task == "home");
  CHECK(notice.curve == wire::Key{3});
  CHECK(notice.overlap_until_ms == kNow + 7'000);
}

}  // namespace covey::coordinator
