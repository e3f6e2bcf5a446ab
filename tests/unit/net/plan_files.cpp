#include "client/plan_files.h"

#include <bit>
#include <cstring>
#include <filesystem>

#include "client/local_round.h"
#include "core/base/file.h"
#include "core/base/log.h"

namespace covey::client {
namespace {

namespace fs = std::filesystem;

Error file_error(const std::string& what, const std::error_code& code) {
  return {ErrorCode::io_error, what + ": " + code.message()};
}

}  // namespace

Result<std::unique_ptr<DiskPlanFiles>> DiskPlanFiles::open(const std::string& directory, std::uint64_t bytes_max) {
  std::error_code code;
  fs::create_directories(directory + "/models", code);
  if (code) return file_error(directory + "/models", code);
  COVEY_ASSIGN(auto store, net::BlobStore::open(directory + "/blobs", bytes_max));
  return std::unique_ptr<DiskPlanFiles>(new DiskPlanFiles(directory, std::move(store)));
}

Downloads::Step DiskPlanFiles::begin(const wire::FileBlob& file) {
  return step_of(downloads_.want(file.blob, file.bytes));
}

Downloads::Step DiskPlanFiles::on_message(const wire::Message& message) {
  return step_of(downloads_.feed(message));
}

void DiskPlanFiles::abandon() {
  downloads_.cancel();
}

Downloads::Step DiskPlanFiles::step_of(net::BlobDownloads::Outcome outcome) {
  Step step;
  step.send = std::move(outcome.requests);
  for (const auto& done : outcome.done) {  // one file at a time: at most one
    step.complete = !done.failed;
    step.bytes = done.fetched_bytes;
    if (done.failed) step.failure = done.failed->message;
  }
  return step;
}

/// The blob store's layout (blob_store.h): a complete blob lies under its name.
std::string DiskPlanFiles::blob_path(const wire::Hash& blob) const {
  return directory_ + "/blobs/" + to_hex(blob);
}

void DiskPlanFiles::keep_only(const wire::RoundPlan& plan) {
  std::vector<wire::Hash> keep = {plan.adapter.blob};
  for (const auto& file : plan.model) keep.push_back(file.blob);
  if (const auto done = store_.keep_only(keep); !done.ok()) log_warning("files", done.error().message);
  const std::string key = model_key(plan);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ + "/models", ignored)) {
    if (entry.path().filename() != key) fs::remove_all(entry.path(), ignored);
  }
}

Result<std::string> DiskPlanFiles::model_directory(const wire::RoundPlan& plan) {
  const std::string path = directory_ + "/models/" + model_key(plan);
  std::error_code code;
  if (fs::exists(path, code)) return path;
  // Built aside and renamed: a kill leaves a whole directory or none.
  const std::string aside = path + ".new";
  fs::remove_all(aside, code);
  fs::create_directories(aside, code);
  if (code) return file_error(aside, code);
  for (const auto& file : plan.model) {
    fs::create_hard_link(blob_path(file.blob), aside + "/" + file.name, code);
    if (code) return file_error(blob_path(file.blob), code);
  }
  fs::rename(aside, path, code);
  if (code) return file_error(path, code);
  return path;
}

Result<std::vector<float>> DiskPlanFiles::adapter_values(const wire::RoundPlan& plan) {
  static_assert(std::endian::native == std::endian::little, "adapter values travel as little-endian f32");
  COVEY_ASSIGN(const Bytes bytes, read_file(blob_path(plan.adapter.blob), plan.adapter.bytes));
  if (bytes.size() != plan.adapter.bytes || bytes.size() % sizeof(float) != 0)
    return Error{ErrorCode::corrupt_data, plan.adapter.name + ": not the size that the plan says"};
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace covey::client
