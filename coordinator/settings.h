/// coordinator.yaml: every key of the daemon, read and checked; and the task it stands for, with the model's files and
/// the initial adapter. The template that `init` writes explains each key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_options.h"
#include "adapters/layout.h"
#include "adapters/workbench.h"
#include "coordinator/rotation.h"
#include "coordinator/task.h"
#include "core/base/thread_pool.h"
#include "core/config/reader.h"
#include "core/net/blobs.h"

namespace covey::coordinator {

struct HeldOut {
  std::string file;  ///< empty: rounds are published without a measured loss
  std::int64_t examples_max = 1000;
  int batch = 16;
  int seq = 256;
  int threads = 1;
};

struct Settings {
  std::string home;       ///< the configuration file's folder: keys lie here
  std::string listen;     ///< ZeroMQ endpoint
  std::string advertise;  ///< what invites say; empty: `listen` as bound
  std::optional<RotationSettings> rotate;
  std::string data_dir;
  std::string model;
  std::string tokenizer;
  adapters::AdapterOptions adapter;
  HeldOut held_out;
  TaskConfig task;         ///< without model files, layout and initial values
  std::string roster_key;  ///< file; empty: the key is kept apart
  int dashboard_port = 0;  ///< 0 = off
  bool exit_when_finished = false;
};

/// Paths in the file are relative to the file's folder.
/// @errors those of config::Document; invalid_argument and unsupported from TaskConfig's rules.
Result<Settings> load_settings(const std::string& path);
/// The part that the simulator's experiments share: rounds, cohort, deadline, `local`, `server_optimizer`, `privacy`,
/// `seed`. Problems are remembered by the section's document.
void read_rounds(config::Section root, TaskConfig& task);
/// `adapter: {rank, alpha, targets, rslora}`.
adapters::AdapterOptions read_adapter(config::Section section);

/// Fills in layout and initial values for a loaded model.
Status add_adapter(TaskConfig& task, const model::Model& model, const adapters::AdapterOptions& options);

/// The adapter's P values that a version stands for: itself, or in a seeded task what its K scalars make.
/// @errors invalid_argument: not K scalars.
Result<std::vector<float>> adapter_of_version(const TaskConfig& task, const adapters::AdapterLayout& layout,
                                              const model::Model& model, std::vector<float> version,
                                              ThreadPool& threads);

struct ModelFile {
  std::string name;  ///< as devices store it
  std::string path;
};
/// The files a device needs to load the model at `path`: a Hugging Face directory's configuration, weights and
/// tokenizer, or a llama2.c .bin with its tokenizer. @errors not_found, invalid_argument.
Result<std::vector<ModelFile>> model_files(const std::string& path, const std::string& tokenizer);
/// Serves the files and lists them in the task.
Status serve_model(TaskConfig& task, const std::vector<ModelFile>& files, net::BlobServer& blobs);

/// What `init` writes; each key with its meaning.
std::string settings_template(const std::string& task);

}  // namespace covey::coordinator
