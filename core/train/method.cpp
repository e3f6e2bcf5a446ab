#include "core/train/method.h"

#include <algorithm>
#include <cstddef>

namespace covey::train {
namespace {

template <typename Enum>
std::optional<Enum> position_of(const std::vector<std::string>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

struct PlanMethodLine {
  const char* name;
  PlanMethod is;
};
constexpr PlanMethodLine kPlanMethods[] = {
    {"backprop", {Method::backprop, Derivative::exact}},
    {"forward-gradient", {Method::forward_gradient, Derivative::exact}},
    {"forward-gradient-central", {Method::forward_gradient, Derivative::central}},
    {"zeroth-order", {Method::zeroth_order, Derivative::central}},
};

}  // namespace

std::optional<PlanMethod> plan_method_named(std::string_view name) {
  for (const auto& line : kPlanMethods) {
    if (name == line.name) return line.is;
  }
  return std::nullopt;
}

const std::vector<std::string>& plan_method_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const auto& line : kPlanMethods) out.emplace_back(line.name);
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
