#include "counterflow/search.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "counterflow/error.h"
#include "counterflow/generate.h"
#include "explain.h"
#include "family_search.h"

namespace counterflow {
namespace searching {
namespace {

void check_request(const SearchRequest& request) {
  const auto check_count = [](const char* what, std::int64_t found, std::int64_t most) {
    if (found < 1 || found > most) {
      throw InvalidConfig(std::string("number of ") + what + ": expected 1 to " + std::to_string(most) +
                          ", found " + std::to_string(found));
    }
  };
  check_count("ranks", request.ranks, Placement::kMaxRanks);
  check_count("micro-batches", request.micro_batches, Placement::kMaxMicroBatches);
  check_count("copies", request.copies, 2);
  std::int64_t most_stages = 2;
  for (const int stages : request.stages_per_rank) {
    check_count("stages a rank", stages, Placement::kMaxStages / request.ranks);
    most_stages = std::max<std::int64_t>(most_stages, stages);
  }
  constexpr std::int64_t kMostForwards = 1 << 22;
  const std::int64_t forwards = std::int64_t{request.ranks} * request.micro_batches * most_stages;
  if (forwards > kMostForwards) {
    throw InvalidConfig("search: expected ranks x stages a rank x micro-batches to be at most " +
                        std::to_string(kMostForwards) + ", found " + std::to_string(forwards));
  }
}

/// Asks to stop when a time has passed or another source asks.
class Deadline {
 public:
  Deadline(double seconds, const std::stop_token& outer)
      : forward_(outer, [this] { source_.request_stop(); }),
        thread_([this, seconds](const std::stop_token& end) {
          std::unique_lock lock(mutex_);
          constexpr double kMost = 1e9;  // beyond which clocks overflow
          const std::chrono::duration<double> time(seconds < kMost ? seconds : kMost);
          changed_.wait_for(lock, end, time, [] { return false; });
          source_.request_stop();
        }) {}

  std::stop_token token() const { return source_.get_token(); }

 private:
  struct Forward {
    std::stop_callback<std::function<void()>> callback;
    Forward(const std::stop_token& token, std::function<void()> run) : callback(token, std::move(run)) {}
  };

  std::stop_source source_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  Forward forward_;
  std::jthread thread_;
};

/// Calls job(0) … job(count - 1), each once, on so many threads.
template <typename Job>
void run_all(int count, int threads, Job&& job) {
  std::atomic<int> next{0};
  const auto work = [&] {
    for (int index = next++; index < count; index = next++) job(index);
  };
  std::vector<std::jthread> others;
  for (int i = 1; i < std::min(count, threads); ++i) others.emplace_back(work);
  work();
}

class Search {
 public:
  explicit Search(const SearchRequest& request)
      : request_(request), deadline_(request.seconds, request.stop) {
    threads_ = request.threads > 0 ? request.threads
                                   : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  SearchResult run() {
    start();
    while (!deadline_.token().stop_requested() && (!request_.rounds || rounds_ < *request_.rounds)) {
      FamilySearch* next = choose();
      if (next == nullptr || !run_round(*next)) break;
      ++rounds_;
      if (request_.progress) request_.progress({rounds_, best().makespan(), lower_bound()});
    }
    return result();
  }

 private:
  void start() {
    const std::vector<Family> families = families_of(request_, refused_);
    searches_.resize(families.size());
    run_all(static_cast<int>(families.size()), threads_, [&](int index) {
      searches_[index] =
          std::make_unique<FamilySearch>(families[index], request_.seed + index * 7919, deadline_.token());
    });
    credit_.resize(searches_.size(), 0);
    const auto feasible = [](const auto& search) { return search->feasible(); };
    if (std::any_of(searches_.begin(), searches_.end(), feasible)) return;
    std::string why;
    for (const auto& search : searches_) {
      why += (why.empty() ? "" : "; ") + search->family().name() + ": " + search->report().why_not;
    }
    for (const SearchFamily& family : refused_) {
      why += (why.empty() ? "" : "; ") + std::string(placement_kind_name(family.placement)) + ": " +
             family.why_not;
    }
    throw InvalidConfig("no schedule fits: " + why);
  }

  const FamilySearch& best() const { return *searches_[best_index()]; }

  std::size_t best_index() const {
    std::size_t best = searches_.size();
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      if (!searches_[i]->feasible()) continue;
      if (best == searches_.size() || better(*searches_[i], *searches_[best])) best = i;
    }
    return best;
  }

  /// Of equally fast ones that with fewer copies of the parameters.
  static bool better(const FamilySearch& a, const FamilySearch& b) {
    if (a.makespan() != b.makespan()) return a.makespan() < b.makespan();
    return a.family().copies < b.family().copies;
  }

  Fraction lower_bound() const {
    Fraction least{0, 0};
    for (const auto& search : searches_) {
      if (search->feasible() && (least.parts == 0 || search->lower_bound() < least))
        least = search->lower_bound();
    }
    return std::min(least, best().makespan());
  }

  /// The family that gets the next round: the nearer to the best, the more often. Null where none can win
  /// more.
  FamilySearch* choose() {
    const Fraction winner = best().makespan();
    std::size_t chosen = searches_.size();
    for (std::size_t i = 0; i < searches_.size(); ++i) {
      const FamilySearch& search = *searches_[i];
      if (!search.can_improve() || search.lower_bound() >= winner) continue;
      const double behind = search.makespan().to_double() / winner.to_double() - 1;
      credit_[i] += 1 / (1 + 50 * behind);
      if (chosen == searches_.size() || credit_[i] > credit_[chosen]) chosen = i;
    }
    if (chosen == searches_.size()) return nullptr;
    credit_[chosen] -= 1;
    return searches_[chosen].get();
  }

  bool run_round(FamilySearch& search) {
    std::atomic<bool> whole{true};
    run_all(search.num_jobs(), threads_, [&](int job) {
      if (!search.run_job(job, deadline_.token())) whole = false;
    });
    if (whole) search.end_round();
    return whole;
  }

  SearchResult result() const {
    SearchResult result;
    result.family = best_index();
    const FamilySearch& winner = best();
    result.schedule = winner.schedule();
    result.costs = winner.family().costs;
    result.parts = winner.family().parts;
    result.makespan = winner.makespan();
    result.lower_bound = lower_bound();
    result.rounds = rounds_;
    for (const auto& search : searches_) {
      result.families.push_back(search->report());
      result.num_evaluations += search->num_evaluations();
    }
    result.families.insert(result.families.end(), refused_.begin(), refused_.end());
    std::vector<Family> families;
    for (const auto& search : searches_) families.push_back(search->family());
    result.why = explain(families, result);
    return result;
  }

  const SearchRequest& request_;
  Deadline deadline_;
  int threads_ = 1;
  std::vector<std::unique_ptr<FamilySearch>> searches_;
  std::vector<SearchFamily> refused_;
  std::vector<double> credit_;
  int rounds_ = 0;
};

}  // namespace
}  // namespace searching

double SearchResult::gap() const {
  const double bound = lower_bound.to_double();
  return optimal() || bound <= 0 ? 0 : makespan.to_double() / bound - 1;
}

SearchResult search(const SearchRequest& request) {
  searching::check_request(request);
  return searching::Search(request).run();
}

}  // namespace counterflow
