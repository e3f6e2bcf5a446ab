// What training takes, measured on random weights by `covey-model bench`, one process for each case.
//
//   engine_bench memory    predicted against measured peak memory: three shapes x two batch sizes x four methods.
//                          Exits 1 where a prediction is off by more than a tenth, or a method that needs no
//                          activations takes more than 1.1 times what forward and loss take. Minutes.
//   engine_bench sparse    training the upper layers alone against training all: time and memory, both sides in one go.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/formats/json.h"

namespace {

using covey::formats::Json;

struct Measured {
  double planned_mib = 0;
  double peak_mib = 0;
  double seconds = 0;  ///< of the fastest step but the first: another's work on the machine only ever adds
};

[[noreturn]] void fail(const std::string& why) {
  std::fprintf(stderr, "engine_bench: %s\n", why.c_str());
  std::exit(2);
}

double number(const Json& json, const char* key) {
  const auto* member = json.find(key);
  if (member == nullptr) fail(std::string("covey-model bench printed no ") + key);
  const auto value = member->as_double();
  if (!value.ok()) fail(value.error().message);
  return *value;
}

Measured bench(const std::string& arguments) {
  const char* elsewhere = std::getenv("COVEY_BIN_DIR");
  const std::string command =
      std::string(elsewhere != nullptr ? elsewhere : COVEY_BIN_DIR) + "/covey-model bench " + arguments;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) fail("cannot run " + command);
  std::string text;
  char part[4096];
  for (std::size_t got = 0; (got = std::fread(part, 1, sizeof part, pipe)) > 0;) text.append(part, got);
  if (pclose(pipe) != 0) fail(command + ": failed");
  const auto json = Json::parse(text);
  if (!json.ok()) fail(command + ": " + json.error().message);
  Measured out;
  out.planned_mib = number(*json, "planned_mib");
  out.peak_mib = number(*json, "peak_rss_mib");
  const auto& steps = json->find("step_s")->items();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const auto value = steps[i].as_double();
    if (!value.ok()) fail(value.error().message);
    if (i <= 1 || *value < out.seconds) out.seconds = *value;
  }
  return out;
}

struct Way {
  const char* name;
  const char* flags;
  bool inference;  ///< must fit into 1.1 times forward and loss
};

int memory(int threads) {
  const Way ways[] = {{"backprop", "--method backprop", false},
                      {"checkpointed", "--method backprop --checkpoint", false},
                      {"forward-gradient", "--method forward-gradient", true},
                      {"zeroth-order", "--method zeroth-order", true}};
  std::printf("%-11s %5s  %-16s %12s %12s %9s %12s\n", "shape", "batch", "method", "planned MiB", "measured MiB",
              "off by", "of forward");
  double worst = 0;
  double widest = 0;
  double small = 0;
  for (const char* shape : {"stories15m", "smollm135m", "qwen05b"}) {
    for (const int batch : {1, 4}) {
      const std::string common = std::string("--shape ") + shape + " --seq 128 --rank 8 --steps 1 --batch " +
                                 std::to_string(batch) + " --threads " + std::to_string(threads) + " ";
      const Measured forward = bench(common + "--method forward");
      for (const Way& way : ways) {
        const Measured m = bench(common + way.flags);
        const double off = m.planned_mib / m.peak_mib - 1;
        const double ratio = m.peak_mib / forward.peak_mib;
        worst = std::max(worst, std::abs(off));
        if (way.inference) widest = std::max(widest, ratio);
        if (std::string(shape) == "smollm135m" && batch == 4 && std::string(way.name) == "checkpointed") {
          small = m.peak_mib;
        }
        std::printf("%-11s %5d  %-16s %12.1f %12.1f %8.1f%% %11.2fx\n", shape, batch, way.name, m.planned_mib,
                    m.peak_mib, 100 * off, ratio);
        std::fflush(stdout);
      }
    }
  }
  std::printf("worst deviation %.1f%% (limit 10%%); widest method without activations %.2fx of forward (limit 1.10x); ",
              100 * worst, widest);
  std::printf("smollm135m, batch 4, checkpointed: %.0f MiB (limit 1000)\n", small);
  return worst <= 0.10 && widest <= 1.10 && small <= 1000 ? 0 : 1;
}

int sparse(int threads) {
  struct Shape {
    const char* name;
    const char* upper;  ///< its topmost layers
    const char* which;  ///< in words
  };
  std::printf("%-11s %-5s  %-22s %9s %12s %9s %12s\n", "shape", "what", "trains", "step s", "peak MiB", "time",
              "memory");
  for (const Shape shape : {Shape{"stories15m", "4,5", "upper 2 of 6 layers"},
                            Shape{"smollm135m", "23,24,25,26,27,28,29", "upper 7 of 30 layers"}}) {
    for (const bool full : {false, true}) {
      const std::string common = std::string("--shape ") + shape.name + " --seq 128 --batch 4 --steps 4 --threads " +
                                 std::to_string(threads) + (full ? " --full " : " ");
      const Measured all = bench(common);
      const std::string layers = std::string("--train-layers ") + shape.upper;
      const Measured upper = bench(common + layers);
      const Measured values = bench(common + layers + " --train-tensors v_proj,down_proj");
      const auto print = [&](const char* trains, const Measured& m) {
        std::printf("%-11s %-5s  %-22s %9.3f %12.1f %8.2fx %11.2fx\n", shape.name, full ? "full" : "lora", trains,
                    m.seconds, m.peak_mib, m.seconds / all.seconds, m.peak_mib / all.peak_mib);
      };
      print("all", all);
      print(shape.which, upper);
      print("of it v and down_proj", values);
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "memory";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  if (what == "memory") return memory(threads);
  if (what == "sparse") return sparse(threads);
  fail("say memory or sparse, and perhaps how many threads");
}
