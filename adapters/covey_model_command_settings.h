/// The YAML files of `covey-model train` and `pretrain`. Unknown keys are refused; paths in a file are relative to it.
/// Private to the program.
#pragma once

#include <string>
#include <vector>

#include "adapters/adapter_options.h"
#include "adapters/train_choice.h"
#include "core/base/result.h"
#include "core/model/config.h"
#include "core/train/training_run.h"

namespace covey::adapters {

struct TrainSettings {
  train::TrainConfig training;
  AdapterOptions adapter;  ///< lora.target_modules {"auto"}: default_targets()
  std::string task;        ///< "auto": the model's own, or what the model must be
  double mask_share = 0;   ///< masked language models
  TrainChoice choice;      ///< train_layers, train_tensors
  std::string held_out;    ///< file; empty: none
  train::RunOptions run;   ///< without the checkpoint's path
  std::string resolved;    ///< the file with all defaults, as YAML
};

struct PretrainSettings {
  std::vector<std::string> data;
  std::string held_out;
  int vocab_size = 512;
  model::ModelConfig model;
  train::TrainConfig training;
};

/// @errors invalid_argument: `file:line:col: what; how to mend`, or the first setting that does not fit the others.
Result<TrainSettings> read_train_settings(const std::string& path);
Result<PretrainSettings> read_pretrain_settings(const std::string& path);

}  // namespace covey::adapters
