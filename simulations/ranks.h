/// One run on many processes, with MPI. Every rank runs the whole world, which is deterministic and cheap; what is
/// dear, the devices' training, is divided among them, and each result goes to all. So every rank sees the same bytes
/// in the same order, and a run's results do not depend on the number of ranks. Rank 0 alone evaluates and writes
/// results.
///
/// All ranks make the same calls in the same order, from one thread. A rank that is lost ends the run: mpirun kills the
/// others, and the journals go on with it (--resume).
#pragma once

#include <functional>
#include <memory>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/train/evaluate.h"

namespace covey::simulations {

class Ranks {
 public:
  Ranks() = default;
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;
  virtual ~Ranks() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int count() const = 0;
  /// `content` of rank `from`, on every rank; the others' is ignored. Waits without keeping the processor busy.
  [[nodiscard]] virtual Bytes share(int from, Bytes content) = 0;
  /// All has ended well here. A rank that ends without it has failed, and the starter ends the others.
  virtual void done() = 0;

  [[nodiscard]] bool first() const { return rank() == 0; }
};

/// Rank 0 evaluates, all get its figures: ranks on unlike processors must not go different ways.
Result<train::Evaluation> evaluate_once(Ranks& ranks, const std::function<Result<train::Evaluation>()>& measure);

/// What mpirun or srun has started; null: nobody has, or one process.
/// @errors unsupported: started as one of several, but built without MPI.
Result<std::unique_ptr<Ranks>> join_ranks();

}  // namespace covey::simulations
