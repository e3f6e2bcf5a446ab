/// Runs the operator's slow commands one after another in a thread of its own, so that the serve loop goes on.
#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "coordinator/admin.h"

namespace covey::coordinator {

/// run() belongs to one thread. The destructor waits for the command in progress; those behind it are not run, and
/// their futures report a broken promise.
class AdminWorker {
 public:
  AdminWorker();
  ~AdminWorker();
  AdminWorker(const AdminWorker&) = delete;
  AdminWorker& operator=(const AdminWorker&) = delete;

  std::future<Result<formats::Json>> run(AdminWork work);

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<Result<formats::Json>()>> waiting_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace covey::coordinator
