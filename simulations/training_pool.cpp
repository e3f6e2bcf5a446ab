#include "simulations/training_pool.h"

#include <algorithm>
#include <chrono>

#include "core/base/assert.h"
#include "simulations/journal.h"
#include "simulations/own_cost.h"

namespace covey::simulations {

namespace {

/// A result on its way between ranks: a zero byte and the outcome, or the code and the message of an error.
Bytes result_bytes(const Result<client::TrainingOutcome>& result) {
  Bytes out(1, result.ok() ? 0 : static_cast<std::uint8_t>(1 + static_cast<int>(result.error().code)));
  if (result.ok()) {
    append(out, outcome_bytes(*result));
  } else {
    append(out, as_byte_span(result.error().message));
  }
  return out;
}

Result<client::TrainingOutcome> result_from(const Bytes& bytes) {
  const ByteSpan rest = ByteSpan(bytes).subspan(std::min<std::size_t>(1, bytes.size()));
  if (!bytes.empty() && bytes[0] > 0) {
    return Error{static_cast<ErrorCode>(bytes[0] - 1), std::string(rest.begin(), rest.end())};
  }
  auto outcome = outcome_from(rest);
  if (bytes.empty() || !outcome) return Error{ErrorCode::internal, "another rank's training result is damaged"};
  return *std::move(outcome);
}

}  // namespace

TrainingPool::TrainingPool(int threads, Ranks* ranks)
    : ranks_(ranks), given_(ranks == nullptr ? 1 : static_cast<std::size_t>(ranks->count())) {
  for (int i = 0; i < std::max(1, threads); ++i) workers_.emplace_back([this] { work(); });
}

TrainingPool::~TrainingPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

TrainingPool::Ticket TrainingPool::submit(Job job, double cost) {
  const std::lock_guard lock(mutex_);
  const auto least = std::ranges::min_element(given_);
  *least += cost;
  const int owner = static_cast<int>(least - given_.begin());
  owners_[next_] = owner;
  if (mine(owner)) {
    queue_.emplace_back(next_, std::move(job));
    wake_.notify_one();
  }
  return next_++;
}

Result<client::TrainingOutcome> TrainingPool::take(Ticket ticket) {
  const int owner = owners_.extract(ticket).mapped();
  if (ranks_ == nullptr) return wait(ticket);
  if (!mine(owner)) return result_from(ranks_->share(owner, {}));
  auto result = wait(ticket);
  ranks_->share(owner, result_bytes(result));
  return result;
}

Result<client::TrainingOutcome> TrainingPool::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return results_.contains(ticket); });
  auto node = results_.extract(ticket);
  return std::move(node.mapped());
}

void TrainingPool::drop(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  const auto owner = owners_.extract(ticket);
  if (owner.empty() || !mine(owner.mapped())) return;
  const auto waiting = std::find_if(queue_.begin(), queue_.end(), [&](const auto& q) { return q.first == ticket; });
  if (waiting != queue_.end()) {
    queue_.erase(waiting);
  } else if (results_.erase(ticket) == 0) {
    dropped_[ticket] = true;
  }
}

double TrainingPool::busy_seconds() const {
  const std::lock_guard lock(mutex_);
  return busy_seconds_;
}

double TrainingPool::cpu_seconds() const {
  const std::lock_guard lock(mutex_);
  return cpu_seconds_;
}

void TrainingPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    auto [ticket, job] = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const auto begin = std::chrono::steady_clock::now();
    const double cpu_begin = thread_cpu_seconds();
    auto result = job();
    const double cpu = thread_cpu_seconds() - cpu_begin;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    lock.lock();
    busy_seconds_ += seconds;
    cpu_seconds_ += cpu;
    if (dropped_.erase(ticket) == 0) {
      results_.emplace(ticket, std::move(result));
      finished_.notify_all();
    }
  }
}

}  // namespace covey::simulations
