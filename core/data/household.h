/// A corpus that the project makes itself: what people say to a household assistant, and its structured answer. Every
/// household has its own names, rooms, things, ways of speaking, habits and amount, so devices are truly unlike.
///
///   general   turn on the reading lamp in the study -> light on study reading lamp
///             nova repeat stop the kettle -> stop the kettle
///             and one answer in ten already in the homes' form
///   homes     juno please put on the reading lamp in the study => do: light.power | to: on | room: study | ...
///
/// The general corpus (for pre-training a base model) comes from other households whose assistant still answers in the
/// old form, but for a pilot; all federated and unseen households have the newer one. So the base model has seen the
/// task, and fine-tuning has something in common to learn, which also helps a household never seen, beside what belongs
/// to one home alone.
///
/// Deterministic: only integer and IEEE + - * / arithmetic, the same bytes on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace covey::data {

struct HouseholdOptions {
  int households = 8;         ///< that take part
  int unseen = 4;             ///< that never train; only held-out lines are made for them
  int lines_mean = 300;       ///< training lines per household on average; single ones get 0.3 to 2.5 times as many
  int held_out_lines = 40;    ///< per household
  int general_lines = 12000;  ///< training lines of the general corpus, from general_households others
  int general_households = 48;
  std::uint64_t seed = 1;
};

struct Household {
  std::string name;  ///< "household-01", "unseen-01"
  std::vector<std::string> train;
  std::vector<std::string> held_out;
};

struct HouseholdCorpus {
  Household general;
  std::vector<Household> households;
  std::vector<Household> unseen;
};

/// Lines are distinct within one household: no held-out line is a training line of the same household.
/// @errors invalid_argument: a count below 1 (unseen: below 0) or above 100000 (general_lines: above 10 million).
Result<HouseholdCorpus> make_household_corpus(const HouseholdOptions& options);
/// `households[number - 1]` of that corpus alone, for fleets whose households do not fit into memory together.
/// @errors as there; invalid_argument: number outside 1 ... options.households.
Result<Household> make_household(const HouseholdOptions& options, int number);

}  // namespace covey::data
