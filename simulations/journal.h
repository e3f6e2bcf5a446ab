/// What a run has paid for, kept beside its results until it is complete: trained updates and evaluations. A world is a
/// function of its experiment and of these, so a killed run is resumed by running its world again from the start with
/// the journal in the place of training: the same events, the same bytes, in a small part of the time.
///
/// File: "COVEYJN1", 32 bytes that name the experiment, then records `u32 bytes, u32 kind, u64 first, u64 second,
/// payload, 8 bytes of BLAKE2b over all that`; little-endian. A torn or damaged end is cut off when it is opened.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client/session.h"
#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/crypto/types.h"
#include "core/train/evaluate.h"
#include "simulations/experiment.h"

namespace covey::simulations {

/// Thread-safe. Records are in the system's hands when remember() returns: SIGKILL loses none of them, a power cut may
/// lose the newest.
class Journal {
 public:
  /// Opens or makes the file. @param run  the name of what runs, see run_identity().
  /// @errors invalid_argument: the file belongs to another run; io_error; what the system reports.
  static Result<std::unique_ptr<Journal>> open(const std::string& path, const crypto::Hash256& run);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// What `train` gave for this round and device before, or what it gives now. Failures are not kept.
  /// @errors those of `train`; io_error: the record could not be written (a full disk).
  Result<client::TrainingOutcome> training(RoundId round, std::uint64_t device,
                                           const std::function<Result<client::TrainingOutcome>()>& train);
  Result<train::Evaluation> evaluation(ModelVersion version, const std::function<Result<train::Evaluation>()>& measure);

  /// Records that the file held when it was opened.
  [[nodiscard]] std::size_t resumed() const { return resumed_; }

 private:
  using Key = std::array<std::uint64_t, 3>;  ///< kind, first, second
  struct Place {
    std::uint64_t at = 0;  ///< of the payload
    std::uint32_t bytes = 0;
  };
  Journal(std::string path, int file) : path_(std::move(path)), file_(file) {}
  Status scan(const crypto::Hash256& run);
  std::optional<Bytes> find(const Key& key) const;
  Status keep(const Key& key, ByteSpan payload);

  std::string path_;
  int file_;
  mutable std::mutex mutex_;
  std::map<Key, Place> places_;
  std::uint64_t end_ = 0;
  std::size_t resumed_ = 0;
};

/// A trained update as bytes, in the journal and between ranks.
Bytes outcome_bytes(const client::TrainingOutcome& outcome);
std::optional<client::TrainingOutcome> outcome_from(ByteSpan bytes);

/// Names an experiment with its seed, the bytes of its model, data, scores and traces, and this version of Covey: what
/// a journal's records follow from, apart from the machine's instruction set. `threads` given on the command line is
/// not part of it.
/// @errors those of reading these files.
Result<crypto::Hash256> run_identity(const Experiment& experiment);

}  // namespace covey::simulations
