#include "text/pattern.h"

#include <algorithm>
#include <limits>
#include <map>

#include "text/pattern_parser.h"

namespace spate {

namespace {

constexpr size_t kMaxStates = std::numeric_limits<uint16_t>::max();
constexpr uint32_t kDead = 0, kStart = 1;

struct Instruction {
  enum class Kind { kSet, kAhead, kNotAhead, kSplit, kMatch };
  Kind kind;
  int set = -1;         // kSet, kAhead, kNotAhead: index into the sets
  int next = -1;        // kSplit: the branch with priority
  int other_next = -1;  // kSplit
};

// The pattern as a program of a backtracking matcher, whose order of branches is the order of preference.
class Program {
 public:
  explicit Program(const PatternNode& root) { start_ = emit(root, add({.kind = Instruction::Kind::kMatch})); }

  const std::vector<CodepointSet>& sets() const { return sets_; }
  const Instruction& operator[](int at) const { return code_[at]; }
  int size() const { return static_cast<int>(code_.size()); }
  int start() const { return start_; }

 private:
  int add(Instruction instruction) {
    code_.push_back(instruction);
    return size() - 1;
  }

  int set_index(const CodepointSet& set) {
    const auto found = std::find(sets_.begin(), sets_.end(), set);
    if (found != sets_.end()) return static_cast<int>(found - sets_.begin());
    sets_.push_back(set);
    return static_cast<int>(sets_.size()) - 1;
  }

  // Emits node so that it goes on at `next`; returns where it begins.
  int emit(const PatternNode& node, int next) {
    using Kind = PatternNode::Kind;
    switch (node.kind) {
      case Kind::kSet:
        return add({.kind = Instruction::Kind::kSet, .set = set_index(node.set), .next = next});
      case Kind::kAhead:
        return add({.kind = Instruction::Kind::kAhead, .set = set_index(node.set), .next = next});
      case Kind::kNotAhead:
        return add({.kind = Instruction::Kind::kNotAhead, .set = set_index(node.set), .next = next});
      case Kind::kSequence:
        for (auto child = node.children.rbegin(); child != node.children.rend(); ++child) next = emit(*child, next);
        return next;
      case Kind::kChoice: {
        int begin = emit(node.children.back(), next);
        for (auto child = node.children.rbegin() + 1; child != node.children.rend(); ++child) {
          const int branch = emit(*child, next);
          begin = add({.kind = Instruction::Kind::kSplit, .next = branch, .other_next = begin});
        }
        return begin;
      }
      case Kind::kRepeat:
        return emit_repeat(node, next);
    }
    return next;
  }

  int emit_repeat(const PatternNode& node, int next) {
    const PatternNode& child = node.children[0];
    int begin = next;
    if (node.at_most == PatternNode::kUnbounded) {
      const int loop = add({.kind = Instruction::Kind::kSplit, .other_next = next});
      code_[loop].next = emit(child, loop);
      begin = loop;
    } else {
      for (int i = node.at_least; i < node.at_most; ++i) {
        const int branch = emit(child, begin);
        begin = add({.kind = Instruction::Kind::kSplit, .next = branch, .other_next = next});
      }
    }
    for (int i = 0; i < node.at_least; ++i) begin = emit(child, begin);
    return begin;
  }

  std::vector<Instruction> code_;
  std::vector<CodepointSet> sets_;
  int start_ = 0;
};

}  // namespace

// The subset construction with priorities: a state is the list of places in the program that a backtracking matcher
// could be in after the characters read so far, best first. What follows a place (splits, lookaheads) is resolved on
// the transition, when the next character is known; so a match is noticed one character late, before that character.
class PatternCompiler {
 public:
  explicit PatternCompiler(const PatternNode& root) : program_(root) {}

  Result<Pattern> compile(std::string_view expression) {
    if (!partition()) return Error::usage(fmt::format("pattern '{}': over 255 kinds of characters", expression));
    intern({});
    intern({program_.start()});
    for (size_t state = 0; state < states_.size(); ++state) {
      if (states_.size() > kMaxStates) return Error::usage(fmt::format("pattern '{}': too many states", expression));
      for (size_t c = 0; c < pattern_.n_classes_; ++c) pattern_.next_.push_back(transition(*states_[state], c));
    }
    return std::move(pattern_);
  }

 private:
  // Code points that are in the same sets share a class.
  bool partition() {
    const std::vector<CodepointSet>& sets = program_.sets();
    std::vector<char32_t> cuts = {0, kLastCodepoint + 1};
    for (const CodepointSet& set : sets)
      for (const CodepointRange& range : set.ranges()) cuts.insert(cuts.end(), {range.first, range.last + 1});
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

    pattern_.classes_.resize(kLastCodepoint + 1);
    std::map<std::vector<bool>, uint8_t> known;
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      std::vector<bool> members;
      members.reserve(sets.size());
      for (const CodepointSet& set : sets) members.push_back(set.contains(cuts[i]));
      const auto [entry, added] = known.try_emplace(std::move(members), static_cast<uint8_t>(known.size()));
      if (added) {
        if (known.size() > 255) return false;
        in_set_.push_back(entry->first);
      }
      std::fill(pattern_.classes_.begin() + cuts[i], pattern_.classes_.begin() + cuts[i + 1], entry->second);
    }
    pattern_.n_classes_ = in_set_.size() + 1;
    in_set_.emplace_back(sets.size(), false);  // the end of the piece is in no set
    return true;
  }

  uint32_t intern(std::vector<int> places) {
    const auto [entry, added] = ids_.try_emplace(std::move(places), static_cast<uint32_t>(states_.size()));
    if (added) states_.push_back(&entry->first);
    return entry->second;
  }

  uint32_t transition(const std::vector<int>& places, size_t c) {
    std::vector<bool> seen(program_.size()), kept(program_.size());
    std::vector<int> after, stack;
    bool matched = false;
    for (size_t i = 0; i < places.size() && !matched; ++i) {
      stack.assign(1, places[i]);
      while (!stack.empty() && !matched) {
        const int at = stack.back();
        stack.pop_back();
        if (seen[at]) continue;
        seen[at] = true;
        const Instruction& instruction = program_[at];
        switch (instruction.kind) {
          case Instruction::Kind::kMatch:
            matched = true;
            break;  // all that has less priority is cut off
          case Instruction::Kind::kSplit:
            stack.push_back(instruction.other_next);
            stack.push_back(instruction.next);
            break;
          case Instruction::Kind::kAhead:
            if (in_set_[c][instruction.set]) stack.push_back(instruction.next);
            break;
          case Instruction::Kind::kNotAhead:
            if (!in_set_[c][instruction.set]) stack.push_back(instruction.next);
            break;
          case Instruction::Kind::kSet:
            if (in_set_[c][instruction.set] && !kept[instruction.next]) {
              kept[instruction.next] = true;
              after.push_back(instruction.next);
            }
            break;
        }
      }
    }
    return intern(std::move(after)) * 2 + (matched ? 1 : 0);
  }

  Program program_;
  Pattern pattern_;
  std::vector<std::vector<bool>> in_set_;        // [n_classes][n_sets]
  std::map<std::vector<int>, uint32_t> ids_;     // of states
  std::vector<const std::vector<int>*> states_;  // keys of ids_, by id
};

Result<Pattern> Pattern::compile(std::string_view expression) {
  SPATE_TRY(const PatternNode root, parse_pattern(expression));
  return PatternCompiler(root).compile(expression);
}

// trail[i] is a state in which some attempt stood before character i without matching anything that ends behind i. An
// attempt that comes into the same state there can stop: that is what keeps a search linear where attempts run far
// ahead in vain, such as \s+$ on a long run of spaces with a letter behind it. Entries before `begin` may be stale (an
// attempt that passed there has matched since); they are never looked at again.
size_t Pattern::match(std::span<const char32_t> text, size_t begin, size_t end, Trail& trail) const {
  if (trail.size() <= text.size()) trail.resize(text.size() + 1, kDead);
  const size_t end_class = n_classes_ - 1;
  uint32_t state = kStart;
  size_t match_end = begin;
  for (size_t at = begin;; ++at) {
    const size_t c = at < end ? classes_[text[at]] : end_class;
    const uint32_t step = next_[state * n_classes_ + c];
    if (step & 1) match_end = at;
    state = step >> 1;
    if (state == kDead || trail[at + 1] == state) return match_end;
    trail[at + 1] = static_cast<uint16_t>(state);
  }
}

}  // namespace spate
