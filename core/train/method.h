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

/// What `local.method` of a plan names: a method's name is its exact derivative, "forward-gradient-central" is
/// FwdLLM's.
struct PlanMethod {
  Method method = Method::backprop;
  Derivative derivative = Derivative::exact;
};
std::optional<PlanMethod> plan_method_named(std::string_view name);
/// To add a method that plans may name, add a line to the table in method.cpp.
const std::vector<std::string>& plan_method_names();

}  // namespace covey::train
