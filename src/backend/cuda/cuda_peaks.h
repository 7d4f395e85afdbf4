// What a GPU does at most, measured: the yardstick of `spate bench`.
#pragma once

#include "backend/cuda/device_profile.h"
#include "backend/device_peaks.h"

namespace spate::cuda {

// Takes a gigabyte of device memory and a fraction of a second: the best of some passes over a buffer that no cache
// holds, and of some large float16 matrix products through cuBLASLt (0 where the machine has none). Weights of every
// type are multiplied as float16. Error kBackend: the device failed or lacks the memory.
Result<DevicePeaks> measure_peaks(const DeviceProfile& profile);

}  // namespace spate::cuda
