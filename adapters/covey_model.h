/// The commands of `covey-model`: what the command line says, as structs, and one function for each. Private to the
/// program (covey_model_main.cpp parses; covey_model_command_*.cpp run).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "adapters/train_choice.h"
#include "core/base/result.h"
#include "core/formats/json.h"
#include "core/train/train_config.h"

namespace covey::adapters {

/// Where results go: stdout for results (one JSON object with --json), stderr for progress and logs.
class Console {
 public:
  explicit Console(bool json);
  [[nodiscard]] bool json() const { return json_; }
  /// Whether someone watches stderr.
  [[nodiscard]] bool terminal() const { return terminal_; }
  /// stdout as it is.
  void write(const std::string& text) const;
  void line(const std::string& text) const { write(text + "\n"); }
  /// With --json the object on one line, else each member as "name: value".
  void result(const formats::Json& object) const;
  /// A line that the next one replaces; nothing where stderr is no terminal.
  void progress(const std::string& text);
  void end_progress();

 private:
  bool json_;
  bool terminal_;  ///< stderr is one
  bool open_ = false;
};

struct CommonOptions {
  std::string model;
  std::string tokenizer;       ///< empty: beside the model
  std::string adapter;         ///< empty: none
  std::string chat;            ///< chat template's name; empty: what the model's directory says
  int threads = 0;             ///< 0: one per processor
  std::string dtype = "auto";  ///< of the frozen weights: auto (as the files have them), f32, w8a8
  bool json = false;
};

struct LoraFlags {
  int rank = 8;
  double alpha = 16;
  std::vector<std::string> targets = {"q_proj", "v_proj"};
};

/// How a step is computed, for what plans, measures or analyzes it.
struct StepFlags {
  std::string method = "backprop";
  std::string derivative = "exact";
  int batch = 8;
  int micro_batch = 0;  ///< 0: the whole batch at once
  int seq = 128;
  bool checkpoint = false;
  bool full = false;  ///< the model's own tensors train, no adapter
  TrainChoice choice;
};
struct PlanOptions {
  CommonOptions common;
  LoraFlags lora;
  StepFlags step;
};
struct AnalyzeOptions {
  CommonOptions common;
  LoraFlags lora{.targets = {"all-linear"}};
  StepFlags step;
  std::string data;
  int batches = 16;             ///< to measure on, at most
  std::int64_t memory_mib = 0;  ///< of training, the model's weights included; 0: no limit
};
struct TokenizeOptions {
  CommonOptions common;
  std::string file;
  bool special = false;
};
struct EvalOptions {
  CommonOptions common;
  std::string data;
  int batch = 16;
  int seq = 256;
  int target_seq = 0;        ///< encoder-decoders; 0: as seq
  double mask_share = 0.15;  ///< masked language models
  std::uint64_t mask_seed = 0;
  bool labels = false;  ///< choose each completion among all that occur: accuracy and F1
};
struct GenerateOptions {
  CommonOptions common;
  std::string prompt;
  int tokens = 200;
  double temperature = 0;
  int top_k = 0;
  double top_p = 1;
  bool chat = false;  ///< the prompt is a conversation's first message
  std::uint64_t seed = 0;
};
struct TrainOptions {
  CommonOptions common;
  std::string data;
  std::string config;
  std::string out;
  bool resume = false;
};
struct PretrainOptions {
  CommonOptions common;
  std::string config;
  std::string out;
};
struct CorpusOptions {
  CommonOptions common;
  std::string out;
  int households = 8;
  int unseen = 4;
  int lines = 300;
  int general_lines = 12000;
  std::uint64_t seed = 1;
};
struct ConvertOptions {
  CommonOptions common;
  std::string in;
  std::string out;
};
struct QuantizeOptions {
  CommonOptions common;
  std::string scheme;
  std::string out;
  std::optional<double> smooth;  ///< w8a8: SmoothQuant's alpha
  int outliers = 0;              ///< w8a8: input columns of each layer that stay f32
  std::string calibrate;         ///< text for the two
  int calibrate_rows = 512;
};
struct AdapterFileOptions {
  CommonOptions common;
  std::string in;                  ///< merge: PEFT directory
  std::vector<std::string> files;  ///< info, export, import: the adapter alone, or its model and the adapter
  double alpha = 0;                ///< LoRA's alpha where a torch file is read, which says none
  std::string task = "CAUSAL_LM";  ///< the same
  std::string out;                 ///< one file (export), PEFT directory (import), Hugging Face directory (merge)
};
struct GoldenOptions {
  CommonOptions common;
  std::vector<std::string> cases;
};
struct BenchOptions {
  CommonOptions common;
  std::string dtype = "f32";  ///< or w8a8
  std::string shape = "stories15m";
  int rank = 8;
  int steps = 8;
  StepFlags step;
};

Status run_info(const CommonOptions& options, Console& console);
Status run_plan(const PlanOptions& options, Console& console);
Status run_analyze(const AnalyzeOptions& options, Console& console);
Status run_tokenize(const TokenizeOptions& options, Console& console);
Status run_detokenize(const TokenizeOptions& options, Console& console);
Status run_eval(const EvalOptions& options, Console& console);
Status run_generate(const GenerateOptions& options, Console& console);
Status run_train(const TrainOptions& options, Console& console);
Status run_pretrain(const PretrainOptions& options, Console& console);
Status run_corpus(const CorpusOptions& options, Console& console);
Status run_convert(const ConvertOptions& options, Console& console);
Status run_quantize(const QuantizeOptions& options, Console& console);
Status run_adapter_info(const AdapterFileOptions& options, Console& console);
Status run_adapter_export(const AdapterFileOptions& options, Console& console);
Status run_adapter_import(const AdapterFileOptions& options, Console& console);
Status run_adapter_merge(const AdapterFileOptions& options, Console& console);
Status run_golden(const GoldenOptions& options, Console& console);
Status run_bench(const BenchOptions& options, Console& console);

/// What the trainer of such a step is told; plain SGD unless it is backprop.
train::TrainConfig train_config_of(const StepFlags& step);
/// `threads` where it is above 0, else one per processor.
int thread_count(int threads);

}  // namespace covey::adapters
