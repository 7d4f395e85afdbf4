// What `spate serve` can be told.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "app/chat_options.h"
#include "app/options.h"
#include "base/error.h"
#include "engine/engine_thread.h"
#include "server/server.h"

namespace spate::app {

struct ServeOptions {
  std::string model;
  std::vector<std::string> aliases;
  int context = 0;  // 0: what the model was trained on, or the KV cache holds
  int max_seqs = 64;
  int step_tokens = 0;    // 0: by device
  int64_t kv_tokens = 0;  // 0: by device
  double max_decode_stretch = kDefaultDecodeStretch;
  std::string pooling = "mean";
  std::vector<std::string> api_keys;
  std::string api_key_file;
  QueueLimits queue;
  server::ServerOptions server;
  ChatOptions chat;
  DeviceOptions device;
};

void add_serve_options(CLI::App& parser, ServeOptions& options);

// The keys of the file and of the options, or else of SPATE_API_KEY, into options.server, with what each may ask for.
// Error kIo, kUsage.
Result<void> collect_api_keys(ServeOptions& options);

// The KV pages of a CPU where --kv-tokens does not say: what a quarter of the memory holds, but no more than all
// sequences may have, and no less than one may. A context that nobody asked for and that does not fit beside the
// weights is not held to.
struct CpuPoolWish {
  int64_t page_bytes;    // of keys and values, above 0
  int64_t weight_bytes;  // of the model
  int64_t memory_bytes;  // that this process can have
  int context;           // tokens that a sequence may have, above 0
  bool context_asked;    // by --ctx
  int max_seqs;
};
int default_cpu_pages(const CpuPoolWish& wish);  // above 0

}  // namespace spate::app
