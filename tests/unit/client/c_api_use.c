/* Compiled as C89: the header must be plain C, and the calls must hold from there. Returns 0 or the failing step. */
#include <string.h>

#include "client/covey.h"

int covey_c_api_use(const char* config_path, char* status, size_t status_size);

int covey_c_api_use(const char* config_path, char* status, size_t status_size) {
  covey_device* device = NULL;
  char small[4];
  if (covey_device_create(NULL, NULL) != COVEY_BAD_INPUT) return 1;
  if (covey_device_create("/nowhere/device.yaml", &device) == COVEY_OK) return 2;
  if (device == NULL || strlen(covey_device_error(device)) == 0) return 3;
  if (covey_device_start(device) == COVEY_OK) return 4;
  covey_device_free(device);
  if (covey_device_create(config_path, &device) != COVEY_OK) return 5;
  if (covey_device_add_example(device, "turn on the light") != COVEY_OK) return 6;
  if (covey_device_add_example(device, "") != COVEY_BAD_INPUT) return 7;
  if (covey_device_start(device) != COVEY_OK) return 8;
  if (covey_device_start(device) != COVEY_BAD_INPUT) return 9;
  if (covey_device_add_example(device, "play music") != COVEY_OK) return 10;
  if (covey_device_status(device, small, sizeof small) != COVEY_BAD_INPUT || small[0] != '\0') return 11;
  if (covey_device_status(device, status, status_size) != COVEY_OK) return 12;
  if (covey_device_stop(device) != COVEY_OK) return 13;
  if (covey_device_stop(device) != COVEY_OK) return 14;
  covey_device_free(device);
  covey_device_free(NULL);
  return 0;
}
