/// A model of a few thousand parameters with its tokenizer, made in a temporary folder, and experiments on the
/// generated household corpus: worlds that need no data of others.
#pragma once

#include <filesystem>
#include <string>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/data/household.h"
#include "core/formats/tokenizer_spec.h"
#include "core/model/model.h"
#include "core/text/bpe_train.h"
#include "support/support.h"

namespace covey::simulations::tiny {

inline void write(const std::string& path, const std::string& text) {
  REQUIRE_OK(write_file_durably(path, text));
}

inline void make_base_model(const std::string& directory, int hidden = 16) {
  data::HouseholdOptions options;
  options.households = 1;
  options.unseen = 0;
  options.general_lines = 300;
  const auto corpus = data::make_household_corpus(options);
  REQUIRE_OK(corpus);
  std::string text;
  for (const auto& line : corpus->general.train) text += line + "\n";
  const auto spec = text::train_bpe(text, 320);
  REQUIRE_OK(spec);

  model::ModelConfig config;
  config.vocab_size = 320;
  config.hidden_size = hidden;
  config.intermediate_size = 2 * hidden;
  config.layers = 1;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = hidden / 2;
  config.context_max = 64;
  config.bos_id = 0;
  config.eos_ids = {1};
  const auto model = model::Model::create(config, 3);
  REQUIRE_OK(model);
  REQUIRE_OK((*model)->save(directory));
  REQUIRE_OK(formats::write_byte_level_tokenizer(directory, *spec));
}

struct Choices {
  int devices = 12;
  int rounds = 3;
  int goal = 5;
  double over_selection = 1.4;
  int threads = 1;
  int seed = 1;
  double dropout = 0;
  double learning_rate = 0.01;
  std::string name = "tiny";
  std::string privacy = "mode: robust";
  std::string rule = "mean";
  std::string selection = "{policy: uniform}";
  std::string method = "backprop";
  std::string optimizer = "adamw";
  int candidates = 0;  ///< K of a seeded task
  int hidden = 16;     ///< width of the base model; others than 16 are made on demand
  int value_bits = 20;
  int weight_max = 50;
  int deadline_s = 120;
};

/// Made once for each test program.
class World {
 public:
  World() {
    set_log_level(LogLevel::warning);
    make_base_model(dir_.file("base"));
  }

  /// The path of an experiment's file.
  [[nodiscard]] std::string experiment(const Choices& choices) {
    const std::string model = choices.hidden == 16 ? "base" : "base" + std::to_string(choices.hidden);
    if (!std::filesystem::exists(dir_.file(model))) make_base_model(dir_.file(model), choices.hidden);
    const std::string path = dir_.file("experiment" + std::to_string(next_++) + ".yaml");
    write(path, "name: '" + choices.name + "'\nmodel: " + model + "\ndevices: " + std::to_string(choices.devices) +
                    "\nthreads: " + std::to_string(choices.threads) + "\nseed: " + std::to_string(choices.seed) +
                    "\ndata: {format: households, lines: 20, held_out: 0.2, held_out_rows_max: 40}\nrounds: " +
                    std::to_string(choices.rounds) + "\ngoal: " + std::to_string(choices.goal) +
                    "\nmin: 2\nover_selection: " + std::to_string(choices.over_selection) +
                    "\ndeadline_s: " + std::to_string(choices.deadline_s) +
                    "\ncheck_back_s: 5\n"
                    "adapter: {rank: 2, alpha: 4, targets: [all-linear]}\n"
                    "local: {epochs: 1, steps_max: 4, batch: 4, seq: 48, method: " +
                    choices.method + ", optimizer: " + choices.optimizer +
                    ", learning_rate: " + std::to_string(choices.learning_rate) +
                    ", candidates: " + std::to_string(choices.candidates) + "}\nprivacy: {" + choices.privacy +
                    ", clip_norm: 10, value_bits: " + std::to_string(choices.value_bits) +
                    ", weight_max: " + std::to_string(choices.weight_max) + "}\nselection: " + choices.selection +
                    "\naggregation: {rule: " + choices.rule + "}\nfleet: {dropout: " + std::to_string(choices.dropout) +
                    ", away_s: 30}\n");
    return path;
  }
  [[nodiscard]] std::string file(const std::string& name) const { return dir_.file(name); }

  static World& shared() {
    static World made;
    return made;
  }

 private:
  test::TempDir dir_;
  int next_ = 0;
};

}  // namespace covey::simulations::tiny
