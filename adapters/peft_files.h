/// Between PEFT's adapters, whatever they are, and the adapters that our models compute.
#pragma once

#include <string>

#include "adapters/adapter.h"
#include "core/formats/peft.h"

namespace covey::adapters {

/// The PEFT form of an adapter. @errors invalid_argument: no sites; unsupported: plain and rsLoRA scaling mixed, or a
/// kind that PEFT has no form for (biases, bottlenecks, several kinds together).
Result<formats::PeftAdapter> peft_of(const Adapter& adapter, const std::string& base_model_name);

/// @errors unsupported: what the adapter holds that is neither LoRA on linear layers nor IA3, a prefix or a prompt, by
/// its name; it can be read and written, but no model of ours computes it.
Status check_computed(const formats::PeftAdapter& file);

/// Attaches a PEFT adapter to a model. @param where opens every message. @errors as load_peft.
Result<Adapter> attach_peft(const formats::PeftAdapter& file, const model::Model& model, const std::string& where);

/// The trained head, where there is one, as modules_to_save.
void head_to_peft(const Adapter& adapter, formats::PeftAdapter& out);
/// The head of `model` as the file has it, appended to `values`; none where the file has none.
/// @errors unsupported: a module that is no part of a head; invalid_argument: a part is missing, or of another shape.
Result<std::vector<HeadEntry>> attach_head(const formats::PeftAdapter& file, const model::Model& model,
                                           std::vector<float>& values);

/// The same for adapters that are no LoRA, without `where`. peft_parts.cpp
[[nodiscard]] Status parts_to_peft(const Adapter& adapter, formats::PeftAdapter& out);
Result<Adapter> attach_parts(const formats::PeftAdapter& file, const model::Model& model);

}  // namespace covey::adapters
