#include "core/model/model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <new>
#include <set>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/base/rng.h"
#include "core/formats/hf_directory.h"
#include "core/formats/llama2c.h"
#include "core/formats/rwkv_cpp.h"
#include "core/formats/safetensors.h"
#include "core/model/compressed_tensors.h"
#include "core/model/config_json.h"
#include "core/model/families.h"
#include "core/model/load_gguf.h"
#include "core/model/load_rwkv_cpp.h"
#include "core/model/weights.h"

namespace covey::model {
namespace {

Result<std::unique_ptr<float[]>> allocate(std::int64_t count) {
  std::unique_ptr<float[]> memory(new (std::nothrow) float[static_cast<std::size_t>(count)]);
  if (memory == nullptr) {
    return Error{ErrorCode::resource_exhausted, "no memory for " + std::to_string(count * 4) + " bytes of weights"};
  }
  return memory;
}

std::unique_ptr<Model::Impl> listed(const ModelConfig& config) {
  auto impl = std::make_unique<Model::Impl>();
  impl->config = config;
  list_parameters(*impl);
  return impl;
}

/// Everything into memory of our own: what lies mapped is copied.
Status own_all(Model::Impl& impl) {
  COVEY_ASSIGN(auto memory, allocate(impl.parameter_count));
  for (Parameter& p : impl.parameters) {
    std::memcpy(memory.get() + p.at, p.values, sizeof(float) * static_cast<std::size_t>(p.count));
    p.values = memory.get() + p.at;
  }
  impl.memory = std::move(memory);
  impl.borrowed.clear();
  impl.writable = true;
  return {};
}

constexpr std::string_view kClassifier = "ForSequenceClassification";

/// The first of "architectures"; empty where there is none.
std::string architecture_of(const formats::HfDirectory& directory) {
  const auto names = directory.config().get_strings("architectures");
  return names.ok() && !names->empty() ? names->front() : "";
}

/// The configuration of a classifier on the same body. @errors unsupported: names no head to replace.
Result<formats::Json> classifier_of(const formats::HfDirectory& directory, int classes) {
  const std::string name = architecture_of(directory);
  const std::size_t end = std::min(name.find("For"), name.find("LMHeadModel"));
  if (end == std::string::npos) {
    return Error{ErrorCode::unsupported,
                 directory.config_path() + ": architectures names no head that a classifier's could replace"};
  }
  formats::Json json = directory.config();
  json.set("architectures", formats::Json::array({name.substr(0, end) + std::string(kClassifier)}));
  json.set("num_labels", classes).set("id2label", nullptr).set("label2id", nullptr);
  return json;
}

/// Places of the parameters that a new head may start without.
std::set<std::int64_t> new_head_places(const Model::Impl& impl) {
  std::set<std::int64_t> out;
  for (const Step& step : impl.program.head.steps) {
    if (step.kind != StepKind::linear) continue;
    const Linear& linear = impl.linears[static_cast<std::size_t>(step.weight)];
    out.insert({linear.w_at, linear.b_at});
  }
  return out;
}

/// As Hugging Face starts a head: matrices normal(0, 0.02), biases zero.
void start_parameter(const Parameter& p, std::span<float> values) {
  constexpr std::uint64_t kNewHead = 0x68656164;
  std::fill(values.begin(), values.end(), 0.0F);
  if (p.shape.size() > 1) CounterRng(kNewHead, static_cast<std::uint64_t>(p.at)).add_normal(values, 0.02F);
}

Result<std::unique_ptr<Model::Impl>> load_directory(const std::string& path, const LoadOptions& options) {
  const int new_head_classes = options.new_head_classes;
  COVEY_ASSIGN(auto opened, formats::HfDirectory::open(path));
  auto directory = std::make_shared<formats::HfDirectory>(std::move(opened));
  const bool new_head = new_head_classes > 0 && !architecture_of(*directory).ends_with(kClassifier);
  formats::Json json = directory->config();
  if (new_head) {
    COVEY_ASSIGN(json, classifier_of(*directory, new_head_classes));
  }
  const bool quantized = json.contains("quantization_config") && !json.find("quantization_config")->is_null();
  if (quantized) {
    COVEY_TRY(check_quantization(json, directory->config_path()));
    json.set("quantization_config", nullptr).set(kOutliersKey, nullptr);
  }
  COVEY_ASSIGN(ModelConfig config, config_from_json(json, directory->config_path()));
  // The reference's default differs between versions; the weights know.
  if (!directory->config().contains("tie_word_embeddings") && config.task == Task::causal_lm) {
    config.tied_head = directory->find(std::string(names_of(config).head) + ".weight") == nullptr;
  }
  auto impl = listed(config);
  if (quantized) {
    impl->from_int8 = true;
    COVEY_ASSIGN(impl->outliers, read_outliers(*impl, *directory));
  }
  const std::set<std::int64_t> may_lack = new_head ? new_head_places(*impl) : std::set<std::int64_t>();
  // Training the weights themselves, and merging into them, is done in f32.
  const std::set<std::int64_t> as_int8 =
      quantized && !options.writable && !options.widen ? block_matrices(*impl) : std::set<std::int64_t>();
  const auto stays_int8 = [&](const Parameter& p, const formats::TensorView& tensor) {
    return tensor.dtype == formats::DType::i8 && as_int8.contains(p.at);
  };
  std::int64_t widened = 0;
  bool any_int8 = false;
  for (const Parameter& p : impl->parameters) {
    if (may_lack.contains(p.at) && directory->find(p.name) == nullptr) {
      widened += p.count;
      continue;
    }
    COVEY_ASSIGN(const formats::TensorView* tensor, directory->get(p.name));
    if (tensor->shape != p.shape) {
      return Error{ErrorCode::corrupt_data, path + ": " + p.name + " has shape " + tensor->shape_text() +
                                                "; config.json asks for " +
                                                formats::f32_view("", p.shape, {}).shape_text()};
    }
    any_int8 = any_int8 || tensor->dtype == formats::DType::i8;
    if (!formats::as_f32(*tensor).ok() && !stays_int8(p, *tensor)) widened += p.count;
  }
  if (quantized && !any_int8) {
    return Error{ErrorCode::corrupt_data,
                 directory->config_path() + ": has a quantization_config, but no matrix is I8"};
  }
  COVEY_ASSIGN(impl->memory, allocate(widened));
  float* next = impl->memory.get();
  for (Parameter& p : impl->parameters) {
    const std::span<float> room(next, static_cast<std::size_t>(p.count));
    if (directory->find(p.name) == nullptr) {
      start_parameter(p, room);
      p.values = next;
      next += p.count;
      continue;
    }
    const formats::TensorView& tensor = *directory->find(p.name);
    if (const auto mapped = formats::as_f32(tensor); mapped.ok()) {
      p.values = mapped.value().data();
      continue;
    }
    if (quantized && tensor.dtype == formats::DType::i8) {
      const bool stays = stays_int8(p, tensor);
      COVEY_TRY(read_int8(*impl, p, *directory, stays ? std::span<float>() : room));
      if (stays) continue;
    } else {
      COVEY_TRY(formats::to_f32(tensor, room));
    }
    p.values = next;
    next += p.count;
  }
  if (impl->int8_sources.empty()) impl->outliers.clear();  // they are in the f32 values
  impl->borrowed.push_back(std::move(directory));
  return impl;
}

/// llama2.c turns neighbouring elements of q and k, we turn halves: rows 2 i and 2 i + 1 of each head go to i and
/// i + D/2.
void copy_unpaired(const float* from, int heads, int head_dim, int in, float* to) {
  const std::size_t width = static_cast<std::size_t>(in);
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < head_dim; ++i) {
      const int target = h * head_dim + i / 2 + (i % 2) * (head_dim / 2);
      std::memcpy(to + static_cast<std::size_t>(target) * width, from, width * sizeof(float));
      from += width;
    }
  }
}

Result<std::unique_ptr<Model::Impl>> load_llama2c(const std::string& path) {
  COVEY_ASSIGN(auto opened, formats::Llama2cFile::open(path));
  auto file = std::make_shared<formats::Llama2cFile>(std::move(opened));
  const formats::Llama2cHeader& h = file->header();
  ModelConfig c;
  c.vocab_size = h.vocab;
  c.hidden_size = h.dim;
  c.intermediate_size = h.hidden;
  c.layers = h.layers;
  c.heads = h.heads;
  c.kv_heads = h.kv_heads;
  c.head_dim = h.head_dim();
  c.context_max = h.seq_len;
  c.tied_head = h.tied;
  c.bos_id = 1;
  c.eos_ids = {2};
  if (auto status = check_config(c); !status.ok()) return status.error().in(path);
  auto impl = listed(c);
  const std::int64_t turned = static_cast<std::int64_t>(c.layers) * (c.q_width() + c.kv_width()) * c.hidden_size;
  COVEY_ASSIGN(impl->memory, allocate(turned));
  float* next = impl->memory.get();
  const auto unpaired = [&](std::span<const float> from, int heads) {
    float* to = next;
    copy_unpaired(from.data(), heads, c.head_dim, c.hidden_size, to);
    next += from.size();
    return static_cast<const float*>(to);
  };
  std::size_t index = 0;
  const auto put = [&](const float* values) { impl->parameters[index++].values = values; };
  put(file->token_embedding().data());
  for (const auto& layer : file->layers()) {  // the order of list_parameters
    put(layer.rms_att.data());
    put(unpaired(layer.wq, c.heads));
    put(unpaired(layer.wk, c.kv_heads));
    put(layer.wv.data());
    put(layer.wo.data());
    put(layer.rms_ffn.data());
    put(layer.w1.data());
    put(layer.w3.data());
    put(layer.w2.data());
  }
  put(file->rms_final().data());
  if (!c.tied_head) put(file->classifier().data());
  impl->borrowed.push_back(std::move(file));
  return impl;
}

}  // namespace

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

Result<std::shared_ptr<Model>> Model::load(const std::string& path, LoadOptions options) {
  std::error_code error;
  const bool directory = std::filesystem::is_directory(path, error);
  if (!directory && !std::filesystem::exists(path, error)) {
    return Error{ErrorCode::not_found, path + ": there is no such model"};
  }
  const bool gguf = path.ends_with(".gguf");
  if (!directory && !gguf && !path.ends_with(".bin")) {
    return Error{ErrorCode::unsupported,
                 path + ": is no Hugging Face directory, no .gguf, and no .bin of llama2.c or rwkv.cpp"};
  }
  const bool rwkv = !directory && !gguf && formats::is_rwkv_cpp(path);
  COVEY_ASSIGN(auto impl, directory ? load_directory(path, options)
                          : gguf    ? load_gguf(path)
                          : rwkv    ? load_rwkv_cpp(path)
                                    : load_llama2c(path));
  if (options.writable && !impl->writable) COVEY_TRY(own_all(*impl));
  bind_weights(*impl);
  const bool int8 = !impl->int8_sources.empty();
  std::shared_ptr<Model> model(new Model(std::move(impl)));
  if (int8) COVEY_TRY(model->use_int8());
  return model;
}

Result<std::shared_ptr<Model>> Model::create(const ModelConfig& config, std::uint64_t seed) {
  COVEY_TRY(check_config(config));
  auto impl = listed(config);
  COVEY_ASSIGN(impl->memory, allocate(impl->parameter_count));
  impl->writable = true;
  const float residual = static_cast<float>(0.02 / std::sqrt(2.0 * config.layers));
  std::set<std::int64_t> norms;
  for (const NormWeights& norm : impl->norms) {
    for (int h = 0; h < (norm.own && !norm.together ? norm.heads : 1); ++h)
      norms.insert(norm.w_at + static_cast<std::int64_t>(h) * norm.H);
  }
  std::set<std::int64_t> residual_weights;
  for (const Segment& segment : impl->program.body) {
    for (const Step& step : segment.steps) {
      if (step.kind != StepKind::linear || step.base < 0) continue;
      residual_weights.insert(impl->linears[static_cast<std::size_t>(step.weight)].w_at);
    }
  }
  for (std::size_t i = 0; i < impl->parameters.size(); ++i) {
    Parameter& p = impl->parameters[i];
    const std::span<float> values(impl->memory.get() + p.at, static_cast<std::size_t>(p.count));
    p.values = values.data();
    if (p.shape.size() == 1) {
      const float one = 1.0F - static_cast<float>(config.norm_offset);
      std::fill(values.begin(), values.end(), norms.contains(p.at) ? one : 0.0F);
      continue;
    }
    const bool into_residual = residual_weights.contains(p.at);
    const float scale = into_residual ? residual : 0.02F;
    CounterRng(seed, i).fill_normal(values);
    for (float& value : values) value *= scale;
  }
  bind_weights(*impl);
  return std::shared_ptr<Model>(new Model(std::move(impl)));
}

Status Model::save(const std::string& directory) const {
  if (!impl_->int8_sources.empty()) return save_int8(directory);
  const std::string config_text = config_to_hf(impl_->config);
  if (config_text.empty()) {
    return Error{ErrorCode::unsupported,
                 directory + ": we cannot write the configuration of a " + impl_->config.family + " model"};
  }
  COVEY_TRY(make_folders(directory));
  std::vector<formats::TensorView> tensors;
  for (const Parameter& p : impl_->parameters) {
    tensors.push_back(formats::f32_view(p.name, p.shape, std::span(p.values, static_cast<std::size_t>(p.count))));
  }
  COVEY_TRY(formats::write_safetensors(directory + "/model.safetensors", tensors, {{"format", "pt"}}));
  return write_file_durably(directory + "/config.json", config_text);
}

const ModelConfig& Model::config() const {
  return impl_->config;
}

const std::vector<LinearSite>& Model::linear_sites() const {
  return impl_->sites;
}

const std::vector<AdapterPlace>& Model::biases() const {
  return impl_->biases;
}

const std::vector<AdapterPlace>& Model::attentions() const {
  return impl_->attentions;
}

const std::vector<AdapterPlace>& Model::blocks() const {
  return impl_->blocks;
}

std::vector<HeadParameter> Model::head_parameters() const {
  std::vector<HeadParameter> all;
  const auto add = [&](std::int64_t at, std::int64_t head_at) {
    if (head_at < 0) return;
    const auto found = std::find_if(impl_->parameters.begin(), impl_->parameters.end(),
                                    [&](const Parameter& p) { return p.at == at; });
    all.push_back(
        {found->name, found->shape, head_at, std::span(found->values, static_cast<std::size_t>(found->count))});
  };
  for (const Linear& linear : impl_->linears) {
    add(linear.w_at, linear.head_w_at);
    add(linear.b_at, linear.head_b_at);
  }
  return all;
}

std::vector<NamedTensor> Model::parameters() {
  COVEY_ASSERT(impl_->writable);
  if (!impl_->writable) return {};
  std::vector<NamedTensor> all;
  all.reserve(impl_->parameters.size());
  for (const Parameter& p : impl_->parameters) {
    // Writable means that the values lie in impl_->memory.
    all.push_back({p.name, p.shape, std::span(impl_->memory.get() + p.at, static_cast<std::size_t>(p.count))});
  }
  return all;
}

std::vector<TensorInfo> Model::tensors() const {
  std::vector<TensorInfo> out;
  for (const Parameter& p : impl_->parameters) out.push_back({p.name, p.shape, p.count, p.layer});
  return out;
}

std::int64_t Model::parameter_count() const {
  return impl_->parameter_count;
}

}  // namespace covey::model
