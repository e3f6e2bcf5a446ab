/// A coordinator's directory, an invite of it and a device's directory, for cases that damage them.
#pragma once

#include <string>

#include "bad_input/fixture.h"

namespace covey::bad_input {

/// Copies of directories lie beside the fixture's models and data, so that relative paths hold.
class Deployment {
 public:
  Deployment();
  /// The directory that `init` made, with a configuration that serves the fixture's model.
  [[nodiscard]] std::string coordinator() const { return fixture().file("co"); }
  /// A copy of it. @return its name below the fixture's folder.
  std::string coordinator_copy(const std::string& name) const;
  /// Keys, device.yaml and coordinator.json as `enroll` leaves them; nobody serves its endpoint.
  std::string device_copy(const std::string& name) const;
  [[nodiscard]] const std::string& invite() const { return invite_; }

 private:
  std::string invite_;
};

const Deployment& deployment();

}  // namespace covey::bad_input
