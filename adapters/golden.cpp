#include "adapters/golden.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "adapters/adapter.h"
#include "core/base/clock.h"
#include "core/formats/json.h"
#include "core/formats/safetensors.h"
#include "core/train/flat_view.h"
#include "core/train/local_trainer.h"

namespace covey::adapters {
namespace {

constexpr double kLogitsLimit = 1e-4;
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
    COVEY_ASSIGN(const std::string task, case_.get_string("task"));
    COVEY_ASSIGN(const std::string family, case_.get_string("model_type", "?"));
    if (task != "causal-lm") {
      return Error{ErrorCode::unsupported, "task " + task + " of family " + family + " is not supported"};
    }
    COVEY_ASSIGN(model_, model::Model::load(directory));
    COVEY_ASSIGN(auto file, formats::SafetensorsFile::open(directory + "/golden.safetensors"));
    golden_ = std::make_unique<formats::SafetensorsFile>(std::move(file));
    COVEY_ASSIGN(const auto ids, integers("input_ids"));
    COVEY_ASSIGN(const auto mask, integers("attention_mask"));
    COVEY_ASSIGN(const auto labels, integers("labels"));
    COVEY_ASSIGN(const formats::TensorView* shaped, golden_->get("input_ids"));
    if (shaped->shape.size() != 2 || mask.size() != ids.size() || labels.size() != ids.size()) {
      return Error{ErrorCode::corrupt_data, golden_->path() + ": input_ids, attention_mask and labels must be [B,T]"};
    }
    const auto B = static_cast<std::size_t>(shaped->shape[0]);
    T_ = static_cast<std::size_t>(shaped->shape[1]);
    for (std::size_t b = 0; b < B; ++b) {
      first_labels_.push_back(static_cast<std::int32_t>(labels[b * T_]));
      train::TokenRow row;
      for (std::size_t t = 0; t < T_ && mask[b * T_ + t] == 1; ++t) {
        row.ids.push_back(static_cast<std::int32_t>(ids[b * T_ + t]));
        const bool last = t + 1 >= T_ || mask[b * T_ + t + 1] == 0;
        row.targets.push_back(last ? model::kNoTarget : static_cast<std::int32_t>(labels[b * T_ + t + 1]));
      }
      rows_.push_back(std::move(row));
    }
    COVEY_ASSIGN(batcher_, data::Batcher::create(rows_, {.batch = static_cast<int>(B), .shuffle = false}));
    return adapter_from_golden();
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

  Result<std::vector<std::int64_t>> integers(const char* name) {
    COVEY_ASSIGN(const formats::TensorView* tensor, golden_->get(name));
    return formats::to_i64(*tensor);
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
                                 {.batch_max = static_cast<int>(rows_.size()),
                                  .seq_max = static_cast<int>(T_),
                                  .training = training,
                                  .prompt_tokens_max = prompt_tokens},
                                 pool_);
  }

  /// All rows, in their order.
  model::TokenBatch batch() { return train::token_batch(batcher_->next()); }

  /// Largest difference at positions that hold a token or a virtual token.
  Status compare_logits(const std::string& name, const model::AdapterSpec& spec, const model::AdapterView& view) {
    COVEY_ASSIGN(const auto runner, engine(false, spec.prompt_tokens));
    COVEY_ASSIGN(const std::vector<float> expected, floats(name));
    const auto P = static_cast<std::size_t>(spec.prompt_tokens);
    const auto V = static_cast<std::size_t>(model_->config().vocab_size);
    std::vector<float> got(rows_.size() * (P + T_) * V);
    if (expected.size() != got.size()) return Error{ErrorCode::corrupt_data, name + ": unexpected size"};
    COVEY_TRY(runner->logits(batch(), spec, view, got));
    double error = 0;
    for (std::size_t b = 0; b < rows_.size(); ++b) {
      for (std::size_t i = b * (P + T_) * V; i < (b * (P + T_) + P + rows_[b].ids.size()) * V; ++i) {
        error = std::max(error, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
        if (std::isnan(got[i])) error = HUGE_VAL;
      }
    }
    note(name, error, kLogitsLimit);
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

  Status lora() {
    COVEY_TRY(compare_logits("lora_logits", adapter_.spec(), adapter_.view()));
    COVEY_ASSIGN(const auto runner, engine(true, 0));
    std::vector<float> gradient(adapter_.values().size(), 0.0F);
    const auto& sites = model_->linear_sites();
    const auto into = train::flat_grad_view(adapter_.spec(), sites, model_->config().hidden_size, gradient);
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
    note("jvp", std::abs(product - jvp) / std::max(1.0, std::abs(jvp)), kJvpLimit);
    return {};
  }

  Status prompt() {
    COVEY_ASSIGN(const std::vector<float> values, floats("prompt"));
    const auto hidden = static_cast<std::size_t>(model_->config().hidden_size);
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
    train::TrainConfig config{.optimizer = optimizer, .lr = lr};
    config.batch = static_cast<int>(rows_.size());
    config.seq = static_cast<int>(T_);
    config.steps = static_cast<std::int64_t>(losses.size());
    const SystemClock clock;
    const auto start = adapter_.values();
    COVEY_ASSIGN(const auto trainer, train::LocalTrainer::create(*model_, adapter_.spec(), {start.begin(), start.end()},
                                                                 rows_, config, pool_, clock));
    double loss_error = 0;
    for (const double expected : losses) {
      COVEY_ASSIGN(const auto report, trainer->step());
      loss_error = std::max(loss_error, std::abs(report.loss - expected));
    }
    const auto& sites = model_->linear_sites();
    COVEY_ASSIGN(const auto runner, engine(false, 0));
    COVEY_ASSIGN(const auto last, runner->loss(batch(), adapter_.spec(),
                                               train::flat_view(adapter_.spec(), sites, model_->config().hidden_size,
                                                                trainer->values())));
    COVEY_ASSIGN(const double final_loss, scalar(file, name + ".final_loss"));
    note(name + ".losses", std::max(loss_error, std::abs(last.mean() - final_loss)), kTrajectoryLossLimit);
    COVEY_ASSIGN(const std::vector<float> wanted, gather(file, name + ".final.", adapter_.layout()));
    double error = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      error = std::max(error, std::abs(static_cast<double>(trainer->values()[i]) - static_cast<double>(wanted[i])));
    }
    note(name + ".final", error, kTrajectoryValueLimit);
    return {};
  }

  ThreadPool& pool_;
  std::vector<GoldenCheck>& checks_;
  formats::Json case_;
  std::shared_ptr<model::Model> model_;
  std::unique_ptr<formats::SafetensorsFile> golden_;
  std::size_t T_ = 0;
  std::vector<train::TokenRow> rows_;
  std::vector<std::int32_t> first_labels_;  ///< (B): what the last virtual token predicts
  std::optional<data::Batcher> batcher_;
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
