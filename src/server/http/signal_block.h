// Threads inherit the mask of signals of whoever starts them.
#pragma once

#include <csignal>

namespace spate::http {

// While one lives, the thread that made it takes no signals, and threads that it starts never will: signals that are
// sent to the process are left to the threads that want them.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &old_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t old_;
};

}  // namespace spate::http
