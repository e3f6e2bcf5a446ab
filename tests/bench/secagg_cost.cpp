// What secure aggregation costs device and coordinator: `secagg_cost [threads [n]]` prints a table. One round per n
// runs with short vectors and all its messages are kept (P changes the upload alone); for each P the measured device's
// steps and the coordinator's whole session are then done again on vectors of that length. 5% of the devices drop out
// between share and mask, the dearest place: their mask secrets are rebuilt and k masks expanded for each. Seconds are
// of processor time, so that a busy machine does not change them; "wall" is the end of a session on the given threads.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>

#include "aggregation/secagg_words.h"
#include "core/wire/codec.h"
#include "simulations/secagg_world.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

[[noreturn]] void give_up(const Error& error) {
  std::fprintf(stderr, "secagg_cost: %s\n", error.message.c_str());
  std::exit(1);
}
template <typename T>
T must(Result<T> result) {
  if (!result.ok()) give_up(result.error());
  return *std::move(result);
}
void must(const Status& status) {
  if (!status.ok()) give_up(status.error());
}

constexpr std::uint32_t kMeasured = 1;  ///< device; it stays to the end

/// A round on short vectors, and all that was said in it.
struct Recording {
  explicit Recording(std::uint32_t n) : world(options(n)) {
    world.tamper = [this](std::uint32_t i, std::optional<wire::Message>& message) {
      if (i == kMeasured && message) asked[message->index()] = *message;
    };
    world.damage = [this](std::uint32_t i, wire::Message& message) { said[message.index()][i] = message; };
    must(world.run());
  }
  static SecAggWorldOptions options(std::uint32_t n) {
    SecAggWorldOptions out;
    out.devices = n;
    out.values = 1;
    out.survivors_min = n / 2;
    out.shuffle = false;
    out.drops.assign(n, DropAt::never);
    for (std::uint32_t i = 0; i < n; i += 20) out.drops[i] = DropAt::mask;
    return out;
  }
  template <class M>
  static std::size_t index() {
    return wire::Message(M{}).index();
  }
  template <class M>
  const M& question() const {
    return std::get<M>(asked.at(index<M>()));
  }

  SecAggWorld world;
  std::map<std::size_t, wire::Message> asked;  ///< of the measured device
  std::map<std::size_t, std::map<std::uint32_t, wire::Message>> said;
};

struct DeviceCost {
  double keys_s = 0;  ///< everything but the masks: signatures, agreements, shares
  double mask_s = 0;
  WireBytes bytes;
};

DeviceCost measure_device(Recording& round, std::size_t values) {
  SecAggWorld& world = round.world;
  SecAggClientInputs inputs;
  inputs.setup = world.setup;
  inputs.setup.spec.values = values;
  inputs.identity = world.devices[kMeasured].identity.get();
  inputs.roster = world.roster();
  inputs.seed = world.entropy(kMeasured);
  SecAggClient client = must(SecAggClient::create(std::move(inputs)));
  SecAggLedger ledger;
  const std::vector<std::uint32_t> contribution(1 + values, 1);

  DeviceCost cost;
  const double begin = cpu_seconds();
  (void)must(client.advertise(ledger));
  (void)must(client.share(round.question<wire::SecureList>()));
  const double before = cpu_seconds();
  const auto masked = must(client.mask(round.question<wire::SecureInbox>(), contribution, ledger));
  const double after = cpu_seconds();
  (void)must(client.agree(round.question<wire::SecureSurvivors>()));
  (void)must(client.unmask(round.question<wire::SecureUnmask>()));
  cost.mask_s = after - before;
  cost.keys_s = cpu_seconds() - begin - cost.mask_s;

  const WireBytes small = upload_cost(wire::encode(*world.devices[kMeasured].masked).size());
  const WireBytes large = upload_cost(wire::encode(masked).size());
  cost.bytes = world.devices[kMeasured].bytes;
  cost.bytes.sent += large.sent - small.sent;
  cost.bytes.received += large.received - small.received;
  return cost;
}

struct CoordinatorCost {
  double messages_s = 0;  ///< checking and adding what comes
  double unmask_s = 0;    ///< rebuilding secrets, expanding masks
  double unmask_wall_s = 0;
};

CoordinatorCost measure_coordinator(Recording& round, std::size_t values, ThreadPool& pool) {
  SecAggWorld& world = round.world;
  SecAggSetup setup = world.setup;
  setup.spec.values = values;
  SecAggSeam seam;
  seam.checks.sum_bounds = false;  // what is uploaded here is of the right length, not of the right content
  SecAggServer server = must(SecAggServer::create_with_seam(setup, world.roster(), seam));
  const auto each = [&]<class M>(const M&, auto&& take) {
    for (const auto& [i, message] : round.said[Recording::index<M>()]) {
      must(take(world.devices[i].id(), std::get<M>(message)));
    }
  };
  CoordinatorCost cost;
  double begin = cpu_seconds();
  each(wire::SecureAdvertise{}, [&](const DeviceId& id, const auto& m) { return server.on_advertise(id, m); });
  must(server.close_advertise());
  each(wire::SecureBoxes{}, [&](const DeviceId& id, const auto& m) { return server.on_boxes(id, m); });
  must(server.close_share());
  for (const auto& device : world.devices) (void)server.due(device.id());
  cost.messages_s += cpu_seconds() - begin;

  wire::MaskedUpdate upload{
      setup.round, world.devices[kMeasured].masked->session, static_cast<std::uint32_t>(setup.words()), setup.bits, {}};
  upload.words = pack_words(std::vector<std::uint32_t>(setup.words(), 12345), setup.bits);
  begin = cpu_seconds();
  for (const auto& device : world.devices) {
    if (device.masked) must(server.on_masked(device.id(), upload));
  }
  must(server.close_mask());
  each(wire::SecureAgree{}, [&](const DeviceId& id, const auto& m) { return server.on_agree(id, m); });
  must(server.close_agree());
  for (const auto& device : world.devices) (void)server.due(device.id());
  each(wire::SecureShares{}, [&](const DeviceId& id, const auto& m) { return server.on_shares(id, m); });
  cost.messages_s += cpu_seconds() - begin;

  begin = cpu_seconds();
  const auto wall = std::chrono::steady_clock::now();
  (void)must(server.finish(&pool));
  cost.unmask_wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - wall).count();
  cost.unmask_s = cpu_seconds() - begin;
  return cost;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  const int only = argc > 2 ? std::atoi(argv[2]) : 0;
  ThreadPool pool(threads);
  std::printf(
      "gamma 0.1, delta 0.2, 16 bits, 5%% of the devices lost between share and mask, %d threads for unmasking\n\n",
      threads);
  std::printf(
      "| n | k | t | P | device: keys s | masks s | MB sent | MB received | coordinator: messages s | unmasking s "
      "| wall s |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const std::uint32_t n : {100U, 500U, 1000U}) {
    if (only != 0 && static_cast<std::uint32_t>(only) != n) continue;
    Recording round(n);
    for (const std::size_t values : {std::size_t{100'000}, std::size_t{1'000'000}, std::size_t{4'000'000}}) {
      const DeviceCost device = measure_device(round, values);
      const CoordinatorCost coordinator = measure_coordinator(round, values, pool);
      const SecAggParams& params = round.world.server->params();
      std::printf("| %u | %u | %u | %.1fM | %.3f | %.3f | %.3f | %.3f | %.2f | %.2f | %.2f |\n", n, params.degree,
                  params.threshold, static_cast<double>(values) / 1e6, device.keys_s, device.mask_s,
                  static_cast<double>(device.bytes.sent) / 1e6, static_cast<double>(device.bytes.received) / 1e6,
                  coordinator.messages_s, coordinator.unmask_s, coordinator.unmask_wall_s);
      std::fflush(stdout);
    }
  }
  return 0;
}
