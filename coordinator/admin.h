/// The operator's commands as JSON in, JSON out. They run in the `serve` process while there is one (its database has
/// one owner), reached through DIR/admin.sock; else directly on the opened deployment.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "coordinator/deployment.h"
#include "coordinator/service.h"
#include "core/formats/json.h"

namespace covey::coordinator {

struct AdminContext {
  Deployment& deployment;
  Service* service = nullptr;  ///< where `serve` runs
  std::string endpoint;        ///< as bound
};

/// `request`: {"command": "status" | "devices" | "rounds" | "invite" | "pause" | "resume" | "revoke" | "roster_next" |
/// "roster_append" | "export" | "backup" | "verify", ...}. @errors what the command reports.
Result<formats::Json> run_admin(AdminContext& context, const formats::Json& request);

/// What each privacy mode means, in words.
const char* threat_model(wire::PrivacyMode mode);

/// The server's end of admin.sock (mode 0600): one JSON request line, one JSON reply line per connection. Driven by the
/// serve loop; never waits.
class AdminSocket {
 public:
  /// Takes over the socket file of a process that is gone. @errors io_error, invalid_argument (path too long).
  static Result<std::unique_ptr<AdminSocket>> listen(const std::string& path);
  ~AdminSocket();
  AdminSocket(const AdminSocket&) = delete;
  AdminSocket& operator=(const AdminSocket&) = delete;
  void poll(const std::function<Result<formats::Json>(const formats::Json&)>& answer);

 private:
  AdminSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  int fd_ = -1;
  std::string path_;
  std::map<int, std::string> clients_;  ///< descriptor -> what it has sent so far
};

/// Asks the serving process. @errors unavailable: nobody serves here; else the command's own error.
Result<formats::Json> ask_admin(const std::string& path, const formats::Json& request);

}  // namespace covey::coordinator
