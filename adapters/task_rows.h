/// Examples as the rows that a model's task wants: texts, texts to be masked, classes, or sources and targets. No
/// optimizer is reachable from here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/workbench.h"
#include "core/data/labelled.h"

namespace covey::adapters {

/// A trained classifier's label names, in its adapter's directory.
constexpr const char* kLabelsFile = "/labels.json";

/// "causal_lm", "masked_lm", "classification", "seq2seq".
std::string_view task_name(model::Task task);
std::vector<std::string> task_names();

/// A classifier's classes by name: those of `file` (what save_labels wrote) where it is there, else those of the
/// model's configuration. Where these are placeholders (LABEL_0, ...) and `examples` have other names, the sorted names
/// of the examples (numbers beyond the classes, such as stars from 1 to 5, are names, too). Empty where the model is no
/// classifier.
/// @errors corrupt_data: the file; invalid_argument: more names than the model has classes, or an example without a
/// label.
Result<data::Labels> labels_for(const model::ModelConfig& config, const std::string& file,
                                std::span<const TextExample> examples);
/// {"labels": [...]}, beside the adapter that was trained with them. @errors io_error.
Status save_labels(const std::string& file, const data::Labels& labels);

struct RowOptions {
  int seq = 128;
  int target_seq = 0;  ///< encoder-decoders; 0: as seq
};

/// Opens `model` (as open_workbench does) as a classifier: with its own head, or with a new one of as many classes as
/// `examples` have labels, or as `file` (what save_labels wrote) names where it is there.
/// @errors as open_workbench and labels_for.
Result<Workbench> open_classifier(const std::string& model, const std::string& tokenizer, const std::string& file,
                                  std::span<const TextExample> examples, Dtype dtype = Dtype::as_stored);

/// A label is a name of `labels`, or else the number of a class.
/// @param where  the examples' file; opens every message.
/// @errors invalid_argument: an example that the task cannot use (its line is said); seq leaves no room.
Result<std::vector<train::TokenRow>> task_rows(const Workbench& bench, const data::Labels& labels,
                                               std::span<const TextExample> examples, const RowOptions& options,
                                               const std::string& where);

/// How a masked language model's rows are masked; none for other models.
/// @errors invalid_argument: the tokenizer has no mask token; share.
Result<std::optional<data::Masking>> masking_for(const Workbench& bench, double share, std::uint64_t seed);

}  // namespace covey::adapters
