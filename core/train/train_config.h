/// How to train: everything a run is made from besides the model and the data.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/result.h"
#include "core/data/masking.h"
#include "core/train/gradient.h"
#include "core/train/optimizer.h"
#include "core/train/schedule.h"
#include "core/train/seeded_update.h"

namespace covey::train {

struct TrainConfig {
  GradientConfig gradient{};
  OptimizerConfig optimizer{};
  Schedule schedule{};
  double lr = 1e-3;
  int batch = 8;        ///< rows per step
  int micro_batch = 0;  ///< rows computed at once, gradients accumulated up to `batch`; 0: all of them
  int seq = 128;        ///< longer rows are cut here
  int target_seq = 0;   ///< targets of an encoder-decoder are cut here; 0: at `seq`, too
  /// Masked language models: what is masked of the rows, anew in each epoch. None: the rows say it.
  std::optional<data::Masking> masking{};
  std::int64_t steps = 0;  ///< optimizer steps; 0: `epochs` decides
  double epochs = 0;       ///< passes over the rows, may be a fraction; 0: `steps` decides. Exactly one is set
  double clip_norm = 0;    ///< 0 = off
  double prox_mu = 0;      ///< FedProx; 0 = off
  std::uint64_t seed = 0;  ///< order of the rows, and directions
  /// count > 0: directions are drawn from these candidates and the run keeps its update as K scalars (FedKSeed). Needs
  /// a seeded method and plain SGD, so that the update is a sum of the candidates.
  SeedPool candidates{};

  /// @errors invalid_argument, naming the field and what it may be.
  [[nodiscard]] Status check() const;
  /// Over every field that changes the result; `steps` as planned.
  [[nodiscard]] std::uint64_t fingerprint(std::int64_t steps_planned) const;
};

}  // namespace covey::train
