#include "aggregation/server_optimizer.h"

#include <algorithm>
#include <cmath>

#include "aggregation/serial.h"
#include "aggregation/server_rule.h"

namespace covey::aggregation {

#define COVEY_ENTRY(name) extern const ServerRule server_rule_##name;
#include "server_rules.inc"
#undef COVEY_ENTRY

namespace {

constexpr std::uint32_t kOptimizerMagic = 0x54504f43;  // "COPT"
constexpr std::uint32_t kOptimizerVersion = 1;

Status check_range(const char* field, double value, double min, double max, bool max_allowed) {
  if (value >= min && (value < max || (max_allowed && value == max))) return {};
  const auto shown = [](double number) {
    std::string text = std::to_string(number);
    while (text.ends_with('0')) text.pop_back();
    if (text.ends_with('.')) text.pop_back();
    return text;
  };
  return Error{ErrorCode::invalid_argument, std::string("server optimizer: ") + field + " is " + shown(value) +
                                                "; it must be from " + shown(min) + " to " +
                                                (max_allowed ? "" : "below ") + shown(max)};
}

const ServerRule& rule_of(ServerOptimizerKind kind) {
  return *server_rules()[static_cast<std::size_t>(kind)];
}

}  // namespace

std::span<const ServerRule* const> server_rules() {
  static constexpr const ServerRule* kRules[] = {
#define COVEY_ENTRY(name) &server_rule_##name,
#include "server_rules.inc"
#undef COVEY_ENTRY
  };
  return kRules;
}

ServerElement adaptive_step(const ServerOptimizerConfig& config, double m, double v, double d) {
  m = config.beta1 * m + (1 - config.beta1) * d;
  return {m, v, m / (std::sqrt(v) + config.tau)};
}

const std::vector<std::string>& server_optimizer_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const ServerRule* rule : server_rules()) out.emplace_back(rule->name);
    return out;
  }();
  return names;
}

const char* to_string(ServerOptimizerKind kind) {
  return rule_of(kind).name;
}

Result<ServerOptimizerKind> server_optimizer_kind(std::string_view name) {
  const auto& names = server_optimizer_names();
  const auto found = std::ranges::find(names, name);
  if (found != names.end()) return static_cast<ServerOptimizerKind>(found - names.begin());
  std::string known;
  for (const std::string& each : names) known += (known.empty() ? "" : ", ") + each;
  return Error{ErrorCode::invalid_argument,
               "server optimizer: `" + std::string(name.substr(0, 32)) + "` is none of " + known};
}

Status ServerOptimizerConfig::check() const {
  COVEY_TRY(check_range("learning_rate", learning_rate, 0, 1000, true));
  COVEY_TRY(check_range("momentum", momentum, 0, 1, false));
  COVEY_TRY(check_range("beta1", beta1, 0, 1, false));
  COVEY_TRY(check_range("beta2", beta2, 0, 1, false));
  return check_range("tau", tau, 1e-12, 1000, true);
}

ServerOptimizer::ServerOptimizer(const ServerOptimizerConfig& config, std::size_t values)
    : config_(config), values_(values) {
  const ServerRule& rule = rule_of(config.kind);
  if (rule.keeps_m) m_.assign(values, 0.0F);
  if (rule.keeps_v) v_.assign(values, static_cast<float>(config.tau * config.tau));
}

Result<ServerOptimizer> ServerOptimizer::create(const ServerOptimizerConfig& config, std::size_t values) {
  COVEY_TRY(config.check());
  if (values == 0) return Error{ErrorCode::invalid_argument, "server optimizer: the adapter has no values"};
  return ServerOptimizer(config, values);
}

Status ServerOptimizer::step(std::span<float> adapter, std::span<const float> mean) {
  if (adapter.size() != values_ || mean.size() != values_) {
    return Error{ErrorCode::invalid_argument, "server optimizer: made for " + std::to_string(values_) +
                                                  " values, got " + std::to_string(adapter.size()) + " and " +
                                                  std::to_string(mean.size())};
  }
  std::vector<float> next(values_);
  std::vector<float> m(m_.size());
  std::vector<float> v(v_.size());
  const ServerRule& rule = rule_of(config_.kind);
  for (std::size_t i = 0; i < values_; ++i) {
    const ServerElement element =
        rule.advance(config_, m_.empty() ? 0.0 : static_cast<double>(m_[i]),
                     v_.empty() ? 0.0 : static_cast<double>(v_[i]), static_cast<double>(mean[i]));
    next[i] = static_cast<float>(static_cast<double>(adapter[i]) + config_.learning_rate * element.step);
    if (!m.empty()) m[i] = static_cast<float>(element.m);
    if (!v.empty()) v[i] = static_cast<float>(element.v);
    const bool finite =
        std::isfinite(next[i]) && (m.empty() || std::isfinite(m[i])) && (v.empty() || std::isfinite(v[i]));
    if (!finite) {
      return Error{ErrorCode::invalid_argument,
                   "server optimizer: the step leaves the range of f32; lower its learning rate or clip_norm"};
    }
  }
  std::ranges::copy(next, adapter.begin());
  m_ = std::move(m);
  v_ = std::move(v);
  ++steps_;
  return {};
}

Bytes ServerOptimizer::serialize() const {
  Bytes out;
  out.reserve(32 + 4 * (m_.size() + v_.size()));
  put_u32(out, kOptimizerMagic);
  put_u32(out, kOptimizerVersion);
  put_u32(out, static_cast<std::uint32_t>(config_.kind));
  put_u32(out, 0);
  put_u64(out, values_);
  put_u64(out, steps_);
  put_f32s(out, m_);
  put_f32s(out, v_);
  return out;
}

Result<ServerOptimizer> ServerOptimizer::restore(const ServerOptimizerConfig& config, std::size_t values,
                                                 ByteSpan bytes) {
  COVEY_ASSIGN(ServerOptimizer optimizer, create(config, values));
  StateReader in(bytes);
  const bool known = in.u32() == kOptimizerMagic && in.u32() == kOptimizerVersion;
  const std::uint32_t kind = in.u32();
  const bool zero = in.u32() == 0;
  const std::uint64_t stored_values = in.u64();
  optimizer.steps_ = in.u64();
  if (!in.ok() || !known || !zero || kind >= server_optimizer_names().size()) {
    return Error{ErrorCode::corrupt_data, "stored optimizer: is not one, or of another version; restore the backup"};
  }
  if (kind != static_cast<std::uint32_t>(config.kind) || stored_values != values) {
    return Error{ErrorCode::invalid_argument, "stored optimizer: is " + server_optimizer_names()[kind] + " of " +
                                                  std::to_string(stored_values) + " values, the configuration says " +
                                                  to_string(config.kind) + " of " + std::to_string(values) +
                                                  "; change it back or start a new task"};
  }
  if (in.left() != 4 * (optimizer.m_.size() + optimizer.v_.size())) {
    return Error{ErrorCode::corrupt_data,
                 "stored optimizer: has another length than its head says; restore the backup"};
  }
  bool sound = true;
  for (float& value : optimizer.m_) sound = std::isfinite(value = in.f32()) && sound;
  for (float& value : optimizer.v_) sound = std::isfinite(value = in.f32()) && value >= 0 && sound;
  if (sound) return optimizer;
  return Error{ErrorCode::corrupt_data, "stored optimizer: holds values that no step gives; restore the backup"};
}

}  // namespace covey::aggregation
