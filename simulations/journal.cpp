#include "simulations/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "coordinator/settings.h"
#include "core/base/file.h"
#include "core/crypto/hash.h"
#include "simulations/file_bytes.h"

namespace covey::simulations {
namespace {

constexpr std::string_view kMagic = "COVEYJN1";
constexpr std::size_t kFileHead = 8 + 32;
constexpr std::size_t kRecordHead = 4 + 4 + 8 + 8;
constexpr std::size_t kSum = 8;
constexpr std::uint64_t kTraining = 1;
constexpr std::uint64_t kEvaluation = 2;

template <typename T>
void put_value(Bytes& out, const T& value) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

/// Takes values one after the other; a payload that is too short gives zeros and is found by done().
class Taker {
 public:
  explicit Taker(ByteSpan bytes) : bytes_(bytes) {}
  template <typename T>
  void value(T& out) {
    copy(&out, sizeof out);
  }
  void copy(void* out, std::size_t bytes) {
    if (bytes > bytes_.size()) {
      short_ = true;
      return;
    }
    if (bytes > 0) std::memcpy(out, bytes_.data(), bytes);
    bytes_ = bytes_.subspan(bytes);
  }
  [[nodiscard]] std::size_t left() const { return bytes_.size(); }
  [[nodiscard]] bool done() const { return !short_ && bytes_.empty(); }

 private:
  ByteSpan bytes_;
  bool short_ = false;
};

}  // namespace

Bytes outcome_bytes(const client::TrainingOutcome& outcome) {
  Bytes out;
  const auto& report = outcome.report;
  put_value(out, outcome.weight);
  put_value(out, report.steps);
  put_value(out, report.tokens);
  put_value(out, report.train_ms);
  put_value(out, report.tokens_per_s);
  put_value(out, report.bytes_per_s);
  put_value(out, report.loss_first);
  put_value(out, report.loss_last);
  append(out, {reinterpret_cast<const std::uint8_t*>(outcome.delta.data()), outcome.delta.size() * sizeof(float)});
  return out;
}

std::optional<client::TrainingOutcome> outcome_from(ByteSpan bytes) {
  client::TrainingOutcome out;
  Taker taker(bytes);
  taker.value(out.weight);
  taker.value(out.report.steps);
  taker.value(out.report.tokens);
  taker.value(out.report.train_ms);
  taker.value(out.report.tokens_per_s);
  taker.value(out.report.bytes_per_s);
  taker.value(out.report.loss_first);
  taker.value(out.report.loss_last);
  out.delta.resize(taker.left() / sizeof(float));
  taker.copy(out.delta.data(), out.delta.size() * sizeof(float));
  return taker.done() ? std::optional(std::move(out)) : std::nullopt;
}

namespace {

std::array<std::uint8_t, kSum> checksum(ByteSpan record) {
  const auto whole = crypto::hash(record);
  std::array<std::uint8_t, kSum> out{};
  std::copy_n(whole.bytes.begin(), kSum, out.begin());
  return out;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(const std::string& path, const crypto::Hash256& run) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return os_error(path, "cannot open");
  std::unique_ptr<Journal> out(new Journal(path, file));
  COVEY_TRY(out->scan(run));
  return out;
}

Journal::~Journal() {
  ::close(file_);
}

Status Journal::scan(const crypto::Hash256& run) {
  struct stat info {};
  if (::fstat(file_, &info) != 0) return os_error(path_, "cannot read");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  Bytes head(kFileHead);
  Bytes wanted;
  append(wanted, as_byte_span(kMagic));
  append(wanted, run.span());
  if (size < kFileHead) {  // new, or killed before the first record
    if (::ftruncate(file_, 0) != 0) return os_error(path_, "cannot write");
    COVEY_TRY(write_at(file_, 0, wanted, path_));
    end_ = kFileHead;
    return {};
  }
  if (!read_at(file_, 0, head)) return os_error(path_, "cannot read");
  if (head != wanted) {
    return Error{ErrorCode::invalid_argument,
                 path_ +
                     ": belongs to another experiment, seed, model, data or version; resume with what began it, or "
                     "choose another --out"};
  }
  end_ = kFileHead;
  Bytes record;
  while (size - end_ >= kRecordHead + kSum) {
    record.resize(kRecordHead);
    if (!read_at(file_, end_, record)) break;
    std::uint32_t bytes = 0;
    std::uint32_t kind = 0;
    Key key{};
    Taker taker(record);
    taker.value(bytes);
    taker.value(kind);
    taker.value(key[1]);
    taker.value(key[2]);
    key[0] = kind;
    if (bytes > size - end_ - kRecordHead - kSum) break;
    record.resize(kRecordHead + bytes + kSum);
    if (!read_at(file_, end_, record)) break;
    const ByteSpan all(record);
    const auto sum = checksum(all.first(kRecordHead + bytes));
    if (!std::equal(sum.begin(), sum.end(), all.last(kSum).begin())) break;
    places_[key] = {end_ + kRecordHead, bytes};
    end_ += record.size();
  }
  resumed_ = places_.size();
  return ::ftruncate(file_, static_cast<off_t>(end_)) == 0 ? Status() : os_error(path_, "cannot write");
}

std::optional<Bytes> Journal::find(const Key& key) const {
  Place place;
  {
    const std::lock_guard lock(mutex_);
    const auto found = places_.find(key);
    if (found == places_.end()) return std::nullopt;
    place = found->second;
  }
  Bytes out(place.bytes);
  return read_at(file_, place.at, out) ? std::optional(std::move(out)) : std::nullopt;
}

Status Journal::keep(const Key& key, ByteSpan payload) {
  Bytes record;
  record.reserve(kRecordHead + payload.size() + kSum);
  put_value(record, static_cast<std::uint32_t>(payload.size()));
  put_value(record, static_cast<std::uint32_t>(key[0]));
  put_value(record, key[1]);
  put_value(record, key[2]);
  append(record, payload);
  append(record, checksum(record));
  const std::lock_guard lock(mutex_);
  if (places_.contains(key)) return {};  // a device that died and trained again while its first job still ran
  COVEY_TRY(write_at(file_, end_, record, path_));
  places_[key] = {end_ + kRecordHead, static_cast<std::uint32_t>(payload.size())};
  end_ += record.size();
  return {};
}

Result<client::TrainingOutcome> Journal::training(RoundId round, std::uint64_t device,
                                                  const std::function<Result<client::TrainingOutcome>()>& train) {
  const Key key{kTraining, round.value, device};
  if (const auto kept = find(key)) {
    if (auto outcome = outcome_from(*kept)) return *std::move(outcome);
  }
  COVEY_ASSIGN(auto outcome, train());
  COVEY_TRY(keep(key, outcome_bytes(outcome)));
  return outcome;
}

Result<train::Evaluation> Journal::evaluation(ModelVersion version,
                                              const std::function<Result<train::Evaluation>()>& measure) {
  static_assert(std::is_trivially_copyable_v<train::Evaluation>);
  const Key key{kEvaluation, version.value, 0};
  if (const auto kept = find(key); kept && kept->size() == sizeof(train::Evaluation)) {
    train::Evaluation out;
    std::memcpy(&out, kept->data(), sizeof out);
    return out;
  }
  COVEY_ASSIGN(const auto out, measure());
  Bytes payload;
  put_value(payload, out);
  COVEY_TRY(keep(key, payload));
  return out;
}

Result<crypto::Hash256> run_identity(const Experiment& experiment) {
  crypto::Hasher hasher("covey.run.v1");
  const auto text = [&](std::string_view part) { hasher.update_u64(part.size()).update(part); };
  text(COVEY_VERSION);
  text(experiment.resolved);
  hasher.update_u64(experiment.task.seed);
  COVEY_ASSIGN(const auto files, coordinator::model_files(experiment.model, experiment.tokenizer));
  std::vector<std::string> paths;
  for (const auto& file : files) paths.push_back(file.path);
  if (!experiment.data.file.empty()) paths.push_back(experiment.data.file);
  paths.insert(paths.end(), experiment.fleet_files.begin(), experiment.fleet_files.end());
  for (const auto& path : paths) {
    COVEY_ASSIGN(const auto content, MappedFile::open(path));
    hasher.update_u64(content.bytes().size()).update(content.bytes());
  }
  return hasher.finish();
}

}  // namespace covey::simulations
