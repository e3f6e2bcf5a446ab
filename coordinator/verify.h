/// Cross-checks of a coordinator's store: what must hold between its tables after any crash. Reads only.
#pragma once

#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/store/store.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

struct Check {
  std::string name;
  std::string problem;  ///< empty: it holds
};

/// The store's own integrity, then: every published round has its version and every version its round; the version
/// chain's hashes; the newest adapter is there and has its version's content; contributors of each round are exactly
/// its acknowledged receipts, each device once, and of its cohort; the running sum of a `robust` round in progress has
/// the round's layout, as many contributors and as much weight as their receipts, no word beyond what that weight can
/// give, and no sum outlives its round; under a rule that keeps single updates each is the one its receipt names. (The
/// sum's words cannot be recomputed: under the plain mean updates are not kept. A word changed within its bound is
/// found by nothing but the database's own checks.) The roster's hash chain (signed by `roster_public`, where it is
/// given). The outer error: the store cannot be read at all.
Result<std::vector<Check>> verify_store(store::Store& store, const wire::Key* roster_public);

/// The same on a copy at `path`, which is made while the store stays in use and removed in the end: the store is busy
/// in short turns only. Its first check is the copy's integrity; pages travel as they are, so damage travels too.
/// @errors what the store's backup() reports.
Result<std::vector<Check>> verify_copy(store::Store& store, const std::string& path, const wire::Key* roster_public);

}  // namespace covey::coordinator
