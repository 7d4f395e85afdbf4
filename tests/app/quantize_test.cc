// Quantising whole files: the plan and the conversion.
#include "app/quantize.h"

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "base/file.h"
#include "gguf/gguf_split.h"
#include "gguf/gguf_writer.h"
#include "model/model.h"

#include "support/gguf_builder.h"
#include "support/random_model.h"
#include "support/test_data.h"

namespace spate::testing {
namespace {

using app::plan_quantization;
using app::QuantizeError;
using app::QuantizeOptions;
using app::TensorPlan;
using app::write_quantized;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSharedF16 = "models/classics-33m-f16.gguf";

std::vector<float> decoded(const GgufTensor& tensor, int64_t n_rows) {
  const QuantTraits& traits = quant_traits(tensor.type);
  std::vector<float> values(static_cast<size_t>(tensor.dims[0] * n_rows));
  traits.decode(tensor.data.data(), static_cast<int64_t>(values.size()) / traits.block_elems, values.data());
  return values;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return sum;
}

GgufFile open(const std::string& path) {
  Result<GgufFile> file = GgufFile::open(path);
  EXPECT_TRUE(file.ok()) << file.error().message;
  return std::move(file).value();
}

// The published file is the one that the ecosystem's own tool made of the F16 file.
TEST(QuantizeDemoModel, Q4KM_TypesOfThePublishedFileAndNoMoreError) {
  SPATE_REQUIRE_SHARED(kSharedF16);
  const GgufFile original = open(shared_path(kSharedF16)), published = open(bundled_model_path());
  const auto plan = plan_quantization(original, {.mix = find_mix("Q4_K_M")});
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  ASSERT_EQ(plan->size(), 98u);
  ASSERT_EQ(published.tensors().size(), 98u);
  int n_compared = 0;
  for (const TensorPlan& one : *plan) {
    const GgufTensor* theirs = published.find_tensor(one.tensor->name);
    ASSERT_NE(theirs, nullptr) << one.tensor->name;
    EXPECT_EQ(quant_name(one.type), quant_name(theirs->type)) << one.tensor->name;
    if (one.is_copied()) continue;
    const int64_t n_rows = std::min<int64_t>(one.tensor->dims[1], 64);  // enough, and quick
    const std::vector<float> weights = decoded(*one.tensor, n_rows);
    const QuantTraits& traits = quant_traits(one.type);
    const auto n_blocks = static_cast<int64_t>(weights.size()) / traits.block_elems;
    std::vector<std::byte> qblocks(static_cast<size_t>(n_blocks * traits.block_bytes));
    std::vector<float> ours(weights.size());
    traits.encode(weights.data(), n_blocks, qblocks.data());
    traits.decode(qblocks.data(), n_blocks, ours.data());
    EXPECT_LE(std::sqrt(squared_error(ours, weights)), std::sqrt(squared_error(decoded(*theirs, n_rows), weights)))
        << one.tensor->name;
    ++n_compared;
  }
  EXPECT_EQ(n_compared, 57);
}

// A small model in a file of its own, and what comes of quantising it.
class Quantize : public ::testing::Test {
 protected:
  Quantize() { write(small_model()); }

  static RandomModel small_model() {
    return {.architecture = "qwen2",
            .n_layers = 2,
            .d_model = 256,
            .d_ff = 96,
            .vocab_size = 300,
            .types = {QuantType::kF16, QuantType::kF32, QuantType::kBF16}};
  }

  void write(const RandomModel& model) { write(random_model(model)); }
  void write(const GgufWriter& writer) {
    const Result<void> written = writer.write(in_);
    ASSERT_TRUE(written.ok()) << written.error().message;
  }

  Result<std::vector<QuantizeError>> run(QuantizeOptions options, int n_threads = 2,
                                         const app::QuantizeProgress& progress = nullptr) {
    const GgufFile file = open(in_);
    auto plan = plan_quantization(file, options);
    if (!plan) return plan.error();
    ThreadPool threads(n_threads);
    return write_quantized(file, *plan, *options.mix, out_, threads, progress);
  }

  Error refusal(const QuantizeOptions& options) {
    auto result = run(options);
    EXPECT_FALSE(result.ok());
    return result.ok() ? Error::usage("no refusal") : result.error();
  }

  std::vector<std::string> folder() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(in_).parent_path()))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }

  TemporaryFolder folder_;
  std::string in_ = folder_.path("in.gguf"), out_ = folder_.path("out.gguf");
};

TEST_F(Quantize, EveryMix_WritesAModelThatLoadsWithTheErrorsItReports) {
  const GgufFile before = open(in_);
  for (const Mix& mix : all_mixes()) {
    const auto errors = run({.mix = &mix});
    ASSERT_TRUE(errors.ok()) << mix.name << ": " << errors.error().message;
    const auto model = Model::open(out_);
    ASSERT_TRUE(model.ok()) << mix.name << ": " << model.error().message;

    const GgufFile after = open(out_);
    EXPECT_EQ(**after.integer("general.file_type", 0, 100), mix.file_type);
    EXPECT_EQ(**after.integer("general.quantization_version", 0, 100), 2);
    EXPECT_EQ(**after.integer("qwen2.block_count", 0, 100), 2);
    ASSERT_EQ(after.tensors().size(), before.tensors().size());
    for (size_t i = 0; i < after.tensors().size(); ++i) {
      const GgufTensor &was = before.tensors()[i], &is = after.tensors()[i];
      EXPECT_EQ(is.name, was.name);
      EXPECT_EQ(is.dims, was.dims);
      if (was.n_dims == 1) {
        EXPECT_EQ(is.type, QuantType::kF32) << is.name;
        EXPECT_TRUE(std::ranges::equal(is.data, was.data)) << is.name;
        continue;
      }
      const auto weights = decoded(was, was.dims[1]);
      const double error = squared_error(decoded(is, is.dims[1]), weights);
      EXPECT_NEAR(errors.value()[i].sum_squared_errors, error, 1e-9 * error) << mix.name << " " << is.name;
      const double relative = std::sqrt(error / squared_error(weights, std::vector<float>(weights.size())));
      EXPECT_LT(relative, mix.base == QuantType::kQ2_K ? 0.33 : 0.2) << mix.name << " " << is.name;
    }
  }
}

TEST_F(Quantize, RowsOf96_TakeTheFallbackTypes) {
  ASSERT_TRUE(run({.mix = find_mix("Q4_K_M")}).ok());
  const GgufFile file = open(out_);
  EXPECT_EQ(file.find_tensor("blk.1.ffn_down.weight")->type, QuantType::kQ8_0);  // Q6_K
  EXPECT_EQ(file.find_tensor("blk.0.ffn_down.weight")->type, QuantType::kQ5_0);  // Q4_K
  EXPECT_EQ(file.find_tensor("blk.1.ffn_up.weight")->type, QuantType::kQ4_K);    // rows of 256
}

TEST_F(Quantize, NumberOfThreads_ChangesNoBit) {
  std::string bytes;
  std::vector<double> errors;
  for (int n_threads : {1, 3}) {
    const auto result = run({.mix = find_mix("IQ4_XS")}, n_threads);
    ASSERT_TRUE(result.ok());
    std::vector<double> relative;
    for (const QuantizeError& error : *result) relative.push_back(error.relative_rms());
    const std::string written = read_file(out_).value();
    if (!bytes.empty()) {
      EXPECT_TRUE(written == bytes);
      EXPECT_EQ(relative, errors);
    }
    bytes = written;
    errors = relative;
  }
}

TEST_F(Quantize, Overrides_DecideBeforeTheMix) {
  const QuantizeOptions options{.mix = find_mix("Q4_K_S"),
                                .overrides = {{"blk.?.attn_k.weight", QuantType::kQ6_K},
                                              {"*attn_[qk]*", QuantType::kF16},
                                              {"*ffn_*", QuantType::kQ8_0}},
                                .token_embedding_type = QuantType::kQ2_K,
                                .output_type = QuantType::kQ5_1};
  const Error error = refusal(options);
  EXPECT_EQ(error.code, ErrorCode::kUsage);
  EXPECT_THAT(error.message, HasSubstr("'*attn_[qk]*' fits no matrix"));  // [ is no wildcard

  QuantizeOptions fixed = options;
  fixed.overrides.erase(fixed.overrides.begin() + 1);
  ASSERT_TRUE(run(fixed).ok());
  const GgufFile file = open(out_);
  const auto type_of = [&](const char* name) { return file.find_tensor(name)->type; };
  EXPECT_EQ(type_of("blk.1.attn_k.weight"), QuantType::kQ6_K);
  EXPECT_EQ(type_of("blk.0.ffn_down.weight"), QuantType::kQ8_0);
  EXPECT_EQ(type_of("blk.0.ffn_norm.weight"), QuantType::kF32);  // fits the pattern, is no matrix
  EXPECT_EQ(type_of("token_embd.weight"), QuantType::kQ2_K);
  EXPECT_EQ(type_of("output.weight"), QuantType::kQ5_1);
  EXPECT_EQ(type_of("blk.0.attn_q.weight"), QuantType::kQ4_K);
}

TEST_F(Quantize, OutputType_OfAModelWithTiedEmbeddings_IsThatOfTheEmbedding) {
  RandomModel model = small_model();
  model.tied = true;
  write(model);
  ASSERT_TRUE(run({.mix = find_mix("Q4_0"), .output_type = QuantType::kQ5_0}).ok());
  EXPECT_EQ(open(out_).find_tensor("token_embd.weight")->type, QuantType::kQ5_0);
  ASSERT_TRUE(run({.mix = find_mix("Q4_0")}).ok());
  EXPECT_EQ(open(out_).find_tensor("token_embd.weight")->type, QuantType::kQ6_K);
}

TEST_F(Quantize, OverrideThatDoesNotDivideTheRows_IsRefusedWithWhatWould) {
  const Error error = refusal({.mix = find_mix("Q4_0"), .overrides = {{"*ffn_down*", QuantType::kQ6_K}}});
  EXPECT_EQ(error.code, ErrorCode::kUsage);
  EXPECT_THAT(error.message, HasSubstr("'blk.0.ffn_down.weight': rows of 96 weights do not divide into blocks of 256"));
  EXPECT_THAT(error.message, HasSubstr("Q8_0 would fit"));
}

TEST_F(Quantize, QuantisedInput_IsRefusedUnlessAskedFor) {
  ASSERT_TRUE(run({.mix = find_mix("Q8_0")}).ok());
  std::filesystem::rename(out_, in_);
  const Error error = refusal({.mix = find_mix("Q4_K_M")});
  EXPECT_EQ(error.code, ErrorCode::kUsage);
  EXPECT_THAT(error.message, HasSubstr("is Q8_0 already"));
  EXPECT_THAT(folder(), ElementsAre("in.gguf"));

  ASSERT_TRUE(run({.mix = find_mix("Q4_K_M"), .requantize = true}).ok());
  EXPECT_EQ(open(out_).find_tensor("blk.0.attn_q.weight")->type, QuantType::kQ4_K);
  // To what it is already, nothing would be converted: OUT may well be the original.
  const Error copy = refusal({.mix = find_mix("Q8_0")});
  EXPECT_EQ(copy.code, ErrorCode::kUsage);
  EXPECT_THAT(copy.message, HasSubstr("nothing to convert"));
  ASSERT_TRUE(run({.mix = find_mix("Q8_0"), .requantize = true}).ok());
  const GgufFile before = open(in_), after = open(out_);
  for (size_t i = 0; i < before.tensors().size(); ++i)
    EXPECT_TRUE(std::ranges::equal(before.tensors()[i].data, after.tensors()[i].data)) << before.tensors()[i].name;
}

TEST_F(Quantize, NanInfinityAndOverflow_NameTheTensorAndLeaveNothing) {
  const float kNan = std::nanf(""), kInfinity = INFINITY;
  struct Case {
    float value;
    const char* mix;
    const char* tensor;
    int n_rows;
    const char* says;
  };
  for (const Case& one : {Case{kNan, "Q4_K_M", "blk.1.attn_q.weight", 256, "weight 5 of row 2 is nan"},
                          Case{-kInfinity, "Q8_0", "blk.1.attn_q.weight", 256, "weight 5 of row 2 is -inf"},
                          Case{1e6f, "F16", "blk.1.attn_q.weight", 256, "is 1000000, more than F16 can hold"},
                          Case{kNan, "F32", "blk.1.attn_q.weight", 256, "is nan"},
                          Case{kInfinity, "Q4_K_M", "blk.1.ffn_norm.weight", 1, "is inf"}}) {
    GgufWriter writer = random_model(small_model());
    std::vector<float> weights(static_cast<size_t>(256 * one.n_rows), 0.5f);
    weights[one.n_rows == 1 ? 5 : 2 * 256 + 5] = one.value;
    writer.remove_tensor(one.tensor);
    if (one.n_rows == 1)
      writer.add_tensor(one.tensor, {256}, weights);
    else
      writer.add_tensor(one.tensor, {256, one.n_rows}, weights);
    write(writer);
    const Error error = refusal({.mix = find_mix(one.mix)});
    EXPECT_EQ(error.code, ErrorCode::kBadFile);
    EXPECT_THAT(error.message, HasSubstr("in.gguf: tensor '" + std::string(one.tensor) + "': weight 5"));
    EXPECT_THAT(error.message, HasSubstr(one.says));
    EXPECT_THAT(folder(), ElementsAre("in.gguf"));
  }
}

TEST_F(Quantize, Stopped_LeavesWhatWasThere) {
  write_file(out_, "the old file");
  double last = 0;
  const auto result = run({.mix = find_mix("Q4_K_M")}, 2, [&](double fraction, std::string_view tensor) {
    EXPECT_GE(fraction, last);
    EXPECT_FALSE(tensor.empty());
    last = fraction;
    return fraction < 0.5;
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kInterrupted);
  EXPECT_LT(last, 0.8);
  EXPECT_EQ(read_file(out_).value(), "the old file");
  EXPECT_THAT(folder(), ElementsAre("in.gguf", "out.gguf"));
}

TEST_F(Quantize, FullDisk_IsAnIoErrorAndLeavesNothing) {
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const rlimit small{.rlim_cur = 100000, .rlim_max = old_limit.rlim_max};
  const auto old_action = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto result = run({.mix = find_mix("Q8_0")});
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_action);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_THAT(result.error().message, HasSubstr("out.gguf: cannot be written: File too large"));
  EXPECT_THAT(folder(), ElementsAre("in.gguf"));
}

TEST_F(Quantize, SplitModel_BecomesOneFile) {
  const GgufFile whole = open(in_);
  const std::string prefix = folder_.path("model");
  const size_t half = whole.tensors().size() / 2;
  for (int part = 0; part < 2; ++part) {
    GgufWriter writer;
    if (part == 0) writer.copy_metadata(whole);
    writer.set("split.no", static_cast<uint16_t>(part));
    writer.set("split.count", uint16_t{2});
    writer.set("split.tensors.count", static_cast<int32_t>(whole.tensors().size()));
    for (size_t i = part == 0 ? 0 : half; i < (part == 0 ? half : whole.tensors().size()); ++i) {
      const GgufTensor& tensor = whole.tensors()[i];
      writer.add_tensor(tensor.name, tensor.type, std::span(tensor.dims.data(), static_cast<size_t>(tensor.n_dims)),
                        [&tensor](GgufTensorSink& sink) { return sink.write(tensor.data); });
    }
    ASSERT_TRUE(writer.write(split_path(prefix, part, 2)).ok());
  }
  ASSERT_TRUE(run({.mix = find_mix("Q5_K_M")}).ok());
  const std::string of_whole = read_file(out_).value();
  in_ = split_path(prefix, 1, 2);
  ASSERT_TRUE(run({.mix = find_mix("Q5_K_M")}).ok());
  EXPECT_TRUE(read_file(out_).value() == of_whole);
}

TEST_F(Quantize, FileThatIsNoModel_IsRefused) {
  GgufWriter no_architecture;
  no_architecture.set("general.name", "nothing");
  write(no_architecture);
  EXPECT_THAT(refusal({.mix = find_mix("Q4_0")}).message, HasSubstr("key 'general.architecture' is missing"));
  GgufWriter no_layers = random_model(small_model());
  no_layers.remove("qwen2.block_count");
  write(no_layers);
  EXPECT_THAT(refusal({.mix = find_mix("Q4_0")}).message, HasSubstr("key 'qwen2.block_count'"));
}

TEST_F(Quantize, UnusualAlignment_IsNotCarriedOver) {
  GgufWriter writer = random_model(small_model());
  writer.set("general.alignment", uint32_t{4096});
  write(writer);
  ASSERT_TRUE(run({.mix = find_mix("Q4_0")}).ok());
  EXPECT_EQ(open(out_).find("general.alignment"), nullptr);
}

}  // namespace
}  // namespace spate::testing
