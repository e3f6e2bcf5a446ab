// Which endpoint a device tries, as it hears of new ones and as time passes.
#include "client/endpoints.h"

#include <limits>

#include "core/store/memory_store.h"
#include "support/support.h"

using namespace covey;
using namespace covey::client;

namespace {

constexpr std::int64_t kNow = 1'700'000'000'000;
const net::ServerAddress kFirst{"tcp://192.0.2.1:7400", wire::Key{1}};
const net::ServerAddress kSecond{"tcp://192.0.2.1:7401", wire::Key{2}};
const net::ServerAddress kThird{"tcp://192.0.2.1:7402", wire::Key{3}};

wire::EndpointNotice notice(std::uint64_t number, const net::ServerAddress& to, std::int64_t from_ms = kNow,
                            std::int64_t until_ms = kNow + 1'000) {
  return {number, "home", to.endpoint, to.curve, from_ms, until_ms};
}

EndpointBook told_of_second() {
  EndpointBook book(kFirst);
  const auto news = book.learn(notice(1, kSecond), "home", {kFirst, kNow, kNow});
  REQUIRE_OK(news);
  CHECK(*news);
  return book;
}

}  // namespace

TEST_CASE("a device that was told goes to the new endpoint, falls back within the overlap, and never after it") {
  EndpointBook book = told_of_second();
  CHECK(book.choose(kNow) == kSecond);
  book.failed();
  CHECK(book.choose(kNow) == kFirst);
  book.failed();
  CHECK(book.choose(kNow) == kSecond);
  book.failed();
  book.reached();  // at the first one: the next connection tries the second again
  CHECK(book.choose(kNow) == kSecond);
  book.failed();
  CHECK(book.choose(kNow + 1'000) == kSecond);
}

TEST_CASE("a device that was never told stays where its invite sent it") {
  EndpointBook book(kFirst);
  for (int n = 0; n < 5; ++n) {
    CHECK(book.choose(kNow + n) == kFirst);
    book.failed();
  }
  CHECK(book.failures() == 5);
}

TEST_CASE("before its time the new endpoint is only tried where the old one does not answer") {
  EndpointBook book(kFirst);
  REQUIRE_OK(book.learn(notice(1, kSecond, kNow + 500), "home", {kFirst, kNow, kNow}));
  CHECK(book.choose(kNow) == kFirst);
  book.failed();
  CHECK(book.choose(kNow) == kSecond);
  book.reached();
  CHECK(book.choose(kNow + 500) == kSecond);
}

TEST_CASE("a device whose clock is decades off counts the overlap on its own clock") {
  EndpointBook book(kFirst);
  REQUIRE_OK(book.learn(notice(1, kSecond), "home", {kFirst, kNow, 5'000}));
  CHECK(book.choose(5'000) == kSecond);
  book.failed();
  CHECK(book.choose(5'999) == kFirst);
  CHECK(book.choose(6'000) == kSecond);
  // Times that cannot be are kept within ten years.
  EndpointBook other(kFirst);
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  REQUIRE_OK(other.learn(notice(1, kSecond, kMin, kMax), "home", {kFirst, kMin, kNow}));
  CHECK(other.row().overlap_until_ms > kNow);
  CHECK(other.row().overlap_until_ms < 2 * kNow);
}

TEST_CASE("an older notice, another task's and one without an endpoint change nothing") {
  EndpointBook book = told_of_second();
  const auto again = book.learn(notice(1, kThird), "home", {kSecond, kNow, kNow});
  REQUIRE_OK(again);
  CHECK_FALSE(*again);
  CHECK_FALSE(book.learn(notice(2, kThird), "office", {kSecond, kNow, kNow}).ok());
  CHECK_FALSE(book.learn(notice(2, {"", wire::Key{3}}), "home", {kSecond, kNow, kNow}).ok());
  CHECK(book.choose(kNow) == kSecond);
}

TEST_CASE("a second rotation falls back on the endpoint that the device came through") {
  EndpointBook book = told_of_second();
  REQUIRE_OK(book.learn(notice(2, kThird), "home", {kSecond, kNow, kNow}));
  CHECK(book.choose(kNow) == kThird);
  book.failed();
  CHECK(book.choose(kNow) == kSecond);
}

TEST_CASE("what was learned outlives the process, and a damaged row is reported") {
  store::MemoryStore store;
  EndpointBook fresh(kFirst);
  REQUIRE_OK(fresh.restore(store));
  CHECK(fresh.choose(kNow) == kFirst);
  REQUIRE_OK(save_endpoints(store, told_of_second().row()));
  EndpointBook book(kFirst);
  REQUIRE_OK(book.restore(store));
  CHECK(book.choose(kNow) == kSecond);
  book.failed();
  CHECK(book.choose(kNow) == kFirst);
  REQUIRE_OK(store.put("device", store::key_of("endpoint"), Bytes(3)));
  CHECK(book.restore(store).error().code == ErrorCode::corrupt_data);
}
