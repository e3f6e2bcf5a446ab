#include "core/net/blob_fetch.h"

#include <algorithm>
#include <utility>

#include "core/crypto/hash.h"
#include "core/net/blobs.h"

namespace covey::net {

BlobFetcher::BlobFetcher(const wire::Hash& blob, std::uint64_t bytes, FetchLimits limits)
    : blob_(blob), bytes_(bytes), limits_(limits) {}

std::uint64_t BlobFetcher::bytes_left() const {
  if (phase_ == Phase::manifest || phase_ == Phase::preparing) return bytes_;
  std::uint64_t out = 0;
  for (std::size_t n = 0; n < have_.size(); ++n) {
    if (have_[n] == 0) out += chunk_size(manifest_.bytes, n);
  }
  return out;
}

FetchStep BlobFetcher::start(std::optional<PartialBlob> known) {
  if (known && known->manifest.bytes == bytes_) {
    manifest_ = std::move(known->manifest);
    phase_ = Phase::preparing;
    return resumed(std::move(known->have));
  }
  FetchStep step;
  step.requests.emplace_back(wire::ManifestRequest{blob_});
  return step;
}

FetchStep BlobFetcher::resumed(std::vector<std::uint8_t> have) {
  have_ = std::move(have);
  have_.resize(manifest_.chunks.size());
  missing_ = static_cast<std::size_t>(std::count(have_.begin(), have_.end(), 0));
  phase_ = Phase::chunks;
  FetchStep step;
  ask(step);
  return step;
}

FetchStep BlobFetcher::feed(wire::Message reply) {
  if (auto* manifest = std::get_if<wire::ManifestReply>(&reply)) {
    if (manifest->blob == blob_ && phase_ == Phase::manifest) return on_manifest(std::move(manifest->manifest));
  } else if (auto* chunk = std::get_if<wire::ChunkReply>(&reply)) {
    if (chunk->blob == blob_ && phase_ == Phase::chunks) return on_chunk(std::move(*chunk));
  } else if (const auto* error = std::get_if<wire::ErrorReply>(&reply)) {
    const bool asking = phase_ == Phase::manifest || phase_ == Phase::chunks;
    if (asking && error->complaint == wire::Complaint::not_found) {
      return give_up(
          {ErrorCode::not_found, "blob " + to_hex(blob_).substr(0, 16) + ": the coordinator does not have it"});
    }
  }
  return {};
}

FetchStep BlobFetcher::on_manifest(wire::Manifest manifest) {
  if (manifest.bytes != bytes_) {
    return give_up({ErrorCode::corrupt_data,
                    "manifest: " + std::to_string(manifest.bytes) + " bytes, the plan says " + std::to_string(bytes_)});
  }
  if (auto good = check_manifest(blob_, manifest); !good.ok()) return give_up(std::move(good).error());
  manifest_ = std::move(manifest);
  phase_ = Phase::preparing;
  FetchStep step;
  step.begin = manifest_;
  return step;
}

FetchStep BlobFetcher::on_chunk(wire::ChunkReply reply) {
  const auto asked = std::find(asked_.begin(), asked_.end(), reply.chunk);
  if (asked == asked_.end()) return {};
  asked_.erase(asked);
  FetchStep step;
  const bool good = reply.bytes.size() == chunk_size(manifest_.bytes, reply.chunk) &&
                    crypto::hash(reply.bytes).bytes == manifest_.chunks[reply.chunk];
  if (!good) {
    if (++bad_ >= limits_.bad_chunks_max) {
      return give_up({ErrorCode::corrupt_data, "chunk " + std::to_string(reply.chunk) + ": not the manifest's bytes"});
    }
    next_ = std::min(next_, reply.chunk);
  } else {
    have_[reply.chunk] = 1;
    --missing_;
    step.store = {reply.chunk, std::move(reply.bytes)};
  }
  ask(step);
  return step;
}

FetchStep BlobFetcher::reconnected() {
  FetchStep step;
  if (phase_ == Phase::manifest) step.requests.emplace_back(wire::ManifestRequest{blob_});
  if (phase_ == Phase::chunks) {
    asked_.clear();
    next_ = 0;
    ask(step);
  }
  return step;
}

FetchStep BlobFetcher::give_up(Error error) {
  phase_ = Phase::over;
  FetchStep step;
  step.failed = std::move(error);
  return step;
}

void BlobFetcher::ask(FetchStep& step) {
  if (missing_ == 0) {
    phase_ = Phase::over;
    step.complete = true;
    return;
  }
  for (; next_ < have_.size() && asked_.size() < limits_.window; ++next_) {
    if (have_[next_] != 0 || std::find(asked_.begin(), asked_.end(), next_) != asked_.end()) continue;
    asked_.push_back(next_);
    step.requests.emplace_back(wire::ChunkRequest{blob_, next_});
  }
}

BlobDownloads::Outcome BlobDownloads::want(const wire::Hash& blob, std::uint64_t bytes) {
  Outcome out;
  queue_.push_back({blob, bytes});
  if (!current_) next(out);
  return out;
}

BlobDownloads::Outcome BlobDownloads::feed(wire::Message reply) {
  Outcome out;
  if (current_) apply(current_->feed(std::move(reply)), out);
  return out;
}

BlobDownloads::Outcome BlobDownloads::reconnected() {
  Outcome out;
  if (current_) apply(current_->reconnected(), out);
  return out;
}

void BlobDownloads::cancel() {
  queue_.clear();
  current_.reset();
}

/// Starts the next wanted blob that is not there yet.
void BlobDownloads::next(Outcome& out) {
  while (!current_ && !queue_.empty()) {
    const Wanted wanted = queue_.front();
    queue_.pop_front();
    if (auto there = store_.path(wanted.blob); there.ok()) {
      out.done.push_back({.blob = wanted.blob, .path = *std::move(there)});
      continue;
    }
    fetched_bytes_ = 0;
    current_.emplace(wanted.blob, wanted.bytes, limits_);
    auto known = store_.resume(wanted.blob);
    if (known.ok()) {
      apply(current_->start(*std::move(known)), out);
    } else if (known.error().code == ErrorCode::not_found) {
      apply(current_->start(std::nullopt), out);
    } else {
      fail(known.error(), out);
    }
  }
}

void BlobDownloads::apply(FetchStep step, Outcome& out) {
  const wire::Hash blob = current_->blob();
  if (step.failed) return fail(*std::move(step.failed), out);
  if (step.begin) {
    auto begun = store_.begin(blob, *step.begin);
    if (!begun.ok()) return fail(begun.error(), out);
    return apply(current_->resumed(std::move(begun->have)), out);
  }
  if (step.store) {
    fetched_bytes_ += step.store->bytes.size();
    if (auto stored = store_.put(blob, step.store->chunk, step.store->bytes); !stored.ok()) {
      return fail(stored.error(), out);
    }
  }
  for (auto& request : step.requests) out.requests.push_back(std::move(request));
  if (!step.complete) return;
  auto finished = store_.finish(blob);
  if (!finished.ok()) return fail(finished.error(), out);
  out.done.push_back({.blob = blob, .path = *std::move(finished), .fetched_bytes = fetched_bytes_});
  current_.reset();
  next(out);
}

void BlobDownloads::fail(Error error, Outcome& out) {
  out.done.push_back({.blob = current_->blob(), .fetched_bytes = fetched_bytes_, .failed = std::move(error)});
  current_.reset();
  next(out);
}

}  // namespace covey::net
