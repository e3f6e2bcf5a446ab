// The one file that sees MPI, where the build has found it.
#include "simulations/ranks.h"

#ifdef COVEY_MPI
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <type_traits>

namespace covey::simulations {
namespace {

/// What starters tell their processes: OpenMPI, MPICH and others that speak PMI, Slurm.
int processes_started() {
  for (const auto* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* value = std::getenv(name)) return std::max(1, std::atoi(value));
  }
  return 1;
}

#ifdef COVEY_MPI
class MpiRanks final : public Ranks {
 public:
  MpiRanks() {
    int provided = 0;
    ::MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    ::MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    ::MPI_Comm_size(MPI_COMM_WORLD, &count_);
  }
  /// Without done() nothing is finalized: the starter takes a process that ends so for a failure and ends the others,
  /// and this one still gets to print its error.
  ~MpiRanks() override {
    if (done_) ::MPI_Finalize();
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int count() const override { return count_; }
  void done() override { done_ = true; }

  [[nodiscard]] Bytes share(int from, Bytes content) override {
    std::uint64_t bytes = content.size();
    broadcast(&bytes, sizeof bytes, from);
    content.resize(bytes);
    constexpr std::uint64_t kPart = 1U << 30;  // MPI counts in int
    for (std::uint64_t at = 0; at < bytes; at += kPart)
      broadcast(content.data() + at, std::min(kPart, bytes - at), from);
    return content;
  }

 private:
  /// MPI's own waiting spins; the processor is for the training threads of this rank.
  static void broadcast(void* data, std::uint64_t bytes, int from) {
    MPI_Request request{};
    ::MPI_Ibcast(data, static_cast<int>(bytes), MPI_BYTE, from, MPI_COMM_WORLD, &request);
    int complete = 0;
    for (int tries = 0;; ++tries) {
      ::MPI_Test(&request, &complete, MPI_STATUS_IGNORE);
      if (complete != 0) return;
      std::this_thread::sleep_for(std::chrono::microseconds(std::min(20 * tries, 1000)));
    }
  }

  int rank_ = 0;
  int count_ = 1;
  bool done_ = false;
};
#endif

}  // namespace

Result<train::Evaluation> evaluate_once(Ranks& ranks, const std::function<Result<train::Evaluation>()>& measure) {
  static_assert(std::is_trivially_copyable_v<train::Evaluation>);
  Bytes content;
  if (ranks.first()) {
    const auto measured = measure();
    content.push_back(measured.ok() ? 0 : 1);
    if (measured.ok()) {
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(&*measured);
      content.insert(content.end(), bytes, bytes + sizeof(train::Evaluation));
    } else {
      content.insert(content.end(), measured.error().message.begin(), measured.error().message.end());
    }
  }
  content = ranks.share(0, std::move(content));
  if (content.size() != 1 + sizeof(train::Evaluation) || content[0] != 0) {
    return Error{ErrorCode::internal, content.empty() ? "" : std::string(content.begin() + 1, content.end())};
  }
  train::Evaluation out;
  std::memcpy(&out, content.data() + 1, sizeof out);
  return out;
}

Result<std::unique_ptr<Ranks>> join_ranks() {
  const int started = processes_started();
  if (started <= 1) return std::unique_ptr<Ranks>();
#ifdef COVEY_MPI
  return std::unique_ptr<Ranks>(std::make_unique<MpiRanks>());
#else
  return Error{ErrorCode::unsupported, "covey-sim: started as one of " + std::to_string(started) +
                                           " processes, but built without MPI; install libopenmpi-dev and build again"};
#endif
}

}  // namespace covey::simulations
