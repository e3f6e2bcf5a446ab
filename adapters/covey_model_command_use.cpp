// eval, generate: commands that compute with a model and perhaps an adapter.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "adapters/adapter.h"
#include "adapters/choices.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/sampler.h"
#include "adapters/task_rows.h"
#include "adapters/workbench.h"
#include "core/train/evaluate.h"

namespace covey::adapters {
namespace {

Result<Adapter> adapter_of(const CommonOptions& common, const model::Model& model) {
  if (common.adapter.empty()) return Adapter();
  return load_adapter(common.adapter, model);
}

/// Tokens that end a text: the model's, and the tokenizer's bos and eos.
std::set<std::int32_t> stop_tokens(const Workbench& bench) {
  std::set<std::int32_t> stops(bench.model->config().eos_ids.begin(), bench.model->config().eos_ids.end());
  stops.insert(bench.tokenizer->bos_id());
  stops.insert(bench.tokenizer->eos_id());
  stops.erase(-1);
  return stops;
}

ChatChoice chat_choice(const CommonOptions& common) {
  return {.name = common.chat, .model_path = common.model, .tokenizer_path = common.tokenizer};
}

/// The prompt as a conversation's first message; what ends an answer joins `stops`.
Result<std::vector<std::int32_t>> ask(const GenerateOptions& options, const text::Tokenizer& tokenizer,
                                      std::set<std::int32_t>& stops) {
  COVEY_ASSIGN(const auto format, open_chat_format(chat_choice(options.common), tokenizer));
  const std::vector<text::ChatMessage> messages = {{"user", options.prompt}};
  COVEY_ASSIGN(const auto parts, format.render(messages, true));
  const auto end = tokenizer.encode(format.answer_end(), false);
  if (end.size() != 1) {
    return Error{ErrorCode::unsupported, "generate: the tokenizer has no token for what ends an answer of " +
                                             format.chat().name() + "; choose the template the model was trained with"};
  }
  stops.insert(end[0]);
  std::string text;
  for (const auto& part : parts) text += part.text;
  return tokenizer.encode(text, false);
}

/// A text that is being written.
struct Generation {
  std::set<std::int32_t> stops;
  text::StreamDecoder stream;
  std::unique_ptr<model::Decoder> decoder{};
  std::int64_t context = 0;         ///< tokens that the decoder takes
  std::int64_t fed = 0;             ///< tokens that it took
  std::span<const float> logits{};  ///< after the last of them
  std::string begun{};              ///< what is printed before the first new token

  Status feed(std::int32_t token) {
    COVEY_ASSIGN(logits, decoder->feed(token));
    ++fed;
    return {};
  }
};

/// The model goes on from the prompt.
Status begin_from_prompt(const GenerateOptions& options, const Workbench& bench, const Adapter& adapter,
                         ThreadPool& pool, Generation& out) {
  const model::ModelConfig& config = bench.model->config();
  std::vector<std::int32_t> prompt;
  if (options.chat) {
    COVEY_ASSIGN(prompt, ask(options, *bench.tokenizer, out.stops));
  } else {
    prompt = bench.tokenizer->encode(options.prompt, true);
  }
  if (prompt.empty() && config.bos_id >= 0) prompt.push_back(config.bos_id);
  if (prompt.empty()) return Error{ErrorCode::invalid_argument, "generate: this model needs a --prompt"};
  out.context = std::min<std::int64_t>(config.context_max - adapter.spec().virtual_tokens(),
                                       static_cast<std::int64_t>(prompt.size()) + options.tokens);
  COVEY_ASSIGN(out.decoder, model::Decoder::create(*bench.model, static_cast<int>(out.context), adapter.spec(),
                                                   adapter.view(), pool));
  for (const std::int32_t token : prompt) {
    COVEY_TRY(out.feed(token));
    const std::string piece = out.stream.feed(token);
    if (!options.chat) out.begun += piece;  // of a conversation the answer alone is printed
  }
  if (options.chat) static_cast<void>(out.stream.finish());
  return {};
}

/// An encoder-decoder reads the prompt and writes a text of its own.
Status begin_from_source(const GenerateOptions& options, const Workbench& bench, const Adapter& adapter,
                         ThreadPool& pool, Generation& out) {
  const model::ModelConfig& config = bench.model->config();
  if (options.chat) return Error{ErrorCode::unsupported, "generate: --chat is for causal language models"};
  const int room = config.context_max - adapter.spec().virtual_tokens();
  COVEY_ASSIGN(const auto source, data::source_ids(*bench.tokenizer, options.prompt, room));
  out.context = std::min<std::int64_t>(room, std::int64_t{1} + options.tokens);
  COVEY_ASSIGN(out.decoder, model::Decoder::create_for_source(*bench.model, source, static_cast<int>(out.context),
                                                              adapter.spec(), adapter.view(), pool));
  COVEY_TRY(out.feed(config.decoder_start_id));
  // BART was trained to say its bos token first; it is no end.
  if (bench.tokenizer->bos_id() != bench.tokenizer->eos_id()) out.stops.erase(bench.tokenizer->bos_id());
  return {};
}

/// --labels: which completion the model finds likeliest.
Status choose_labels(const EvalOptions& options, const Workbench& bench, const Adapter& adapter,
                     const std::vector<TextExample>& examples, int seq, ThreadPool& pool, Console& console,
                     formats::Json& out) {
  const ChoiceOptions choice{.seq = seq, .progress = [&](std::size_t done, std::size_t of) {
                               console.progress("labels: " + std::to_string(done) + "/" + std::to_string(of));
                             }};
  auto classes = classify(*bench.model, adapter.spec(), adapter.view(), *bench.tokenizer, examples, choice, pool);
  console.end_progress();
  if (!classes.ok()) return classes.error().in(options.data);
  const train::ClassCounts counts = classes->counts();
  out.set("labels", classes->labels.size()).set("accuracy", counts.accuracy()).set("macro_f1", counts.macro_f1());
  return {};
}

formats::Json classes_json(const train::ClassCounts& counts, const data::Labels& labels) {
  formats::Json out = formats::Json::array({});
  for (int i = 0; i < counts.classes(); ++i) {
    const train::ClassScore one = counts.score(i);
    out.push_back(formats::Json::object({{"label", labels.names()[static_cast<std::size_t>(i)]},
                                         {"support", one.support},
                                         {"predicted", one.predicted},
                                         {"correct", one.correct},
                                         {"precision", one.precision},
                                         {"recall", one.recall},
                                         {"f1", one.f1}}));
  }
  return out;
}

/// One line per class: its name last, since it may have spaces.
void print_classes(const train::ClassCounts& counts, const data::Labels& labels, const Console& console) {
  console.line("support predicted correct precision recall     f1  label");
  for (int i = 0; i < counts.classes(); ++i) {
    const train::ClassScore one = counts.score(i);
    std::array<char, 96> numbers{};
    std::snprintf(numbers.data(), numbers.size(), "%7lld %9lld %7lld %9.4f %6.4f %6.4f  ",
                  static_cast<long long>(one.support), static_cast<long long>(one.predicted),
                  static_cast<long long>(one.correct), one.precision, one.recall, one.f1);
    console.line(numbers.data() + labels.names()[static_cast<std::size_t>(i)]);
  }
}

}  // namespace

Status run_eval(const EvalOptions& options, Console& console) {
  const std::string named = options.common.adapter.empty() ? "" : options.common.adapter + kLabelsFile;
  std::error_code ignored;
  const bool own_labels = !named.empty() && std::filesystem::exists(named, ignored);  // a classifier was trained
  const Dtype dtype = dtype_named(options.common.dtype);
  COVEY_ASSIGN(const Workbench bench,
               own_labels ? open_classifier(options.common.model, options.common.tokenizer, named, {}, dtype)
                          : open_workbench(options.common.model, options.common.tokenizer, {}, dtype));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  COVEY_ASSIGN(const auto examples, read_examples_for(chat_choice(options.common), *bench.tokenizer, options.data));
  const model::ModelConfig& config = bench.model->config();
  auto labels = labels_for(config, named, {});
  if (!labels.ok()) return labels.error().in(options.data);
  train::EvaluateOptions how{.batch = options.batch,
                             .seq = std::min(options.seq, config.context_max),
                             .target_seq = std::min(options.target_seq, config.context_max)};
  COVEY_ASSIGN(const auto rows, task_rows(bench, *labels, examples, {how.seq, how.target_seq}, options.data));
  COVEY_ASSIGN(how.masking, masking_for(bench, options.mask_share, options.mask_seed));
  ThreadPool pool(thread_count(options.common.threads));
  const bool classifier = config.task == model::Task::classification;
  train::ClassEvaluation result;
  if (classifier) {
    COVEY_ASSIGN(result, train::evaluate_classes(*bench.model, adapter.spec(), adapter.view(), rows, how, pool));
  } else {
    COVEY_ASSIGN(result.total, train::evaluate(*bench.model, adapter.spec(), adapter.view(), rows, how, pool));
  }
  formats::Json out = formats::Json::object({{"loss", result.total.loss},
                                             {"perplexity", result.total.perplexity},
                                             {"accuracy", result.total.accuracy},
                                             {"tokens", result.total.tokens},
                                             {"examples", static_cast<std::int64_t>(examples.size())}});
  if (how.masking) out.set("mask_seed", options.mask_seed).set("mask_share", options.mask_share);
  if (options.labels) COVEY_TRY(choose_labels(options, bench, adapter, examples, how.seq, pool, console, out));
  if (!classifier) {
    console.result(out);
    return {};
  }
  out.set("macro_f1", result.counts.macro_f1()).set("micro_f1", result.counts.micro_f1());
  if (console.json()) out.set("classes", classes_json(result.counts, *labels));
  console.result(out);
  if (!console.json()) print_classes(result.counts, *labels, console);
  return {};
}

Status run_generate(const GenerateOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  ThreadPool pool(thread_count(options.common.threads));
  Generation generation{.stops = stop_tokens(bench), .stream = text::StreamDecoder(*bench.tokenizer)};
  COVEY_TRY(bench.model->config().two_stacks() ? begin_from_source(options, bench, adapter, pool, generation)
                                               : begin_from_prompt(options, bench, adapter, pool, generation));
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (!console.json()) console.write(piece);
  };
  emit(generation.begun);
  Sampler sampler({.temperature = options.temperature, .top_k = options.top_k, .top_p = options.top_p}, options.seed);
  int made = 0;
  while (made < options.tokens) {
    const std::int32_t token = sampler.choose(generation.logits);
    if (generation.stops.contains(token)) break;
    ++made;
    emit(generation.stream.feed(token));
    if (made == options.tokens || generation.fed >= generation.context) break;
    COVEY_TRY(generation.feed(token));
  }
  emit(generation.stream.finish());
  if (console.json()) {
    console.result(formats::Json::object({{"text", text}, {"tokens", made}}));
  } else if (isatty(STDOUT_FILENO) == 1) {
    console.write("\n");
  }
  return {};
}

}  // namespace covey::adapters
