/// A page for the operator on 127.0.0.1: `/` (self-contained HTML), `/api/status` (JSON), `/metrics` (Prometheus text).
/// The HTTP server has its own thread and serves a snapshot that the serve loop refreshes; it never touches the
/// service.
#pragma once

#include <memory>

#include "coordinator/admin.h"

namespace covey::coordinator {

class Dashboard {
 public:
  /// @errors unavailable: the port is taken.
  static Result<std::unique_ptr<Dashboard>> start(int port);
  ~Dashboard();
  void refresh(AdminContext& context);

 private:
  struct Impl;
  explicit Dashboard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::coordinator
