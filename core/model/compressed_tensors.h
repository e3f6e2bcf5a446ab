/// W8A8 on disk, as compressed-tensors keeps it: which configurations we compute, int8 matrices of a file, and the
/// outlier columns beside them. Source: vllm-project/compressed-tensors, format "int-quantized" (quant_config.py,
/// quant_args.py). Internal to core/model.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "core/formats/hf_directory.h"
#include "core/model/weights.h"

namespace covey::model {

/// config.json names this file where the directory has outlier columns. compressed-tensors has no place for them: its
/// readers look at *.safetensors alone and compute without.
constexpr const char* kOutliersFile = "outliers.covey";
constexpr const char* kOutliersKey = "covey_outlier_columns";

/// What config.json's quantization_config must say for us to compute it: 8 bits, symmetric, a scale per channel,
/// activations per token. Members that say how the scales were found (observer, ...) are passed over; where one is
/// missing, its default in the format counts. @errors unsupported, corrupt_data: naming the member.
[[nodiscard]] Status check_quantization(const formats::Json& config, const std::string& where);

/// A matrix that the file keeps as I8, with its scales `<name>_scale`: (out, 1) or (out), F32, F16 or BF16.
/// @param room  where it is widened to; empty: nowhere, the int8 values are used where they lie (Impl::int8_sources).
/// @errors not_found, corrupt_data: no scale for each row; unsupported: zero points other than 0, reordered columns.
[[nodiscard]] Status read_int8(Model::Impl& impl, const Parameter& p, const formats::HfDirectory& directory,
                               std::span<float> room);

/// The directory's outlier columns by Parameter::at; none where config.json names no file of them.
/// @errors not_found, corrupt_data, naming file and tensor.
Result<std::map<std::int64_t, OutlierColumns>> read_outliers(const Model::Impl& impl,
                                                             const formats::HfDirectory& directory);

}  // namespace covey::model
