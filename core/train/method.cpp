#include "core/train/method.h"

#include <algorithm>
#include <cstddef>

namespace covey::train {

#define COVEY_ENTRY(name) extern const PlanMethod method_##name;
#include "methods.inc"
#undef COVEY_ENTRY

namespace {

template <typename Enum>
std::optional<Enum> position_of(const std::vector<std::string>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

constexpr const PlanMethod* kPlanMethods[] = {
#define COVEY_ENTRY(name) &method_##name,
#include "methods.inc"
#undef COVEY_ENTRY
};

}  // namespace

std::optional<PlanMethod> plan_method_named(std::string_view name) {
  for (const PlanMethod* method : kPlanMethods) {
    if (name == method->name) return *method;
  }
  return std::nullopt;
}

PlanMethod plan_method_of(Method method, Derivative derivative, std::string_view name) {
  if (const auto named = plan_method_named(name)) return *named;
  for (const PlanMethod* each : kPlanMethods) {
    const bool alike = method != Method::forward_gradient || each->derivative == derivative;
    if (each->method == method && alike) return *each;
  }
  return {};
}

const std::vector<std::string>& plan_method_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const PlanMethod* method : kPlanMethods) out.emplace_back(method->name);
    return out;
  }();
  return names;
}

const std::vector<std::string>& method_names() {
  static const std::vector<std::string> names{"backprop", "forward-gradient", "zeroth-order"};
  return names;
}

const std::vector<std::string>& derivative_names() {
  static const std::vector<std::string> names{"exact", "central"};
  return names;
}

const char* to_string(Method method) {
  return method_names()[static_cast<std::size_t>(method)].c_str();
}
const char* to_string(Derivative derivative) {
  return derivative_names()[static_cast<std::size_t>(derivative)].c_str();
}
std::optional<Method> method_named(std::string_view name) {
  return position_of<Method>(method_names(), name);
}
std::optional<Derivative> derivative_named(std::string_view name) {
  return position_of<Derivative>(derivative_names(), name);
}

}  // namespace covey::train
