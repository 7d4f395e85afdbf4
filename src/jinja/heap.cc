#include "jinja/heap.h"

namespace spate::jinja {

Heap::~Heap() {
  // All are held until every one is empty: what they drop is small, and nothing is destroyed within a destruction.
  for (const std::shared_ptr<Breakable>& object : kept_) object->break_references();
  kept_.clear();
}

void Heap::keep(std::shared_ptr<Breakable> object) {
  allocate(sizeof(object));
  kept_.push_back(std::move(object));
}

void Heap::bury(std::shared_ptr<void> object) {
  if (object.use_count() > 1) return;
  buried_.push_back(std::move(object));
  if (burying_) return;
  burying_ = true;
  while (!buried_.empty()) {
    const std::shared_ptr<void> next = std::move(buried_.back());
    buried_.pop_back();
  }
  burying_ = false;
}

void Heap::fail_steps() const {
  fail_limit("the template takes more than {} steps", limits_.max_steps);
}

void Heap::fail_memory() const {
  fail_limit("the template holds more than {} bytes of values", limits_.max_memory_bytes);
}

void Heap::fail_depth() const {
  fail_limit("calls, loops or values are nested deeper than {} levels", limits_.max_depth);
}

}  // namespace spate::jinja
