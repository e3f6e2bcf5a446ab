/// For demonstrations of attacks and for tests only: switches off single checks of SecAggClient and SecAggServer, so
/// that an attack's control can show what the check prevents. Nothing in client/ or coordinator/ may include this
/// (a test reads their sources); no configuration reaches it.
#pragma once

#include "aggregation/secagg_session.h"

namespace covey::aggregation {

/// All true: the production behaviour.
struct SecAggChecks {
  bool round_fresh = true;         ///< a round is advertised in once
  bool plan_equal = true;          ///< the list is of the plan this device trained on
  bool roster_epoch = true;        ///< and of its roster epoch
  bool known_devices = true;       ///< identities are active in the roster
  bool drawn = true;               ///< sortition drew them, and enough of those it drew are listed
  bool list_signatures = true;     ///< entries are signed for this round, plan, epoch
  bool distinct = true;            ///< no identity and no key twice
  bool self_present = true;        ///< this device stands in the list, as it advertised
  bool devices_min = true;         ///< n and the survivors reach n_min
  bool parameters = true;          ///< k and t are recomputed, not taken from the list
  bool session_bound = true;       ///< boxes and masks are bound to the session
  bool direction_bound = true;     ///< and boxes to who made them for whom
  bool masked_once = true;         ///< one masked update per model version
  bool self_alive = true;          ///< not agreed: a survivor set without this device
  bool neighbours_alive = true;    ///< not agreed: fewer than t live neighbours
  bool survivors_equal = true;     ///< unmask asks about the set that was signed
  bool signatures_enough = true;   ///< t signatures
  bool signers_neighbours = true;  ///< of neighbours
  bool one_request = true;         ///< one survivor set agreed to and one unmask request answered
  bool sender_session = true;      ///< messages name this round and session
  bool shape = true;               ///< masked updates have the plan's length and modulus
  bool submit_once = true;         ///< a second, different masked update is refused
  bool rebuilt_secrets = true;     ///< a rebuilt secret is compared with what was advertised
  bool sum_bounds = true;          ///< the sum is one that honest contributions can give
};

struct SecAggSeam {
  SecAggChecks checks;
  SecAggVerify verify;  ///< empty: crypto::verify_in
};

}  // namespace covey::aggregation
