#include "adapters/golden.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "adapters/adapter.h"
#include "core/base/clock.h"
#include "core/formats/json.h"
#include "core/formats/safetensors.h"
#include "core/train/flat_view.h"
#include "core/train/local_trainer.h"
#include "core/train/optimizer.h"

namespace covey::adapters {
namespace {

constexpr double kLogitsLimit = 1e-4;
constexpr double kClassLogitsLimit = 2e-5;
constexpr double kLossLimit = 1e-5;
constexpr double kGradientLimit = 1e-4;  // of the tensor's largest entry plus 0.01, which is the README's + 1e-6
constexpr double kJvpLimit = 1e-4;
constexpr double kTrajectoryLossLimit = 2e-5;
constexpr double kTrajectoryValueLimit = 1e-5;
constexpr std::string_view kPrefix = "base_model.model.";

/// One case while it is compared.
class Case {
 public:
  Case(ThreadPool& pool, std::vector<GoldenCheck>& checks) : pool_(pool), checks_(checks) {}

  Status run(const std::string& directory) {
    COVEY_TRY(load(directory));
    COVEY_TRY(base());
    COVEY_TRY(lora());
    if (golden_->find("prompt") != nullptr) COVEY_TRY(prompt());
    if (std::filesystem::exists(directory + "/trajectory.safetensors")) {
      COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(directory + "/trajectory.safetensors"));
      COVEY_TRY(trajectory(file, "adamw", {.weight_decay = 0.01}, 1e-3));
      COVEY_TRY(trajectory(file, "sgd", {.kind = train::OptimizerKind::sgd}, 0.05));
    }
    return {};
  }

 private:
  Status load(const std::string& directory) {
    COVEY_ASSIGN(case_, formats::Json::load(directory + "/case.json"));
    COVEY_ASSIGN(model_, model::Model::load(directory));
    COVEY_ASSIGN(auto file, formats::SafetensorsFile::open(directory + "/golden.safetensors"));
    golden_ = std::make_unique<formats::SafetensorsFile>(std::move(file));
    COVEY_ASSIGN(const auto mask, integers("attention_mask"));
    COVEY_ASSIGN(ids_, integers("input_ids"));
    COVEY_ASSIGN(const formats::TensorView* shaped, golden_->get("input_ids"));
    if (shaped->shape.size() != 2 || mask.size() != ids_.size()) {
      return Error{ErrorCode::corrupt_data, golden_->path() + ": input_ids and attention_mask must be [B,T]"};
    }
    B_ = static_cast<std::size_t>(shaped->shape[0]);
    T_ = static_cast<std::size_t>(shaped->shape[1]);
    for (std::size_t b = 0; b < B_; ++b) {
      std::int32_t length = 0;
      while (length < static_cast<std::int32_t>(T_) && mask[b * T_ + static_cast<std::size_t>(length)] == 1) ++length;
      lengths_.push_back(length);
    }
    if (golden_->find("token_type_ids") != nullptr) {
      COVEY_ASSIGN(types_, integers("token_type_ids"));
    }
    COVEY_TRY(load_targets());
    return adapter_from_golden();
  }

  /// What each position (or row) should predict, as model::TokenBatch wants it.
  Status load_targets() {
    COVEY_ASSIGN(const auto labels, integers("labels"));
    const model::Task task = model_->config().task;
    if (task == model::Task::seq2seq) {
      COVEY_ASSIGN(second_ids_, integers("decoder_input_ids"));
      if (second_ids_.size() != labels.size() || labels.size() % B_ != 0 || labels.empty()) {
        return Error{ErrorCode::corrupt_data, golden_->path() + ": labels and decoder_input_ids differ in size"};
      }
      T2_ = labels.size() / B_;
      targets_ = labels;
      return {};
    }
    const std::size_t expected = task == model::Task::classification ? B_ : B_ * T_;
    if (labels.size() != expected) return Error{ErrorCode::corrupt_data, golden_->path() + ": labels: unexpected size"};
    if (task != model::Task::causal_lm) {
      targets_ = labels;
      return {};
    }
    targets_.assign(B_ * T_, model::kNoTarget);
    for (std::size_t b = 0; b < B_; ++b) {
      first_labels_.push_back(labels[b * T_]);
      for (std::size_t t = 0; t + 1 < static_cast<std::size_t>(lengths_[b]); ++t) {
        targets_[b * T_ + t] = labels[b * T_ + t + 1];
      }
    }
    return {};
  }

  Status adapter_from_golden() {
    COVEY_ASSIGN(const formats::Json* settings, case_.get_object("lora"));
    LoraOptions options;
    COVEY_ASSIGN(const auto rank, settings->get_int_between("r", 1, kRankMax));
    COVEY_ASSIGN(options.alpha, settings->get_double("lora_alpha"));
    options.rank = static_cast<int>(rank);
    options.target_modules.clear();
    for (const auto& site : model_->linear_sites()) {
      if (golden_->find(tensor_name(site.path, 'A')) != nullptr) options.target_modules.push_back(site.path);
    }
    const auto adapted = static_cast<std::size_t>(
        std::count_if(golden_->tensors().begin(), golden_->tensors().end(), [](const formats::TensorView& tensor) {
          return tensor.name.starts_with(kPrefix) && tensor.name.ends_with(".lora_A.weight");
        }));
    if (adapted != options.target_modules.size()) {
      return Error{ErrorCode::unsupported, "the case adapts layers that the engine does not offer"};
    }
    COVEY_ASSIGN(AdapterLayout layout, lora_layout(model_->linear_sites(), options));
    COVEY_ASSIGN(std::vector<float> values, gather(*golden_, "", layout));
    COVEY_ASSIGN(adapter_, Adapter::create(*model_, std::move(layout), std::move(values)));
    return {};
  }

  static std::string tensor_name(const std::string& path, char which) {
    return std::string(kPrefix) + path + ".lora_" + which + ".weight";
  }

  /// `lead` + name of every A and B, in flat order.
  static Result<std::vector<float>> gather(const formats::SafetensorsFile& file, const std::string& lead,
                                           const AdapterLayout& layout) {
    std::vector<float> out;
    for (const auto& entry : layout.lora) {
      for (const char which : {'A', 'B'}) {
        COVEY_ASSIGN(const formats::TensorView* tensor, file.get(lead + tensor_name(entry.path, which)));
        COVEY_ASSIGN(const std::vector<float> values, formats::to_f32(*tensor));
        const auto expected = static_cast<std::size_t>(which == 'A' ? entry.a_size() : entry.b_size());
        if (values.size() != expected) return Error{ErrorCode::corrupt_data, tensor->name + ": unexpected size"};
        out.insert(out.end(), values.begin(), values.end());
      }
    }
    return out;
  }

  Result<std::vector<std::int32_t>> integers(const char* name) {
    COVEY_ASSIGN(const formats::TensorView* tensor, golden_->get(name));
    COVEY_ASSIGN(const auto wide, formats::to_i64(*tensor));
    return std::vector<std::int32_t>(wide.begin(), wide.end());
  }
  Result<std::vector<float>> floats(const std::string& name) {
    COVEY_ASSIGN(const formats::TensorView* tensor, golden_->get(name));
    return formats::to_f32(*tensor);
  }
  Result<double> scalar(const formats::SafetensorsFile& file, const std::string& name) {
    COVEY_ASSIGN(const formats::TensorView* tensor, file.get(name));
    COVEY_ASSIGN(const std::vector<double> values, formats::to_f64(*tensor));
    if (values.size() != 1) return Error{ErrorCode::corrupt_data, name + ": is not a scalar"};
    return values[0];
  }

  void note(const std::string& name, double error, double limit) { checks_.push_back({name, error, limit}); }

  Result<std::unique_ptr<model::Engine>> engine(bool training, int prompt_tokens) {
    return model::Engine::create(*model_,
                                 {.batch_max = static_cast<int>(B_),
                                  .seq_max = static_cast<int>(T_),
                                  .training = training,
                                  .prompt_tokens_max = prompt_tokens,
                                  .tangent = training,
                                  .target_seq_max = static_cast<int>(T2_)},
                                 pool_);
  }

  /// All rows, in their order.
  [[nodiscard]] model::TokenBatch batch() const {
    return {.B = static_cast<int>(B_),
            .T = static_cast<int>(T_),
            .ids = ids_,
            .targets = targets_,
            .lengths = lengths_,
            .types = types_,
            .second_ids = second_ids_,
            .T2 = static_cast<int>(T2_)};
  }

  /// Largest difference at positions that hold a token or a virtual token.
  Status compare_logits(const std::string& name, const model::AdapterSpec& spec, const model::AdapterView& view) {
    COVEY_ASSIGN(const auto runner, engine(false, spec.prompt_tokens));
    COVEY_ASSIGN(const std::vector<float> expected, floats(name));
    const model::Task task = model_->config().task;
    const auto P = static_cast<std::size_t>(spec.prompt_tokens);
    const auto V = static_cast<std::size_t>(model_->config().outputs());
    const bool classes = task == model::Task::classification;
    const std::size_t width = classes ? 1 : (task == model::Task::seq2seq ? T2_ : P + T_);
    std::vector<float> got(B_ * width * V);
    if (expected.size() != got.size()) return Error{ErrorCode::corrupt_data, name + ": unexpected size"};
    COVEY_TRY(runner->logits(batch(), spec, view, got));
    double error = 0;
    for (std::size_t b = 0; b < B_; ++b) {
      const bool padded = task == model::Task::causal_lm || task == model::Task::masked_lm;
      const std::size_t count = padded ? P + static_cast<std::size_t>(lengths_[b]) : width;
      for (std::size_t i = b * width * V; i < (b * width + count) * V; ++i) {
        error = std::max(error, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
        if (std::isnan(got[i])) error = HUGE_VAL;
      }
    }
    note(name, error, classes ? kClassLogitsLimit : kLogitsLimit);
    return {};
  }

  static double tensor_error(std::span<const float> got, std::span<const float> expected) {
    double largest = 0;
    double error = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
      error = std::max(error, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
      if (std::isnan(got[i])) error = HUGE_VAL;
    }
    return error / (largest + 0.01);
  }

  Status base() {
    COVEY_TRY(compare_logits("logits", {}, {}));
    COVEY_ASSIGN(const auto runner, engine(false, 0));
    COVEY_ASSIGN(const auto loss, runner->loss(batch(), {}, {}));
    COVEY_ASSIGN(const double expected, scalar(*golden_, "loss"));
    note("loss", std::abs(loss.mean() - expected), kLossLimit);
    return {};
  }

  /// The LoRA gradient by backpropagation, its product with the direction, and that derivative by forward mode.
  Status lora() {
    COVEY_TRY(compare_logits("lora_logits", adapter_.spec(), adapter_.view()));
    COVEY_ASSIGN(const auto runner, engine(true, 0));
    std::vector<float> gradient(adapter_.values().size(), 0.0F);
    const auto& sites = model_->linear_sites();
    const int width = model_->config().embedding_width();
    const auto into = train::flat_grad_view(adapter_.spec(), sites, width, gradient);
    COVEY_ASSIGN(const auto loss, runner->gradient(batch(), adapter_.spec(), adapter_.view(), into));
    COVEY_ASSIGN(const double expected, scalar(*golden_, "lora_loss"));
    note("lora_loss", std::abs(loss.mean() - expected), kLossLimit);
    COVEY_ASSIGN(const std::vector<float> wanted, gather(*golden_, "grad.", adapter_.layout()));
    double error = 0;
    for (const auto& entry : adapter_.layout().lora) {
      const auto got = std::span<const float>(gradient).subspan(static_cast<std::size_t>(entry.offset));
      const auto want = std::span<const float>(wanted).subspan(static_cast<std::size_t>(entry.offset));
      const auto a = static_cast<std::size_t>(entry.a_size());
      const auto b = static_cast<std::size_t>(entry.b_size());
      error = std::max(
          {error, tensor_error(got.first(a), want.first(a)), tensor_error(got.subspan(a, b), want.subspan(a, b))});
    }
    note("lora_grad", error, kGradientLimit);

    COVEY_ASSIGN(const std::vector<float> direction, gather(*golden_, "dir.", adapter_.layout()));
    COVEY_ASSIGN(const double jvp, scalar(*golden_, "jvp"));
    double product = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      product += static_cast<double>(gradient[i]) * static_cast<double>(direction[i]);
    }
    COVEY_ASSIGN(const auto forward, runner->jvp(batch(), adapter_.spec(), adapter_.view(),
                                                 train::flat_view(adapter_.spec(), sites, width, direction)));
    note("jvp", std::max(std::abs(product - jvp), std::abs(forward.derivative - jvp)) / std::max(1.0, std::abs(jvp)),
         kJvpLimit);
    return golden_->find("labels")->shape.size() == 1 ? head() : Status();
  }

  /// A classifier's own layers, trained beside the LoRA.
  Status head() {
    model::AdapterSpec spec = adapter_.spec();
    std::vector<float> values;
    std::vector<float> wanted;
    for (const auto& parameter : model_->head_parameters()) {
      values.insert(values.end(), parameter.values.begin(), parameter.values.end());
      COVEY_ASSIGN(const std::vector<float> part, floats("grad." + std::string(kPrefix) + parameter.name));
      if (part.size() != parameter.values.size())
        return Error{ErrorCode::corrupt_data, parameter.name + ": unexpected size"};
      wanted.insert(wanted.end(), part.begin(), part.end());
    }
    spec.head_values = static_cast<std::int64_t>(values.size());
    model::AdapterView view = adapter_.view();
    view.head = values;
    std::vector<float> gradient(values.size(), 0.0F);
    std::vector<float> lora_gradient(adapter_.values().size(), 0.0F);
    auto into = train::flat_grad_view(adapter_.spec(), model_->linear_sites(), model_->config().embedding_width(),
                                      lora_gradient);
    into.head = gradient;
    COVEY_ASSIGN(const auto runner, engine(true, 0));
    COVEY_ASSIGN(const auto loss, runner->gradient(batch(), spec, view, into));
    static_cast<void>(loss);
    double error = 0;
    for (const auto& parameter : model_->head_parameters()) {
      const auto at = static_cast<std::size_t>(parameter.offset);
      const std::size_t size = parameter.values.size();
      error = std::max(error, tensor_error(std::span<const float>(gradient).subspan(at, size),
                                           std::span<const float>(wanted).subspan(at, size)));
    }
    note("head_grad", error, kGradientLimit);
    return {};
  }

  Status prompt() {
    COVEY_ASSIGN(const std::vector<float> values, floats("prompt"));
    const auto hidden = static_cast<std::size_t>(model_->config().embedding_width());
    model::AdapterSpec spec;
    spec.prompt_tokens = static_cast<int>(values.size() / hidden);
    const model::AdapterView view{.lora = {}, .prompt = values};
    COVEY_TRY(compare_logits("prompt_logits", spec, view));
    COVEY_ASSIGN(const auto runner, engine(true, spec.prompt_tokens));
    std::vector<float> gradient(values.size(), 0.0F);
    model::TokenBatch with_first = batch();
    with_first.first_targets = first_labels_;
    COVEY_ASSIGN(const auto loss, runner->gradient(with_first, spec, view, {.lora = {}, .prompt = gradient}));
    COVEY_ASSIGN(const double expected, scalar(*golden_, "prompt_loss"));
    COVEY_ASSIGN(const std::vector<float> wanted, floats("grad.prompt"));
    if (wanted.size() != gradient.size()) return Error{ErrorCode::corrupt_data, "grad.prompt: unexpected size"};
    note("prompt_loss", std::abs(loss.mean() - expected), kLossLimit);
    note("prompt_grad", tensor_error(gradient, wanted), kGradientLimit);
    return {};
  }

  Status trajectory(const formats::SafetensorsFile& file, const std::string& name,
                    const train::OptimizerConfig& optimizer, double lr) {
    COVEY_ASSIGN(const formats::TensorView* tensor, file.get(name + ".losses"));
    COVEY_ASSIGN(const std::vector<double> losses, formats::to_f64(*tensor));
    std::vector<float> values(adapter_.values().begin(), adapter_.values().end());
    double loss_error = 0;
    const auto step = [&](double loss, double expected) {
      loss_error = std::max(loss_error, std::abs(loss - expected));
    };
    if (model_->config().task == model::Task::causal_lm) {
      COVEY_TRY(train_text(optimizer, lr, losses, values, step));
    } else {
      COVEY_TRY(train_plainly(optimizer, lr, losses, values, step));
    }
    COVEY_ASSIGN(const auto runner, engine(false, 0));
    COVEY_ASSIGN(const auto last, runner->loss(batch(), adapter_.spec(),
                                               train::flat_view(adapter_.spec(), model_->linear_sites(),
                                                                model_->config().embedding_width(), values)));
    COVEY_ASSIGN(const double final_loss, scalar(file, name + ".final_loss"));
    note(name + ".losses", std::max(loss_error, std::abs(last.mean() - final_loss)), kTrajectoryLossLimit);
    COVEY_ASSIGN(const std::vector<float> wanted, gather(file, name + ".final.", adapter_.layout()));
    double error = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      error = std::max(error, std::abs(static_cast<double>(values[i]) - static_cast<double>(wanted[i])));
    }
    note(name + ".final", error, kTrajectoryValueLimit);
    return {};
  }

  /// The training loop that users run, on the case's rows.
  template <typename F>
  Status train_text(const train::OptimizerConfig& optimizer, double lr, std::span<const double> losses,
                    std::vector<float>& values, F&& step) {
    std::vector<train::TokenRow> rows;
    for (std::size_t b = 0; b < B_; ++b) {
      const auto first = static_cast<std::ptrdiff_t>(b * T_);
      rows.push_back({.ids = {ids_.begin() + first, ids_.begin() + first + lengths_[b]},
                      .targets = {targets_.begin() + first, targets_.begin() + first + lengths_[b]}});
    }
    train::TrainConfig config{.optimizer = optimizer, .lr = lr};
    config.batch = static_cast<int>(B_);
    config.seq = static_cast<int>(T_);
    config.steps = static_cast<std::int64_t>(losses.size());
    const SystemClock clock;
    COVEY_ASSIGN(const auto trainer,
                 train::LocalTrainer::create(*model_, adapter_.spec(), values, rows, config, pool_, clock));
    for (const double expected : losses) {
      COVEY_ASSIGN(const auto report, trainer->step());
      step(report.loss, expected);
    }
    values.assign(trainer->values().begin(), trainer->values().end());
    return {};
  }

  /// Gradient and optimizer alone: the loop above is for text.
  template <typename F>
  Status train_plainly(const train::OptimizerConfig& config, double lr, std::span<const double> losses,
                       std::vector<float>& values, F&& step) {
    const auto& sites = model_->linear_sites();
    const int width = model_->config().embedding_width();
    train::Optimizer optimizer(config, static_cast<std::int64_t>(values.size()));
    COVEY_ASSIGN(const auto runner, engine(true, 0));
    for (const double expected : losses) {
      std::vector<float> gradient(values.size(), 0.0F);
      COVEY_ASSIGN(const auto loss,
                   runner->gradient(batch(), adapter_.spec(), train::flat_view(adapter_.spec(), sites, width, values),
                                    train::flat_grad_view(adapter_.spec(), sites, width, gradient)));
      step(loss.mean(), expected);
      optimizer.step(values, gradient, lr);
    }
    return {};
  }

  ThreadPool& pool_;
  std::vector<GoldenCheck>& checks_;
  formats::Json case_;
  std::shared_ptr<model::Model> model_;
  std::unique_ptr<formats::SafetensorsFile> golden_;
  std::size_t B_ = 0;
  std::size_t T_ = 0;
  std::size_t T2_ = 0;  ///< of the second stack
  std::vector<std::int32_t> ids_, types_, second_ids_, targets_, lengths_;
  std::vector<std::int32_t> first_labels_;  ///< (B): what the last virtual token predicts
  Adapter adapter_;
};

}  // namespace

bool GoldenReport::passed() const {
  return failure.empty() && !checks.empty() &&
         std::all_of(checks.begin(), checks.end(), [](const GoldenCheck& check) { return check.ok(); });
}

std::string GoldenReport::line() const {
  std::string out = (passed() ? "ok " : "FAILED ") + name;
  for (const auto& check : checks) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), " %s %.1e%s", check.name.c_str(), check.error, check.ok() ? "" : " (!)");
    out += text.data();
  }
  return failure.empty() ? out : out + ": " + failure;
}

GoldenReport check_golden_case(const std::string& directory, ThreadPool& pool) {
  GoldenReport report;
  const auto path = std::filesystem::path(directory).lexically_normal();
  report.name = path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  const Status status = Case(pool, report.checks).run(directory);
  if (!status.ok()) report.failure = status.error().message;
  return report;
}

}  // namespace covey::adapters
