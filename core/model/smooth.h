/// What stands before W8A8: how large each layer's input columns get on calibration text, and two remedies where some
/// are much larger than the rest, so that a token's scale would round the others away: Model::smooth moves their size
/// into the weights, Model::keep_outliers computes them in f32.
#pragma once

#include <string>
#include <vector>

namespace covey::model {

/// Largest absolute value of each input column, for each linear layer of the model in an order of its own (in);
/// layers that did not run: empty. Filled by Engine::record_inputs.
struct InputPeaks {
  std::vector<std::vector<float>> of_layer;
};

struct SmoothReport {
  std::vector<std::string> norms;   ///< paths of the norms that were divided
  std::vector<std::string> layers;  ///< paths of the linear layers that were multiplied
  /// "path (why)" of the blocks' other linear layers: their columns stay as they are.
  std::vector<std::string> left;
};

}  // namespace covey::model
