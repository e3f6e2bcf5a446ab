/// The device's side of fetching blobs. BlobFetcher is pure: it says what to ask and what to store; BlobDownloads joins
/// it with a BlobStore, so that a caller only carries messages. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/net/blob_store.h"
#include "core/wire/messages.h"

namespace covey::net {

struct FetchLimits {
  std::size_t window = 2;  ///< chunks asked for and not answered
  int bad_chunks_max = 3;  ///< wrong or unserved chunks of one blob before it is given up
};

/// What the caller does next, in this order.
struct FetchStep {
  struct Store {
    std::uint32_t chunk = 0;
    Bytes bytes;  ///< checked
  };
  std::optional<wire::Manifest> begin;  ///< the manifest came and is good: prepare the place (then call resumed())
  std::optional<Store> store;
  bool complete = false;
  std::optional<Error> failed;  ///< the blob is given up; nothing else in this step
  std::vector<wire::Message> requests;
};

/// One blob. Call order: start(), then feed() per reply; resumed() after a step with `begin`; reconnected() after a
/// loss. A reply to another blob or to a question not asked is ignored.
class BlobFetcher {
 public:
  /// `bytes` is what the plan says of it; a manifest that says otherwise is refused.
  BlobFetcher(const wire::Hash& blob, std::uint64_t bytes, FetchLimits limits = {});

  /// `known`: what an earlier process left.
  FetchStep start(std::optional<PartialBlob> known);
  FetchStep resumed(std::vector<std::uint8_t> have);
  FetchStep feed(wire::Message reply);
  /// What was asked on the old connection is asked again.
  FetchStep reconnected();

  [[nodiscard]] const wire::Hash& blob() const { return blob_; }
  [[nodiscard]] std::uint64_t bytes_left() const;

 private:
  enum class Phase { manifest, preparing, chunks, over };
  FetchStep on_manifest(wire::Manifest manifest);
  FetchStep on_chunk(wire::ChunkReply reply);
  FetchStep give_up(Error error);
  void ask(FetchStep& step);

  wire::Hash blob_;
  std::uint64_t bytes_;
  FetchLimits limits_;
  Phase phase_ = Phase::manifest;
  wire::Manifest manifest_;
  std::vector<std::uint8_t> have_;
  std::vector<std::uint32_t> asked_;
  std::size_t missing_ = 0;
  std::uint32_t next_ = 0;  ///< chunks below are there or asked for
  int bad_ = 0;
};

/// Downloads into a store, one blob after the other.
class BlobDownloads {
 public:
  struct Done {
    wire::Hash blob{};
    std::string path{};               ///< where it lies
    std::uint64_t fetched_bytes = 0;  ///< that came over the network this time
    std::optional<Error> failed{};    ///< then there is no path
  };
  struct Outcome {
    std::vector<wire::Message> requests;  ///< to send now
    std::vector<Done> done;
  };

  /// `store` outlives this.
  explicit BlobDownloads(BlobStore& store, FetchLimits limits = {}) : store_(store), limits_(limits) {}

  /// A blob that is complete already is done at once.
  Outcome want(const wire::Hash& blob, std::uint64_t bytes);
  /// ManifestReply, ChunkReply, or ErrorReply where something is being fetched; everything else is ignored.
  Outcome feed(wire::Message reply);
  Outcome reconnected();
  /// Stops; what is stored stays and is resumed by the next want().
  void cancel();
  [[nodiscard]] bool idle() const { return !current_ && queue_.empty(); }

 private:
  struct Wanted {
    wire::Hash blob{};
    std::uint64_t bytes = 0;
  };
  void next(Outcome& out);
  void apply(FetchStep step, Outcome& out);
  void fail(Error error, Outcome& out);

  BlobStore& store_;
  FetchLimits limits_;
  std::deque<Wanted> queue_;
  std::optional<BlobFetcher> current_;
  std::uint64_t fetched_bytes_ = 0;
};

}  // namespace covey::net
