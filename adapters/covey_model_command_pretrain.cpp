// pretrain, corpus: commands that make base models and the text to try them on.
#include <algorithm>

#include "adapters/covey_model.h"
#include "adapters/covey_model_command_settings.h"
#include "adapters/covey_model_progress.h"
#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/base/log.h"
#include "core/data/household.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/bpe_train.h"
#include "core/train/evaluate.h"
#include "core/train/local_trainer.h"

namespace covey::adapters {
namespace {

Status make_directory(const std::string& path) {
  return make_folders(path);
}

Status write_lines(const std::string& path, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return write_file_durably(path, text);
}

}  // namespace

Status run_pretrain(const PretrainOptions& options, Console& console) {
  COVEY_ASSIGN(PretrainSettings config, read_pretrain_settings(options.config));
  std::vector<TextExample> examples;
  std::string text;
  for (const std::string& path : config.data) {
    COVEY_ASSIGN(auto more, read_examples(path));
    for (const auto& example : more) text += example.prompt + example.text + "\n";
    std::move(more.begin(), more.end(), std::back_inserter(examples));
  }
  COVEY_ASSIGN(const formats::TokenizerSpec spec, text::train_bpe(text, config.vocab_size));
  COVEY_TRY(make_directory(options.out));
  COVEY_TRY(formats::write_byte_level_tokenizer(options.out, spec));
  COVEY_ASSIGN(const auto tokenizer, text::load_tokenizer(options.out));
  config.model.vocab_size = tokenizer->vocab_size();
  config.model.bos_id = tokenizer->bos_id();
  config.model.eos_ids = {tokenizer->eos_id()};
  COVEY_ASSIGN(const auto model, model::Model::create(config.model, config.training.seed));
  const int seq = std::min(config.training.seq, config.model.context_max);
  const auto rows = example_rows(*tokenizer, examples, seq);
  ThreadPool pool(thread_count(options.common.threads));
  const SystemClock clock;
  log_info("pretrain", std::to_string(model->parameter_count()) + " parameters, " + std::to_string(rows.size()) +
                           " rows, vocabulary " + std::to_string(config.model.vocab_size));
  COVEY_ASSIGN(const auto trainer, train::LocalTrainer::create_full(*model, rows, config.training, pool, clock));
  COVEY_TRY(train_with_progress(*trainer, console));
  COVEY_TRY(model->save(options.out));
  formats::Json out = training_summary(trainer->report(), model->parameter_count());
  if (!config.held_out.empty()) {
    COVEY_ASSIGN(const auto held_out, read_examples(config.held_out));
    COVEY_ASSIGN(const auto result,
                 train::evaluate(*model, {}, {}, example_rows(*tokenizer, held_out, seq), {.seq = seq}, pool));
    out.set("held_out_perplexity", result.perplexity).set("held_out_accuracy", result.accuracy);
  }
  console.result(out);
  return {};
}

Status run_corpus(const CorpusOptions& options, Console& console) {
  COVEY_ASSIGN(const data::HouseholdCorpus corpus, data::make_household_corpus({.households = options.households,
                                                                                .unseen = options.unseen,
                                                                                .lines_mean = options.lines,
                                                                                .general_lines = options.general_lines,
                                                                                .seed = options.seed}));
  std::vector<std::string> all_train;
  std::vector<std::string> all_held_out;
  std::vector<std::string> unseen_held_out;
  formats::Json sizes = formats::Json::object();
  const auto write = [&](const data::Household& home) -> Status {
    const std::string folder = options.out + "/" + home.name;
    COVEY_TRY(make_directory(folder));
    if (!home.train.empty()) COVEY_TRY(write_lines(folder + "/train.txt", home.train));
    sizes.set(home.name, formats::Json::object({{"train", home.train.size()}, {"held_out", home.held_out.size()}}));
    return write_lines(folder + "/held_out.txt", home.held_out);
  };
  COVEY_TRY(write(corpus.general));
  for (const auto& home : corpus.households) {
    COVEY_TRY(write(home));
    all_train.insert(all_train.end(), home.train.begin(), home.train.end());
    all_held_out.insert(all_held_out.end(), home.held_out.begin(), home.held_out.end());
  }
  for (const auto& home : corpus.unseen) {
    COVEY_TRY(write(home));
    unseen_held_out.insert(unseen_held_out.end(), home.held_out.begin(), home.held_out.end());
  }
  COVEY_TRY(write_lines(options.out + "/train.txt", all_train));
  COVEY_TRY(write_lines(options.out + "/held_out.txt", all_held_out));
  if (!unseen_held_out.empty()) COVEY_TRY(write_lines(options.out + "/unseen.txt", unseen_held_out));
  const formats::Json out = formats::Json::object({{"seed", options.seed}, {"lines", sizes}});
  COVEY_TRY(out.save(options.out + "/corpus.json"));
  console.result(out);
  return {};
}

}  // namespace covey::adapters
