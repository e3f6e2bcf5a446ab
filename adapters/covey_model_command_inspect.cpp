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
#include "core/train/optimizer.h"

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

}  // namespace covey::adapters
