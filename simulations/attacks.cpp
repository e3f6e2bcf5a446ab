#include "simulations/attacks.h"

#include "simulations/attacks_internal.h"

namespace covey::simulations {
namespace {

using aggregation::SecAggChecks;
using wire::SecureReason;

constexpr const char* kRecovered = "the victim's vector is recovered";
constexpr const char* kWrongSum = "the sum is wrong";

}  // namespace

const std::vector<SecAggAttack>& secagg_attacks() {
  static const std::vector<SecAggAttack> all = {
      {"1", "swapped mask key", SecureReason::bad_signature, kRecovered,
       [](SecAggChecks& c) { c.list_signatures = false; }, swapped_mask_key},
      {"2", "swapped share key", SecureReason::bad_signature, kRecovered,
       [](SecAggChecks& c) { c.list_signatures = false; }, swapped_share_key},
      {"3", "replayed advertise of an old round", SecureReason::bad_signature, kRecovered,
       [](SecAggChecks& c) { c.list_signatures = false; }, replayed_advertise},
      {"4", "the same round offered twice", SecureReason::round_seen, kRecovered,
       [](SecAggChecks& c) { c.round_fresh = false; }, round_offered_twice},
      {"7", "unknown device in the list", SecureReason::unknown_device, kRecovered,
       [](SecAggChecks& c) { c.known_devices = false; }, unknown_device},
      {"8", "itself missing", SecureReason::self_missing, kWrongSum, [](SecAggChecks& c) { c.self_present = false; },
       self_missing},
      {"9", "itself, or another device, twice", SecureReason::listed_twice, kRecovered,
       [](SecAggChecks& c) { c.distinct = false; }, device_twice},
      {"10", "n below n_min", SecureReason::too_few_devices, kRecovered, [](SecAggChecks& c) { c.devices_min = false; },
       below_n_min},
      {"11", "k or t lowered", SecureReason::parameters_differ, kRecovered,
       [](SecAggChecks& c) { c.parameters = false; }, lowered_threshold},
      {"12", "different models to different devices", SecureReason::plan_differs, kWrongSum,
       [](SecAggChecks& c) { c.plan_equal = false; }, different_models},
      {"13", "different plans", SecureReason::plan_differs, kWrongSum, [](SecAggChecks& c) { c.plan_equal = false; },
       different_plans},
      {"14", "two survivor sets to two halves", SecureReason::too_few_signatures, kRecovered,
       [](SecAggChecks& c) { c.signatures_enough = false; }, two_survivor_sets},
      {"15", "a live device declared dead", SecureReason::declared_dead, kWrongSum,
       [](SecAggChecks& c) { c.self_alive = false; }, declared_dead},
      {"16", "both secrets of one device", SecureReason::survivors_differ, kRecovered,
       [](SecAggChecks& c) { c.one_request = false; }, both_secrets},
      {"17", "too few signatures", SecureReason::too_few_signatures, kRecovered,
       [](SecAggChecks& c) { c.signatures_enough = false; }, too_few_signatures},
      {"18", "signatures of non-neighbours", SecureReason::too_few_signatures, kRecovered,
       [](SecAggChecks& c) { c.signers_neighbours = false; }, foreign_signatures},
      {"19", "unmask asked twice with different sets", SecureReason::request_differs, kRecovered,
       [](SecAggChecks& c) { c.one_request = false; }, unmask_twice},
      {"20", "rerun after abort without one device", SecureReason::already_masked, kRecovered,
       [](SecAggChecks& c) { c.masked_once = false; }, rerun_without_one},
      {"22", "stuffed cohort: listed devices that sortition did not draw", SecureReason::not_drawn, kRecovered,
       [](SecAggChecks& c) { c.drawn = false; }, stuffed_cohort},
      {"22", "stuffed cohort: everyone is drawn, few are listed", SecureReason::not_drawn, kRecovered,
       [](SecAggChecks& c) { c.drawn = false; }, drawn_left_out},
      {"23", "share box re-targeted", SecureReason::too_few_shares, kRecovered,
       [](SecAggChecks& c) { c.direction_bound = false; }, retargeted_box},
      {"24", "share box replayed from another session", SecureReason::too_few_shares, kRecovered,
       [](SecAggChecks& c) { c.session_bound = false; }, replayed_box},
      // Where a device lies, the bounds on the sum would catch most of what the check lets through: they go too.
      {"25", "bad share to break reconstruction", SecureReason::bad_share, kWrongSum,
       [](SecAggChecks& c) { c.rebuilt_secrets = c.sum_bounds = false; }, bad_share},
      {"26", "mask of wrong length", SecureReason::wrong_shape, kWrongSum,
       [](SecAggChecks& c) { c.shape = c.sum_bounds = false; }, wrong_length},
      {"26", "mask of wrong modulus", SecureReason::wrong_shape, kWrongSum,
       [](SecAggChecks& c) { c.shape = c.sum_bounds = false; }, wrong_modulus},
      {"27", "update for another round", SecureReason::wrong_round, kWrongSum,
       [](SecAggChecks& c) { c.sender_session = c.sum_bounds = false; }, other_round},
      {"28", "submit twice with different content", SecureReason::conflicting, kWrongSum,
       [](SecAggChecks& c) { c.submit_once = c.sum_bounds = false; }, submitted_twice},
      {"29", "revoked device", SecureReason::unknown_device, kRecovered,
       [](SecAggChecks& c) { c.known_devices = false; }, revoked_device},
      {"32", "weight above w_max", SecureReason::wrong_shape, kWrongSum, [](SecAggChecks& c) { c.sum_bounds = false; },
       weight_too_high},
  };
  return all;
}

AttackVerdict judge(const SecAggAttack& attack) {
  const AttackOutcome with = attack.play(SecAggChecks{});
  SecAggChecks without;
  attack.without(without);
  const AttackOutcome control = attack.play(without);
  const bool refused = with.refused == attack.expected && with.silent && !with.succeeded && with.detail.empty();
  AttackVerdict out;
  out.passed = refused && control.succeeded;
  out.line = std::string(attack.number) + " " + attack.name + ": ";
  if (refused) {
    out.line += std::string("refused (") + wire::to_string(with.refused) + ")";
  } else {
    out.line += std::string("NOT refused as it must be: ") + wire::to_string(with.refused) +
                (with.silent ? "" : ", and it went on") + (with.succeeded ? ", and it succeeded" : "") +
                (with.detail.empty() ? "" : ", " + with.detail);
  }
  out.line += control.succeeded ? std::string("; without the check ") + attack.goal
                                : std::string("; WITHOUT the check it fails too: ") + wire::to_string(control.refused) +
                                      (control.detail.empty() ? "" : ", " + control.detail);
  return out;
}

int run_attacks(const std::vector<std::function<AttackVerdict()>>& plays,
                const std::function<void(const std::string&)>& print) {
  int passed = 0;
  int failed = 0;
  for (const auto& play : plays) {
    const AttackVerdict verdict = play();
    ++(verdict.passed ? passed : failed);
    print((verdict.passed ? "passed " : "FAILED ") + verdict.line);
  }
  print(std::to_string(passed) + " passed, " + std::to_string(failed) + " failed");
  return failed;
}

}  // namespace covey::simulations
