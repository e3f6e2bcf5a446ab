/// The one pool of worker threads. The caller sets its size; kernels cut work into fixed tiles, so results never depend
/// on that size.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <type_traits>

namespace covey {

/// parallel_for may be called from one thread at a time (calls do not nest). set_threads only between calls.
class ThreadPool {
 public:
  /// @param threads  how many run a parallel_for, the caller included; at least 1.
  explicit ThreadPool(int threads = 1);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const { return threads_; }
  void set_threads(int threads);

  /// While `*stop` is true, parallel_for passes over the tiles that are left: what they were to compute is then
  /// unknown, and the caller throws it away. nullptr: never. Set only between calls.
  void skip_when(const std::atomic<bool>* stop) { stop_ = stop; }

  /// Calls fn(tile) once for each tile in [0, tiles), in any order, on up to threads() threads; returns when all are
  /// done. Each thread begins with its own share of neighbouring tiles, the same in every call: who cuts one call after
  /// another along the same rows finds them in the cache of that core. fn must not throw. No allocation.
  template <typename F>
  void parallel_for(std::size_t tiles, F&& fn) {
    if (tiles == 0 || (stop_ != nullptr && stop_->load(std::memory_order_relaxed))) return;
    const auto unless_skipped = [&fn, stop = stop_](std::size_t tile) {
      if (stop == nullptr || !stop->load(std::memory_order_relaxed)) fn(tile);
    };
    if (threads_ == 1 || tiles == 1) {
      for (std::size_t i = 0; i < tiles; ++i) unless_skipped(i);
      return;
    }
    using Fn = std::remove_reference_t<decltype(unless_skipped)>;
    run(
        tiles, [](void* f, std::size_t tile) { (*static_cast<Fn*>(f))(tile); },
        const_cast<void*>(static_cast<const void*>(&unless_skipped)));
  }

 private:
  struct Shared;
  void run(std::size_t tiles, void (*call)(void*, std::size_t), void* fn);

  int threads_ = 1;
  const std::atomic<bool>* stop_ = nullptr;
  std::unique_ptr<Shared> shared_;
};

}  // namespace covey
