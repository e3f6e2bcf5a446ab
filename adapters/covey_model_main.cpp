#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "adapters/covey_model.h"
#include "core/base/command_line.h"

using namespace covey;
using namespace covey::adapters;

namespace {

using Command = std::function<Status(Console&)>;

/// One subcommand with its options; `chosen` is set where the command line names it.
template <typename Options>
struct Subcommand {
  CLI::App* app;
  std::shared_ptr<Options> options;
};

class Program {
 public:
  Program() : app_("Models and adapters: inspect, evaluate, train, convert and measure them.", "covey-model") {
    app_.set_version_flag("--version", "covey-model " COVEY_VERSION);
    app_.require_subcommand(1);
    inspect();
    use();
    train();
    files();
    measure();
  }

  int run(int argc, char** argv) {
    if (const auto code = parse_command_line(app_, argc, argv)) return *code;
    Console console(json_);
    const Status status = chosen_(console);
    console.end_progress();
    return report_outcome(app_, status);
  }

 private:
  template <typename Options>
  Subcommand<Options> add(CLI::App& parent, const char* name, const char* what,
                          Status (*command)(const Options&, Console&)) {
    auto options = std::make_shared<Options>();
    CLI::App* app = parent.add_subcommand(name, what);
    app->add_flag("--json", json_, "print one JSON object on stdout");
    app->callback([this, options, command] {
      chosen_ = [options, command](Console& console) { return command(*options, console); };
    });
    return {app, options};
  }

  static void model_argument(CLI::App* app, CommonOptions& common) {
    app->add_option("MODEL", common.model, "Hugging Face directory, .gguf, llama2.c or rwkv.cpp .bin")->required();
  }
  static void tokenizer_option(CLI::App* app, CommonOptions& common) {
    app->add_option("--tokenizer", common.tokenizer, "tokenizer file or directory (default: beside the model)");
  }
  static void chat_option(CLI::App* app, CommonOptions& common) {
    app->add_option("--chat-template", common.chat,
                    "for conversations: chatml, llama-3, gemma, phi-3, mistral, "
                    "mistral-v0.1 (default: what the model's directory says)");
  }
  static void adapter_option(CLI::App* app, CommonOptions& common) {
    app->add_option("--adapter", common.adapter, "PEFT directory or GGUF to attach");
  }
  static void dtype_option(CLI::App* app, CommonOptions& common) {
    app->add_option("--dtype", common.dtype,
                    "of the frozen weights: auto (as the files have them), f32, or w8a8: linear layers in int8")
        ->check(CLI::IsMember({"auto", "f32", "w8a8"}))
        ->capture_default_str();
  }
  static void threads_option(CLI::App* app, CommonOptions& common) {
    app->add_option("--threads", common.threads, "threads to compute with (default: one per processor)")
        ->check(CLI::Range(0, 1024));
  }
  static void lora_options(CLI::App* app, LoraFlags& lora) {
    app->add_option("--rank", lora.rank, "LoRA rank")->check(CLI::Range(1, 1024))->capture_default_str();
    app->add_option("--alpha", lora.alpha, "LoRA alpha")->capture_default_str();
    app->add_option("--target", lora.targets, "layers to adapt, e.g. q_proj, or all-linear")->delimiter(',');
  }
  static void batch_options(CLI::App* app, int& batch, int& seq) {
    app->add_option("--batch", batch, "rows at once")->check(CLI::Range(1, 4096))->capture_default_str();
    app->add_option("--seq", seq, "tokens per row at most")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  }

  static void choice_options(CLI::App* app, TrainChoice& choice) {
    app->add_option("--train-layers", choice.layers, "layers that train, e.g. 4,5 (default: all)")->delimiter(',');
    app->add_option("--train-tensors", choice.tensors, "tensors that train, e.g. v_proj,lora_B (default: all)")
        ->delimiter(',');
  }
  static void step_options(CLI::App* app, StepFlags& step, const std::vector<std::string>& methods) {
    batch_options(app, step.batch, step.seq);
    app->add_option("--micro-batch", step.micro_batch, "rows computed at once (default: the batch)")
        ->check(CLI::Range(0, 4096));
    app->add_option("--method", step.method, "how the gradient is found (forward: none is)")
        ->check(CLI::IsMember(methods))
        ->capture_default_str();
    app->add_option("--derivative", step.derivative, "of forward-gradient: exact or central")
        ->check(CLI::IsMember({"exact", "central"}))
        ->capture_default_str();
    app->add_flag("--checkpoint", step.checkpoint, "keep block inputs only, recompute the rest");
    app->add_flag("--full", step.full, "the model's own tensors train, no adapter");
    choice_options(app, step.choice);
  }

  void inspect() {
    const auto info = add<CommonOptions>(app_, "info", "Say what a model is", run_info);
    model_argument(info.app, *info.options);
    const auto plan = add<PlanOptions>(app_, "plan", "Say how much memory training takes", run_plan);
    model_argument(plan.app, plan.options->common);
    lora_options(plan.app, plan.options->lora);
    step_options(plan.app, plan.options->step, {"backprop", "forward-gradient", "zeroth-order"});
    analyze();
    const auto to_ids = add<TokenizeOptions>(app_, "tokenize", "Print the token ids of a file's text", run_tokenize);
    const auto to_text =
        add<TokenizeOptions>(app_, "detokenize", "Print the text of a file's token ids", run_detokenize);
    for (const auto& command : {to_ids, to_text}) {
      command.app->add_option("MODEL", command.options->common.model, "model, or a tokenizer file")->required();
      tokenizer_option(command.app, command.options->common);
      command.app->add_option("--file", command.options->file, "file to read")->required();
      command.app->add_flag("--special", command.options->special, "with the tokenizer's own special tokens");
    }
  }

  void analyze() {
    const auto command = add<AnalyzeOptions>(
        app_, "analyze", "Rank layers by what training them gives, within a memory limit", run_analyze);
    auto& options = *command.options;
    model_argument(command.app, options.common);
    command.app->add_option("--data", options.data, "to measure on: .txt (a line each) or .jsonl")->required();
    command.app
        ->add_option("--memory-mib", options.memory_mib, "what training may take, weights included (0: no limit)")
        ->check(CLI::Range(0, 1 << 30));
    command.app->add_option("--batches", options.batches, "batches to measure on, at most")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    batch_options(command.app, options.step.batch, options.step.seq);
    command.app->add_option("--micro-batch", options.step.micro_batch, "rows computed at once (default: the batch)")
        ->check(CLI::Range(0, 4096));
    command.app->add_flag("--checkpoint", options.step.checkpoint, "keep block inputs only, recompute the rest");
    lora_options(command.app, options.lora);
    adapter_option(command.app, options.common);
    tokenizer_option(command.app, options.common);
    chat_option(command.app, options.common);
    threads_option(command.app, options.common);
  }

  void use() {
    const auto eval = add<EvalOptions>(app_, "eval", "Loss, perplexity and accuracy on a data file", run_eval);
    model_argument(eval.app, eval.options->common);
    eval.app->add_option("--data", eval.options->data, ".txt (a line each), .jsonl or .csv")->required();
    dtype_option(eval.app, eval.options->common);
    adapter_option(eval.app, eval.options->common);
    tokenizer_option(eval.app, eval.options->common);
    chat_option(eval.app, eval.options->common);
    threads_option(eval.app, eval.options->common);
    batch_options(eval.app, eval.options->batch, eval.options->seq);
    eval.app
        ->add_option("--target-seq", eval.options->target_seq,
                     "encoder-decoders: tokens per target at most; 0: as --seq")
        ->check(CLI::Range(0, 1 << 20));
    eval.app->add_option("--mask-share", eval.options->mask_share, "masked language models: share of tokens to predict")
        ->check(CLI::Range(0.001, 0.999))
        ->capture_default_str();
    eval.app->add_option("--mask-seed", eval.options->mask_seed, "another seed masks other tokens")
        ->capture_default_str();
    eval.app->add_flag("--labels", eval.options->labels,
                       "choose each completion among all of the file's: accuracy and macro F1");
    const auto generate = add<GenerateOptions>(app_, "generate", "Continue a prompt", run_generate);
    model_argument(generate.app, generate.options->common);
    generate.app->add_option("--prompt", generate.options->prompt, "text to continue (default: none)");
    adapter_option(generate.app, generate.options->common);
    tokenizer_option(generate.app, generate.options->common);
    threads_option(generate.app, generate.options->common);
    generate.app->add_option("--tokens", generate.options->tokens, "tokens to generate at most")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    generate.app->add_option("--temperature", generate.options->temperature, "0 takes the likeliest token")
        ->check(CLI::Range(0.0, 10.0))
        ->capture_default_str();
    generate.app->add_option("--top-k", generate.options->top_k, "draw from the k likeliest tokens only; 0: all")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    generate.app
        ->add_option("--top-p", generate.options->top_p, "draw from the fewest tokens that hold this probability")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    generate.app->add_flag("--chat", generate.options->chat, "ask the prompt as a conversation's first message");
    chat_option(generate.app, generate.options->common);
    generate.app->add_option("--seed", generate.options->seed, "for a temperature above 0")->capture_default_str();
  }

  void train() {
    const auto train =
        add<TrainOptions>(app_, "train", "Train a LoRA adapter (and a classifier's head) on a data file", run_train);
    model_argument(train.app, train.options->common);
    train.app->add_option("--data", train.options->data, ".txt (a line each), .jsonl or .csv")->required();
    train.app->add_option("--config", train.options->config, "YAML: lr, batch, seq, steps or epochs, lora, ...")
        ->required();
    train.app->add_option("--out", train.options->out, "PEFT directory to write")->required();
    train.app->add_option("--adapter", train.options->common.adapter, "PEFT directory to go on from");
    dtype_option(train.app, train.options->common);
    train.app->add_flag("--resume", train.options->resume, "go on from the checkpoint in the --out directory");
    tokenizer_option(train.app, train.options->common);
    chat_option(train.app, train.options->common);
    threads_option(train.app, train.options->common);
    const auto pretrain = add<PretrainOptions>(
        app_, "pretrain", "Make a tokenizer and a small model from text, all parameters trained", run_pretrain);
    pretrain.app->add_option("--config", pretrain.options->config, "YAML: data, vocab_size, model, training")
        ->required();
    pretrain.app->add_option("--out", pretrain.options->out, "Hugging Face directory to write")->required();
    threads_option(pretrain.app, pretrain.options->common);
    const auto corpus = add<CorpusOptions>(app_, "corpus", "Generate the household corpus", run_corpus);
    corpus.app->add_option("--out", corpus.options->out, "directory to write")->required();
    corpus.app->add_option("--households", corpus.options->households, "that train")->capture_default_str();
    corpus.app->add_option("--unseen", corpus.options->unseen, "that only test")->capture_default_str();
    corpus.app->add_option("--lines", corpus.options->lines, "training lines per household on average")
        ->capture_default_str();
    corpus.app->add_option("--general-lines", corpus.options->general_lines, "lines to pre-train on")
        ->capture_default_str();
    corpus.app->add_option("--seed", corpus.options->seed, "another seed gives other households")
        ->capture_default_str();
  }

  void files() {
    const auto convert =
        add<ConvertOptions>(app_, "convert", "Hugging Face directory, GGUF and llama2.c into one another", run_convert);
    convert.app->add_option("IN", convert.options->in, "directory, .gguf or .bin")->required();
    convert.app->add_option("OUT", convert.options->out, "another of the three")->required();
    tokenizer_option(convert.app, convert.options->common);
    const auto quantize = add<QuantizeOptions>(app_, "quantize", "A model in int8 or fewer bits", run_quantize);
    model_argument(quantize.app, quantize.options->common);
    quantize.app
        ->add_option("--scheme", quantize.options->scheme, "w8a8: int8 as compressed-tensors; q8_0 or q4_0: GGUF")
        ->required()
        ->check(CLI::IsMember({"w8a8", "q8_0", "q4_0"}));
    quantize.app->add_option("--out", quantize.options->out, "directory (w8a8) or .gguf to write")->required();
    tokenizer_option(quantize.app, quantize.options->common);
    quantize.app
        ->add_option("--smooth", quantize.options->smooth,
                     "w8a8: SmoothQuant's alpha (default: 0.5); large input columns are scaled into the weights")
        ->expected(0, 1)
        ->default_str("0.5")
        ->check(CLI::Range(0.0, 1.0));
    quantize.app
        ->add_option("--outliers", quantize.options->outliers,
                     "w8a8: so many of each layer's largest input columns stay f32")
        ->check(CLI::Range(0, 4096));
    quantize.app->add_option("--calibrate", quantize.options->calibrate,
                             "text that --smooth and --outliers look at: .txt (a line each), .jsonl or .csv");
    quantize.app->add_option("--calibrate-rows", quantize.options->calibrate_rows, "rows of it, at most")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    threads_option(quantize.app, quantize.options->common);
    CLI::App* adapter = app_.add_subcommand("adapter", "Adapter files");
    adapter->require_subcommand(1);
    const auto info = add<AdapterFileOptions>(*adapter, "info", "Say what an adapter is", run_adapter_info);
    const auto to_file = add<AdapterFileOptions>(
        *adapter, "export", "An adapter to one file: --out X.gguf, or flat where MODEL is given", run_adapter_export);
    const auto to_peft = add<AdapterFileOptions>(
        *adapter, "import", "An adapter's file, or torch's state dict, to a PEFT directory", run_adapter_import);
    for (const auto& command : {info, to_file, to_peft}) {
      command.app
          ->add_option("ADAPTER", command.options->files, "[MODEL] ADAPTER: directory or file; MODEL is optional")
          ->required()
          ->expected(1, 2);
      command.app->add_option("--alpha", command.options->alpha, "LoRA's alpha, for a torch file, which says none")
          ->check(CLI::Range(1e-6, 1e6));
      command.app->add_option("--task", command.options->task, "PEFT's task_type, for a torch file")
          ->check(CLI::IsMember(
              {"SEQ_CLS", "SEQ_2_SEQ_LM", "CAUSAL_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"}))
          ->capture_default_str();
      if (command.app != info.app) {
        command.app->add_option("--out", command.options->out, "what to write")->required();
      }
    }
    const auto merge =
        add<AdapterFileOptions>(*adapter, "merge", "Add an adapter to the model's weights", run_adapter_merge);
    model_argument(merge.app, merge.options->common);
    merge.app->add_option("ADAPTER", merge.options->in, "PEFT directory or GGUF")->required();
    merge.app->add_option("--out", merge.options->out, "Hugging Face directory to write")->required();
    tokenizer_option(merge.app, merge.options->common);
  }

  void measure() {
    const auto golden = add<GoldenOptions>(app_, "golden", "Compare the engine with golden cases", run_golden);
    golden.app->add_option("CASE_DIR", golden.options->cases, "directories as golden/README.md describes")->required();
    threads_option(golden.app, golden.options->common);
    const auto bench = add<BenchOptions>(app_, "bench", "Measure training steps on random weights", run_bench);
    bench.app->add_option("--shape", bench.options->shape, "stories15m, smollm135m or qwen05b")
        ->check(CLI::IsMember({"stories15m", "smollm135m", "qwen05b"}))
        ->capture_default_str();
    bench.app->add_option("--rank", bench.options->rank, "LoRA rank on all linear layers")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    bench.app
        ->add_option("--dtype", bench.options->dtype,
                     "of the frozen weights; w8a8: linear layers in int8, of the blocks and of the head forward")
        ->check(CLI::IsMember({"f32", "w8a8"}))
        ->capture_default_str();
    step_options(bench.app, bench.options->step, {"backprop", "forward-gradient", "zeroth-order", "forward"});
    bench.app->add_option("--steps", bench.options->steps, "steps to time")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    threads_option(bench.app, bench.options->common);
  }

  CLI::App app_;
  bool json_ = false;
  Command chosen_;
};

}  // namespace

int main(int argc, char** argv) {
  return Program().run(argc, argv);
}
