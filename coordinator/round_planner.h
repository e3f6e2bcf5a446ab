/// Configuration, version and round number to the plan that devices get. Pure.
#pragma once

#include "coordinator/rows.h"
#include "coordinator/task.h"

namespace covey::coordinator {

/// `config` must pass check().
wire::RoundPlan plan_round(const TaskConfig& config, const VersionRow& base, RoundId round, std::uint64_t roster_epoch);

/// The blob name, file name and size of a version's values. @errors resource_exhausted: over 2 GiB.
Result<wire::FileBlob> adapter_blob(ModelVersion version, ByteSpan content);

/// Hash of everything that must not change while a task's store is in use: name, model, adapter layout, seed, bits.
wire::Hash task_identity(const TaskConfig& config);

}  // namespace covey::coordinator
