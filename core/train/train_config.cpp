#include "core/train/train_config.h"

#include <cmath>
#include <span>

#include "core/train/fingerprint.h"

namespace covey::train {

Status TrainConfig::check() const {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  COVEY_TRY(gradient.check());
  COVEY_TRY(optimizer.check());
  if (!(lr >= 0) || !std::isfinite(lr)) return wrong("lr: must be 0 or more");
  if (batch < 1 || batch > 4096) return wrong("batch: must be in [1, 4096]");
  if (micro_batch < 0 || micro_batch > batch) return wrong("micro_batch: must be in [1, batch], or 0 for all rows");
  if (seq < 1 || seq > (1 << 20)) return wrong("seq: must be in [1, 1048576]");
  if (target_seq < 0 || target_seq > (1 << 20)) return wrong("target_seq: must be in [1, 1048576], or 0 for seq");
  if (masking) COVEY_TRY(masking->check());
  if (steps < 0) return wrong("steps: must be 0 or more");
  if (!(epochs >= 0) || epochs > 1e6) return wrong("epochs: must be in [0, 1000000]");
  if ((steps > 0) == (epochs > 0)) return wrong("steps, epochs: set exactly one of them");
  if (!(clip_norm >= 0)) return wrong("clip_norm: must be 0 (off) or more");
  if (!(prox_mu >= 0)) return wrong("prox_mu: must be 0 (off) or more");
  if (schedule.warmup_steps < 0) return wrong("warmup_steps: must be 0 or more");
  if (!(schedule.final_factor >= 0 && schedule.final_factor <= 1)) return wrong("final_factor: must be in [0, 1]");
  if (candidates.count == 0) return {};
  COVEY_TRY(candidates.check());
  if (gradient.method == Method::backprop) return wrong("candidates: backprop has no directions to draw");
  if (optimizer.kind != OptimizerKind::sgd || optimizer.momentum > 0 || optimizer.weight_decay > 0 || prox_mu > 0) {
    return wrong("candidates: need plain sgd, without momentum, weight_decay and prox_mu");
  }
  return {};
}

std::uint64_t TrainConfig::fingerprint(std::int64_t steps_planned) const {
  Fingerprint print;
  const auto& g = gradient;
  print.number(g.method);
  print.number(g.derivative);
  for (const std::int64_t x : {std::int64_t{g.directions_used()}, std::int64_t{g.directions_max},
                               std::int64_t{g.checkpoint_activations ? 1 : 0}}) {
    print.number(x);
  }
  const auto& o = optimizer;
  print.number(o.kind);
  for (const double x : {g.epsilon, g.variance_max, o.momentum, o.beta1, o.beta2, o.epsilon, o.weight_decay, lr,
                         clip_norm, prox_mu, schedule.final_factor}) {
    print.number(x);
  }
  print.number(schedule.kind);
  for (const std::int64_t x : {schedule.warmup_steps, std::int64_t{batch}, std::int64_t{micro_batch}, std::int64_t{seq},
                               steps_planned, std::int64_t{candidates.count}}) {
    print.number(x);
  }
  print.number(seed);
  print.number(candidates.seed);
  if (target_seq > 0) print.number(target_seq);
  if (g.stochastic_rounding) print.number(*g.stochastic_rounding);
  // Only where it says more than method and derivative: checkpoints of the others keep their fingerprint.
  if (!g.name.empty() && g.name != plan_method_of(g.method, g.derivative).name) print.array(std::span(g.name));
  if (masking) {
    for (const std::int32_t x : {masking->mask_id, masking->vocab}) print.number(x);
    print.number(masking->share);
    print.number(masking->seed);
  }
  return print.value();
}

}  // namespace covey::train
