#include "fuzz/targets.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "core/data/examples.h"
#include "core/formats/gguf_families.h"
#include "core/formats/gguf_vocabulary.h"
#include "core/formats/json.h"
#include "core/formats/llama2c.h"
#include "core/formats/peft.h"
#include "core/formats/quant_blocks.h"
#include "core/formats/rwkv_cpp.h"
#include "core/formats/safetensors.h"
#include "core/formats/sentencepiece.h"
#include "core/formats/tokenizer_spec.h"
#include "core/formats/torch_pickle.h"
#include "core/formats/torch_zip.h"
#include "core/model/engine.h"
#include "core/text/chat.h"
#include "core/text/llama2c_tokenizer.h"
#include "core/text/pipeline.h"
#include "simulations/fleet_data.h"

namespace covey::fuzz {
namespace {

/// A property that every input must keep.
void must(bool holds) {
  if (!holds) std::abort();
}

template <typename T>
bool refused(const Result<T>& result) {
  if (result.ok()) return false;
  must(!result.error().message.empty() && result.error().message.find('\n') == std::string::npos);
  return true;
}

std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

void exercise(const text::Tokenizer& tokenizer, std::string_view sample) {
  const auto ids = tokenizer.encode(sample.substr(0, 200), true);
  must(tokenizer.decode(ids, false).ok());
  text::StreamDecoder stream(tokenizer);
  for (const auto id : ids) (void)stream.feed(id);
}

void exercise_spec(formats::TokenizerSpec spec, std::string_view sample) {
  const auto tokenizer = text::make_tokenizer(std::move(spec));
  if (!refused(tokenizer)) exercise(**tokenizer, sample);
}

}  // namespace

void json(const std::uint8_t* data, std::size_t size) {
  const auto parsed = formats::Json::parse(text_of(data, size), "f");
  if (refused(parsed)) return;
  const auto again = formats::Json::parse(parsed->dump(), "f");
  must(again.ok() && *again == *parsed);
  const auto pretty = formats::Json::parse(parsed->dump_pretty(), "f");
  must(pretty.ok() && *pretty == *parsed);
}

void safetensors(const std::uint8_t* data, std::size_t size) {
  const auto tensors = formats::parse_safetensors({data, size}, "f");
  if (refused(tensors)) return;
  std::size_t total = 0;
  for (const auto& tensor : *tensors) {
    total += tensor.bytes.size();
    if (const auto values = formats::to_f32(tensor); values.ok()) {
      must(values->size() * size_of(tensor.dtype) == tensor.bytes.size());
    }
  }
  must(total <= size);
}

void gguf(const std::uint8_t* data, std::size_t size) {
  const auto file = formats::GgufFile::parse({data, size}, "f");
  if (refused(file)) return;
  std::size_t total = 0;
  for (const auto& tensor : file->tensors()) {
    total += tensor.bytes.size();
    must(static_cast<std::size_t>(tensor.elements()) / tensor.type->block * tensor.type->block_bytes ==
         tensor.bytes.size());
    must(file->find(tensor.name) == &tensor);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    must(dequantize(*tensor.type, tensor.bytes, values).ok() == can_dequantize(*tensor.type));
  }
  must(total <= size);
  if (!refused(formats::hf_config_of(*file))) {
    const auto& family = **formats::gguf_family(file->get_string("general.architecture").value());
    for (const auto& tensor : file->tensors()) {
      auto shape = tensor.shape;
      const auto change = formats::gguf_change(family, tensor.name, 2, 1);
      const auto changed = formats::gguf_changed(change, *tensor.type, shape, tensor.bytes, false);
      if (refused(changed)) continue;
      must(changed->size() == tensor.bytes.size());
      const auto back = formats::gguf_changed(change, *tensor.type, shape, *changed, true);
      must(back.ok() && shape == tensor.shape);
      must(change.kind == formats::GgufChange::Kind::plus_one || std::ranges::equal(*back, tensor.bytes));
    }
  }
  std::vector<std::string> not_held;
  (void)refused(formats::llama2c_vocabulary(*file, not_held));
  for (const auto& entry : file->entries()) {
    // At most one kind of getter fits a value; all must return.
    (void)refused(file->get_string(entry.key));
    (void)refused(file->get_bool(entry.key));
    (void)refused(file->get_int(entry.key));
    (void)refused(file->get_double(entry.key));
    (void)refused(file->get_strings(entry.key));
    (void)refused(file->get_ints(entry.key));
    (void)refused(file->get_doubles(entry.key));
  }
}

void llama2c(const std::uint8_t* data, std::size_t size) {
  (void)refused(formats::parse_llama2c_header({data, size}, size, "f"));
}

void rwkv_cpp(const std::uint8_t* data, std::size_t size) {
  const auto file = formats::RwkvCppFile::parse({data, size}, "f");
  if (refused(file)) return;
  std::size_t total = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    total += tensor.bytes.size();
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    (void)file->read(name, tensor.shape, values).ok();
  }
  must(total <= size);
  (void)refused(model::config_from_hf(file->config().dump(), "f"));
}

void tokenizer_bin(const std::uint8_t* data, std::size_t size) {
  auto pieces = formats::parse_llama2c_tokenizer({data, size}, "f");
  if (refused(pieces)) return;
  exercise(*text::make_llama2c_tokenizer(*std::move(pieces)), text_of(data, size));
}

void tokenizer_json(const std::uint8_t* data, std::size_t size) {
  auto spec = formats::parse_tokenizer_json(text_of(data, size), "f");
  if (refused(spec)) return;
  exercise_spec(*std::move(spec), text_of(data, size));
}

void sentencepiece(const std::uint8_t* data, std::size_t size) {
  auto spec = formats::parse_sentencepiece({data, size}, "f");
  if (refused(spec)) return;
  exercise_spec(*std::move(spec), text_of(data, size));
}

void peft_config(const std::uint8_t* data, std::size_t size) {
  const auto config = formats::parse_peft_config(text_of(data, size), "f");
  if (refused(config)) return;
  const std::string text = formats::peft_config_text(*config);
  const auto again = formats::parse_peft_config(text, "f");
  must(again.ok() && formats::peft_config_text(*again) == text);
}

/// Whatever is accepted must have a program and a memory plan.
void model_config(const std::uint8_t* data, std::size_t size) {
  const auto config = model::config_from_hf(text_of(data, size), "f");
  if (refused(config)) return;
  const model::EngineOptions options{.batch_max = 2,
                                     .seq_max = 3,
                                     .training = true,
                                     .checkpoint = true,
                                     .tangent = true,
                                     .target_seq_max = config->two_stacks() ? 3 : 0};
  must(model::plan_memory(*config, {}, {}, options, 2).total() > 0);
}

void torch_pickle(const std::uint8_t* data, std::size_t size) {
  const auto tensors = formats::read_tensor_pickle({data, size}, "f");
  if (refused(tensors)) return;
  for (const auto& tensor : *tensors) must(tensor.shape.size() == tensor.stride.size() && !tensor.name.empty());
}

void torch_zip(const std::uint8_t* data, std::size_t size) {
  const auto file = formats::TorchZipFile::parse({data, size}, "f");
  if (refused(file)) return;
  for (const auto& tensor : file->tensors()) {
    must(tensor.bytes.size() <= size);
    if (const auto values = formats::to_f32(tensor); values.ok())
      must(values->size() * size_of(tensor.dtype) == tensor.bytes.size());
  }
}

void chat_template(const std::uint8_t* data, std::size_t size) {
  const auto chat = text::ChatTemplate::of_jinja(text_of(data, size), "f");
  if (refused(chat)) return;
  const std::string content(text_of(data, std::min(size, std::size_t{100})));
  const std::vector<text::ChatMessage> talk = {{"user", content}, {"assistant", content}};
  for (const bool generate : {false, true}) (void)refused(chat->render(talk, "<s>", "</s>", generate));
  (void)chat->answer_end("</s>");
}

void jsonl(const std::uint8_t* data, std::size_t size) {
  (void)refused(data::parse_jsonl(text_of(data, size), "f"));
}

void csv(const std::uint8_t* data, std::size_t size) {
  (void)refused(data::parse_csv_examples(text_of(data, size), "f"));
}

/// Whatever is accepted makes classes that a world can be computed with.
void device_scores(const std::uint8_t* data, std::size_t size) {
  simulations::ScoreOptions options;
  options.classes = 2;
  const auto classes = simulations::classes_from_scores(text_of(data, size), "f", options);
  if (refused(classes)) return;
  must(classes->size() == 2);
  for (const auto& kind : *classes) {
    must(kind.training_gflops > 0 && std::isfinite(kind.training_gflops) && kind.memory_bytes > 0);
    must(std::isfinite(kind.training_watts) && kind.down_bytes_per_s > 0 && kind.up_bytes_per_s > 0);
  }
}

/// Whatever is accepted carries bytes forwards in time.
void packet_trace(const std::uint8_t* data, std::size_t size) {
  const auto trace = simulations::PacketTrace::parse(text_of(data, size), "f");
  if (refused(trace)) return;
  must(trace->period_ms() > 0 && trace->bytes_per_s() > 0);
  std::int64_t last_ms = 0;
  for (std::uint64_t bytes = 0; bytes < 100'000; bytes += 30'000) {
    const std::int64_t passed_ms = trace->passed_ms(12'345, bytes);
    must(passed_ms >= 12'345 && passed_ms >= last_ms);
    last_ms = passed_ms;
  }
}

}  // namespace covey::fuzz
