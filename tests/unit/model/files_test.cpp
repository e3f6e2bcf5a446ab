#include <fstream>

#include "core/formats/safetensors.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

double loss_of(const Model& model) {
  ThreadPool pool(1);
  const auto batch = tiny::batch(2, 9, 19);
  const auto loss = tiny::engine(model, pool)->loss(batch.view(), {}, {});
  REQUIRE_OK(loss);
  return loss.value().loss_sum;
}

}  // namespace

TEST_CASE("A model that is saved and loaded again computes the same bits, mapped or in memory") {
  auto qwen = tiny::config();
  qwen.family = "qwen2";
  qwen.qkv_bias = true;
  auto untied = tiny::config();
  untied.tied_head = false;
  for (const auto& config : {tiny::config(), qwen, untied}) {
    const auto model = tiny::model(config);
    const test::TempDir dir;
    REQUIRE_OK(model->save(dir.file("m")));
    const auto mapped = Model::load(dir.file("m"));
    REQUIRE_OK(mapped);
    CHECK(loss_of(*mapped.value()) == loss_of(*model));
    const auto owned = Model::load(dir.file("m"), {.writable = true});
    REQUIRE_OK(owned);
    CHECK(loss_of(*owned.value()) == loss_of(*model));
    owned.value()->parameters().back().values[0] += 1;
    CHECK(loss_of(*owned.value()) != loss_of(*model));
  }
}

TEST_CASE("The same seed creates the same model, another one another") {
  const auto a = Model::create(tiny::config(), 1);
  const auto b = Model::create(tiny::config(), 1);
  const auto c = Model::create(tiny::config(), 2);
  REQUIRE_OK(a);
  REQUIRE_OK(b);
  REQUIRE_OK(c);
  CHECK(loss_of(*a.value()) == loss_of(*b.value()));
  CHECK(loss_of(*a.value()) != loss_of(*c.value()));
}

TEST_CASE("Sites are named as Hugging Face names modules, in the order of the forward pass") {
  auto config = tiny::config();
  const auto tied = tiny::model(config);
  CHECK(tied->linear_sites().size() == 14);
  config.tied_head = false;
  const auto model = tiny::model(config);
  const auto& sites = model->linear_sites();
  REQUIRE(sites.size() == 15);
  CHECK(sites[0].path == "model.layers.0.self_attn.q_proj");
  CHECK(sites[13].path == "model.layers.1.mlp.down_proj");
  CHECK(sites[13].leaf == "down_proj");
  CHECK(sites[13].layer == 1);
  CHECK(sites[13].in == 20);
  CHECK(sites[14].path == "lm_head");
  CHECK(sites[14].leaf == "lm_head");
  CHECK(sites[14].layer == -1);
}

TEST_CASE("A model directory that does not fit its configuration is refused with the tensor's name") {
  const auto model = tiny::model(tiny::config());
  const test::TempDir dir;
  REQUIRE_OK(model->save(dir.path()));
  auto other = tiny::config();
  other.intermediate_size = 21;
  std::ofstream(dir.file("config.json")) << config_to_hf(other);
  const auto wrong = Model::load(dir.path());
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.error().code == ErrorCode::corrupt_data);
  CHECK(wrong.error().message.find("gate_proj") != std::string::npos);
  other = tiny::config();
  other.layers = 3;
  std::ofstream(dir.file("config.json")) << config_to_hf(other);
  const auto missing = Model::load(dir.path());
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message.find("layers.2") != std::string::npos);
  CHECK_FALSE(Model::load(dir.file("nothing")).ok());
  CHECK_FALSE(Model::load(dir.file("config.json")).ok());
}

}  // namespace covey::model
