#include "client/covey.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#include "client/device.h"

using namespace covey;
using namespace covey::client;
using formats::Json;

struct covey_device {
  std::unique_ptr<Device> device;
  std::thread thread;
  std::atomic<bool> stop{false};
  std::mutex control;        // start and stop take turns
  mutable std::mutex words;  // the error
  std::string error;
};

namespace {

covey_result failed(covey_device* handle, const Error& error) {
  const std::lock_guard lock(handle->words);
  handle->error = error.message;
  return exit_code(error) == 2 ? COVEY_BAD_INPUT : COVEY_FAILED;
}

covey_result bad(covey_device* handle, const char* what) {
  return failed(handle, {ErrorCode::invalid_argument, what});
}

/// Exceptions (out of memory) end here: callers may be C.
template <typename F>
covey_result guarded(covey_device* handle, F&& work) {
  if (handle == nullptr) return COVEY_BAD_INPUT;
  try {
    if (handle->device == nullptr) return COVEY_FAILED;  // create() failed; its error stands
    return work();
  } catch (const std::exception& e) {
    return failed(handle, {ErrorCode::internal, e.what()});
  }
}

Result<Json> ask(covey_device* handle, const Json& request) {
  COVEY_ASSIGN(Json answer, Json::parse(handle->device->ask(request.dump()), "answer"));
  COVEY_ASSIGN(const bool ok, answer.get_bool("ok"));
  if (ok) return answer;
  COVEY_ASSIGN(const std::string code, answer.get_string("code"));
  COVEY_ASSIGN(std::string message, answer.get_string("error"));
  const bool input = code == to_string(ErrorCode::invalid_argument);
  return Error{input ? ErrorCode::invalid_argument : ErrorCode::unavailable, std::move(message)};
}

}  // namespace

covey_result covey_device_create(const char* config_path, covey_device** out) {
  if (out == nullptr) return COVEY_BAD_INPUT;
  *out = new (std::nothrow) covey_device;
  if (*out == nullptr) return COVEY_FAILED;
  if (config_path == nullptr) return bad(*out, "config_path is NULL");
  try {
    auto config = load_device_config(config_path);
    if (!config.ok()) return failed(*out, config.error());
    auto device = Device::open(*std::move(config));
    if (!device.ok()) return failed(*out, device.error());
    (*out)->device = *std::move(device);
    return COVEY_OK;
  } catch (const std::exception& e) {
    return failed(*out, {ErrorCode::internal, e.what()});
  }
}

covey_result covey_device_start(covey_device* handle) {
  return guarded(handle, [&] {
    const std::lock_guard lock(handle->control);
    if (handle->thread.joinable()) return bad(handle, "it runs already; covey_device_stop() first");
    handle->stop = false;
    handle->thread = std::thread([handle] {
      const auto end = handle->device->run({0, &handle->stop});
      if (!end.ok()) failed(handle, end.error());
    });
    return COVEY_OK;
  });
}

covey_result covey_device_stop(covey_device* handle) {
  return guarded(handle, [&] {
    const std::lock_guard lock(handle->control);
    handle->stop = true;
    if (handle->thread.joinable()) handle->thread.join();
    return COVEY_OK;
  });
}

covey_result covey_device_status(covey_device* handle, char* buffer, size_t size) {
  if (handle != nullptr && (buffer == nullptr || size == 0)) return bad(handle, "no buffer");
  if (buffer != nullptr && size > 0) buffer[0] = '\0';
  return guarded(handle, [&] {
    const auto answer = ask(handle, Json::object({{"command", "status"}}));
    if (!answer.ok()) return failed(handle, answer.error());
    const std::string text = answer->dump();
    if (text.size() + 1 > size) return bad(handle, "the buffer is too small for the status; 4096 bytes suffice");
    std::memcpy(buffer, text.c_str(), text.size() + 1);
    return COVEY_OK;
  });
}

covey_result covey_device_add_example(covey_device* handle, const char* text) {
  if (handle != nullptr && text == nullptr) return bad(handle, "text is NULL");
  return guarded(handle, [&] {
    const auto answer = ask(handle, Json::object({{"command", "add"}, {"text", text}}));
    return answer.ok() ? COVEY_OK : failed(handle, answer.error());
  });
}

const char* covey_device_error(const covey_device* handle) {
  if (handle == nullptr) return "the handle is NULL";
  const std::lock_guard lock(handle->words);
  return handle->error.c_str();
}

void covey_device_free(covey_device* handle) {
  if (handle == nullptr) return;
  covey_device_stop(handle);
  delete handle;
}
