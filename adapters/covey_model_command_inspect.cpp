// info, plan, tokenize, detokenize: commands that look at a model and its tokenizer.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>
#include <string_view>

#include "adapters/covey_model.h"
#include "adapters/describe.h"
#include "adapters/layout.h"
#include "adapters/workbench.h"
#include "core/base/cpu.h"
#include "core/base/file.h"
#include "core/formats/llama2c.h"
#include "core/formats/rwkv_cpp.h"
#include "core/train/local_trainer.h"

namespace covey::adapters {
namespace {

/// The tokenizer of a model path without loading the model's weights.
Result<std::shared_ptr<const text::Tokenizer>> tokenizer_of(const CommonOptions& common) {
  int vocab = 0;
  const std::string name = common.model.substr(common.model.find_last_of('/') + 1);
  if (common.tokenizer.empty() && name.ends_with(".bin") && !name.starts_with("tok") &&
      !formats::is_rwkv_cpp(common.model)) {
    COVEY_ASSIGN(const auto file, formats::Llama2cFile::open(common.model));
    vocab = file.header().vocab;
  }
  return open_tokenizer(common.model, common.tokenizer, vocab);
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

train::TrainConfig train_config_of(const StepFlags& step) {
  train::TrainConfig out;
  out.gradient.method = train::method_named(step.method).value_or(out.gradient.method);
  out.gradient.derivative = train::derivative_named(step.derivative).value_or(out.gradient.derivative);
  out.gradient.checkpoint_activations = step.checkpoint && out.gradient.method == train::Method::backprop;
  if (out.gradient.method != train::Method::backprop) out.optimizer.kind = train::OptimizerKind::sgd;
  out.batch = step.batch;
  out.micro_batch = step.micro_batch;
  out.seq = step.seq;
  return out;
}

Status run_plan(const PlanOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
  const train::TrainConfig config = train_config_of(options.step);
  model::MemoryPlan plan;
  std::int64_t trainable = 0;
  if (options.step.full) {
    COVEY_ASSIGN(const model::TensorChoice choice, chosen_tensors(*model, options.step.choice));
    plan = train::memory_plan_full(*model, choice, config, config.seq);
    const auto tensors = model->tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) trainable += choice[i] != 0 ? tensors[i].count : 0;
  } else {
    const LoraOptions lora{.rank = options.lora.rank,
                           .alpha = options.lora.alpha,
                           .target_modules = options.lora.targets,
                           .rank_pattern = {},
                           .alpha_pattern = {}};
    COVEY_ASSIGN(const AdapterLayout layout, chosen_lora_layout(model->linear_sites(), lora, options.step.choice));
    COVEY_ASSIGN(model::AdapterSpec spec, layout.bind(model->linear_sites()));
    COVEY_TRY(freeze_rest(spec, model->linear_sites(), options.step.choice));
    plan = train::memory_plan(*model, spec, config, config.seq);
    trainable = layout.size;
  }
  console.result(formats::Json::object({{"process_bytes", plan.process_bytes},
                                        {"weights_bytes", plan.weights_bytes},
                                        {"buffers_bytes", plan.buffers_bytes},
                                        {"adapter_bytes", plan.adapter_bytes},
                                        {"total_bytes", plan.total()},
                                        {"trainable", trainable}}));
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

}  // namespace covey::adapters
