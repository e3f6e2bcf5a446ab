#include <filesystem>
#include <map>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "fuzz/targets.h"
#include "support/support.h"

using namespace covey;  // NOLINT

namespace {
using Target = void (*)(const std::uint8_t*, std::size_t);
const std::map<std::string, Target> kTargets = {{"json", fuzz::json},
                                                {"safetensors", fuzz::safetensors},
                                                {"gguf", fuzz::gguf},
                                                {"llama2c", fuzz::llama2c},
                                                {"rwkv_cpp", fuzz::rwkv_cpp},
                                                {"sentencepiece", fuzz::sentencepiece},
                                                {"tokenizer_bin", fuzz::tokenizer_bin},
                                                {"tokenizer_json", fuzz::tokenizer_json},
                                                {"peft_config", fuzz::peft_config},
                                                {"model_config", fuzz::model_config},
                                                {"torch_pickle", fuzz::torch_pickle},
                                                {"torch_zip", fuzz::torch_zip},
                                                {"chat_template", fuzz::chat_template},
                                                {"jsonl", fuzz::jsonl},
                                                {"csv", fuzz::csv},
                                                {"device_scores", fuzz::device_scores},
                                                {"packet_trace", fuzz::packet_trace}};

void damage(Bytes& bytes, Rng& rng) {
  for (std::uint64_t n = 1 + rng.below(4); n > 0 && !bytes.empty(); --n) {
    const auto at = static_cast<std::size_t>(rng.below(bytes.size()));
    switch (rng.below(4)) {
      case 0:
        bytes[at] = static_cast<std::uint8_t>(rng.below(256));
        break;
      case 1:
        bytes[at] ^= static_cast<std::uint8_t>(1U << rng.below(8));
        break;
      case 2:
        bytes.resize(at);
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes[rng.below(bytes.size())]);
        break;
    }
  }
}
}  // namespace

TEST_CASE("every fuzz target survives its seeds, their prefixes, and damaged copies") {
  for (const auto& [name, target] : kTargets) {
    CAPTURE(name);
    const std::string folder = test::source_dir() + "/tests/fuzz/seeds/" + name;
    REQUIRE(std::filesystem::is_directory(folder));
    int seeds = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const auto seed = read_file(entry.path().string());
      REQUIRE_OK(seed);
      ++seeds;
      for (std::size_t length = 0; length <= seed->size(); ++length) {
        const Bytes prefix(seed->begin(), seed->begin() + static_cast<std::ptrdiff_t>(length));
        target(prefix.data(), prefix.size());
      }
      Rng rng(11);
      for (int i = 0; i < 500; ++i) {
        Bytes copy = *seed;
        damage(copy, rng);
        target(copy.data(), copy.size());
      }
    }
    CHECK(seeds > 0);
  }
}
