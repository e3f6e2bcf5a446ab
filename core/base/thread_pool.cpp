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
  bool open = false;                         ///< workers may still begin with the current job
  std::atomic<int> running{0};               ///< workers inside the current job
  std::atomic<bool> stop{false};
  void (*call)(void*, std::size_t) = nullptr;
  void* fn = nullptr;
  /// Tiles [next, end) that one thread begins with. A cache line each: its thread counts on it all the time.
  struct alignas(64) Part {
    std::atomic<std::size_t> next{0};
    std::size_t end = 0;
  };
  std::vector<Part> parts;

  /// First one's own part, then what others have left.
  void take_tiles(std::size_t own) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      Part& part = parts[(own + i) % parts.size()];
      while (part.next.load(std::memory_order_relaxed) < part.end) {
        const std::size_t tile = part.next.fetch_add(1);
        if (tile < part.end) call(fn, tile);
      }
    }
  }

  void work(std::size_t own, std::uint64_t seen) {
    for (;;) {
      look_for([&] { return stop || generation != seen; });
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      if (!open) continue;  // too late: the others have done it all
      ++running;
      lock.unlock();
      take_tiles(own);
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
  shared_->parts = std::vector<Shared::Part>(static_cast<std::size_t>(threads));
  for (std::size_t i = 1; i < shared_->parts.size(); ++i) {
    shared_->workers.emplace_back([s = shared_.get(), i, seen = shared_->generation.load()] { s->work(i, seen); });
  }
}

void ThreadPool::run(std::size_t tiles, void (*call)(void*, std::size_t), void* fn) {
  Shared& s = *shared_;
  {
    const std::lock_guard lock(s.mutex);
    s.call = call;
    s.fn = fn;
    for (std::size_t i = 0; i < s.parts.size(); ++i) {
      s.parts[i].next.store(tiles * i / s.parts.size());
      s.parts[i].end = tiles * (i + 1) / s.parts.size();
    }
    s.open = true;
    ++s.generation;
  }
  s.wake.notify_all();
  s.take_tiles(0);
  {
    const std::lock_guard lock(s.mutex);
    s.open = false;  // who has not begun by now need not be waited for
  }
  look_for([&] { return s.running == 0; });
  std::unique_lock lock(s.mutex);
  s.done.wait(lock, [&] { return s.running == 0; });
}

}  // namespace covey
