/// `grouped` mode: the devices of a round are dealt at random into groups, each group is a session of secure
/// aggregation of its own (secagg_client.h, secagg_server.h), and a robust rule looks at the groups' means. Source:
/// security.md sections 1 and 6. Pure functions of the list, equal on every device and the coordinator. Thread-safe.
///
/// Who is in which group follows from the hash of the whole advertise list: nobody chooses it, but a coordinator that
/// grinds which devices it lists can bias it, as it can the order of the ring ("semi-malicious"). Each device gets the
/// whole list, checks all of it, and finds its own group. What a session holds to (n_min, gamma, delta, k, t) holds for
/// every group.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/running_sum.h"
#include "aggregation/secagg_session.h"
#include "aggregation/strategy.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

/// Above it a plan is refused: a group needs two devices, a list holds kSecAggDevicesMax.
inline constexpr std::uint32_t kGroupsMax = kSecAggDevicesMax / 2;

/// Devices of the smallest group; of the whole list where there are no groups. k and t of the whole list are its.
std::uint32_t smallest_group(const SecAggSetup& setup, const wire::SecureList& whole);

/// Of each device of the list its group, from 0. Sizes differ by one at most.
std::vector<std::uint32_t> group_of_each(const SecAggSetup& setup, const wire::SecureList& whole);

/// The groups' lists, identities ascending as in the whole, each with its own k and t.
/// @errors invalid_argument: a group so small that no k and t are safe.
Result<std::vector<wire::SecureList>> deal_groups(const SecAggSetup& setup, const wire::SecureList& whole);

/// What a group's session is set up with. Its hash, and so its masks and signatures, are bound to the whole list.
SecAggSetup group_setup(const SecAggSetup& setup, const wire::SecureList& whole);

/// The round's aggregate, shape (P): the rule over the groups' means, each group counted once.
/// @errors invalid_argument: too few groups for the rule, or one without a contributor.
Result<std::vector<float>> aggregate_groups(const RuleConfig& config, std::span<const RunningSum> groups);

}  // namespace covey::aggregation
