/* The device as a library: a background service that an app or an operating system links. C89.
 *
 *   covey_device* device = NULL;
 *   if (covey_device_create("/data/covey/device.yaml", &device) != COVEY_OK) return 1;   (an enrolled directory)
 *   covey_device_add_example(device, "turn on the light");
 *   if (covey_device_start(device) != COVEY_OK) puts(covey_device_error(device));
 *   ... covey_device_status(device, buffer, sizeof buffer) ...
 *   covey_device_stop(device);
 *   covey_device_free(device);
 *
 * Threads: all functions but create and free may be called from any thread at any time. start() makes one thread that
 * runs the device, beside the trainer's; no callback is ever made. free() must be the last call on a handle. */
#ifndef COVEY_CLIENT_COVEY_H
#define COVEY_CLIENT_COVEY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct covey_device covey_device;

typedef enum covey_result {
  COVEY_OK = 0,
  COVEY_FAILED = 1,   /* ran and failed; covey_device_error says why */
  COVEY_BAD_INPUT = 2 /* a wrong argument, configuration or example */
} covey_result;

/* Opens an enrolled device. On failure *out still becomes a handle that answers covey_device_error and wants freeing;
 * NULL only where `out` is NULL or memory is out. */
covey_result covey_device_create(const char* config_path, covey_device** out);

/* Takes part in rounds in the background. COVEY_BAD_INPUT where it runs already. */
covey_result covey_device_start(covey_device* device);

/* Ends the background work and waits for it: at most one training step. A checkpoint stays. Fine where nothing runs. */
covey_result covey_device_stop(covey_device* device);

/* One line of JSON, zero-terminated, as `covey-device status --json` prints it. COVEY_BAD_INPUT where `size` is too
 * small; nothing but the terminator is written then. */
covey_result covey_device_status(covey_device* device, char* buffer, size_t size);

/* Keeps one text (UTF-8) on the device for training, durably, until `forget`. */
covey_result covey_device_add_example(covey_device* device, const char* text);

/* The last failure on this handle as one line, "" where there was none. Valid until the next failure. */
const char* covey_device_error(const covey_device* device);

/* Stops where needed. NULL is fine. */
void covey_device_free(covey_device* device);

#ifdef __cplusplus
}
#endif

#endif
