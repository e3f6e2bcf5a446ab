#include "core/wire/signing.h"

#include <doctest/doctest.h>

#include "core/wire/codec.h"
#include "support/support.h"

using namespace covey;
using namespace covey::wire;

namespace {

crypto::IdentityKey key_of(std::uint8_t number) {
  return *crypto::IdentityKey::from_seed(Bytes(32, number));
}

RoundPlan plan() {
  RoundPlan out;
  out.task = "home";
  out.round = RoundId{3};
  out.adapter.name = "adapter";
  out.clip_norm = 1.5;
  return out;
}

}  // namespace

TEST_CASE("a signed hello stands until any field changes") {
  Hello hello;
  hello.sent_ms = 12345;
  hello.curve[4] = 7;
  sign(hello, key_of(1));
  CHECK(hello.identity == key_of(1).public_key().bytes);
  CHECK(signature_ok(hello));
  Hello other = hello;
  other.sent_ms += 1;
  CHECK_FALSE(signature_ok(other));
  other = hello;
  other.curve[4] = 8;
  CHECK_FALSE(signature_ok(other));
  other = hello;
  other.nonce[15] ^= 1;
  CHECK_FALSE(signature_ok(other));
  other = hello;
  other.identity = key_of(2).public_key().bytes;
  CHECK_FALSE(signature_ok(other));
  other = hello;
  other.roster_epoch = 1;
  CHECK_FALSE(signature_ok(other));
}

TEST_CASE("a signed enrolment stands until any field changes") {
  Enroll enroll;
  enroll.name = "kitchen";
  enroll.invite = invite_hash(Bytes(32, 9));
  sign(enroll, key_of(1));
  CHECK(signature_ok(enroll));
  enroll.name = "kitchem";
  CHECK_FALSE(signature_ok(enroll));
}

TEST_CASE("a welcome answers one hello") {
  const Nonce nonce{1};
  Welcome welcome;
  welcome.server_ms = 99;
  sign(welcome, nonce, key_of(5));
  const Key coordinator = key_of(5).public_key().bytes;
  CHECK(signature_ok(welcome, nonce, coordinator));
  CHECK_FALSE(signature_ok(welcome, nonce, key_of(6).public_key().bytes));
  CHECK_FALSE(signature_ok(welcome, Nonce{2}, coordinator));
  welcome.roster_epoch = 4;
  CHECK_FALSE(signature_ok(welcome, nonce, coordinator));
}

TEST_CASE("a plan opens with the coordinator's key only, and a changed bit closes it") {
  const Key coordinator = key_of(5).public_key().bytes;
  TaskOffer offer = sign_plan(encode(plan()), key_of(5));
  const auto opened = open_plan(offer, coordinator);
  REQUIRE_OK(opened);
  CHECK(opened->round == RoundId{3});
  CHECK(opened->clip_norm == 1.5);
  CHECK(open_plan(offer, key_of(6).public_key().bytes).error().code == ErrorCode::permission_denied);
  offer.plan.back() ^= 1;
  CHECK(open_plan(offer, coordinator).error().code == ErrorCode::permission_denied);
  const TaskOffer nonsense = sign_plan(Bytes(10, 1), key_of(5));
  CHECK(open_plan(nonsense, coordinator).error().code == ErrorCode::corrupt_data);
}

TEST_CASE("roster epochs chain by hash, and a plan's signature is worth nothing on one") {
  const Key roster = key_of(7).public_key().bytes;
  RosterEpoch first;
  first.epoch = 1;
  first.changes.push_back({key_of(1).public_key().bytes, {}, DeviceStatus::active});
  const SignedRosterEpoch signed_first = sign_epoch(first, key_of(7));
  RosterEpoch second;
  second.epoch = 2;
  second.previous = hash_of(signed_first);
  const auto opened = open_epoch(sign_epoch(second, key_of(7)), roster);
  REQUIRE_OK(opened);
  CHECK(opened->previous == hash_of(signed_first));
  CHECK(open_epoch(signed_first, roster)->changes.size() == 1);
  CHECK_FALSE(open_epoch(signed_first, key_of(8).public_key().bytes).ok());

  const TaskOffer same_bytes = sign_plan(signed_first.epoch, key_of(7));
  CHECK_FALSE(open_epoch({same_bytes.plan, same_bytes.signature}, roster).ok());
}

TEST_CASE("signatures and hashes have the same bits on every machine") {
  const TaskOffer offer = sign_plan(encode(plan()), key_of(5));
  CHECK(to_hex(offer.signature).substr(0, 32) == "d260d4aa6fda524bfb5fff70d2fe9ef2");
  CHECK(to_hex(plan_hash(offer.plan)) == "1de735e6170f1b82a75126ac909c7a0b4501fa24cc0439461e9fc4b38ed60868");
}

TEST_CASE("an endpoint notice opens under the coordinator's key alone, and only as it was signed") {
  EndpointNotice notice;
  notice.number = 2;
  notice.task = "home";
  notice.endpoint = "tcp://192.0.2.7:7401";
  notice.curve[3] = 9;
  notice.from_ms = 1'700'000'000'000;
  notice.overlap_until_ms = notice.from_ms + 86'400'000;
  SignedEndpoint document = sign_endpoint(notice, key_of(1));
  const auto opened = open_endpoint(document, key_of(1).public_key().bytes);
  REQUIRE_OK(opened);
  CHECK(encode(*opened) == encode(notice));
  CHECK(open_endpoint(document, key_of(2).public_key().bytes).error().code == ErrorCode::permission_denied);
  document.notice.back() ^= 1;
  CHECK(open_endpoint(document, key_of(1).public_key().bytes).error().code == ErrorCode::permission_denied);
  // A signature for something else, and signed rubbish.
  SignedEndpoint other;
  other.notice = encode(notice);
  other.signature = key_of(1).sign_in(kPlanDomain, other.notice).bytes;
  CHECK(open_endpoint(other, key_of(1).public_key().bytes).error().code == ErrorCode::permission_denied);
  other.notice = Bytes(5, 1);
  other.signature = key_of(1).sign_in(kEndpointDomain, other.notice).bytes;
  CHECK(open_endpoint(other, key_of(1).public_key().bytes).error().code == ErrorCode::corrupt_data);
}

TEST_CASE("an endpoint notice with a text above its bound is refused before it is believed") {
  EndpointNotice notice;
  notice.endpoint = std::string(255, 'x');
  REQUIRE_OK(decode<EndpointNotice>(encode(notice)));
  notice.endpoint += 'x';
  CHECK(decode<EndpointNotice>(encode(notice)).error().code == ErrorCode::resource_exhausted);
  SignedEndpoint document;
  document.notice = Bytes(1025);
  CHECK(decode<SignedEndpoint>(encode(document)).error().code == ErrorCode::resource_exhausted);
}
