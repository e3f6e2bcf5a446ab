/// Small good inputs that the cases damage: a llama-shaped model of some thousand parameters in both formats, its
/// tokenizer, an adapter, examples, and configurations. Written by hand, so that no program under test is needed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "support/support.h"

namespace covey::bad_input {

void write(const std::string& path, std::string_view content);
std::string slurp(const std::string& path);
void copy_folder(const std::string& from, const std::string& to);
/// The text with `from` replaced by `to` once; it must be there.
std::string replaced(std::string text, std::string_view from, std::string_view to);

/// A safetensors file of any header and `data_bytes` zeros; `claimed` in place of the header's true length where >= 0.
std::string safetensors(std::string_view header, std::size_t data_bytes, std::int64_t claimed = -1);
/// A llama2.c header of these seven numbers and `floats` zeros.
std::string llama2c(std::int32_t dim, std::int32_t hidden, std::int32_t layers, std::int32_t heads,
                    std::int32_t kv_heads, std::int32_t vocab, std::int32_t seq_len, std::size_t floats);

/// In one folder:
///   model/ {config.json, model.safetensors, tokenizer.bin}   adapter/   c/ {m.bin, tokenizer.bin}
///   data.txt  data.jsonl  play.txt  train.yaml  pretrain.yaml  experiment.yaml
class Fixture {
 public:
  Fixture();
  [[nodiscard]] std::string file(const std::string& name) const { return dir_.file(name); }
  [[nodiscard]] const std::string& path() const { return dir_.path(); }
  /// A copy of the good model under another name, for damage. @return its path.
  std::string model(const std::string& name) const;
  std::string adapter(const std::string& name) const;

 private:
  test::TempDir dir_;
};

/// One for all cases of this program; cases add files of names of their own.
const Fixture& fixture();

}  // namespace covey::bad_input
