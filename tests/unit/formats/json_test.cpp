#include "core/formats/json.h"

#include <limits>

#include "support/support.h"

using covey::formats::Json;

TEST_CASE("JSON keeps integers, real numbers, strings and order") {
  const auto parsed =
      Json::parse(R"({"b": 1, "a": 1.0, "s": "\u00e9\n", "n": null, "l": [true, -9223372036854775808]})");
  REQUIRE_OK(parsed);
  CHECK(parsed->dump() == "{\"b\":1,\"a\":1.0,\"s\":\"\xC3\xA9\\n\",\"n\":null,\"l\":[true,-9223372036854775808]}");
  CHECK(parsed->find("b")->is_int());
  CHECK_FALSE(parsed->find("a")->is_int());
  CHECK(parsed->dump_pretty().starts_with("{\n  \"a\": 1.0,\n  \"b\": 1,\n  \"l\": [\n    true,"));
  CHECK(*Json::parse(parsed->dump_pretty()) == *parsed);
}

TEST_CASE("JSON numbers read back to the same bits") {
  for (const double value : {0.1, 1e300, -2.5e-308, 1.0 / 3, 12345678.0, 1e22}) {
    const auto again = Json::parse(Json(value).dump());
    REQUIRE_OK(again);
    CHECK(again->as_double().value() == value);
    CHECK_FALSE(again->is_int());
  }
  CHECK(Json(0.1f).dump() == "0.1");
  CHECK(Json(std::numeric_limits<double>::quiet_NaN()).dump() == "null");
  const Json large = std::numeric_limits<std::uint64_t>::max();
  CHECK(large.dump() == "18446744073709551615");
  CHECK(*Json::parse(large.dump()) == large);
  CHECK_FALSE(large.as_int().ok());
  CHECK(large.as_uint().value() == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("JSON is built from pairs, set and push_back") {
  Json json = Json::object({{"round", 3}, {"name", "x"}, {"list", Json::array({1, 2.5, "z"})}});
  json.set("round", 4).set("ids", std::vector<int>{1, 2});
  CHECK(json.dump() == R"({"round":4,"name":"x","list":[1,2.5,"z"],"ids":[1,2]})");
  Json copy = json;
  copy.set("round", 5);
  CHECK(json.get_int("round").value() == 4);
  Json big;
  for (int i = 0; i < 1000; ++i) big.set("k" + std::to_string(i), i);
  big.set("k500", -1);
  CHECK(big.size() == 1000);
  CHECK(big.get_int("k999").value() == 999);
  CHECK(big.get_int("k500").value() == -1);
  CHECK(Json::object().dump() == "{}");
  CHECK(Json::array().dump_pretty() == "[]\n");
}

TEST_CASE("a JSON getter names the file and the path of the key") {
  const auto json = Json::parse(R"({"a": {"list": [{"x": "text"}], "k": 3}})", "config.json");
  REQUIRE_OK(json);
  const Json* inner = json->get_object("a").value();
  CHECK(inner->get_int("missing").error().message == "config.json: a.missing: is missing");
  CHECK(inner->items().empty());
  CHECK(inner->get_array("list").value()->items()[0].get_int("x").error().message ==
        "config.json: a.list[0].x: expected an integer, found a string");
  CHECK(json->get_int("a").error().message == "config.json: a: expected an integer, found an object");
  CHECK(inner->get_int_between("k", 5, 9).error().message == "config.json: a.k: must lie between 5 and 9, found 3");
  CHECK(inner->get_int("none", 7).value() == 7);
  CHECK_FALSE(inner->get_string("k", "x").ok());
  CHECK(inner->get_double("k").value() == 3.0);
}

TEST_CASE("broken JSON is refused with one line that says where") {
  const std::string deep(100, '[');
  const struct {
    std::string text, expected;
  } cases[] = {
      {"", "f:1:"},
      {"{\"a\": 1,\n  \"b\": }", "f:2:"},
      {"{\"a\": 1, \"a\": 2}", "twice"},
      {deep, "nested deeper"},
      {"[1, 2", "f:1:"},
      {"\"\xff\xfe\"", "f:1:"},
      {"[1e999]", "f:"},
      {"{} trailing", "f:1:"},
      {"// c\n{}", "f:1:"},
      {"[NaN]", "f:1:"},
      {std::string("[\"a\0\"]", 6), "f:1:"},
      {"\"\\ud800\"", "f:1:"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.text);
    const auto result = Json::parse(c.text, "f");
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().message.find(c.expected) != std::string::npos);
    CHECK(result.error().message.find('\n') == std::string::npos);
    CHECK(result.error().message.find("tra") == std::string::npos);  // quotes nothing of a file that may be private
  }
  CHECK(Json::parse("[1,2,3]", "f", {.bytes_max = 3}).error().code == covey::ErrorCode::resource_exhausted);
}
