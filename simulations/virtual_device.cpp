#include "simulations/virtual_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "adapters/layout.h"
#include "client/local_round.h"
#include "client/session_rows.h"
#include "core/train/gradient.h"

namespace covey::simulations {

// ---- BlobShelf -----------------------------------------------------------------------------------------------------

BlobShelf::Content BlobShelf::keep(const wire::Hash& blob, Bytes content) {
  if (auto known = find(blob)) return known;
  std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
  auto kept = std::make_shared<const Bytes>(std::move(content));
  known_[blob] = kept;
  newest_.push_back(kept);
  if (newest_.size() > kNewest) newest_.pop_front();
  return kept;
}

BlobShelf::Content BlobShelf::find(const wire::Hash& blob) const {
  const auto found = known_.find(blob);
  return found == known_.end() ? nullptr : found->second.lock();
}

// ---- MemoryDownloads -----------------------------------------------------------------------------------------------

MemoryDownloads::MemoryDownloads(const std::set<wire::Hash>& preinstalled, BlobShelf& shelf,
                                 const std::vector<wire::Hash>& held)
    : preinstalled_(preinstalled), shelf_(shelf) {
  for (const auto& blob : held) {
    if (auto content = shelf_.find(blob)) complete_[blob] = std::move(content);
  }
}

client::Downloads::Step MemoryDownloads::begin(const wire::FileBlob& file) {
  fetcher_.reset();
  if (preinstalled_.contains(file.blob) || complete_.contains(file.blob)) {
    Step there;
    there.complete = true;
    return there;
  }
  fetched_ = 0;
  fetcher_.emplace(file.blob, file.bytes);
  return follow(fetcher_->start(std::nullopt));
}

client::Downloads::Step MemoryDownloads::on_message(const wire::Message& message) {
  if (!fetcher_) return {};
  return follow(fetcher_->feed(message));
}

void MemoryDownloads::abandon() {
  fetcher_.reset();
  incoming_ = {};
}

void MemoryDownloads::keep_only(const wire::RoundPlan& plan) {
  std::erase_if(complete_, [&](const auto& entry) { return entry.first != plan.adapter.blob; });
}

client::Downloads::Step MemoryDownloads::follow(net::FetchStep step) {
  Step out;
  if (step.failed) {
    out.failure = step.failed->message;
    abandon();
    return out;
  }
  out.send = std::move(step.requests);
  if (step.store) {
    fetched_ += step.store->bytes.size();
    std::copy(step.store->bytes.begin(), step.store->bytes.end(),
              incoming_.begin() + static_cast<std::ptrdiff_t>(step.store->chunk) * wire::kChunkBytes);
  }
  if (step.begin) {
    incoming_.assign(step.begin->bytes, 0);
    Step next = follow(fetcher_->resumed(std::vector<std::uint8_t>(step.begin->chunks.size(), 0)));
    next.send.insert(next.send.begin(), out.send.begin(), out.send.end());
    return next;
  }
  if (step.complete) {
    complete_[fetcher_->blob()] = shelf_.keep(fetcher_->blob(), std::exchange(incoming_, {}));
    fetcher_.reset();
    out.complete = true;
    out.bytes = fetched_;
  }
  return out;
}

BlobShelf::Content MemoryDownloads::content(const wire::Hash& blob) const {
  const auto found = complete_.find(blob);
  return found == complete_.end() ? nullptr : found->second;
}

std::vector<wire::Hash> MemoryDownloads::held() const {
  std::vector<wire::Hash> out;
  for (const auto& [blob, content] : complete_) out.push_back(blob);
  return out;
}

// ---- VirtualTrainer ------------------------------------------------------------------------------------------------

namespace {

Result<client::TrainingOutcome> train(const wire::RoundPlan& plan, const adapters::Workbench& bench,
                                      const Bytes& values, std::span<const train::TokenRow> rows,
                                      std::uint64_t memory_bytes, std::uint64_t number) {
  std::vector<float> floats(values.size() / sizeof(float));
  std::memcpy(floats.data(), values.data(), floats.size() * sizeof(float));
  ThreadPool pool(1);       // devices are what runs in parallel here
  const ManualClock still;  // measured speed must not reach a virtual world
  return client::train_now({plan, bench, std::move(floats), rows, memory_bytes, number}, pool, still);
}

/// Rows in memory, counted until the last one who holds them lets go: a job on another thread, it may be.
std::shared_ptr<const std::vector<train::TokenRow>> counted(std::vector<train::TokenRow> rows, WorldLoad& load) {
  load.row_buffers_max = std::max(load.row_buffers_max, ++load.row_buffers);
  return {new std::vector<train::TokenRow>(std::move(rows)), [&load](const std::vector<train::TokenRow>* held) {
            delete held;
            --load.row_buffers;
          }};
}

}  // namespace

VirtualTrainer::VirtualTrainer(SharedWorld shared, std::uint64_t number, const DeviceClass& device, RowsNow rows,
                               const MemoryDownloads& downloads, Hooks hooks)
    : shared_(shared),
      number_(number),
      device_(device),
      rows_(std::move(rows)),
      downloads_(downloads),
      hooks_(std::move(hooks)) {}

VirtualTrainer::~VirtualTrainer() {
  *alive_ = false;
  stop(false);
}

Result<client::RosterHead> follow_roster(const coordinator::Registration& registration, const wire::Key& roster) {
  client::RosterChain chain(roster, wire::Key{});
  while (chain.head().epoch < registration.roster_epoch()) {
    COVEY_ASSIGN(const auto reply, registration.roster_after(chain.head().epoch));
    for (const auto& document : reply.epochs) COVEY_TRY(chain.extend(document));
  }
  return chain.head();
}

store::Write known_roster_row(client::RosterHead head, const wire::Key& curve) {
  head.listing = client::RosterListing::active;
  head.curve = curve;
  return {client::kSessionTable, client::roster_key(), wire::encode(head)};
}

double plan_tokens(const wire::RoundPlan& plan, std::size_t device_rows, double positions) {
  const double rows = static_cast<double>(std::max<std::size_t>(device_rows, 1));
  const double batch = std::min(static_cast<double>(plan.batch), rows);
  double steps = plan.local_steps > 0 ? plan.local_steps : std::ceil(plan.local_epochs * rows / batch);
  if (plan.local_steps_max > 0) steps = std::min(steps, static_cast<double>(plan.local_steps_max));
  train::GradientConfig gradient;
  gradient.method = train::plan_method_named(plan.method).value_or(train::PlanMethod()).method;
  // What a step costs beside backprop's forward and backward pass.
  const double passes = gradient.forward_passes() / 2.0;
  return steps * batch * positions / rows * passes;
}

std::int64_t VirtualTrainer::modelled_ms(const wire::RoundPlan& plan, std::span<const train::TokenRow> rows) const {
  double positions = 0;
  for (const auto& row : rows) positions += static_cast<double>(std::min<std::size_t>(row.ids.size(), plan.seq));
  const double tokens = plan_tokens(plan, rows.size(), positions);
  return std::max<std::int64_t>(
      1, training_ms(device_, shared_.bench.model->parameter_count(), static_cast<std::uint64_t>(tokens)));
}

void VirtualTrainer::start(const wire::RoundPlan& plan) {
  stop(false);
  auto values = downloads_.content(plan.adapter.blob);
  if (!values) {
    early_ = client::TrainingFailed{plan.round, wire::RefusalReason::failed, "the adapter's values are not here"};
    return;
  }
  Running running;
  running.round = plan.round;
  running.started_ms = shared_.queue.now_ms();
  auto read = rows_();
  if (!read.ok()) {
    if (hooks_.on_failure) hooks_.on_failure(read.error());
    early_ = client::TrainingFailed{plan.round, wire::RefusalReason::failed, read.error().message};
    return;
  }
  const auto rows = counted(*std::move(read), shared_.load);
  running.ready_at_ms = running.started_ms + modelled_ms(plan, *rows);
  running.ticket = shared_.pool.submit(
      [plan, bench = shared_.bench, values, rows, memory = device_.memory_bytes, number = number_,
       journal = shared_.journal] {
        const auto now = [&] { return train(plan, bench, *values, *rows, memory, number); };
        return journal != nullptr ? journal->training(plan.round, number, now) : now();
      },
      static_cast<double>(running.ready_at_ms - running.started_ms) * device_.training_gflops);
  running_ = running;
  const std::uint64_t generation = ++generation_;
  shared_.queue.at(running.ready_at_ms, [this, generation, alive = alive_] {
    if (*alive && generation == generation_) hooks_.on_ready();
  });
  hooks_.on_start(plan, running.ready_at_ms - running.started_ms);
}

void VirtualTrainer::stop(bool /*keep_checkpoint*/) {  // a stopped virtual device begins its round again
  ++generation_;
  early_.reset();
  if (!running_) return;
  trained_ms_ += std::clamp<std::int64_t>(shared_.queue.now_ms() - running_->started_ms, 0,
                                          running_->ready_at_ms - running_->started_ms);
  shared_.pool.drop(running_->ticket);
  running_.reset();
}

std::optional<client::Event> VirtualTrainer::poll() {
  if (early_) return std::exchange(early_, std::nullopt);
  if (!running_ || shared_.queue.now_ms() < running_->ready_at_ms) return std::nullopt;
  const Running done = *std::exchange(running_, std::nullopt);
  const std::int64_t took_ms = done.ready_at_ms - done.started_ms;
  trained_ms_ += took_ms;
  auto result = shared_.pool.take(done.ticket);
  if (!result.ok()) {
    return client::TrainingFailed{done.round, client::refusal_for(result.error()), result.error().message};
  }
  client::TrainingOutcome outcome = *std::move(result);
  outcome.report.train_ms = static_cast<std::uint32_t>(took_ms);
  outcome.report.tokens_per_s = static_cast<double>(outcome.report.tokens) * 1000.0 / static_cast<double>(took_ms);
  if (hooks_.on_delta) hooks_.on_delta(done.round, outcome.delta);
  return client::TrainingDone{done.round, std::move(outcome), {}};
}

}  // namespace covey::simulations
