// What happens when something goes wrong: every rank ends soon, with one line that says where it was.
#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/linear.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <mutex>
#include <thread>

#include "counterflow/generate.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/local.h"
#include "counterflow/runtime/module.h"
#include "counterflow/runtime/pipeline.h"
#include "faulty_transport.h"

namespace counterflow::runtime {
namespace {

using testing::AllOf;
using testing::Each;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

constexpr int kRanks = 4;

using Forward = std::function<at::Tensor(int stage, const at::Tensor& x)>;

at::Tensor pass_on(int, const at::Tensor& x) {
  return x.is_leaf() && !x.requires_grad() ? (x * 1).requires_grad_() : x * 1;
}

Batch ones(int num_micro_batches) {
  Batch batch;
  for (int m = 0; m < num_micro_batches; ++m) {
    batch.inputs.push_back({at::ones({2, 3})});
    batch.targets.push_back({at::ones({2, 3})});
  }
  return batch;
}

struct Setting {
  const char* generator = "dualpipe";
  Size size{kRanks, 8};
  Forward forward = pass_on;
  Loss loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); };
  std::function<void(PipelineOptions&)> options = [](PipelineOptions&) {};
  std::function<void(int rank)> before_step = [](int) {};
  std::function<Batch(int rank)> batch = [](int) { return ones(8); };
  Faults faults{};
};

/// Every rank's error of a step, "none" where there was none. Fails where that takes long.
std::vector<std::string> errors_of(const Setting& setting) {
  std::vector<std::string> errors(kRanks, "none");
  const auto start = std::chrono::steady_clock::now();
  run_local(kRanks, [&](Transport& local) {
    const int rank = local.rank();
    FaultyTransport transport(local, setting.faults);
    try {
      PipelineOptions options{.loss = setting.loss, .timeout = std::chrono::seconds(60)};
      setting.options(options);
      Pipeline pipeline(
          generate(setting.generator, setting.size), transport,
          [&](int stage) {
            return make_stage(
                [&setting, stage](const Tensors& x) { return Tensors{setting.forward(stage, x.at(0))}; },
                nullptr);
          },
          options);
      setting.before_step(rank);
      pipeline.step(setting.batch(rank));
    } catch (const Error& error) {
      errors[rank] = error.what();
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  return errors;
}

TEST(FailureTest, AnExceptionInAStageEndsAllRanks) {
  Setting setting;
  setting.forward = [](int stage, const at::Tensor& x) {
    static std::atomic<int> calls{0};
    if (stage == 1 && x.requires_grad() && ++calls == 3) throw std::runtime_error("out of luck");
    return pass_on(stage, x);
  };
  const std::vector<std::string> errors = errors_of(setting);
  // Stage 1 lives on ranks 1 and 2.
  int origins = 0;
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_THAT(errors[rank], StartsWith("rank " + std::to_string(rank) + ": "));
    EXPECT_THAT(errors[rank], EndsWith("out of luck"));
    if (errors[rank].find("ended") != std::string::npos) {
      // A rank that was not waiting finds out when it sends.
      EXPECT_THAT(errors[rank],
                  MatchesRegex("rank .: .*: (waited [0-9.]+ s for .* from rank .*, (which|when rank .)"
                               "|rank .) ended: (1F.|.*1F.;.*): out of luck"));
    } else {
      ++origins;
      EXPECT_THAT(errors[rank], HasSubstr("1F"));
    }
  }
  EXPECT_EQ(origins, 1);
}

struct FailingBackward : torch::autograd::Function<FailingBackward> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) { return x.clone(); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list) {
    throw std::runtime_error("no way back");
  }
};

TEST(FailureTest, AnExceptionInABackwardEndsAllRanks) {
  Setting setting{.generator = "1f1b"};
  setting.forward = [](int stage, const at::Tensor& x) {
    return stage == 2 ? FailingBackward::apply(pass_on(stage, x)) : pass_on(stage, x);
  };
  const std::vector<std::string> errors = errors_of(setting);
  EXPECT_EQ(errors[2], "rank 2: 2B0: no way back");
  EXPECT_THAT(errors, Each(EndsWith("no way back")));
  EXPECT_THAT(errors[1],
              MatchesRegex("rank 1: 1[FB].: (waited [0-9.]+ s for 2B0 from rank 2, which|rank 2) ended: 2B0: "
                           "no way back"));
  EXPECT_THAT(errors[0],
              MatchesRegex("rank 0: 0[FB].: (waited [0-9.]+ s for 1B0 from rank 1, when |)rank 2 ended: 2B0: "
                           "no way back"));
}

TEST(FailureTest, ATorchErrorIsOneLine) {
  Setting setting{.generator = "1f1b"};
  setting.forward = [](int stage, const at::Tensor& x) { return stage == 0 ? x.view({7}) : x; };
  const std::vector<std::string> errors = errors_of(setting);
  EXPECT_EQ(errors[0], "rank 0: 0F0: shape '[7]' is invalid for input of size 6");
}

TEST(FailureTest, ARankThatGoesIsMissed) {
  std::vector<std::string> errors(kRanks);
  run_local(kRanks, [&](Transport& transport) {
    Pipeline pipeline(
        generate("1f1b", {kRanks, 8}), transport,
        [](int) { return make_stage([](const Tensors& x) { return Tensors{pass_on(0, x[0])}; }, nullptr); },
        {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }});
    if (transport.rank() == 1) return;
    try {
      pipeline.step(ones(8));
    } catch (const StepFailed& error) {
      errors[transport.rank()] = error.what();
    }
  });
  EXPECT_THAT(errors[2],
              MatchesRegex("rank 2: 2F0: waited [0-9.]+ s for 1F0 from rank 1, which ended: .*it went.*"));
  EXPECT_THAT(errors[3], Not(testing::IsEmpty()));
}

TEST(FailureTest, ARankThatIsLateIsGivenUpAfterTheTimeLimit) {
  Setting setting{.generator = "1f1b"};
  setting.options = [](PipelineOptions& options) { options.timeout = std::chrono::milliseconds(300); };
  setting.before_step = [](int rank) {
    if (rank == 1) std::this_thread::sleep_for(std::chrono::seconds(1));
  };
  const std::vector<std::string> errors = errors_of(setting);
  int timeouts = 0;
  for (const std::string& error : errors) {
    EXPECT_NE(error, "none");
    timeouts += error.find("nothing came in time") != std::string::npos;
  }
  EXPECT_EQ(timeouts, kRanks);  // one rank noticed, and the others say what it said
  // Its own time limit, or a little less where another rank's came first.
  EXPECT_THAT(errors[2], MatchesRegex("rank 2: 2F0: waited 0\\.[23][0-9]* s for 1F0 from rank 1.*"));
}

TEST(FailureTest, AMessageThatIsLostIsMissed) {
  Setting setting{.generator = "1f1b"};
  setting.options = [](PipelineOptions& options) { options.timeout = std::chrono::milliseconds(300); };
  setting.faults.drops = [](const Message& message) { return message.producer == forward(2, 7); };
  EXPECT_THAT(errors_of(setting)[3],
              MatchesRegex("rank 3: 3F7: waited 0.3.* s for 2F7 from rank 2: nothing came in time"));
  setting.faults.drops = [](const Message& message) { return message.producer == forward(1, 2); };
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("rank 1 sent 1F3 where 1F2 was expected")));
}

TEST(FailureTest, AGradientOfAnotherShapeIsAnError) {
  Setting setting{.generator = "1f1b"};
  setting.faults.changes = [](Message& message) {
    if (message.producer == backward(2, 1)) message.tensors[0] = at::ones({2, 4});
  };
  EXPECT_THAT(errors_of(setting)[1],
              HasSubstr("1B1: rank 2 sent Float[2, 4] for 2B1, but Float[2, 3] for 2B0"));
  setting.faults.changes = [](Message& message) {
    if (message.producer.kind == PassKind::kBackward) message.tensors.clear();
  };
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("2B0: 0 gradients for 1 outputs")));
}

TEST(FailureTest, OtherShapesThanBeforeAreAnError) {
  Setting setting{.generator = "1f1b"};
  setting.batch = [](int) {
    Batch batch = ones(8);
    batch.inputs[3] = {at::ones({1, 3})};
    return batch;
  };
  EXPECT_THAT(
      errors_of(setting)[1],
      HasSubstr("1F3: rank 0 sent Float[1, 3] for 0F3, but Float[2, 3] for 0F0 (micro-batches may differ"));
  setting.options = [](PipelineOptions& options) { options.varying_shapes = true; };
  EXPECT_THAT(errors_of(setting), Each("none"));
}

TEST(FailureTest, ALossThatIsNoNumberIsAnErrorWhereAskedFor) {
  Setting setting{.generator = "1f1b"};
  setting.loss = [](const at::Tensor& output, const at::Tensor&) {
    return output.sum() * std::numeric_limits<double>::quiet_NaN();
  };
  EXPECT_THAT(errors_of(setting), Each("none"));
  setting.options = [](PipelineOptions& options) { options.check_losses = true; };
  EXPECT_EQ(errors_of(setting)[3], "rank 3: 3F0: the loss of micro-batch 0 is nan");
}

TEST(FailureTest, ALossThatNothingCanBeTrainedByIsAnError) {
  Setting setting{.generator = "1f1b"};
  setting.loss = [](const at::Tensor& output, const at::Tensor&) { return output.detach().sum(); };
  EXPECT_THAT(errors_of(setting)[3],
              StartsWith("rank 3: 3F0: the loss of a micro-batch depends on nothing that can be trained"));
}

TEST(FailureTest, InputsThatAreMissingAreNamed) {
  Setting setting;
  setting.batch = [](int rank) {
    Batch batch = ones(8);
    if (rank == 3) batch.inputs[5].clear();
    return batch;
  };
  const std::vector<std::string> errors = errors_of(setting);
  EXPECT_THAT(errors[3], HasSubstr("the inputs of micro-batch 5 are missing, which go in at this rank"));
  EXPECT_THAT(errors, Each(HasSubstr("micro-batch 5")));
}

TEST(FailureTest, TargetsThatAreMissingAreNamed) {
  Setting setting{.generator = "1f1b"};
  setting.batch = [](int rank) {
    Batch batch = ones(8);
    if (rank == 3) batch.targets.pop_back();
    return batch;
  };
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("the targets of micro-batch 7 are missing")));
  setting.batch = [](int rank) {
    Batch batch = ones(8);
    if (rank == 3) batch.targets.clear();
    return batch;
  };
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("3F0: the loss takes a target, and this micro-batch")));
  setting.batch = [](int) {
    Batch batch = ones(8);
    batch.targets.push_back({at::ones({2, 3})});
    return batch;
  };
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("targets of 9 micro-batches; the schedule has 8")));
  // Those that come out elsewhere are not needed, and a loss may do without.
  setting.batch = [](int rank) {
    Batch batch = ones(8);
    if (rank < 3) batch.targets.clear();
    return batch;
  };
  EXPECT_THAT(errors_of(setting), Each("none"));
  setting.loss = [](const Tensors& outputs, const Tensors&) { return outputs.at(0).sum(); };
  setting.batch = [](int) { return Batch{ones(8).inputs, {}, {}}; };
  EXPECT_THAT(errors_of(setting), Each("none"));
}

TEST(FailureTest, AScheduleForAnotherNumberOfRanksIsRefused) {
  Setting setting{.size = {2, 8}};
  EXPECT_THAT(errors_of(setting), Each(HasSubstr("the schedule dualpipe is for 2 ranks; there are 4")));
}

TEST(FailureTest, RanksWithDifferentSchedulesFindOut) {
  std::atomic<int> refused{0};
  EXPECT_THROW(run_local(2,
                         [&](Transport& transport) {
                           const char* name = transport.rank() == 0 ? "gpipe" : "1f1b";
                           try {
                             Pipeline pipeline(
                                 generate(name, {2, 4}), transport,
                                 [](int) { return make_stage([](const Tensors& x) { return x; }, nullptr); },
                                 {});
                           } catch (const Error& error) {
                             ++refused;
                             throw;
                           }
                         }),
               InvalidConfig);
  EXPECT_EQ(refused, 2);
}

TEST(FailureTest, AFactoryThatThrowsEndsAllRanks) {
  std::vector<std::string> errors(2);
  run_local(2, [&](Transport& transport) {
    try {
      Pipeline pipeline(generate("dualpipe", {2, 4}), transport,
                        [&](int) -> std::shared_ptr<Stage> {
                          if (transport.rank() == 1) throw std::runtime_error("no such file");
                          return make_stage([](const Tensors& x) { return x; }, nullptr);
                        },
                        {});
    } catch (const Error& error) {
      errors[transport.rank()] = error.what();
    }
  });
  EXPECT_EQ(errors[1], "rank 1: setting up: no such file");
  EXPECT_EQ(errors[0], "rank 0: setting up: rank 1 ended: setting up: no such file");
}

/// Two ranks with stages that have one parameter each.
using Body = std::function<void(Transport&, Pipeline&, torch::nn::Linear&)>;
void run_pair(const Body& body, PipelineOptions options = {}) {
  options.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); };
  run_local(2, [&](Transport& transport) {
    torch::nn::Linear linear(3, 3);
    Pipeline pipeline(
        generate("1f1b", {2, 4}), transport, [&](int) { return make_stage(linear); }, options);
    body(transport, pipeline, linear);
  });
}

TEST(FailureTest, RanksThatShareAParameterAreRefused) {
  const torch::nn::Linear shared(3, 3);
  const auto make = [&] {
    run_local(2, [&](Transport& transport) {
      Pipeline pipeline(generate("1f1b", {2, 4}), transport, [&](int) { return make_stage(shared); }, {});
    });
  };
  EXPECT_THAT(make, testing::ThrowsMessage<InvalidConfig>(
                        HasSubstr("ranks 0 and 1 share the memory of a parameter, weight of stage 1")));
  for (const at::Tensor& parameter : shared->parameters()) parameter.requires_grad_(false);
  EXPECT_NO_THROW(make());  // only read
}

TEST(FailureTest, ATransportServesOnePipelineAtATime) {
  run_pair([](Transport& transport, Pipeline& first, torch::nn::Linear&) {
    torch::nn::Linear linear(3, 3);
    Pipeline second(generate("dualpipe", {2, 4}), transport,
                    [](int) { return make_stage(torch::nn::Linear(3, 3)); },
                    {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }});
    EXPECT_THAT([&] { first.step(ones(4)); }, testing::ThrowsMessage<InvalidConfig>(
                                                  HasSubstr("another pipeline was made on this transport")));
    second.step(ones(4));
  });
}

TEST(FailureTest, EvaluationModeEndsWhereAnEvaluationFails) {
  run_pair([](Transport&, Pipeline& pipeline, torch::nn::Linear& linear) {
    Batch batch = ones(4);
    batch.inputs[2] = {at::ones({2, 7})};
    EXPECT_THROW(pipeline.evaluate(batch), StepFailed);
    EXPECT_TRUE(linear->is_training());
  });
}

TEST(FailureTest, TimeLimitsMayBeEndless) {
  run_pair([](Transport&, Pipeline& pipeline, torch::nn::Linear&) { pipeline.step(ones(4)); },
           {.timeout = std::chrono::milliseconds::max()});
  EXPECT_THROW(
      run_pair([](Transport&, Pipeline&, torch::nn::Linear&) {}, {.timeout = std::chrono::milliseconds(0)}),
      InvalidConfig);
}

TEST(FailureTest, SettingUpHasTheTimeLimitToo) {
  std::atomic<bool> is_late = false;
  run_local(2, [&](Transport& transport) {
    if (transport.rank() == 1) {
      while (!is_late) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    std::string error;
    try {
      const Pipeline pipeline(generate("gpipe", {2, 2}), transport,
                              [](int stage) {
                                return make_stage(
                                    [stage](const Tensors& x) { return Tensors{pass_on(stage, x.at(0))}; },
                                    nullptr);
                              },
                              {.timeout = std::chrono::milliseconds(50)});
    } catch (const Error& failure) {
      error = failure.what();
    }
    is_late = true;
    EXPECT_THAT(error, testing::Eq("rank 0: setting up: rank 1 did not come in time"));
  });
}

TEST(FailureTest, NumbersThatMakeNoSenseAreRefused) {
  run_pair([](Transport&, Pipeline& pipeline, torch::nn::Linear&) {
    pipeline.step(ones(4));
    EXPECT_THROW(pipeline.clip_gradient_norm(-1), InvalidConfig);
    EXPECT_THROW(pipeline.clip_gradient_norm(std::numeric_limits<double>::quiet_NaN()), InvalidConfig);
    EXPECT_THROW(pipeline.total_loss({{at::ones({})}, {}, {}}), InvalidConfig);
  });
}

TEST(FailureTest, RanksThatMakeOtherCallsFindOut) {
  const auto mix_up = [] {
    run_pair([](Transport& transport, Pipeline& pipeline, torch::nn::Linear&) {
      const StepResult result = pipeline.step(ones(4));
      transport.rank() == 0 ? pipeline.total_loss(result) : pipeline.clip_gradient_norm(1);
    });
  };
  EXPECT_THAT(mix_up, testing::ThrowsMessage<Error>(HasSubstr(
                          "is at something else: all ranks make the same calls in the same order")));
}

TEST(FailureTest, NoStepIsTakenInInferenceMode) {
  EXPECT_THAT(
      [] {
        run_pair([](Transport&, Pipeline& pipeline, torch::nn::Linear&) {
          const c10::InferenceMode inference;
          pipeline.step(ones(4));
        });
      },
      testing::ThrowsMessage<InvalidConfig>(HasSubstr("c10::InferenceMode")));
}

TEST(FailureTest, AnExceptionBetweenStepsEndsTheOthersToo) {
  std::string caught;
  try {
    run_local(3, [](Transport& transport) {
      if (transport.rank() == 1) throw std::runtime_error("disk full");
      transport.all_gather("");
    });
  } catch (const std::runtime_error& error) {
    caught = error.what();
  }
  EXPECT_EQ(caught, "disk full");
  EXPECT_THROW(run_local(3,
                         [](Transport& transport) {
                           if (transport.rank() == 1) throw 42;
                           transport.all_gather("");
                         }),
               int);
}

TEST(FailureTest, APipelineThatFailedSaysSoAgain) {
  run_local(2, [](Transport& transport) {
    Pipeline pipeline(generate("1f1b", {2, 4}), transport,
                      [](int) {
                        return make_stage(
                            [](const Tensors&) -> Tensors { throw std::runtime_error("never"); }, nullptr);
                      },
                      {.loss = [](const at::Tensor& output, const at::Tensor&) { return output.sum(); }});
    EXPECT_THROW(pipeline.step(ones(4)), StepFailed);
    try {
      pipeline.step(ones(4));
      ADD_FAILURE();
    } catch (const StepFailed& error) {
      EXPECT_THAT(error.what(), AllOf(StartsWith("the pipeline has failed before: rank"), EndsWith("never")));
    }
  });
}

}  // namespace
}  // namespace counterflow::runtime
