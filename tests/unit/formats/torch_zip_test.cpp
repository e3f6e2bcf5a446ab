#include "core/formats/torch_zip.h"

#include <cstring>

#include "core/base/file.h"
#include "core/formats/torch_pickle.h"
#include "support/support.h"
#include "unit/formats/torch_build.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT
using test::state_dict;
using test::tensor;
using test::ZipRecord;

namespace {

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * 4};
}

const std::vector<float> kSix = {1, 2, 3, 4, 5, 6};

std::vector<ZipRecord> archive(std::string pickle) {
  return {{"archive/data.pkl", std::move(pickle)},
          {"archive/byteorder", "little"},
          {"archive/data/0", floats(kSix)},
          {"archive/version", "3\n"}};
}
std::string good_pickle() {
  return state_dict({{"rows", tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})},
                     {"turned", tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3})},
                     {"tail", tensor("FloatStorage", "0", 6, 4, {2}, {1})},
                     {"scalar", tensor("FloatStorage", "0", 6, 5, {}, {})},
                     {"none", tensor("FloatStorage", "0", 6, 6, {0, 3}, {3, 1})}});
}

Result<TorchZipFile> parse(const std::string& bytes) {
  return TorchZipFile::parse(as_byte_span(bytes), "t.bin");
}
void check_refused(const Result<TorchZipFile>& result, std::string_view part) {
  REQUIRE_FALSE(result.ok());
  CAPTURE(part);
  CHECK_MESSAGE(result.error().message.find(part) != std::string::npos, result.error().message);
  CHECK(result.error().message.starts_with("t.bin"));
  CHECK(result.error().message.find('\n') == std::string::npos);
}
void check_pickle_refused(const std::string& pickle, std::string_view part) {
  check_refused(parse(test::zip_of(archive(pickle))), part);
}

}  // namespace

TEST_CASE("a torch zip gives its tensors, also those that lie across their storage") {
  for (const bool end64 : {true, false}) {
    const std::string bytes = test::zip_of(archive(good_pickle()), end64);
    const auto file = parse(bytes);
    REQUIRE_OK(file);
    REQUIRE(file->tensors().size() == 5);
    CHECK(file->tensors()[0].name == "rows");
    CHECK(file->find("rows")->shape == std::vector<std::int64_t>{2, 3});
    CHECK(to_f32(*file->find("rows")).value() == kSix);
    CHECK(to_f32(*file->find("turned")).value() == std::vector<float>{1, 4, 2, 5, 3, 6});
    CHECK(to_f32(*file->find("tail")).value() == std::vector<float>{5, 6});
    CHECK(to_f32(*file->find("scalar")).value() == std::vector<float>{6});
    CHECK(file->find("none")->bytes.empty());
    CHECK(file->find("else") == nullptr);
  }
}

TEST_CASE("a torch zip may wrap parameters and carry a module's metadata") {
  const std::string parameter =
      "ctorch._utils\n_rebuild_parameter\n(" + tensor("HalfStorage", "0", 12, 0, {12}, {1}) + "\x88)tR";
  std::string pickle = state_dict({{"p", parameter}});
  pickle.pop_back();  // before the end: dict.__setstate__({"_metadata": {}})
  pickle += "}" + test::text("_metadata") + "}s" + "b.";
  const auto file = parse(test::zip_of(archive(pickle)));
  REQUIRE_OK(file);
  CHECK(file->tensors()[0].dtype == DType::f16);
  CHECK(file->tensors()[0].bytes.size() == 24);
}

TEST_CASE("a pickle that asks for anything but tensors is refused by the name of what it asks for") {
  check_pickle_refused(
      "\x80\x02"
      "cos\nsystem\n(" +
          test::text("true") + "tR.",
      "os.system");
  check_pickle_refused(
      "\x80\x02"
      "cbuiltins\neval\n(" +
          test::text("1") + "tR.",
      "builtins.eval");
  check_pickle_refused(
      "\x80\x02"
      "ctorch.storage\n_load_from_bytes\n)R.",
      "torch.storage._load_from_bytes");
  check_pickle_refused(
      "\x80\x02"
      "c\x1b[2J\nx\n.",
      "?[2J.x");
  check_pickle_refused("\x80\x04N.", "protocol 4");
  check_pickle_refused("\x80\x02(ios\nsystem\n.", "instruction 0x69");
  check_pickle_refused("\x80\x02(S'x'\nos\n.", "instruction 0x53");
  check_pickle_refused("\x80\x02\x93.", "instruction 0x93");
  check_pickle_refused(
      "\x80\x02"
      "K\x01.",
      "the file holds an integer");
  check_pickle_refused(state_dict({{"epoch", "K\x07"}}), "entry \"epoch\" is an integer");
  check_pickle_refused(state_dict({{"optimizer", "}"}}), "entry \"optimizer\" is a dictionary");
  check_pickle_refused("\x80\x02}(K\x01K\x02u.", "named by an integer");
  check_pickle_refused("\x80\x02NNb.", "attributes of an object");
}

TEST_CASE("a pickle that breaks its own rules is refused") {
  const std::string good = good_pickle();
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{20}, good.size() / 2, good.size() - 1}) {
    check_pickle_refused(good.substr(0, cut), "the pickle");
  }
  check_pickle_refused(good + ".", "after its end");
  for (const char* pickle : {"\x80\x02t.", "\x80\x02R.", "\x80\x02s.", "\x80\x02(N.", "\x80\x02NN.", "\x80\x02Nu.",
                             "\x80\x02h\x05.", "\x80\x02q\x01.", "\x80\x02(\x85.", "\x80\x02}(Nu.", "\x80\x02NQ.",
                             "\x80\x02]K\x01s.", "\x80\x02\x8a\x09", "\x80\x02X\xff\xff\xff\xffx.",
                             "\x80\x02"
                             "cnoend",
                             "\x80\x02(N(NaNb."}) {
    check_refused(parse(test::zip_of(archive(pickle))), "");
  }
  check_pickle_refused(state_dict({{"a", tensor("FloatStorage", "0", 6, 0, {6}, {1})},
                                   {"a", tensor("FloatStorage", "0", 6, 0, {6}, {1})}}),
                       "twice");
  check_pickle_refused(state_dict({{"a\nb", tensor("FloatStorage", "0", 6, 0, {6}, {1})}}), "a?b");
  check_pickle_refused(state_dict({{"a", tensor("OrderedDict", "0", 6, 0, {6}, {1})}}), "torch.OrderedDict");
  check_pickle_refused(state_dict({{"a", "ccollections\nOrderedDict\n(NtR"}}), "other arguments");
}

TEST_CASE("a tensor that reaches outside its storage is refused") {
  const auto one = [](std::int64_t count, std::int64_t offset, std::vector<std::int64_t> shape,
                      std::vector<std::int64_t> stride, const char* key = "0") {
    return state_dict({{"w", tensor("FloatStorage", key, count, offset, shape, stride)}});
  };
  check_pickle_refused(one(6, 0, {7}, {1}), "outside its storage");
  check_pickle_refused(one(6, 1, {2, 3}, {3, 1}), "outside its storage");
  check_pickle_refused(one(6, 6, {1}, {1}), "outside its storage");
  check_pickle_refused(one(6, 0, {2, 2}, {5, 2}), "outside its storage");
  check_pickle_refused(one(7, 0, {7}, {1}), "another size");
  check_pickle_refused(one(6, 0, {6}, {1}, "1"), "missing");
  check_pickle_refused(one(6, 0, {6}, {1}, "../version"), "missing");
  check_pickle_refused(one(6, 0, {2, 3}, {1}), "as torch.save does not");
  check_pickle_refused(one(6, -1, {1}, {1}), "as torch.save does not");
  check_pickle_refused(one(6, 0, {-1}, {1}), "as torch.save does not");
  check_pickle_refused(one(-6, 0, {1}, {1}), "impossible size");
  check_pickle_refused(one(6, 0, std::vector<std::int64_t>(17, 1), std::vector<std::int64_t>(17, 1)),
                       "as torch.save does not");
  // Strides of 0 claim 2^62 elements out of six, or too many to count.
  check_pickle_refused(one(6, 0, {1 << 30, 1 << 30}, {0, 0}), "repeats its storage");
  check_pickle_refused(one(6, 0, {1 << 30, 1 << 30, 1 << 30}, {0, 0, 0}), "outside its storage");
}

TEST_CASE("many views of one storage cannot take more memory than the file") {
  std::vector<std::pair<std::string, std::string>> entries;
  for (int i = 0; i < 400; ++i) {
    entries.emplace_back("w" + std::to_string(i), tensor("FloatStorage", "0", 4096, 0, {64, 64}, {1, 64}));
  }
  auto records = archive(state_dict(entries));
  records[2].bytes = floats(std::vector<float>(4096, 1.0F));
  check_refused(parse(test::zip_of(records)), "repeats its storage");
}

TEST_CASE("a zip that is damaged, packed or not torch's is refused") {
  const std::string good = test::zip_of(archive(good_pickle()));
  check_refused(parse(""), "does not begin as a zip");
  check_refused(parse("hello"), "does not begin as a zip");
  check_refused(parse("\x80\x02\x8a\x0a"), "bare pickle");
  for (std::size_t cut = 4; cut < good.size(); cut += 7) check_refused(parse(good.substr(0, cut)), "");
  std::string flipped = good;
  flipped[good.find(floats(kSix)) + 5] ^= 1;
  check_refused(parse(flipped), "checksum");
  auto records = archive(good_pickle());
  records[2].method = 8;
  check_refused(parse(test::zip_of(records)), "compressed");
  records = archive(good_pickle());
  records[1].flags = 1;
  check_refused(parse(test::zip_of(records)), "encrypted");
  records = archive(good_pickle());
  records[1].bytes = "big";
  check_refused(parse(test::zip_of(records)), "big-endian");
  records = archive(good_pickle());
  records[3].name = "archive/data/0";
  check_refused(parse(test::zip_of(records)), "name of another one");
  check_refused(parse(test::zip_of({{"archive/other", "x"}})), "without data.pkl");
  check_refused(parse(test::zip_of({})), "");
  // A directory entry that points at another's record.
  std::string twice = good;
  const std::size_t directory = twice.find("PK\1\2");
  const std::size_t second = twice.find("PK\1\2", directory + 4);
  const std::size_t third = twice.find("PK\1\2", second + 4);
  twice.replace(twice.find("PK\1\2", third + 4) + 42, 4, twice.substr(third + 42, 4));
  check_refused(parse(twice), "not where the zip's directory says");
}

TEST_CASE("a published LoRA checkpoint is read: 24 pairs and a classifier") {
  const auto path = test::data_path("lora-roberta-base-mnli/roberta_base_lora_mnli.bin");
  if (!path) return;
  const auto file = TorchZipFile::open(*path);
  REQUIRE_OK(file);
  REQUIRE(file->tensors().size() == 52);
  const TensorView* a = file->find("roberta.encoder.layer.11.attention.self.value.lora_A");
  REQUIRE(a != nullptr);
  CHECK(a->shape == std::vector<std::int64_t>{8, 768});
  CHECK(file->find("classifier.out_proj.bias")->shape == std::vector<std::int64_t>{3});
  const auto values = to_f32(*a).value();
  CHECK(values[0] == -0.08190928399562836F);  // as Python's struct module reads the record
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  CHECK(squares == doctest::Approx(5.6069723209197715));
}
