#include "coordinator/admin_worker.h"

#include <utility>

namespace covey::coordinator {

AdminWorker::AdminWorker() : thread_([this] { loop(); }) {}

AdminWorker::~AdminWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    waiting_.clear();
  }
  wake_.notify_all();
  thread_.join();
}

std::future<Result<formats::Json>> AdminWorker::run(AdminWork work) {
  std::packaged_task<Result<formats::Json>()> task(std::move(work));
  auto answer = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(task));
  }
  wake_.notify_all();
  return answer;
}

void AdminWorker::loop() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    auto task = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    task();
  }
}

}  // namespace covey::coordinator
