/// What a way to a gradient is made from. Each has a file in methods/ that defines, for its NAME there, its entry
/// `method_NAME` (method.h) and `make_NAME`, and a word in the list of CMakeLists.txt; adding one takes no more.
/// simulations/README.md, "Adding a method", shows it. The entry and the source are apart: who plans links no engine.
#pragma once

#include <memory>

#include "core/train/gradient.h"

namespace covey::train {

struct SourceInputs {
  Parameters& parameters;
  GradientConfig config;                  ///< checked
  std::unique_ptr<model::Engine> engine;  ///< what config.engine() asks for
  int rows;                               ///< of one call of the engine
  ThreadPool& pool;
  GradientSource::SeedOf seed_of;
};

}  // namespace covey::train
