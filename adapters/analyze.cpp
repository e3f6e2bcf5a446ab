#include "adapters/analyze.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "core/data/batcher.h"
#include "core/train/flat_view.h"
#include "core/train/gradient.h"
#include "core/train/local_trainer.h"

namespace covey::adapters {
namespace {

double square_norm(std::span<const float> values) {
  double sum = 0;
  for (const float x : values) sum += static_cast<double>(x) * static_cast<double>(x);
  return sum;
}

int layer_of(const model::Model& model, const Contribution& c) {
  return model.linear_sites()[static_cast<std::size_t>(c.site)].layer;
}

}  // namespace

Result<std::vector<Contribution>> contributions(const model::Model& model, const Adapter& adapter,
                                                std::span<const train::TokenRow> rows, const train::TrainConfig& config,
                                                int batches, ThreadPool& pool) {
  const std::vector<train::TokenRow> usable = train::usable_rows(rows, config.seq, config.target_seq);
  if (usable.empty()) return Error{ErrorCode::invalid_argument, "analyze: no row of the data has a token to predict"};
  COVEY_TRY(train::check_kind(usable, model.config()));
  const train::RowSizes longest = train::longest(usable);
  COVEY_ASSIGN(auto batcher,
               data::Batcher::create(usable, {.batch = config.batch, .seed = config.seed, .masking = config.masking}));
  COVEY_ASSIGN(auto parameters, train::Parameters::of_adapter(model, adapter.spec(),
                                                              {adapter.values().begin(), adapter.values().end()}));
  const int at_once = config.micro_batch > 0 ? config.micro_batch : config.batch;
  COVEY_ASSIGN(const auto source,
               train::GradientSource::create(
                   parameters, {.checkpoint_activations = config.gradient.checkpoint_activations},
                   {.rows = static_cast<int>(std::min(usable.size(), static_cast<std::size_t>(at_once))),
                    .seq = longest.seq,
                    .target_seq = longest.target_seq},
                   pool));
  std::vector<Contribution> out;
  for (const auto& lora : adapter.spec().lora) out.push_back({.site = lora.site});
  const auto whole =
      (usable.size() + static_cast<std::size_t>(config.batch) - 1) / static_cast<std::size_t>(config.batch);
  const int count = std::min(batches, static_cast<int>(whole));
  for (int i = 0; i < count; ++i) {
    COVEY_ASSIGN(const auto estimate, source->estimate(train::token_batch(batcher.next()), 0));
    const auto view =
        train::flat_grad_view(adapter.spec(), model.linear_sites(), model.config().embedding_width(), estimate.dense);
    for (std::size_t j = 0; j < out.size(); ++j) {
      out[j].a += square_norm(view.lora[j].a) / count;
      out[j].b += square_norm(view.lora[j].b) / count;
    }
  }
  return out;
}

std::uint64_t bytes_to_train(const model::Model& model, const model::AdapterSpec& spec,
                             const train::TrainConfig& config, int longest) {
  const int target = config.target_seq > 0 ? config.target_seq : config.seq;
  return train::memory_plan(model, spec, config, longest, model.config().two_stacks() ? target : 0).total();
}

model::AdapterSpec only(const model::AdapterSpec& spec, std::span<const int> sites) {
  model::AdapterSpec out = spec;
  out.lora.clear();
  for (const int site : sites) out.lora.push_back(spec.lora[static_cast<std::size_t>(site)]);
  return out;
}

Result<TrainedSubset> best_subset(const model::Model& model, const model::AdapterSpec& spec,
                                  std::span<const Contribution> contributions, const train::TrainConfig& config,
                                  int longest, std::uint64_t bytes_max) {
  const auto bytes_of = [&](std::vector<int> sites) {
    std::sort(sites.begin(), sites.end());
    return bytes_to_train(model, only(spec, sites), config, longest);
  };
  std::vector<int> by_worth(contributions.size());
  std::iota(by_worth.begin(), by_worth.end(), 0);
  std::stable_sort(by_worth.begin(), by_worth.end(), [&](int x, int y) {
    return contributions[static_cast<std::size_t>(x)].total() > contributions[static_cast<std::size_t>(y)].total();
  });
  std::set<int> lowest;
  for (const auto& c : contributions) lowest.insert(layer_of(model, c));
  std::optional<TrainedSubset> best;
  std::uint64_t least = UINT64_MAX;
  for (const int layer : lowest) {
    std::vector<int> allowed;
    std::copy_if(by_worth.begin(), by_worth.end(), std::back_inserter(allowed),
                 [&](int i) { return layer_of(model, contributions[static_cast<std::size_t>(i)]) >= layer; });
    std::vector<int> sites;
    if (bytes_max == 0 || bytes_of(allowed) <= bytes_max) {
      sites = allowed;
    } else {
      for (const int i : allowed) {
        std::vector<int> more = sites;
        more.push_back(i);
        const std::uint64_t bytes = bytes_of(more);
        if (bytes <= bytes_max) sites = std::move(more);
        least = std::min(least, bytes);
      }
    }
    TrainedSubset found;
    for (const int i : sites) found.contribution += contributions[static_cast<std::size_t>(i)].total();
    std::sort(sites.begin(), sites.end());
    found.sites = std::move(sites);
    if (!found.sites.empty() && (!best || found.contribution > best->contribution)) best = std::move(found);
    if (best && best->sites.size() == allowed.size() && best->sites.size() > 0) break;  // fewer layers contribute less
  }
  if (!best) {
    return Error{ErrorCode::resource_exhausted,
                 "memory: the least of these layers needs " + std::to_string((least >> 20) + 1) +
                     " MiB to train; allow more, or take a smaller batch, --micro-batch or --checkpoint"};
  }
  best->bytes = bytes_of(best->sites);
  return *std::move(best);
}

}  // namespace covey::adapters
