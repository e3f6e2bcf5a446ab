#include "core/base/thread_pool.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/assert.h"

namespace covey {

/// Waking a sleeping thread takes tens of microseconds, about as long as a small layer. So both sides look this often
/// before they sleep: some 30 microseconds, which nobody notices when there is nothing to do.
constexpr int kLooks = 500;

template <typename Ready>
static void look_for(const Ready& ready) {
  for (int i = 0; i < kLooks && !ready(); ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }
}

struct ThreadPool::Shared {
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::vector<std::thread> workers;
  // Changed under the mutex alone; looked at without it.
  std::atomic<std::uint64_t> generation{0};  ///< counts jobs
  std::atomic<int> running{0};               ///< workers still inside the current job
  std::atomic<bool> stop{false};
  void (*call)(void*, std::size_t) = nullptr;
  void* fn = nullptr;
  std::size_t tiles = 0;
  std::atomic<std::size_t> next{0};

  void take_tiles() {
    for (std::size_t i = next.fetch_add(1); i < tiles; i = next.fetch_add(1)) call(fn, i);
  }

  void work(std::uint64_t seen) {
    for (;;) {
      look_for([&] { return stop || generation != seen; });
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      lock.unlock();
      take_tiles();
      lock.lock();
      if (--running == 0) done.notify_one();
    }
  }

  void join() {
    {
      const std::lock_guard lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
    workers.clear();
    stop = false;
  }
};

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()) {
  set_threads(threads);
}

ThreadPool::~ThreadPool() {
  shared_->join();
}

void ThreadPool::set_threads(int threads) {
  COVEY_ASSERT(threads >= 1);
  if (threads < 1) threads = 1;
  if (threads == threads_) return;
  shared_->join();
  threads_ = threads;
  for (int i = 1; i < threads; ++i) {
    shared_->workers.emplace_back([s = shared_.get(), seen = shared_->generation.load()] { s->work(seen); });
  }
}

void ThreadPool::run(std::size_t tiles, void (*call)(void*, std::size_t), void* fn) {
  Shared& s = *shared_;
  {
    const std::lock_guard lock(s.mutex);
    s.call = call;
    s.fn = fn;
    s.tiles = tiles;
    s.next.store(0);
    s.running = static_cast<int>(s.workers.size());
    ++s.generation;
  }
  s.wake.notify_all();
  s.take_tiles();
  look_for([&] { return s.running == 0; });
  std::unique_lock lock(s.mutex);
  s.done.wait(lock, [&] { return s.running == 0; });
}

}  // namespace covey
