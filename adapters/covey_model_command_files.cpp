// convert, adapter merge: commands that turn models into models.
#include <algorithm>
#include <filesystem>

#include "adapters/adapter.h"
#include "adapters/covey_model.h"
#include "adapters/llama2c_writer.h"
#include "core/base/file.h"
#include "core/base/log.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

Status duplicate(const fs::path& from, const fs::path& to) {
  COVEY_ASSIGN(const Bytes content, read_file(from.string()));
  return write_file_durably(to.string(), ByteSpan(content));
}

/// Tokenizer files of a model path: those of a directory, or the one beside a .bin.
std::vector<fs::path> tokenizer_files(const CommonOptions& common, const std::string& model, int vocab) {
  std::vector<fs::path> out;
  std::error_code ignored;
  const auto add = [&](const fs::path& path) {
    if (fs::exists(path, ignored)) out.push_back(path);
  };
  if (!common.tokenizer.empty() && !fs::is_directory(common.tokenizer, ignored)) {
    add(common.tokenizer);
    return out;
  }
  const std::string from = common.tokenizer.empty() ? model : common.tokenizer;
  if (fs::is_directory(from, ignored)) {
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.bin"}) {
      add(fs::path(from) / name);
    }
    return out;
  }
  const fs::path folder = fs::path(from).parent_path();
  add(folder / "tokenizer.bin");
  if (out.empty()) add(folder / ("tok" + std::to_string(vocab) + ".bin"));
  return out;
}

/// Into a Hugging Face directory. A llama2.c tokenizer is named tokenizer.bin there, where loaders look for it.
Status carry_tokenizer(const std::vector<fs::path>& files, const std::string& directory) {
  if (files.empty()) log_warning("convert", "no tokenizer was found, none was written");
  for (const auto& file : files) {
    const std::string name = file.extension() == ".bin" ? "tokenizer.bin" : file.filename().string();
    COVEY_TRY(duplicate(file, fs::path(directory) / name));
  }
  return {};
}

}  // namespace

Status run_convert(const ConvertOptions& options, Console& console) {
  std::error_code ignored;
  if (!fs::exists(options.in, ignored)) {
    return Error{ErrorCode::not_found, options.in + ": there is no such file or directory"};
  }
  const bool to_bin = options.out.ends_with(".bin");
  const bool from_directory = fs::is_directory(options.in, ignored);
  if (to_bin != from_directory) {
    return Error{ErrorCode::unsupported,
                 "convert: turns a Hugging Face directory into a llama2.c .bin, or a .bin into a directory"};
  }
  COVEY_ASSIGN(const auto model, model::Model::load(options.in, {.writable = true}));
  const auto tokenizers = tokenizer_files(options.common, options.in, model->config().vocab_size);
  if (to_bin) {
    auto written = write_llama2c(options.out, *model);
    if (!written.ok()) return written.error().in(options.in);
    const auto bin = std::find_if(tokenizers.begin(), tokenizers.end(),
                                  [](const fs::path& path) { return path.extension() == ".bin"; });
    const fs::path beside = fs::path(options.out).parent_path() / "tokenizer.bin";
    if (bin == tokenizers.end()) {
      log_warning("convert", "the tokenizer has no llama2.c form and was not written; use --tokenizer " + options.in);
    } else if (!fs::exists(beside, ignored)) {
      COVEY_TRY(duplicate(*bin, beside));
    }
  } else {
    COVEY_TRY(model->save(options.out));
    COVEY_TRY(carry_tokenizer(tokenizers, options.out));
  }
  console.result(formats::Json::object({{"out", options.out}, {"parameters", model->parameter_count()}}));
  return {};
}

Status run_adapter_merge(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model, {.writable = true}));
  COVEY_ASSIGN(const Adapter adapter, load_peft(options.in, *model));
  COVEY_TRY(merge_into(*model, adapter));
  COVEY_TRY(model->save(options.out));
  COVEY_TRY(
      carry_tokenizer(tokenizer_files(options.common, options.common.model, model->config().vocab_size), options.out));
  console.result(formats::Json::object({{"out", options.out}, {"sites", adapter.layout().lora.size()}}));
  return {};
}

}  // namespace covey::adapters
