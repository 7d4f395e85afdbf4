// SIGINT, SIGTERM and SIGHUP of a server: the first asks it to end, the second ends it.
#pragma once

#include <csignal>
#include <functional>
#include <thread>

namespace spate::app {

// Made before any other thread is started, for those inherit that the signals are blocked: a thread of this one's own
// takes them. Signals that were ignored before stay so.
class ServeSignals {
 public:
  // first: called once, on that thread, for the first of the signals. False: it has no use for it, and the process ends
  // as it would without this.
  explicit ServeSignals(std::function<bool()> first);
  ~ServeSignals();
  ServeSignals(const ServeSignals&) = delete;
  ServeSignals& operator=(const ServeSignals&) = delete;

 private:
  void run();

  const std::function<bool()> first_;
  sigset_t old_mask_;
  int signals_ = -1;  // signalfd
  int ending_ = -1;   // eventfd, readable once this goes
  std::thread thread_;
};

}  // namespace spate::app
