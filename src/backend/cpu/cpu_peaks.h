// The peaks of the processor that the CPU backend runs on.
#pragma once

#include "backend/device_peaks.h"
#include "base/cpu_features.h"

namespace spate {

// Measured by n_threads threads at once, which takes about a second and half a gigabyte for as long: the best of some
// passes over a large buffer with the widest loads of `isa`, and the best rate of its multiply-adds; `rates` has those
// of every instruction set that the processor has.
DevicePeaks measure_cpu_peaks(int n_threads, Isa isa);

}  // namespace spate
