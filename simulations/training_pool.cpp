#include "simulations/training_pool.h"

#include <algorithm>
#include <chrono>

#include "core/base/assert.h"
#include "simulations/own_cost.h"

namespace covey::simulations {

TrainingPool::TrainingPool(int threads) {
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

TrainingPool::Ticket TrainingPool::submit(Job job) {
  const std::lock_guard lock(mutex_);
  queue_.emplace_back(next_, std::move(job));
  wake_.notify_one();
  return next_++;
}

Result<client::TrainingOutcome> TrainingPool::take(Ticket ticket) {
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [&] { return results_.contains(ticket); });
  auto node = results_.extract(ticket);
  return std::move(node.mapped());
}

void TrainingPool::drop(Ticket ticket) {
  const std::lock_guard lock(mutex_);
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
