/// The sections of report.html, each with its heading; report.cpp puts them together.
#pragma once

#include <span>
#include <string>

#include "core/formats/json.h"

namespace covey::simulations::report {

/// The metric against rounds, virtual time, bytes, energy and epsilon.
std::string curves(const formats::Json& summary, std::span<const formats::Json> rounds);
std::string time_to_target(const formats::Json& summary, std::span<const formats::Json> rounds);
std::string participation(const formats::Json& summary, std::span<const formats::Json> rounds);
std::string fairness(const formats::Json& summary);
std::string memory(const formats::Json& summary);
std::string energy(const formats::Json& summary);
/// Every charted figure as text.
std::string rounds_table(std::span<const formats::Json> rounds);
/// What it took of the machine that ran it.
std::string own_cost(const formats::Json& summary);
std::string repeat(const formats::Json& summary);

}  // namespace covey::simulations::report
