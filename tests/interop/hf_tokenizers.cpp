#include "interop/hf_tokenizers.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/support.h"

namespace covey::interop {

using formats::Json;

std::optional<HfEncoded> encode_with_hf(const std::string& tokenizer_json, const std::vector<std::string>& texts,
                                        int runs) {
  const char* set = std::getenv("COVEY_NODE_MODULES");
  const std::string modules = set != nullptr ? set : test::source_dir() + "/tests/interop/node_modules";
  std::error_code ignored;
  if (!std::filesystem::exists(modules + "/@huggingface/tokenizers", ignored)) {
    std::cout << "SKIPPED: @huggingface/tokenizers is not installed; tests/run.sh --interop installs it\n";
    return std::nullopt;
  }
  const test::TempDir dir;
  REQUIRE_OK(Json(texts).save(dir.file("texts.json")));
  const auto ran =
      test::run_command("node --max-old-space-size=4096 " + test::source_dir() + "/tests/interop/encode.mjs " +
                        modules + " " + tokenizer_json + " " + dir.file("texts.json") + " " + std::to_string(runs));
  REQUIRE_MESSAGE(ran.exit_code == 0, ran.err);
  const auto answer = Json::parse(ran.out, "encode.mjs");
  REQUIRE_OK(answer);
  HfEncoded out;
  out.seconds = answer->get_double("seconds").value();
  for (const Json& list : answer->find("ids")->items()) {
    auto& ids = out.ids.emplace_back();
    for (const Json& id : list.items()) ids.push_back(static_cast<std::int32_t>(id.as_int().value()));
  }
  for (const Json& text : answer->find("decoded")->items()) out.decoded.push_back(text.as_string().value());
  REQUIRE(out.ids.size() == texts.size());
  return out;
}

}  // namespace covey::interop
