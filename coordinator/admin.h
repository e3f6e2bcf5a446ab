/// The operator's commands as JSON in, JSON out. They run in the `serve` process while there is one (its database has
/// one owner), reached through DIR/admin.sock; else directly on the opened deployment.
#pragma once

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "coordinator/deployment.h"
#include "coordinator/service.h"
#include "core/formats/json.h"

namespace covey::coordinator {

struct AdminContext {
  Deployment& deployment;
  Service* service = nullptr;  ///< where `serve` runs
  std::string endpoint;        ///< as bound
  std::optional<RotationRow> rotation = {};
};

/// A command that may take long, ready to run on any thread beside the serve loop.
using AdminWork = std::function<Result<formats::Json>()>;

/// `request`: {"command": "status" | "devices" | "rounds" | "invite" | "pause" | "resume" | "revoke" | "roster_next" |
/// "roster_append" | "export" | "backup" | "verify", ...}. @errors what the command reports.
Result<formats::Json> run_admin(AdminContext& context, const formats::Json& request);

/// `export`, `backup` and `verify` as work for another thread: what must be read at this moment is read here; the store
/// is shared with the serve loop in short turns. `verify` checks a copy, data_dir/verify.db, which it removes again.
/// Nothing for other commands, which run_admin() answers at once. `context` outlives the work.
std::optional<AdminWork> slow_admin(AdminContext& context, const formats::Json& request);

/// An answer, or one that is being worked on.
using AdminAnswer = std::variant<Result<formats::Json>, std::future<Result<formats::Json>>>;

/// The server's end of admin.sock (mode 0600): one JSON request line, one JSON reply line per connection. Driven by the
/// serve loop; never waits: an answer that is worked on is sent by the poll() that finds it ready.
class AdminSocket {
 public:
  /// Takes over the socket file of a process that is gone. @errors io_error, invalid_argument (path too long).
  static Result<std::unique_ptr<AdminSocket>> listen(const std::string& path);
  ~AdminSocket();
  AdminSocket(const AdminSocket&) = delete;
  AdminSocket& operator=(const AdminSocket&) = delete;
  void poll(const std::function<AdminAnswer(const formats::Json&)>& answer);

 private:
  AdminSocket(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  struct Client {
    std::string text;                                           ///< what it has sent so far
    std::optional<std::future<Result<formats::Json>>> working;  ///< on its answer
  };
  bool serve(int fd, Client& client, const std::function<AdminAnswer(const formats::Json&)>& answer);
  int fd_ = -1;
  std::string path_;
  std::map<int, Client> clients_;  ///< by descriptor
};

/// Asks the serving process. @errors unavailable: nobody serves here; else the command's own error.
Result<formats::Json> ask_admin(const std::string& path, const formats::Json& request);

}  // namespace covey::coordinator
