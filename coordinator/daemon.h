/// `covey-coordinator serve`: the service on the real clock, SQLite, ZeroMQ, with evaluation in its own thread, the
/// admin socket and the dashboard.
#pragma once

#include <string>

#include "core/base/result.h"

namespace covey::coordinator {

/// Serves until SIGTERM or SIGINT, or until the task is finished where the configuration says so.
/// @errors what cannot be opened, or what ended the service.
Status serve(const std::string& config_path);

}  // namespace covey::coordinator
