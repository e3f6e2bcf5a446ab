#include "adapters/task_rows.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <utility>

#include "core/formats/json.h"

namespace covey::adapters {
namespace {

constexpr std::array<std::pair<model::Task, std::string_view>, 4> kTasks = {
    {{model::Task::causal_lm, "causal_lm"},
     {model::Task::masked_lm, "masked_lm"},
     {model::Task::classification, "classification"},
     {model::Task::seq2seq, "seq2seq"}}};

std::string placeholder(std::size_t index) {
  return "LABEL_" + std::to_string(index);
}

/// id2label of the config.json that the model came from; placeholders where it names none.
std::vector<std::string> configured_names(const model::ModelConfig& config) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < static_cast<std::size_t>(config.classes); ++i) names.push_back(placeholder(i));
  const auto json = formats::Json::parse(config.source);
  const formats::Json* given = json.ok() ? json->find("id2label") : nullptr;
  for (std::size_t i = 0; given != nullptr && i < names.size(); ++i) {
    if (const auto name = given->get_string(std::to_string(i)); name.ok() && !name->empty()) names[i] = *name;
  }
  return names;
}

constexpr std::size_t kClassesMax = std::size_t{1} << 16;

Result<std::vector<std::string>> saved_names(const std::string& file) {
  COVEY_ASSIGN(const formats::Json json, formats::Json::load(file, {.bytes_max = std::size_t{16} << 20}));
  return json.get_strings("labels");
}

std::optional<std::int32_t> number_of(std::string_view label, int classes) {
  std::int32_t out = -1;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), out);
  if (error != std::errc() || end != label.data() + label.size() || out < 0 || out >= classes) return std::nullopt;
  return out;
}

std::optional<std::int32_t> class_of(const data::Labels& labels, const std::string& label) {
  const auto found = labels.find(label);
  return found ? found : number_of(label, static_cast<int>(labels.names().size()));
}

Error at(const std::string& where, const TextExample& example, const std::string& what) {
  return {ErrorCode::invalid_argument, where + ":" + std::to_string(example.line) + ": " + what};
}

Result<train::TokenRow> classified(const Workbench& bench, const data::Labels& labels, const TextExample& example,
                                   const RowOptions& options, const std::string& where) {
  if (!example.chat.empty()) return at(where, example, "is a conversation; a classifier reads \"text\" and \"label\"");
  if (!example.label) return at(where, example, "has no \"label\" (a name or a whole number)");
  const auto found = class_of(labels, *example.label);
  if (!found) {
    return at(where, example, "its label is none of the model's " + std::to_string(labels.names().size()) + " classes");
  }
  const auto& config = bench.model->config();
  auto row = data::class_row(
      *bench.tokenizer, example, *found,
      {.seq_max = options.seq, .double_separator = config.family == "roberta", .types = config.type_vocab > 1});
  if (!row.ok()) return at(where, example, row.error().message);
  return row;
}

}  // namespace

std::string_view task_name(model::Task task) {
  return std::ranges::find(kTasks, task, &std::pair<model::Task, std::string_view>::first)->second;
}

std::vector<std::string> task_names() {
  std::vector<std::string> out;
  for (const auto& [task, name] : kTasks) out.emplace_back(name);
  return out;
}

Result<Workbench> open_classifier(const std::string& model, const std::string& tokenizer, const std::string& file,
                                  std::span<const TextExample> examples, Dtype dtype) {
  std::size_t classes = 0;
  std::error_code ignored;
  if (!file.empty() && std::filesystem::exists(file, ignored)) {
    COVEY_ASSIGN(const auto names, saved_names(file));
    classes = names.size();
  } else {
    COVEY_ASSIGN(const data::Labels labels, data::Labels::of(examples));
    classes = labels.names().size();
  }
  if (classes > kClassesMax) {
    return Error{ErrorCode::invalid_argument,
                 std::to_string(classes) + " labels are more than " + std::to_string(kClassesMax)};
  }
  return open_workbench(model, tokenizer, {.new_head_classes = static_cast<int>(classes)}, dtype);
}

Result<data::Labels> labels_for(const model::ModelConfig& config, const std::string& file,
                                std::span<const TextExample> examples) {
  if (config.task != model::Task::classification) return data::Labels();
  std::error_code ignored;
  if (!file.empty() && std::filesystem::exists(file, ignored)) {
    COVEY_ASSIGN(std::vector<std::string> names, saved_names(file));
    if (names.size() != static_cast<std::size_t>(config.classes)) {
      return Error{ErrorCode::invalid_argument, file + ": names " + std::to_string(names.size()) +
                                                    " classes, the model has " + std::to_string(config.classes)};
    }
    auto labels = data::Labels::create(std::move(names));
    if (!labels.ok()) return labels.error().in(file);
    return labels;
  }
  COVEY_ASSIGN(data::Labels configured, data::Labels::create(configured_names(config)));
  const auto known = [&](const TextExample& example) { return example.label && class_of(configured, *example.label); };
  const bool placeholders = configured.names()[0] == placeholder(0);
  if (!placeholders || std::ranges::all_of(examples, known)) return configured;
  COVEY_ASSIGN(const data::Labels found, data::Labels::of(examples));
  std::vector<std::string> names(found.names().begin(), found.names().end());
  if (names.size() > static_cast<std::size_t>(config.classes)) {
    return Error{ErrorCode::invalid_argument, "the examples have " + std::to_string(names.size()) +
                                                  " labels, the model has " + std::to_string(config.classes) +
                                                  " classes; set num_labels in its config.json"};
  }
  while (names.size() < static_cast<std::size_t>(config.classes)) names.push_back(placeholder(names.size()));
  return data::Labels::create(std::move(names));
}

Status save_labels(const std::string& file, const data::Labels& labels) {
  const std::vector<std::string> names(labels.names().begin(), labels.names().end());
  return formats::Json::object({{"labels", formats::Json(names)}}).save(file);
}

Result<std::vector<train::TokenRow>> task_rows(const Workbench& bench, const data::Labels& labels,
                                               std::span<const TextExample> examples, const RowOptions& options,
                                               const std::string& where) {
  const model::ModelConfig& config = bench.model->config();
  if (config.task == model::Task::causal_lm) return example_rows(*bench.tokenizer, examples, options.seq);
  std::vector<train::TokenRow> out;
  for (const TextExample& example : examples) {
    if (config.task == model::Task::classification) {
      COVEY_ASSIGN(train::TokenRow row, classified(bench, labels, example, options, where));
      out.push_back(std::move(row));
    } else if (config.task == model::Task::masked_lm) {
      auto rows = data::maskable_rows(*bench.tokenizer, example, options.seq);
      if (!rows.ok()) return rows.error().in(where);
      std::ranges::move(*rows, std::back_inserter(out));
    } else {
      if (example.prompt.empty()) return at(where, example, "has no source; give \"source\" and \"target\"");
      const int target_seq = options.target_seq > 0 ? options.target_seq : options.seq;
      auto row =
          data::source_row(*bench.tokenizer, example,
                           {.seq_max = options.seq, .target_seq_max = target_seq, .start_id = config.decoder_start_id});
      if (!row.ok()) return at(where, example, row.error().message);
      out.push_back(*std::move(row));
    }
  }
  return out;
}

Result<std::optional<data::Masking>> masking_for(const Workbench& bench, double share, std::uint64_t seed) {
  if (bench.model->config().task != model::Task::masked_lm) return std::optional<data::Masking>();
  data::Masking masking{.vocab = bench.tokenizer->vocab_size(), .share = share, .seed = seed};
  for (const std::string_view name : {"[MASK]", "<mask>"}) {
    const auto ids = bench.tokenizer->encode(name, false);
    if (masking.mask_id < 0 && ids.size() == 1 && bench.tokenizer->is_special(ids[0])) masking.mask_id = ids[0];
  }
  if (masking.mask_id < 0) {
    return Error{ErrorCode::invalid_argument,
                 "the tokenizer has no mask token ([MASK] or <mask>), so nothing can be "
                 "masked; name the model's own tokenizer"};
  }
  COVEY_TRY(masking.check());
  return std::optional<data::Masking>(masking);
}

}  // namespace covey::adapters
