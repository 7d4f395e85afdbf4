// strftime, in the C locale, of a time without a zone.
#include <array>

#include "base/utf8.h"
#include "jinja/format.h"

namespace spate::jinja {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};

std::string_view name_of(auto& names, int i) {
  return i >= 0 && i < static_cast<int>(names.size()) ? names[static_cast<size_t>(i)] : std::string_view("?");
}

// A number of at least `width` digits; flag '-' drops the padding, '_' pads with blanks.
std::string number(int value, int width, char flag, char pad = '0') {
  if (flag == '-') return std::to_string(value);
  if (flag == '_' || (pad == ' ' && flag != '0')) return fmt::format("{:>{}}", value, width);
  return fmt::format("{:0{}}", value, width);
}

// ISO 8601: the week with the year's first Thursday is its first.
struct IsoWeek {
  int year, week;
};
int weeks_in(int year) {
  const auto last_weekday = [](int y) { return (y + y / 4 - y / 100 + y / 400) % 7; };
  return last_weekday(year) == 4 || last_weekday(year - 1) == 3 ? 53 : 52;
}
IsoWeek iso_week(const std::tm& time) {
  const int year = time.tm_year + 1900, weekday = time.tm_wday == 0 ? 7 : time.tm_wday;
  const int week = (time.tm_yday + 1 - weekday + 10) / 7;
  if (week < 1) return {year - 1, weeks_in(year - 1)};
  if (week > weeks_in(year)) return {year + 1, 1};
  return {year, week};
}

std::string directive(char kind, char flag, const std::tm& t) {
  const int hour12 = t.tm_hour % 12 == 0 ? 12 : t.tm_hour % 12;
  switch (kind) {
    case 'a':
      return std::string(name_of(kDays, t.tm_wday).substr(0, 3));
    case 'A':
      return std::string(name_of(kDays, t.tm_wday));
    case 'b':
    case 'h':
      return std::string(name_of(kMonths, t.tm_mon).substr(0, 3));
    case 'B':
      return std::string(name_of(kMonths, t.tm_mon));
    case 'c':
      return fmt::format("{} {} {:>2} {:02}:{:02}:{:02} {}", name_of(kDays, t.tm_wday).substr(0, 3),
                         name_of(kMonths, t.tm_mon).substr(0, 3), t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec,
                         t.tm_year + 1900);
    case 'C':
      return number((t.tm_year + 1900) / 100, 2, flag);
    case 'd':
      return number(t.tm_mday, 2, flag);
    case 'D':
    case 'x':
      return fmt::format("{:02}/{:02}/{:02}", t.tm_mon + 1, t.tm_mday, t.tm_year % 100);
    case 'e':
      return number(t.tm_mday, 2, flag, ' ');
    case 'f':
      return "000000";
    case 'F':
      return fmt::format("{}-{:02}-{:02}", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
    case 'g':
      return number(iso_week(t).year % 100, 2, flag);
    case 'G':
      return number(iso_week(t).year, 4, flag);
    case 'H':
      return number(t.tm_hour, 2, flag);
    case 'I':
      return number(hour12, 2, flag);
    case 'j':
      return number(t.tm_yday + 1, 3, flag);
    case 'k':
      return number(t.tm_hour, 2, flag, ' ');
    case 'l':
      return number(hour12, 2, flag, ' ');
    case 'm':
      return number(t.tm_mon + 1, 2, flag);
    case 'M':
      return number(t.tm_min, 2, flag);
    case 'n':
      return "\n";
    case 'p':
      return t.tm_hour < 12 ? "AM" : "PM";
    case 'P':
      return t.tm_hour < 12 ? "am" : "pm";
    case 'r':
      return fmt::format("{:02}:{:02}:{:02} {}", hour12, t.tm_min, t.tm_sec, t.tm_hour < 12 ? "AM" : "PM");
    case 'R':
      return fmt::format("{:02}:{:02}", t.tm_hour, t.tm_min);
    case 'S':
      return number(t.tm_sec, 2, flag);
    case 't':
      return "\t";
    case 'T':
    case 'X':
      return fmt::format("{:02}:{:02}:{:02}", t.tm_hour, t.tm_min, t.tm_sec);
    case 'u':
      return std::to_string(t.tm_wday == 0 ? 7 : t.tm_wday);
    case 'U':
      return number((t.tm_yday + 7 - t.tm_wday) / 7, 2, flag);
    case 'V':
      return number(iso_week(t).week, 2, flag);
    case 'w':
      return std::to_string(t.tm_wday);
    case 'W':
      return number((t.tm_yday + 7 - (t.tm_wday + 6) % 7) / 7, 2, flag);
    case 'y':
      return number(t.tm_year % 100, 2, flag);
    case 'Y':
      return std::to_string(t.tm_year + 1900);
    case 'z':
    case 'Z':
      return "";  // the time has no zone
    case '%':
      return "%";
    default:
      fail("the directive {} of a time format is not supported", quote({&kind, 1}));
  }
}

}  // namespace

Text format_time(Heap& heap, const Text& pattern, const std::tm& time) {
  const std::string_view bytes = pattern.bytes();
  TextBuilder out(heap);
  for (size_t at = 0; at < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', at), bytes.size());
    out.append(pattern, at, percent);
    if (percent == bytes.size()) break;
    at = percent + 1;
    char flag = ' ';
    if (at < bytes.size() && (bytes[at] == '-' || bytes[at] == '_' || bytes[at] == '0')) flag = bytes[at++];
    if (at == bytes.size()) fail("a time format ends within a directive");
    out.append(directive(bytes[at], flag, time), pattern.origin(percent, at + 1));
    ++at;
  }
  return out.finish();
}

}  // namespace spate::jinja
