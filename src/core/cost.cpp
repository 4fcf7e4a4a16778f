#include "counterflow/cost.h"

#include <charconv>
#include <string>

#include "counterflow/error.h"

namespace counterflow {
namespace {

constexpr Time kMaxTime = 1'000'000'000'000;

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw InvalidConfig("cost \"" + std::string(text.substr(0, 80)) + "\": " + why +
                      "; expected times like f=1,i=1,w=1,fb=3");
}

}  // namespace

UniformCost parse_uniform_cost(std::string_view text) {
  std::optional<Time> f, i, w, fb;
  std::string_view rest = text;
  while (true) {
    const std::string_view item = rest.substr(0, rest.find(','));
    const std::string_view key = item.substr(0, item.find('='));
    std::optional<Time>* slot = key == "f"    ? &f
                                : key == "i"  ? &i
                                : key == "w"  ? &w
                                : key == "fb" ? &fb
                                              : nullptr;
    if (slot == nullptr || key.size() == item.size()) {
      refuse(text, "found \"" + std::string(item.substr(0, 40)) + "\" where f=, i=, w= or fb= was expected");
    }
    if (slot->has_value()) refuse(text, "found " + std::string(key) + " twice");
    const std::string_view digits = item.substr(key.size() + 1);
    Time value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size() || value < 0 || value > kMaxTime) {
      refuse(text, "found \"" + std::string(digits.substr(0, 40)) + "\" for " + std::string(key) +
                       " where a whole number from 0 to 10^12 was expected");
    }
    *slot = value;
    if (item.size() == rest.size()) break;
    rest.remove_prefix(item.size() + 1);
  }
  return {f.value_or(1), i.value_or(1), w.value_or(1), fb};
}

std::string to_string(const UniformCost& cost) {
  std::string text =
      "f=" + std::to_string(cost.f) + ",i=" + std::to_string(cost.i) + ",w=" + std::to_string(cost.w);
  if (cost.fb) text += ",fb=" + std::to_string(*cost.fb);
  return text;
}

}  // namespace counterflow
