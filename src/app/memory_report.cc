#include "app/memory_report.h"

#include "app/load.h"

namespace spate::app {

namespace {

int pages_of_context(const Model& model) {
  return (model.spec().context_length + kPageTokens - 1) / kPageTokens;
}

// Weights are re-laid one by one and the file's pages given back; the pool's memory is taken as it is used.
MemoryReport cpu_memory(const Model& model, const ExecutorLimits& limits) {
  const int64_t n_tokens = int64_t{limits.n_pages} * kPageTokens;
  return {.device = "CPU",
          .uses = {{"weights", model.weight_bytes_per_token()},
                   {"KV cache", model.spec().kv_elems_per_token() * n_tokens * static_cast<int64_t>(sizeof(uint16_t))}},
          .kv_tokens = n_tokens};
}

}  // namespace

Result<MemoryReport> memory_report(const Model& model, const DeviceOptions& options, const ExecutorLimits& limits) {
  ExecutorLimits given = limits;
  SPATE_TRY(const std::optional<CpuChoice> cpu, cpu_choice(options));
  if (!cpu) return gpu_memory(model, options, given);
  if (given.n_pages == 0) given.n_pages = pages_of_context(model);
  return cpu_memory(model, given);
}

Json memory_json(const MemoryReport& report) {
  Json json = {{"device", report.device}, {"kv_tokens", report.kv_tokens}, {"bytes", Json::object()}};
  if (report.available_bytes > 0) json["available_bytes"] = report.available_bytes;
  for (const MemoryUse& use : report.uses) json["bytes"][use.purpose] = use.n_bytes;
  return json;
}

std::string memory_text(const MemoryReport& report) {
  std::string text = fmt::format("\nMemory ({})\n", escape_control(report.device));
  int64_t total = 0;
  for (const MemoryUse& use : report.uses) {
    total += use.n_bytes;
    text += fmt::format("  {:<10} {:>12}{}\n", use.purpose, format_bytes(static_cast<uint64_t>(use.n_bytes)),
                        use.purpose == "KV cache"
                            ? fmt::format(" for {} tokens", format_count(static_cast<uint64_t>(report.kv_tokens)))
                            : "");
  }
  text += fmt::format("  {:<10} {:>12}", "in all", format_bytes(static_cast<uint64_t>(total)));
  if (report.available_bytes > 0)
    text += fmt::format(" of {} that are free", format_bytes(static_cast<uint64_t>(report.available_bytes)));
  return text + "\n";
}

}  // namespace spate::app
