/// A Hugging Face model directory: config.json, weights in one or several safetensors files, tokenizer files.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"
#include "core/formats/safetensors.h"

namespace covey::formats {

/// Where the files of a model lie: `path` itself, or, where it is a folder of the hub's cache ("models--org--name"),
/// the snapshot in it that refs/main names, else the only one there is. `path` unchanged where it is neither.
std::string model_directory(const std::string& path);

/// Immutable, movable, thread-safe for reading. Tensor bytes stay valid while this object lives.
class HfDirectory {
 public:
  /// Opens config.json and model.safetensors, or every shard that model.safetensors.index.json names. `directory` may
  /// be a folder of the hub's cache (model_directory). Ids of generation_config.json stand before config.json's, as
  /// they do in the reference.
  /// @errors not_found: a file is missing, the message names it; corrupt_data: a file breaks its format, a tensor lies
  /// in two shards, or in another one than the index says; unsupported: weights only as a pickle (pytorch_model.bin).
  static Result<HfDirectory> open(const std::string& directory);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const Json& config() const { return config_; }
  [[nodiscard]] std::string config_path() const { return path_ + "/config.json"; }
  /// safetensors files.
  [[nodiscard]] std::size_t files() const { return shards_.size(); }
  /// Over all shards, by name, as the files spell them.
  [[nodiscard]] std::vector<std::string> tensor_names() const;
  /// Also where the files spell the name otherwise: without the prefix of the class that it was saved from ("model.",
  /// "transformer.", "bert.", ...) or with one more, "LayerNorm.gamma" and "beta" for its weight and bias. An exact
  /// name comes first. nullptr where there is none.
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  /// @errors not_found, with the directory's name.
  [[nodiscard]] Result<const TensorView*> get(std::string_view name) const;
  /// tokenizer.json, else tokenizer.bin, in the directory; empty where neither is there.
  [[nodiscard]] std::string tokenizer_path() const;

 private:
  [[nodiscard]] Status open_shards();
  [[nodiscard]] Status read_generation_config();
  [[nodiscard]] const TensorView* find_exact(std::string_view name) const;

  std::string path_;
  Json config_;
  std::vector<SafetensorsFile> shards_;
  std::map<std::string, const TensorView*, std::less<>> index_;  // into shards_, whose vectors keep their place
};

}  // namespace covey::formats
