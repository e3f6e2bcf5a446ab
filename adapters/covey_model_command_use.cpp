// eval, generate: commands that compute with a model and perhaps an adapter.
#include <unistd.h>

#include <algorithm>
#include <set>

#include "adapters/adapter.h"
#include "adapters/choices.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/sampler.h"
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

}  // namespace

Status run_eval(const EvalOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  COVEY_ASSIGN(const auto examples, read_examples_for(chat_choice(options.common), *bench.tokenizer, options.data));
  const int seq = std::min(options.seq, bench.model->config().context_max);
  const auto rows = example_rows(*bench.tokenizer, examples, seq);
  ThreadPool pool(thread_count(options.common.threads));
  COVEY_ASSIGN(const train::Evaluation result, train::evaluate(*bench.model, adapter.spec(), adapter.view(), rows,
                                                               {.batch = options.batch, .seq = seq}, pool));
  formats::Json out = formats::Json::object({{"loss", result.loss},
                                             {"perplexity", result.perplexity},
                                             {"accuracy", result.accuracy},
                                             {"tokens", result.tokens},
                                             {"examples", static_cast<std::int64_t>(examples.size())}});
  if (options.labels) {
    const ChoiceOptions choice{.seq = seq, .progress = [&](std::size_t done, std::size_t of) {
                                 console.progress("labels: " + std::to_string(done) + "/" + std::to_string(of));
                               }};
    auto classes = classify(*bench.model, adapter.spec(), adapter.view(), *bench.tokenizer, examples, choice, pool);
    console.end_progress();
    if (!classes.ok()) return classes.error().in(options.data);
    out.set("labels", classes->labels.size()).set("accuracy", classes->accuracy()).set("macro_f1", classes->macro_f1());
  }
  console.result(out);
  return {};
}

Status run_generate(const GenerateOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  ThreadPool pool(thread_count(options.common.threads));
  auto stops = stop_tokens(bench);
  std::vector<std::int32_t> prompt;
  if (options.chat) {
    COVEY_ASSIGN(prompt, ask(options, *bench.tokenizer, stops));
  } else {
    prompt = bench.tokenizer->encode(options.prompt, true);
  }
  if (prompt.empty() && bench.model->config().bos_id >= 0) prompt.push_back(bench.model->config().bos_id);
  if (prompt.empty()) return Error{ErrorCode::invalid_argument, "generate: this model needs a --prompt"};
  const std::int64_t context = std::min<std::int64_t>(bench.model->config().context_max,
                                                      static_cast<std::int64_t>(prompt.size()) + options.tokens);
  COVEY_ASSIGN(const auto decoder,
               model::Decoder::create(*bench.model, static_cast<int>(context), adapter.spec(), adapter.view(), pool));
  text::StreamDecoder stream(*bench.tokenizer);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (!console.json()) console.write(piece);
  };
  std::span<const float> logits;
  for (const std::int32_t token : prompt) {
    COVEY_ASSIGN(logits, decoder->feed(token));
    const std::string piece = stream.feed(token);
    if (!options.chat) emit(piece);  // of a conversation the answer alone is printed
  }
  if (options.chat) static_cast<void>(stream.finish());
  Sampler sampler({.temperature = options.temperature, .top_k = options.top_k, .top_p = options.top_p}, options.seed);
  int made = 0;
  while (made < options.tokens) {
    const std::int32_t token = sampler.choose(logits);
    if (stops.contains(token)) break;
    ++made;
    emit(stream.feed(token));
    if (made == options.tokens || static_cast<std::int64_t>(prompt.size()) + made > context - 1) break;
    COVEY_ASSIGN(logits, decoder->feed(token));
  }
  emit(stream.finish());
  if (console.json()) {
    console.result(formats::Json::object({{"text", text}, {"tokens", made}}));
  } else if (isatty(STDOUT_FILENO) == 1) {
    console.write("\n");
  }
  return {};
}

}  // namespace covey::adapters
