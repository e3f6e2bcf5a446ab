#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  covey::fuzz::COVEY_FUZZ_TARGET(data, size);
  return 0;
}
