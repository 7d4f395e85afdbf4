// What a device does at most, measured, so that a speed can be stated as a share of it. Each backend supplies the
// measurement of its device (backend/cpu/cpu_peaks.h).
#pragma once

#include <string>
#include <vector>

namespace spate {

struct MultiplyAddRate {
  std::string name;  // of the instructions and their operands: "avx2 int8"
  double per_s = 0;  // multiply-adds a second, on all that the executor computes with
};

struct DevicePeaks {
  double read_bytes_per_s = 0;  // from memory that no cache holds
  // At the precision and with the instructions in which the executor multiplies weights of integer qblocks, and those
  // of F32, F16 and BF16.
  double quantised_multiply_adds_per_s = 0;
  double float_multiply_adds_per_s = 0;
  std::vector<MultiplyAddRate> rates = {};  // all that were measured, for the record
};

}  // namespace spate
