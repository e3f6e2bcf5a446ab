// W8A8: the blocks' linear layers rounded and packed, or as a compressed-tensors directory keeps them.
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <set>

#include "core/base/folder.h"
#include "core/formats/safetensors.h"
#include "core/model/config_json.h"
#include "core/model/families.h"
#include "core/model/weights.h"

namespace covey::model {
namespace {

using formats::Json;

/// Indices of linears that the blocks use.
std::set<std::size_t> block_linears(const Model::Impl& impl) {
  std::set<std::size_t> out;
  for (const Segment& segment : impl.program.body) {
    for (const Step& step : segment.steps) {
      if (step.kind == StepKind::linear) out.insert(static_cast<std::size_t>(step.weight));
    }
  }
  return out;
}

/// The matrix that makes logits of words. -1: a classifier's model has none.
std::ptrdiff_t word_head(const Model::Impl& impl) {
  for (const Step& step : impl.program.head.steps) {
    if (step.kind != StepKind::linear) continue;
    if (impl.linears[static_cast<std::size_t>(step.weight)].out == impl.config.vocab_size) return step.weight;
  }
  return -1;
}

/// The file's pages need not stay in memory once they are packed; they are read again should anyone ask.
void let_go(const Int8Source& source, std::size_t size) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(source.rows) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(source.rows) + size) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);  // NOLINT: mapped, read-only
}

std::unique_ptr<kernels::Int8Weights> packed(const Model::Impl& impl, const Linear& linear) {
  auto weights = std::make_unique<kernels::Int8Weights>(linear.out, linear.in);
  if (const auto source = impl.int8_sources.find(linear.w_at); source != impl.int8_sources.end()) {
    weights->set_rows(0, linear.out, source->second.rows, source->second.scales.data());
    let_go(source->second, static_cast<std::size_t>(linear.out) * static_cast<std::size_t>(linear.in));
    return weights;
  }
  const auto in = static_cast<std::size_t>(linear.in);
  std::vector<float> row(in);
  std::vector<std::int8_t> q(in);
  for (int n = 0; n < linear.out; ++n) {
    const float* values = linear.w + static_cast<std::size_t>(n) * in;
    if (linear.in_out) {
      for (std::size_t k = 0; k < in; ++k) {
        row[k] = linear.w[k * static_cast<std::size_t>(linear.out) + static_cast<std::size_t>(n)];
      }
      values = row.data();
    }
    float scale = 0;
    kernels::quantize_channel(linear.in, values, q.data(), &scale);
    weights->set_rows(n, 1, q.data(), &scale);
  }
  return weights;
}

/// Eight bits, symmetric. @param what  "weights" or "input_activations"
Status check_numbers(const Json& group, const std::string& where, const char* what, const char* strategy,
                     bool dynamic) {
  const Json* numbers = group.find(what);
  if (numbers == nullptr || !numbers->is_object()) {
    return Error{ErrorCode::unsupported,
                 where + ": quantization_config without " + what + " is not one that we compute"};
  }
  const std::pair<const char*, Json> wanted[] = {
      {"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", strategy}, {"dynamic", dynamic}};
  for (const auto& [key, value] : wanted) {
    const Json* given = numbers->find(key);
    if (given == nullptr || !(*given == value)) {
      return Error{ErrorCode::unsupported, where + ": quantization_config's " + what + "." + key + " other than " +
                                               value.dump() + "; re-quantize it, or take the model's f32 files"};
    }
  }
  return {};
}

Json quantization_config(const Model::Impl& impl) {
  const auto numbers = [](const char* strategy, bool dynamic) {
    return Json::object(
        {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", strategy}, {"dynamic", dynamic}});
  };
  Json ignored = Json::array({std::string(names_of(impl.config).head)});
  for (const Linear& linear : impl.linears) {
    if ((linear.int8 != nullptr && linear.int8_backward) || linear.site < 0) continue;
    const std::string& path = impl.sites[static_cast<std::size_t>(linear.site)].path;
    if (path != names_of(impl.config).head) ignored.push_back(path);
  }
  const Json group = Json::object({{"targets", Json::array({"Linear"})},
                                   {"weights", numbers("channel", false)},
                                   {"input_activations", numbers("token", true)},
                                   {"output_activations", nullptr}});
  return Json::object({{"quant_method", "compressed-tensors"},
                       {"format", "int-quantized"},
                       {"quantization_status", "compressed"},
                       {"config_groups", Json::object({{"group_0", group}})},
                       {"ignore", ignored},
                       {"kv_cache_scheme", nullptr}});
}

}  // namespace

std::set<std::int64_t> block_matrices(const Model::Impl& model) {
  std::set<std::int64_t> out;
  for (const std::size_t index : block_linears(model)) {
    if (!model.linears[index].in_out) out.insert(model.linears[index].w_at);
  }
  return out;
}

Status check_quantization(const Json& config, const std::string& where) {
  const Json& all = *config.find("quantization_config");
  const std::pair<const char*, const char*> wanted[] = {{"quant_method", "compressed-tensors"},
                                                        {"format", "int-quantized"}};
  for (const auto& [key, value] : wanted) {
    const Json* given = all.is_object() ? all.find(key) : nullptr;
    if (given == nullptr || !(*given == Json(value))) {
      return Error{ErrorCode::unsupported,
                   where + ": quantization_config." + key + " other than \"" + value + "\" is not one that we read"};
    }
  }
  const Json* groups = all.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    return Error{ErrorCode::corrupt_data, where + ": quantization_config has no config_groups"};
  }
  for (const auto& group : groups->members()) {
    COVEY_TRY(check_numbers(group.value, where, "weights", "channel", false));
    COVEY_TRY(check_numbers(group.value, where, "input_activations", "token", true));
  }
  return {};
}

Status Model::save_int8(const std::string& directory) const {
  if (impl_->int8.empty()) return Error{ErrorCode::invalid_argument, "save_int8: the model is not in int8"};
  const std::string text = config_to_hf(impl_->config);
  if (text.empty()) {
    return Error{ErrorCode::unsupported,
                 directory + ": we cannot write the configuration of a " + impl_->config.family + " model"};
  }
  COVEY_ASSIGN(Json config, Json::parse(text));
  config.set("quantization_config", quantization_config(*impl_));
  std::map<std::int64_t, const Linear*> int8_at;
  for (const Linear& linear : impl_->linears) {
    if (linear.int8 == nullptr || !linear.int8_backward) continue;
    if (linear.in_out) {
      return Error{ErrorCode::unsupported, directory + ": compressed-tensors has no place for the matrices of a " +
                                               impl_->config.family + " model, which lie (in, out)"};
    }
    int8_at.emplace(linear.w_at, &linear);
  }
  std::vector<formats::TensorView> tensors;
  std::vector<std::vector<std::int8_t>> rows;  // moving a vector keeps its bytes in place
  for (const Parameter& p : impl_->parameters) {
    const auto found = int8_at.find(p.at);
    if (found == int8_at.end()) {
      tensors.push_back(formats::f32_view(p.name, p.shape, std::span(p.values, static_cast<std::size_t>(p.count))));
      continue;
    }
    const kernels::Int8Weights& w = *found->second->int8;
    std::vector<std::int8_t>& bytes = rows.emplace_back(static_cast<std::size_t>(p.count));
    for (int n = 0; n < w.out(); ++n) w.get_row(n, bytes.data() + static_cast<std::ptrdiff_t>(n) * w.in());
    formats::TensorView& view = tensors.emplace_back();
    view.name = p.name;
    view.dtype = formats::DType::i8;
    view.shape = p.shape;
    view.bytes = {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    tensors.push_back(formats::f32_view(p.name + "_scale", {w.out(), 1}, w.scales()));
  }
  COVEY_TRY(make_folders(directory));
  COVEY_TRY(formats::write_safetensors(directory + "/model.safetensors", tensors, {{"format", "pt"}}));
  return write_file_durably(directory + "/config.json", config.dump_pretty());
}

Status Model::use_int8() {
  if (!impl_->int8.empty()) return {};
  std::set<std::size_t> chosen = block_linears(*impl_);
  if (!impl_->int8_sources.empty()) {  // the file says which
    std::erase_if(chosen, [&](std::size_t index) { return !impl_->int8_sources.contains(impl_->linears[index].w_at); });
  }
  // Its gradient stays f32: all but one of a word's probabilities would be rounded away beside the target's.
  const std::ptrdiff_t head = word_head(*impl_);
  if (head >= 0) {
    chosen.insert(static_cast<std::size_t>(head));
    impl_->linears[static_cast<std::size_t>(head)].int8_backward = false;
  }
  for (const std::size_t index : chosen) {
    const Linear& linear = impl_->linears[index];
    if (linear.in > kernels::kInt8TermsMax || (linear.int8_backward && linear.out > kernels::kInt8TermsMax)) {
      return Error{ErrorCode::unsupported, "w8a8: a layer of " + std::to_string(linear.in) + " x " +
                                               std::to_string(linear.out) + " is too wide for int32 sums; at most " +
                                               std::to_string(kernels::kInt8TermsMax)};
    }
  }
  try {
    for (const std::size_t index : chosen) impl_->int8.push_back(packed(*impl_, impl_->linears[index]));
  } catch (const std::bad_alloc&) {
    impl_->int8.clear();
    return Error{ErrorCode::resource_exhausted, "w8a8: no memory for the int8 weights"};
  }
  auto next = impl_->int8.begin();
  for (const std::size_t index : chosen) impl_->linears[index].int8 = (next++)->get();
  return {};
}

std::uint64_t Model::int8_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& w : impl_->int8) {
    bytes += static_cast<std::uint64_t>(w->block_bytes()) * static_cast<std::uint64_t>(w->padded(w->out()) / 16);
  }
  return bytes;
}

std::uint64_t Model::weight_bytes() const {
  std::uint64_t bytes = int8_bytes();
  for (const Parameter& p : impl_->parameters) {
    if (p.values != nullptr) bytes += static_cast<std::uint64_t>(p.count) * sizeof(float);
  }
  return bytes;
}

}  // namespace covey::model
