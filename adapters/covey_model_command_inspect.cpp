// info, plan, tokenize, detokenize, eval, generate: commands that change nothing.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <set>
#include <string_view>

#include "adapters/adapter.h"
#include "adapters/covey_model.h"
#include "adapters/describe.h"
#include "adapters/gguf_adapter.h"
#include "adapters/workbench.h"
#include "core/base/cpu.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/llama2c.h"
#include "core/train/evaluate.h"
#include "core/train/optimizer.h"

namespace covey::adapters {
namespace {

/// The tokenizer of a model path without loading the model's weights.
Result<std::shared_ptr<const text::Tokenizer>> tokenizer_of(const CommonOptions& common) {
  int vocab = 0;
  const std::string name = common.model.substr(common.model.find_last_of('/') + 1);
  if (common.tokenizer.empty() && name.ends_with(".bin") && !name.starts_with("tok")) {
    COVEY_ASSIGN(const auto file, formats::Llama2cFile::open(common.model));
    vocab = file.header().vocab;
  }
  return open_tokenizer(common.model, common.tokenizer, vocab);
}

Result<Adapter> adapter_of(const CommonOptions& common, const model::Model& model) {
  if (common.adapter.empty()) return Adapter();
  return load_adapter(common.adapter, model);
}

std::int32_t choose(std::span<const float> logits, double temperature, Rng& rng) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (temperature <= 0) return static_cast<std::int32_t>(best - logits.begin());
  double total = 0;
  std::vector<double> weights(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp(static_cast<double>(logits[i] - *best) / temperature);
    total += weights[i];
  }
  double at = rng.uniform() * total;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    at -= weights[i];
    if (at < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(best - logits.begin());
}

/// Tokens that end a text: the model's, and the tokenizer's bos and eos.
std::set<std::int32_t> stop_tokens(const Workbench& bench) {
  std::set<std::int32_t> stops(bench.model->config().eos_ids.begin(), bench.model->config().eos_ids.end());
  stops.insert(bench.tokenizer->bos_id());
  stops.insert(bench.tokenizer->eos_id());
  stops.erase(-1);
  return stops;
}

}  // namespace

Console::Console(bool json) : json_(json), terminal_(isatty(STDERR_FILENO) == 1) {}

void Console::write(const std::string& text) const {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void Console::result(const formats::Json& object) const {
  if (json_) {
    line(object.dump());
    return;
  }
  for (const auto& member : object.members()) {
    auto text = member.value.as_string();
    line(member.key + ": " + (text.ok() ? *text : member.value.dump()));
  }
}

void Console::progress(const std::string& text) {
  if (!terminal_) return;
  std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
  std::fflush(stderr);
  open_ = true;
}

void Console::end_progress() {
  if (open_) std::fputc('\n', stderr);
  open_ = false;
}

int thread_count(int threads) {
  return threads > 0 ? threads : std::max(1, cpu_count());
}

Status run_info(const CommonOptions& options, Console& console) {
  COVEY_ASSIGN(const formats::Json description, describe_model(options.model));
  console.result(description);
  return {};
}

Status run_plan(const PlanOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
  COVEY_ASSIGN(const AdapterLayout layout, lora_layout(model->linear_sites(), {.rank = options.lora.rank,
                                                                               .alpha = options.lora.alpha,
                                                                               .target_modules = options.lora.targets,
                                                                               .rank_pattern = {},
                                                                               .alpha_pattern = {}}));
  COVEY_ASSIGN(const model::AdapterSpec spec, layout.bind(model->linear_sites()));
  const model::MemoryPlan plan = model::plan_memory(
      model->config(), spec, model->linear_sites(),
      {.batch_max = options.batch, .seq_max = options.seq, .training = true, .checkpoint = options.checkpoint},
      train::OptimizerConfig{}.floats_per_parameter());
  console.result(formats::Json::object({{"weights_bytes", plan.weights_bytes},
                                        {"buffers_bytes", plan.buffers_bytes},
                                        {"adapter_bytes", plan.adapter_bytes},
                                        {"total_bytes", plan.total()},
                                        {"trainable", layout.size}}));
  return {};
}

Status run_tokenize(const TokenizeOptions& options, Console& console) {
  COVEY_ASSIGN(const auto tokenizer, tokenizer_of(options.common));
  COVEY_ASSIGN(const std::string text, read_text_file(options.file));
  const auto ids = tokenizer->encode(text, options.special);
  if (console.json()) {
    console.result(formats::Json::object({{"ids", ids}}));
    return {};
  }
  std::string out;
  for (const std::int32_t id : ids) out += (out.empty() ? "" : " ") + std::to_string(id);
  console.line(out);
  return {};
}

Status run_detokenize(const TokenizeOptions& options, Console& console) {
  COVEY_ASSIGN(const auto tokenizer, tokenizer_of(options.common));
  COVEY_ASSIGN(const std::string text, read_text_file(options.file));
  std::vector<std::int32_t> ids;
  std::string_view rest = text;
  while (true) {
    const std::size_t begin = rest.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) break;
    rest.remove_prefix(begin);
    const std::string_view word = rest.substr(0, rest.find_first_of(" \t\r\n"));
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      return Error{ErrorCode::invalid_argument, options.file + ": \"" + std::string(word.substr(0, 32)) +
                                                    "\" is not a token id; give numbers separated by spaces"};
    }
    ids.push_back(id);
    rest.remove_prefix(word.size());
  }
  auto decoded = tokenizer->decode(ids, !options.special);
  if (!decoded.ok()) return decoded.error().in(options.file);
  if (console.json()) {
    console.result(formats::Json::object({{"text", *decoded}}));
  } else {
    console.write(*decoded);
  }
  return {};
}

Status run_eval(const EvalOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  COVEY_ASSIGN(const auto examples,
               read_examples_for({options.common.chat, options.common.model, options.common.tokenizer},
                                 *bench.tokenizer, options.data));
  const int seq = std::min(options.seq, bench.model->config().context_max);
  const auto rows = example_rows(*bench.tokenizer, examples, seq);
  ThreadPool pool(thread_count(options.common.threads));
  COVEY_ASSIGN(const train::Evaluation result, train::evaluate(*bench.model, adapter.spec(), adapter.view(), rows,
                                                               {.batch = options.batch, .seq = seq}, pool));
  console.result(formats::Json::object({{"loss", result.loss},
                                        {"perplexity", result.perplexity},
                                        {"accuracy", result.accuracy},
                                        {"tokens", result.tokens},
                                        {"examples", static_cast<std::int64_t>(examples.size())}}));
  return {};
}

Status run_generate(const GenerateOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const Adapter adapter, adapter_of(options.common, *bench.model));
  ThreadPool pool(thread_count(options.common.threads));
  std::vector<std::int32_t> prompt = bench.tokenizer->encode(options.prompt, true);
  if (prompt.empty() && bench.model->config().bos_id >= 0) prompt.push_back(bench.model->config().bos_id);
  if (prompt.empty()) return Error{ErrorCode::invalid_argument, "generate: this model needs a --prompt"};
  const std::int64_t context = std::min<std::int64_t>(bench.model->config().context_max,
                                                      static_cast<std::int64_t>(prompt.size()) + options.tokens);
  COVEY_ASSIGN(const auto decoder,
               model::Decoder::create(*bench.model, static_cast<int>(context), adapter.spec(), adapter.view(), pool));
  const auto stops = stop_tokens(bench);
  text::StreamDecoder stream(*bench.tokenizer);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (!console.json()) console.write(piece);
  };
  std::span<const float> logits;
  for (const std::int32_t token : prompt) {
    COVEY_ASSIGN(logits, decoder->feed(token));
    emit(stream.feed(token));
  }
  Rng rng(options.seed);
  int made = 0;
  while (made < options.tokens) {
    const std::int32_t token = choose(logits, options.temperature, rng);
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
