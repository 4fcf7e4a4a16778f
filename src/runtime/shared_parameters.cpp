#include "shared_parameters.h"

#include <random>
#include <sstream>
#include <string>
#include <unordered_map>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

/// Differs between processes, also of different hosts.
const std::string& this_process() {
  static const std::string number = [] {
    std::random_device random;
    return std::to_string(random()) + "." + std::to_string(random());
  }();
  return number;
}

/// A line a parameter: where it lies, whose it is, and what it is called.
std::string places_of(int rank, const std::vector<std::int32_t>& stage_numbers,
                      const std::vector<std::shared_ptr<Stage>>& stages) {
  std::ostringstream lines;
  for (std::size_t i = 0; i < stages.size(); ++i)
    for (const NamedTensor& parameter : stages[i]->parameters())
      if (parameter.tensor.requires_grad() && parameter.tensor.has_storage() && parameter.tensor.numel() > 0)
        lines << this_process() << ':' << parameter.tensor.device() << ':'
              << parameter.tensor.const_data_ptr() << ' ' << rank << ' ' << parameter.name << " of stage "
              << stage_numbers[i] << '\n';
  return lines.str();
}

}  // namespace

void refuse_shared_parameters(Transport& transport, const std::vector<std::int32_t>& stage_numbers,
                              const std::vector<std::shared_ptr<Stage>>& stages) {
  std::unordered_map<std::string, int> rank_of_place;
  for (const std::string& of_rank :
       transport.all_gather(places_of(transport.rank(), stage_numbers, stages))) {
    std::istringstream lines(of_rank);
    std::string place;
    int rank = 0;
    std::string name;
    while (lines >> place >> rank && std::getline(lines >> std::ws, name)) {
      const int first = rank_of_place.emplace(place, rank).first->second;
      if (first != rank)
        throw InvalidConfig("ranks " + std::to_string(first) + " and " + std::to_string(rank) +
                            " share the memory of a parameter, " + name +
                            ": ranks that are threads need parameters of their own (make the model on each)");
    }
  }
}

}  // namespace counterflow::runtime
