#include "load/workload.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace spate::load {

namespace {

constexpr std::array<std::string_view, 64> kWords = {
    " the",  " of",    " and",   " to",    " in",   " is",    " that", " it",   " was",   " for",   " on",
    " are",  " as",    " with",  " his",   " they", " at",    " be",   " this", " have",  " from",  " or",
    " had",  " by",    " but",   " not",   " what", " all",   " were", " we",   " when",  " your",  " can",
    " said", " there", " use",   " an",    " each", " which", " she",  " do",   " how",   " their", " if",
    " will", " up",    " other", " about", " out",  " many",  " then", " them", " these", " so",    " some",
    " her",  " would", " make",  " like",  " him",  " into",  " time", " has",  " look"};

// Streams of random numbers: of the jobs of a level, and of its prefixes.
uint64_t stream_of(int level, uint64_t i) {
  return (static_cast<uint64_t>(level) << 40) + i;
}
constexpr uint64_t kFirstPrefix = uint64_t{1} << 39;

std::optional<int> length_in(const nlohmann::json& entry, const char* name) {
  const auto length = entry.find(name);
  if (length == entry.end() || !length->is_number_unsigned() || *length < 1 || *length > kMaxLength)
    return std::nullopt;
  return length->get<int>();
}

}  // namespace

Result<Trace> Trace::parse(std::string_view text, std::string_view name) {
  Trace trace;
  double first_ms = 0;
  int line_number = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto bad = [&](std::string_view what) {
      return Error::usage(fmt::format("{}, line {}: {}", name, line_number, what));
    };
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object()) return bad("is no JSON object");
    const std::optional<int> prompt = length_in(entry, "input_length"), output = length_in(entry, "output_length");
    if (!prompt || !output)
      return bad(fmt::format("has no input_length and output_length from 1 to {} tokens", kMaxLength));
    const auto time = entry.find("timestamp");
    const bool has_time = time != entry.end();
    if (has_time && !time->is_number()) return bad("its timestamp is no number of milliseconds");
    if (trace.entries.empty()) {
      trace.has_times = has_time;
      if (has_time) first_ms = time->get<double>();
    } else if (has_time != trace.has_times) {
      return bad("some lines have a timestamp and some have none");
    }
    const double at_s = has_time ? (time->get<double>() - first_ms) * 1e-3 : 0;
    if (!trace.entries.empty() && at_s < trace.entries.back().at_s) return bad("is earlier than the line before it");
    trace.entries.push_back({.at_s = at_s, .prompt_tokens = *prompt, .output_tokens = *output});
  }
  if (trace.entries.empty()) return Error::usage(fmt::format("{}: holds no request", name));
  return trace;
}

void Workload::append_units(Job& job, Random& random, int n) const {
  for (int i = 0; i < n; ++i) switch (options_.unit) {
      case PromptUnit::kLetter:
        job.text += static_cast<char>('a' + random.below(26));
        break;
      case PromptUnit::kWord:
        job.text += kWords[random.below(kWords.size())];
        break;
      case PromptUnit::kId:
        job.ids.push_back(static_cast<int>(random.below(static_cast<uint64_t>(options_.n_ids))));
        break;
    }
}

Job Workload::job(int level, int64_t i) const {
  Random random(options_.seed, stream_of(level, static_cast<uint64_t>(i)));
  Job job;
  int n_prompt = 0;
  if (options_.trace.empty()) {
    n_prompt = options_.prompt.draw(random);
    job.output_tokens = options_.output.draw(random);
  } else {
    const TraceEntry& entry = options_.trace[static_cast<size_t>(i) % options_.trace.size()];
    n_prompt = entry.prompt_tokens;
    job.output_tokens = entry.output_tokens;
  }
  const int n_shared = std::min(options_.shared_prefix, n_prompt);
  if (n_shared > 0) {
    const uint64_t which = random.below(static_cast<uint64_t>(options_.n_prefixes));
    Random of_prefix(options_.seed, stream_of(level, kFirstPrefix + which));
    append_units(job, of_prefix, n_shared);
  }
  append_units(job, random, n_prompt - n_shared);
  return job;
}

}  // namespace spate::load
