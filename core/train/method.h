/// The ways to a gradient, by name. Needs no optimizer and no engine, so that whoever plans training can name them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace covey::train {

enum class Method {
  backprop,          ///< reverse mode: exact, keeps activations
  forward_gradient,  ///< derivatives along random directions (Baydin et al. 2022; FwdLLM, Xu et al. 2024)
  zeroth_order,      ///< differences of losses, in place (SPSA, Spall 1992; MeZO, Malladi et al. 2023)
};

/// How a forward gradient gets the derivative along a direction.
enum class Derivative {
  exact,    ///< forward mode, Engine::jvp
  central,  ///< (f(w + h v) - f(w - h v)) / 2h, as FwdLLM
};

/// "backprop", "forward-gradient", "zeroth-order": as configurations and plans spell them.
const char* to_string(Method method);
std::optional<Method> method_named(std::string_view name);
/// All of them, in the order above.
const std::vector<std::string>& method_names();

const char* to_string(Derivative derivative);
std::optional<Derivative> derivative_named(std::string_view name);
const std::vector<std::string>& derivative_names();

/// What `local.method` of a plan names: an entry of the list in CMakeLists.txt, whose file in methods/ defines it.
struct PlanMethod {
  std::string_view name = "backprop";  ///< as plans spell it; of static storage
  /// What it needs and costs: backprop keeps activations and gives a dense gradient; the others run in the memory of
  /// inference, and what they give is a sum of seeded directions.
  Method method = Method::backprop;
  Derivative derivative = Derivative::exact;  ///< of forward_gradient
};
std::optional<PlanMethod> plan_method_named(std::string_view name);
/// The one called `name`; where that is empty, the first of the list that is of this kind.
PlanMethod plan_method_of(Method method, Derivative derivative, std::string_view name = {});
const std::vector<std::string>& plan_method_names();

}  // namespace covey::train
