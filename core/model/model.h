/// A language model: configuration plus weights, read through mmap where the file allows it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/model/adapter_spec.h"
#include "core/model/config.h"
#include "core/model/smooth.h"

namespace covey::model {

struct NamedTensor {
  std::string name;  ///< Hugging Face name, e.g. "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;
  std::span<float> values;
};

/// A tensor without its values.
struct TensorInfo {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t count = 0;
  int layer = -1;  ///< block index, as LinearSite's; -1 outside the blocks
};

/// A tensor of a classifier's own layers, which AdapterSpec::head trains.
struct HeadParameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  ///< in the flat head
  std::span<const float> values;
};

struct LoadOptions {
  bool writable = false;  ///< copy into memory so that parameters() can be changed (full-parameter training)
  bool widen = false;     ///< matrices that the file keeps in int8 become f32, as they do where all is writable
  /// Above 0: a Hugging Face directory with another head is taken as a classifier of so many classes. The new head, and
  /// a pooler that the files lack, start at random, at the same values on every machine. One with a classifier's head
  /// keeps it.
  int new_head_classes = 0;
};

/// Thread-safe for reading. Writing through parameters() is the caller's to serialize.
class Model {
 public:
  /// `path`: a Hugging Face directory, a `.gguf`, or a `.bin` of llama2.c or rwkv.cpp.
  /// @errors not_found, corrupt_data, unsupported (names the configuration field).
  static Result<std::shared_ptr<Model>> load(const std::string& path, LoadOptions options = {});
  /// Random initialization for pre-training: normal(0, 0.02), residual projections scaled by 1/sqrt(2 L), norms one.
  static Result<std::shared_ptr<Model>> create(const ModelConfig& config, std::uint64_t seed);
  /// Writes config.json and model.safetensors (f32) into the directory, which is made; what was loaded in int8 is saved
  /// so. @errors io_error.
  [[nodiscard]] Status save(const std::string& directory) const;

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model();

  /// SmoothQuant (Xiao et al., ICML 2023): wherever linear layers alone read a norm's result, the norm's weight and
  /// bias are divided and the layers' columns multiplied by s_j = max|X_j|^alpha / max|W_j|^(1 - alpha). The model
  /// computes what it did, within rounding. `peaks` follow. Before use_int8(), and before any engine is made.
  /// @errors invalid_argument: not writable, or in int8; alpha outside [0, 1]; peaks of another model.
  Result<SmoothReport> smooth(InputPeaks& peaks, double alpha);
  /// As LLM.int8() (Dettmers et al., NeurIPS 2022): of each linear layer of the blocks, the `count` input columns with
  /// the largest peaks are computed in f32 by the forward pass once use_int8() was called, and set no token's scale.
  /// The backward pass takes them from the int8 weights like all others. Before use_int8().
  /// @errors invalid_argument: in int8 already; as many columns as a layer has; peaks of another model.
  [[nodiscard]] Status keep_outliers(const InputPeaks& peaks, int count);
  /// W8A8: from now on the linear layers of the blocks work with int8 weights (a scale per output channel) and with
  /// activations quantized per token, forward and backward, and so does the head over words, forward. Its gradient,
  /// embeddings and what is small stay f32, and so do the values that parameters() shows. Before any engine is made.
  /// @errors unsupported: a layer too wide for int32 sums; resource_exhausted.
  [[nodiscard]] Status use_int8();
  /// As save(), with int8 matrices as compressed-tensors keeps them: `weight` I8, `weight_scale` F32 (out, 1), and
  /// quantization_config in config.json. load() takes such a directory and computes with its int8 weights, unless they
  /// shall be writable: those are f32. Source: vllm-project/compressed-tensors, format "int-quantized". Outlier columns
  /// lie beside it in a file of ours, which config.json names; for other readers `weight` is whole without them.
  /// @errors invalid_argument: before use_int8(); unsupported: a family whose matrices lie (in, out); io_error.
  [[nodiscard]] Status save_int8(const std::string& directory) const;
  /// Whether the weights lie in the file as int8.
  [[nodiscard]] bool is_int8_file() const;
  /// Bytes of those weights; 0 without.
  [[nodiscard]] std::uint64_t int8_bytes() const;
  /// Bytes of all weights, in f32 and in int8, copies and mapped ones.
  [[nodiscard]] std::uint64_t weight_bytes() const;

  [[nodiscard]] const ModelConfig& config() const;
  /// Every linear layer an adapter may attach to, in order of the forward pass.
  [[nodiscard]] const std::vector<LinearSite>& linear_sites() const;
  /// Biases of linear layers and norms, but those of a classifier's own layers; each once, in the forward pass's order.
  [[nodiscard]] const std::vector<AdapterPlace>& biases() const;
  /// Every attention, in the forward pass's order; RWKV has none. Where layers share their modules, later ones have
  /// names of their own ("...-2").
  [[nodiscard]] const std::vector<AdapterPlace>& attentions() const;
  [[nodiscard]] const std::vector<AdapterPlace>& blocks() const;
  /// All weights in a fixed order; a tied head appears once. Writable only where load or create made it so (asserted).
  [[nodiscard]] std::vector<NamedTensor> parameters();
  /// In the order of parameters(), of any model.
  [[nodiscard]] std::vector<TensorInfo> tensors() const;
  [[nodiscard]] std::int64_t parameter_count() const;
  /// In order of their offsets; empty where the model is no classifier.
  [[nodiscard]] std::vector<HeadParameter> head_parameters() const;

  struct Impl;
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::model
