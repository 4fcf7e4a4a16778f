#include <memory>
#include <nlohmann/json.hpp>

#include "counterflow/format.h"
#include "counterflow/generate.h"
#include "terminal.h"
#include "verb.h"

namespace counterflow::command {
namespace {

std::string list_text() {
  std::string text;
  const auto add = [&](const char* label, std::string_view value) {
    if (!value.empty()) text += "    " + std::string(label) + std::string(value) + "\n";
  };
  for (const Generator* generator : all_generators()) {
    text += bold(generator->name) + "\n";
    add("", generator->summary);
    add("needs        ", generator->constraint);
    const std::string stages = std::to_string(generator->stages_per_rank) +
                               (generator->takes_stages_per_rank ? ", or as --stages-per-rank says" : "");
    add("parameters   ", generator->copies == 1 ? "1x" : "2x: every stage on two ranks");
    add("stages/rank  ", stages);
    add("bubble       ", generator->bubble_formula);
    add("activations  ", generator->peak_formula);
    add("source       ", generator->source);
  }
  return text;
}

std::string list_json() {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Generator* generator : all_generators()) {
    json.push_back({{"name", generator->name},
                    {"summary", generator->summary},
                    {"constraint", generator->constraint},
                    {"copies", generator->copies},
                    {"stages_per_rank", generator->stages_per_rank},
                    {"takes_stages_per_rank", generator->takes_stages_per_rank},
                    {"bubble", generator->bubble_formula},
                    {"peak_activations", generator->peak_formula},
                    {"source", generator->source}});
  }
  return json.dump(2) + "\n";
}

std::string list_names() {
  std::string text;
  for (const Generator* generator : all_generators()) text += std::string(generator->name) + "\n";
  return text;
}

}  // namespace

Verb list_verb(CLI::App& app) {
  struct Options {
    bool json = false;
    bool names = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("list", "Lists the generators and what is known of their schedules");
  verb->add_flag("--names", options->names, "Names only, one a line");
  verb->add_flag("--json", options->json, "JSON")->excludes("--names");
  verb->footer("\nExample:\n  counterflow list");
  return {verb, [options] {
            write_file("-", options->json ? list_json() : options->names ? list_names() : list_text());
            return kOk;
          }};
}

}  // namespace counterflow::command
