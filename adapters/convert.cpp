#include "adapters/convert.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "adapters/convert_source.h"
#include "adapters/convert_tokenizer.h"
#include "adapters/llama2c_writer.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/quant_blocks.h"
#include "core/formats/safetensors.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;
using formats::GgmlType;

/// general.file_type, as llama.cpp numbers them.
constexpr std::uint32_t kAllF32 = 0;
constexpr std::uint32_t kMostlyF16 = 1;
constexpr std::uint32_t kMostlyQ4_0 = 2;
constexpr std::uint32_t kMostlyQ8_0 = 7;
constexpr std::uint32_t kMostlyBF16 = 32;

std::int64_t elements(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

bool is(const SourceTensor& tensor, GgmlType type) {
  return tensor.type->number == static_cast<std::uint32_t>(type);
}

Result<std::vector<float>> widened(const SourceTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(elements(tensor.shape)));
  auto status = dequantize(*tensor.type, tensor.bytes, values);
  if (!status.ok()) return Error{status.error().code, "tensor " + tensor.name + " " + status.error().message};
  return values;
}

Bytes f32_bytes(const std::vector<float>& values) {
  const ByteSpan bytes = formats::f32_view("", {}, values).bytes;
  return {bytes.begin(), bytes.end()};
}

Conversion counted(const SourceModel& source) {
  Conversion out;
  out.tensors = static_cast<std::int64_t>(source.tensors.size());
  for (const SourceTensor& tensor : source.tensors) out.parameters += elements(tensor.shape);
  out.not_held = source.left_out;
  return out;
}

Result<Conversion> to_gguf(const SourceModel& source, const std::string& out, const std::string& tokenizer) {
  Conversion done = counted(source);
  formats::GgufWriter writer;
  COVEY_TRY(formats::gguf_config_of(source.config, writer));
  COVEY_ASSIGN(const std::string type, source.config.get_string("model_type"));
  COVEY_ASSIGN(const formats::GgufFamily* family, formats::gguf_family_of_type(type));
  const fs::path path = fs::path(source.path).lexically_normal();
  writer.set("general.name", (path.has_filename() ? path.filename() : path.parent_path().filename()).string());
  COVEY_ASSIGN(const std::int64_t heads, source.config.get_int(family->sizes.heads));
  COVEY_ASSIGN(const std::int64_t kv_heads, source.config.get_int("num_key_value_heads", heads));
  std::set<std::uint32_t> matrix_types;
  for (const SourceTensor& tensor : source.tensors) {
    const std::string name = formats::gguf_tensor_name(*family, tensor.name);
    if (name.empty()) {
      return Error{ErrorCode::unsupported, source.path + ": tensor " + tensor.name + " has no name in GGUF"};
    }
    const auto change = formats::gguf_change(*family, name, heads, kv_heads);
    std::vector<std::int64_t> shape = tensor.shape;
    const formats::GgmlTypeInfo* type_there = tensor.type;
    Bytes floats;
    if (shape.size() < 2) {  // llama.cpp adds and multiplies vectors as f32 only
      COVEY_ASSIGN(const auto values, widened(tensor));
      floats = f32_bytes(values);
      type_there = &ggml_type_info(GgmlType::f32);
    } else {
      matrix_types.insert(tensor.type->number);
      if (!change) {
        writer.borrow(name, *tensor.type, shape, tensor.bytes);
        continue;
      }
    }
    auto bytes = formats::gguf_changed(change, *type_there, shape,
                                       tensor.shape.size() < 2 ? ByteSpan(floats) : tensor.bytes, true);
    if (!bytes.ok()) {
      return Error{bytes.error().code, source.path + ": tensor " + tensor.name + " " + bytes.error().message};
    }
    writer.add(name, *type_there, shape, *std::move(bytes));
  }
  if (family->plus_one) done.not_held.emplace_back("the last bits of norms, which GGUF keeps plus one");
  const auto only = [&](GgmlType wanted) {
    return matrix_types.size() == 1 && matrix_types.contains(static_cast<std::uint32_t>(wanted));
  };
  writer.set("general.file_type", only(GgmlType::f32) ? kAllF32 : only(GgmlType::bf16) ? kMostlyBF16 : kMostlyF16);
  COVEY_TRY(tokenizer_to_gguf(source, tokenizer, writer, done.not_held));
  if (auto ids = formats::gguf_token_ids_of(source.config, writer); !ids.ok()) {
    done.not_held.push_back("some of eos_token_id (" + ids.error().message + ")");
  }
  COVEY_TRY(writer.write(out));
  return done;
}

Result<Conversion> to_directory(const SourceModel& source, const std::string& out, const std::string& tokenizer) {
  Conversion done = counted(source);
  COVEY_TRY(make_folders(out));
  std::vector<formats::TensorView> tensors;
  std::vector<std::vector<float>> values;  // of those that were quantized
  values.reserve(source.tensors.size());
  std::set<std::string> widened_types;
  bool all_bf16 = true;
  bool all_f16 = true;
  for (const SourceTensor& tensor : source.tensors) {
    all_bf16 = all_bf16 && (is(tensor, GgmlType::bf16) || tensor.shape.size() < 2);
    all_f16 = all_f16 && (is(tensor, GgmlType::f16) || tensor.shape.size() < 2);
    if (tensor.type->block == 1 && formats::can_dequantize(*tensor.type)) {
      const auto dtype = is(tensor, GgmlType::f32)   ? formats::DType::f32
                         : is(tensor, GgmlType::f16) ? formats::DType::f16
                                                     : formats::DType::bf16;
      tensors.push_back({tensor.name, dtype, tensor.shape, tensor.bytes});
      continue;
    }
    widened_types.insert(tensor.type->name);
    auto floats = widened(tensor);
    if (!floats.ok()) return floats.error().in(source.path);
    values.push_back(*std::move(floats));
    tensors.push_back(formats::f32_view(tensor.name, tensor.shape, values.back()));
  }
  for (const std::string& type : widened_types) {
    done.not_held.push_back("blocks of " + type + ", whose values were written as F32");
  }
  formats::Json config = source.config;
  config.set("torch_dtype", all_bf16 ? "bfloat16" : all_f16 ? "float16" : "float32");
  COVEY_TRY(formats::write_safetensors(out + "/model.safetensors", tensors, {{"format", "pt"}}));
  COVEY_ASSIGN(const std::int64_t vocab, source.config.get_int("vocab_size"));
  COVEY_TRY(tokenizer_to_directory(source.path, tokenizer, vocab, out, done.not_held));
  COVEY_TRY(config.save(out + "/config.json"));
  return done;
}

Result<Conversion> to_llama2c(const SourceModel& source, const std::string& out, const std::string& tokenizer) {
  Conversion done = counted(source);
  COVEY_ASSIGN(const auto model, model::Model::load(source.path, {.writable = true}));
  if (auto written = write_llama2c(out, *model); !written.ok()) return written.error().in(source.path);
  COVEY_TRY(tokenizer_to_llama2c(source, tokenizer, out, done.not_held));
  return done;
}

/// What llama.cpp's quantizer would do with a tensor of this GGUF; the type that it has for none.
GgmlType quantized_type(const formats::GgufTensor& tensor, GgmlType wanted, bool tied) {
  const bool matrix = tensor.shape.size() >= 2 && tensor.name.ends_with(".weight") &&
                      tensor.name.find("_norm") == std::string_view::npos;
  if (!matrix) return static_cast<GgmlType>(tensor.type->number);
  if (tensor.shape.back() % static_cast<std::int64_t>(ggml_type_info(wanted).block) != 0) return GgmlType::f16;
  const bool head = tensor.name == (tied ? "token_embd.weight" : "output.weight");
  return head && wanted == GgmlType::q4_0 ? GgmlType::q8_0 : wanted;
}

Result<Conversion> quantize_gguf(const std::string& in, const std::string& out, GgmlType wanted) {
  COVEY_ASSIGN(const auto model, formats::GgufModel::open(in));
  const formats::GgufFile& file = model.file();
  formats::GgufWriter writer;
  for (const auto& entry : file.entries()) {
    const bool ours = entry.key == "general.file_type" || entry.key == "general.quantization_version" ||
                      entry.key == "general.alignment";
    if (!ours) writer.copy(entry);
  }
  writer.set("general.file_type", wanted == GgmlType::q8_0 ? kMostlyQ8_0 : kMostlyQ4_0);
  writer.set("general.quantization_version", std::uint32_t{2});
  Conversion done;
  for (const auto& tensor : file.tensors()) {
    const std::string name(tensor.name);
    if (tensor.type->block != 1) {
      return Error{ErrorCode::unsupported, in + ": tensor " + name + " is " + tensor.type->name +
                                               " already; quantize the model that it was made from"};
    }
    ++done.tensors;
    done.parameters += tensor.elements();
    const GgmlType type = quantized_type(tensor, wanted, file.find("output.weight") == nullptr);
    if (tensor.is(type)) {
      writer.borrow(name, *tensor.type, tensor.shape, tensor.bytes);
      continue;
    }
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    auto read = dequantize(*tensor.type, tensor.bytes, values);
    if (!read.ok()) return Error{read.error().code, in + ": tensor " + name + " " + read.error().message};
    auto bytes = formats::quantize(type, values);
    if (!bytes.ok()) return Error{bytes.error().code, in + ": tensor " + name + " " + bytes.error().message};
    writer.add(name, ggml_type_info(type), tensor.shape, *std::move(bytes));
  }
  COVEY_TRY(writer.write(out));
  return done;
}

}  // namespace

Result<Conversion> convert_model(const std::string& in, const std::string& out, const std::string& tokenizer) {
  COVEY_ASSIGN(const SourceModel source, open_source(in));
  COVEY_ASSIGN(const ModelKind target, model_kind(out));
  if (source.kind == target) {
    return Error{ErrorCode::unsupported, "convert: " + in + " and " + out +
                                             " are of one kind; a Hugging Face directory, a .gguf and a llama2.c .bin "
                                             "are turned into one another"};
  }
  switch (target) {
    case ModelKind::directory:
      return to_directory(source, out, tokenizer);
    case ModelKind::gguf:
      return to_gguf(source, out, tokenizer);
    case ModelKind::llama2c:
      return to_llama2c(source, out, tokenizer);
  }
  return Error{ErrorCode::internal, "convert: no such kind"};
}

Result<Conversion> quantize_model(const std::string& in, const std::string& out, GgmlType type,
                                  const std::string& tokenizer) {
  if (type != GgmlType::q8_0 && type != GgmlType::q4_0) {
    return Error{ErrorCode::unsupported, "quantize: only Q8_0 and Q4_0 are written"};
  }
  if (!out.ends_with(".gguf")) {
    return Error{ErrorCode::invalid_argument, "quantize: " + out + " must end in .gguf; that is what is written"};
  }
  COVEY_ASSIGN(const ModelKind kind, model_kind(in));
  if (kind == ModelKind::gguf) return quantize_gguf(in, out, type);
  const std::string whole = out + ".whole.gguf";  // the model as it is, in GGUF; goes when its copy is written
  COVEY_ASSIGN(Conversion converted, convert_model(in, whole, tokenizer));
  auto quantized = quantize_gguf(whole, out, type);
  std::error_code ignored;
  fs::remove(whole, ignored);
  if (!quantized.ok()) return quantized.error();
  quantized->not_held = std::move(converted.not_held);
  return quantized;
}

}  // namespace covey::adapters
