// Fleets: classes from scores, links from packet traces, hours of the day, and scheduling experiments on them.
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "simulations/availability.h"
#include "simulations/fleet_data.h"
#include "simulations/world.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

constexpr std::int64_t kHour = 3'600'000;

std::string phone(int score, const char* memory) {
  return "{\"Model\": \"x\", \"RAM\": \"" + std::string(memory) + "\", \"CPU_F_AI_Score\": \"" + std::to_string(score) +
         "\"}";
}

Experiment modelled(const std::string& extra, int devices = 3000) {
  tiny::Choices choices;
  const std::string path = tiny::World::shared().file("fleet.yaml");
  static_cast<void>(tiny::World::shared().experiment(choices));  // makes the base model
  tiny::write(path, "model: base\ndevices: " + std::to_string(devices) +
                        "\ntraining: modelled\nmodelled: {parameters: 1.0e+9, update_bytes: 4000000, examples: 50}\n"
                        "data: {format: households}\nrounds: 6\ngoal: 100\nmin: 50\nover_selection: 1.3\n"
                        "deadline_min: 30\ncheck_back_min: 10\nprivacy: {mode: robust, weight_max: 100}\n"
                        "local: {epochs: 1, steps_max: 10, batch: 8, seq: 128}\n" +
                        extra);
  const auto experiment = load_experiment(path);
  REQUIRE_OK(experiment);
  return *experiment;
}

std::string lines_of(const WorldResult& result) {
  std::string out;
  for (const auto& round : result.rounds) out += round.dump() + "\n";
  return out;
}

}  // namespace

TEST_CASE("classes cut the phones by score into equal parts, with the median's speed as the stated one") {
  const std::string json = "[" + phone(900, "6GB") + "," + phone(100, "1GB") + "," + phone(300, "2GB") + "," +
                           phone(500, "4GB") + "," + phone(700, "0.5GB") + "," + phone(1100, "12GB") + "]";
  const auto classes = classes_from_scores(json, "scores.json", {.classes = 3, .median_gflops = 12});
  REQUIRE_OK(classes);
  REQUIRE(classes->size() == 3);
  CHECK(classes->at(0).name == "score 100-300");
  CHECK(classes->at(0).training_gflops == doctest::Approx(12 * 200.0 / 600));
  CHECK(classes->at(1).training_gflops == doctest::Approx(12));
  CHECK(classes->at(2).training_gflops == doctest::Approx(12 * 1000.0 / 600));
  CHECK(classes->at(0).memory_bytes == (std::uint64_t{3} << 29));  // the median of 1 and 2 GiB
  CHECK(classes->at(2).training_watts > classes->at(0).training_watts);
  for (const auto& one : *classes) CHECK(one.share == 2);
}

TEST_CASE("a list of scores that is none is refused with the phone that is wrong") {
  for (const auto* wrong : {"{}", "[1]", "[{\"RAM\": \"4GB\"}]", "[{\"RAM\": \"4GB\", \"CPU_F_AI_Score\": \"x\"}]",
                            "[{\"RAM\": \"-4GB\", \"CPU_F_AI_Score\": \"5\"}]", "["}) {
    CAPTURE(wrong);
    const auto classes = classes_from_scores(wrong, "scores.json", {.classes = 1});
    REQUIRE(!classes.ok());
    CHECK(classes.error().message.find("scores.json") != std::string::npos);
  }
  CHECK(!classes_from_scores("[" + phone(1, "1GB") + "]", "scores.json", {.classes = 2}).ok());
}

TEST_CASE("a packet trace lets every packet pass at its own time, over and over, as counting them one by one says") {
  const auto trace = PacketTrace::parse("0\n0\n3\n7\n10\n", "trace");
  REQUIRE_OK(trace);
  CHECK(trace->period_ms() == 10);
  CHECK(trace->bytes_per_s() == doctest::Approx(5 * 1500 * 100.0));
  const std::vector<std::int64_t> times = {0, 0, 3, 7, 10};
  for (std::int64_t start = 0; start < 40; ++start) {
    for (std::uint64_t packets = 1; packets < 23; ++packets) {
      std::uint64_t passed = 0;
      std::int64_t last = 0;
      for (std::int64_t period = start / 10; passed < packets; ++period) {
        for (const auto at : times) {
          if (period * 10 + at < start || passed == packets) continue;
          last = period * 10 + at;
          ++passed;
        }
      }
      REQUIRE(trace->passed_ms(start, packets * 1500 - 1499) == last);
      REQUIRE(trace->passed_ms(start, packets * 1500) == last);
    }
  }
  CHECK(trace->passed_ms(17, 0) == 17);
}

TEST_CASE("a trace with a line that is no time is refused with the line") {
  for (const auto* wrong : {"", "1\nx\n", "5\n4\n", "1\n\n2\n", "-1\n", "99999999999999999999\n"}) {
    CAPTURE(wrong);
    CHECK(!PacketTrace::parse(wrong, "trace").ok());
  }
  CHECK(PacketTrace::parse("5\n4\n", "trace").error().message.find("trace:2") == 0);
}

TEST_CASE(
    "devices are available at night: about charged x hours / 24 of the time, and hardly ever at 4 in the afternoon") {
  Availability model;
  model.diurnal = true;
  int afternoon = 0;
  int night = 0;
  double share = 0;
  constexpr int kDevices = 400;
  for (std::uint64_t device = 0; device < kDevices; ++device) {
    const AvailabilityOf hours(model, 3, device);
    for (int hour = 48; hour < 144; ++hour) {
      const auto window = hours.window(hour * kHour);
      REQUIRE(window.end_ms > hour * kHour);
      const bool there = window.begin_ms <= hour * kHour;
      share += there ? 1.0 / (96 * kDevices) : 0;
      if (hour == 96 + 16) afternoon += there ? 1 : 0;
      if (hour == 96 + 2) night += there ? 1 : 0;
    }
  }
  CHECK(share == doctest::Approx(0.85 * 8 / 24).epsilon(0.05));
  CHECK(afternoon < kDevices / 50);
  CHECK(night > kDevices * 3 / 4);
}

TEST_CASE("a scheduling experiment repeats, invites no more than planned, and faster classes contribute more often") {
  const auto experiment = modelled("fleet: {dropout: 0.05}\n");
  const auto first = run_world(experiment);
  REQUIRE_OK(first);
  const auto second = run_world(experiment);
  REQUIRE_OK(second);
  CHECK(lines_of(*first) == lines_of(*second));
  REQUIRE(first->rounds.size() >= 6);
  for (const auto& round : first->rounds) {
    CHECK(*round.get_uint("invited") <= 130);
    CHECK(*round.get_uint("contributed") <= 100);
  }
  const auto classes = first->summary.find("classes")->items();
  const auto rate = [&](std::size_t c) {
    return static_cast<double>(*classes[c].get_uint("contributions")) /
           static_cast<double>(*classes[c].get_uint("devices"));
  };
  CHECK(rate(0) > rate(2));
}

TEST_CASE("in a diurnal fleet rounds that begin by day find nobody") {
  const auto experiment =
      modelled("fleet: {availability: {model: diurnal}}\nvirtual_time_max_h: 100\nrounds_tried_max: 60\n");
  const auto result = run_world(experiment);
  REQUIRE_OK(result);
  std::uint64_t by_day = 0;
  std::uint64_t by_night = 0;
  for (const auto& round : result->rounds) {
    const double hour = std::fmod(*round.get_double("virtual_s") / 3600, 24);
    (hour > 12 && hour < 18 ? by_day : by_night) += *round.get_uint("contributed");
  }
  CHECK(by_day == 0);
  CHECK(by_night > 0);
}

TEST_CASE("measured phones and links are read from the data folder") {
  const char* folder = std::getenv("COVEY_DATA_DIR");
  const std::string data = folder != nullptr ? folder : "../shared/data";
  if (!std::filesystem::exists(data + "/flash-device/raw_ai_benchmark_list.json")) {
    MESSAGE("SKIPPED: no flash-device in COVEY_DATA_DIR");
    return;
  }
  const auto classes = load_classes(data + "/flash-device/raw_ai_benchmark_list.json", {});
  REQUIRE_OK(classes);
  CHECK(classes->size() == 5);
  CHECK(std::accumulate(classes->begin(), classes->end(), 0.0,
                        [](double sum, const auto& c) { return sum + c.share; }) == 333);
  CHECK(classes->at(2).training_gflops == doctest::Approx(15).epsilon(0.02));
  const auto link = load_link_trace(data + "/mahimahi-traces/ATT-LTE-driving-2016");
  REQUIRE_OK(link);
  CHECK(link->down.bytes_per_s() > link->up.bytes_per_s());  // 0.57 and 0.24 MB/s
  CHECK(link->down.bytes_per_s() == doctest::Approx(45604 * 1500 / 120.002).epsilon(1e-6));
}

TEST_CASE("a modelled fleet in secure mode, or scores beside classes, are refused") {
  const std::string path = tiny::World::shared().file("wrong.yaml");
  tiny::write(path,
              "model: base\ndevices: 5\ntraining: modelled\ndata: {format: households}\n"
              "privacy: {mode: secure, survivors_min: 3}\ngoal: 3\n");
  const auto secure = load_experiment(path);
  REQUIRE(!secure.ok());
  CHECK(secure.error().message.find("training") != std::string::npos);
  tiny::write(path,
              "model: base\ndevices: 5\ndata: {format: households}\nprivacy: {mode: robust}\n"
              "fleet: {scores: nowhere.json}\n");
  CHECK(load_experiment(path).error().message.find("fleet.scores") != std::string::npos);
}

TEST_CASE("a fleet that knows the roster from the start trains the same amount and moves fewer bytes") {
  const std::string path = tiny::World::shared().experiment({});
  const auto text = read_text_file(path);
  REQUIRE_OK(text);
  const auto run_with = [&](const std::string& roster) {
    std::string changed = *text;
    changed.replace(changed.find("fleet: {"), 8, "fleet: {roster: " + roster + ", ");
    tiny::write(path, changed);
    const auto experiment = load_experiment(path);
    REQUIRE_OK(experiment);
    const auto result = run_world(*experiment);
    REQUIRE_OK(result);
    return *result;
  };
  const auto followed = run_with("followed");
  const auto known = run_with("known");
  CHECK(*known.summary.get_uint("contributions") == *followed.summary.get_uint("contributions"));
  CHECK(*known.summary.get_uint("bytes_down") < *followed.summary.get_uint("bytes_down"));
}
