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
/// its acknowledged receipts, each device once, and of its cohort; the roster's hash chain (signed by `roster_public`,
/// where it is given). The outer error: the store cannot be read at all.
Result<std::vector<Check>> verify_store(store::Store& store, const wire::Key* roster_public);

}  // namespace covey::coordinator
