/// What exists while a Device runs. Private to device*.cpp.
#pragma once

#include "client/agent.h"
#include "client/control_socket.h"
#include "client/device.h"
#include "client/plan_files.h"
#include "client/trainer.h"
#include "core/net/zmq_client.h"

namespace covey::client {

inline constexpr const char* kDeviceTable = "device";

/// All borrowed from run()'s frame.
struct Device::Running {
  Agent& agent;
  net::ZmqClient& transport;
  WorkerTrainer& trainer;
  const Clock& clock;
  ControlServer* control = nullptr;
  Eligibility eligibility;
  std::int64_t eligibility_due_ms = 0;
};

}  // namespace covey::client
