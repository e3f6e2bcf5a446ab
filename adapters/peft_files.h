/// Between PEFT's adapters, whatever they are, and the adapters that our models compute.
#pragma once

#include <string>

#include "adapters/adapter.h"
#include "core/formats/peft.h"

namespace covey::adapters {

/// The PEFT form of a LoRA adapter. @errors invalid_argument: no sites; unsupported: plain and rsLoRA scaling mixed.
Result<formats::PeftAdapter> peft_of(const Adapter& adapter, const std::string& base_model_name);

/// @errors unsupported: what the adapter holds beside LoRA on linear layers, by its name; it can be read and written,
/// but no model of ours computes it.
Status check_computed(const formats::PeftAdapter& file);

/// Attaches a PEFT adapter to a model. @param where opens every message. @errors as load_peft.
Result<Adapter> attach_peft(const formats::PeftAdapter& file, const model::Model& model, const std::string& where);

}  // namespace covey::adapters
