/// The files of plans on the device's disk: downloads them into a BlobStore, gives a model's files their names, and
/// lets go of what the newest plan does not need.
///
///   DIR/blobs/<hex>              core/net's blob store
///   DIR/models/<hex of files>/   hard links to the blobs under the files' names, so that a model loads as a directory
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "client/agent.h"
#include "client/trainer.h"
#include "core/net/blob_fetch.h"

namespace covey::client {

/// Downloads is called from the agent's thread, PlanFiles from the trainer's: they share paths only.
class DiskPlanFiles final : public Downloads, public PlanFiles {
 public:
  /// Makes the folders. @errors io_error and those of BlobStore::open.
  static Result<std::unique_ptr<DiskPlanFiles>> open(const std::string& directory, std::uint64_t bytes_max);

  Step begin(const wire::FileBlob& file) override;
  Step on_message(const wire::Message& message) override;
  void abandon() override;
  void keep_only(const wire::RoundPlan& plan) override;

  Result<std::string> model_directory(const wire::RoundPlan& plan) override;
  Result<std::vector<float>> adapter_values(const wire::RoundPlan& plan) override;

 private:
  DiskPlanFiles(std::string directory, net::BlobStore store)
      : directory_(std::move(directory)), store_(std::move(store)), downloads_(store_) {}
  Step step_of(net::BlobDownloads::Outcome outcome);
  [[nodiscard]] std::string blob_path(const wire::Hash& blob) const;

  std::string directory_;
  net::BlobStore store_;
  net::BlobDownloads downloads_;
};

}  // namespace covey::client
