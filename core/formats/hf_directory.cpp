#include "core/formats/hf_directory.h"

#include <filesystem>
#include <set>

#include "core/base/file.h"

namespace covey::formats {
namespace {

constexpr std::size_t kShardsMax = 4096;

/// What the classes of the reference put before the names of their inner model's tensors.
constexpr std::string_view kPrefixes[] = {"model.",      "transformer.", "gpt_neox.",   "bert.",          "roberta.",
                                          "distilbert.", "albert.",      "mobilebert.", "model.decoder.", "rwkv."};

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

/// A plain file name: an index file must not lead out of its directory.
bool is_plain(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && !name.starts_with(".") && name.size() <= 255;
}

}  // namespace

std::string model_directory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path snapshots = fs::path(path) / "snapshots";
  if (exists(path + "/config.json") || !fs::is_directory(snapshots, error)) return path;
  if (const auto commit = read_text_file(path + "/refs/main", 4096); commit.ok()) {
    const std::string name = commit->substr(0, commit->find_first_of("\r\n "));
    const bool plain = !name.empty() && name.find('/') == std::string::npos && !name.starts_with(".");
    if (plain && fs::is_directory(snapshots / name, error)) return (snapshots / name).string();
  }
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(snapshots, error)) {
    if (entry.is_directory(error)) found.push_back(entry.path().string());
  }
  return found.size() == 1 ? found.front() : path;
}

Result<HfDirectory> HfDirectory::open(const std::string& path) {
  const std::string directory = model_directory(path);
  HfDirectory result;
  result.path_ = directory;
  if (!exists(directory)) return Error{ErrorCode::not_found, directory + ": there is no such directory"};
  if (!std::filesystem::is_directory(directory)) {
    return Error{ErrorCode::invalid_argument, directory + ": is not a directory"};
  }
  if (!exists(result.config_path())) {
    return Error{ErrorCode::not_found, directory + ": holds no config.json, so it is not a Hugging Face model"};
  }
  COVEY_ASSIGN(result.config_, Json::load(result.config_path(), {.bytes_max = std::size_t{16} << 20}));
  if (!result.config_.is_object()) {
    return Error{ErrorCode::corrupt_data, result.config_path() + ": is not a JSON object"};
  }
  COVEY_TRY(result.read_generation_config());
  COVEY_TRY(result.open_shards());
  return result;
}

Status HfDirectory::read_generation_config() {
  const std::string path = path_ + "/generation_config.json";
  if (!exists(path)) return {};
  COVEY_ASSIGN(const Json generation, Json::load(path, {.bytes_max = std::size_t{16} << 20}));
  if (!generation.is_object()) return Error{ErrorCode::corrupt_data, path + ": is not a JSON object"};
  for (const char* field : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    const Json* value = generation.find(field);
    if (value != nullptr && !value->is_null()) config_.set(field, *value);
  }
  return {};
}

Status HfDirectory::open_shards() {
  const std::string single = path_ + "/model.safetensors";
  const std::string index_path = path_ + "/model.safetensors.index.json";
  if (exists(single)) {
    COVEY_ASSIGN(auto file, SafetensorsFile::open(single));
    shards_.push_back(std::move(file));
    for (const TensorView& tensor : shards_.back().tensors()) index_.emplace(tensor.name, &tensor);
    return {};
  }
  if (!exists(index_path)) {
    if (exists(path_ + "/pytorch_model.bin") || exists(path_ + "/pytorch_model.bin.index.json")) {
      return Error{ErrorCode::unsupported,
                   path_ + ": has its weights as a pickle only; convert pytorch_model.bin to model.safetensors"};
    }
    return Error{ErrorCode::not_found, path_ + ": holds neither model.safetensors nor model.safetensors.index.json"};
  }

  COVEY_ASSIGN(const Json index, Json::load(index_path, {.bytes_max = std::size_t{64} << 20}));
  COVEY_ASSIGN(const Json* weight_map, index.get_object("weight_map"));
  std::set<std::string> names;
  for (const JsonMember& member : weight_map->members()) {
    auto file = member.value.as_string();
    if (!file.ok()) return weight_map->error_at(member.key, file.error().message);
    if (!is_plain(*file)) return weight_map->error_at(member.key, "must be a .safetensors file in the same directory");
    names.insert(*file);
  }
  if (names.empty()) return Error{ErrorCode::corrupt_data, index_path + ": weight_map names no file"};
  if (names.size() > kShardsMax) return Error{ErrorCode::corrupt_data, index_path + ": names more than 4096 files"};

  shards_.reserve(names.size());
  for (const std::string& name : names) {
    COVEY_ASSIGN(auto file, SafetensorsFile::open(path_ + "/" + name));
    shards_.push_back(std::move(file));
  }
  std::map<std::string_view, std::string> where;
  for (const SafetensorsFile& shard : shards_) {
    for (const TensorView& tensor : shard.tensors()) {
      if (!index_.emplace(tensor.name, &tensor).second) {
        return Error{ErrorCode::corrupt_data, shard.path() + ": tensor " + tensor.name + " lies in another file too"};
      }
      where.emplace(tensor.name, shard.path());
    }
  }
  for (const JsonMember& member : weight_map->members()) {
    const auto it = where.find(member.key);
    if (it == where.end() || it->second != path_ + "/" + member.value.as_string().value()) {
      return Error{ErrorCode::corrupt_data, index_path + ": says that " + member.value.as_string().value() +
                                                " holds tensor " + member.key + ", but it does not"};
    }
  }
  return {};
}

std::vector<std::string> HfDirectory::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : index_) names.push_back(name);
  return names;
}

const TensorView* HfDirectory::find_exact(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : it->second;
}

const TensorView* HfDirectory::find(std::string_view name) const {
  std::vector<std::string> spellings{std::string(name)};
  for (const std::string_view prefix : kPrefixes) {
    if (name.starts_with(prefix)) {
      spellings.emplace_back(name.substr(prefix.size()));
    } else {
      spellings.push_back(std::string(prefix) + std::string(name));
    }
  }
  for (const std::string& spelling : spellings) {
    if (const TensorView* tensor = find_exact(spelling)) return tensor;
    for (const auto& [ours, theirs] :
         {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}}) {
      if (!spelling.ends_with(ours)) continue;
      const std::string older = spelling.substr(0, spelling.size() - std::string_view(ours).size()) + theirs;
      if (const TensorView* tensor = find_exact(older)) return tensor;
    }
  }
  return nullptr;
}

Result<const TensorView*> HfDirectory::get(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return tensor;
  return Error{ErrorCode::not_found, path_ + ": holds no tensor " + std::string(name)};
}

std::string HfDirectory::tokenizer_path() const {
  for (const char* name : {"/tokenizer.json", "/tokenizer.bin"}) {
    if (exists(path_ + name)) return path_ + name;
  }
  return {};
}

}  // namespace covey::formats
