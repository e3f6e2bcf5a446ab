/// One secure round between real SecAggClients and a real SecAggServer, every message as an encoded frame, all of it
/// from one seed. Devices drop out where a schedule says; a hook may change what the coordinator sends (attacks). No
/// transport, store or clock: those are the daemons' and the world simulator's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregation/secagg_client.h"
#include "aggregation/secagg_seam.h"
#include "aggregation/secagg_server.h"
#include "core/base/rng.h"
#include "core/crypto/identity.h"
#include "core/wire/message.h"

namespace covey::simulations {

/// The message that a device does not send any more.
enum class DropAt : std::uint8_t { advertise = 0, share = 1, mask = 2, agree = 3, unmask = 4, never = 5 };

struct SecAggWorldOptions {
  std::uint32_t devices = 8;
  std::size_t values = 16;  ///< P
  std::uint32_t value_bits = 16;
  std::uint32_t weight_max = 1;
  aggregation::SecAggAssumptions assumptions;
  std::uint32_t survivors_min = 2;
  std::uint32_t groups = 0;  ///< of `grouped` mode: the plan and the devices; `server` then only gathers the list
  std::uint64_t seed = 1;
  std::uint64_t round = 1;
  std::vector<DropAt> drops;        ///< by device; empty: nobody
  bool shuffle = true;              ///< messages reach the coordinator in a random order, some of them twice
  bool remember_signatures = true;  ///< a signature that was checked once is not computed again (same answers)
  ThreadPool* pool = nullptr;
};

/// Answers to signature checks, kept: n devices check the same n signatures.
class SignatureMemory {
 public:
  aggregation::SecAggVerify verifier();

 private:
  std::unordered_map<crypto::Hash256, bool> known_;
};

struct WireBytes {
  std::uint64_t sent = 0;  ///< by the device: frames, headers included
  std::uint64_t received = 0;
};

/// What an upload of `content` bytes costs: SubmitBegin, its chunks, and the coordinator's answers, as frames.
WireBytes upload_cost(std::uint64_t content);

class SecAggWorld {
 public:
  struct Device {
    std::unique_ptr<crypto::IdentityKey> identity;
    std::optional<aggregation::SecAggClient> client;
    aggregation::SecAggLedger ledger;
    std::vector<float> delta;  ///< (P)
    std::uint32_t weight = 1;
    std::vector<std::uint32_t> contribution;   ///< (1 + P)
    std::optional<wire::MaskedUpdate> masked;  ///< as it was sent
    DropAt drop = DropAt::never;
    WireBytes bytes;
    std::string failure;  ///< why it left the protocol, where it refused
    [[nodiscard]] wire::Key key() const { return identity->public_key().bytes; }
    [[nodiscard]] DeviceId id() const { return identity->device_id(); }
  };

  explicit SecAggWorld(const SecAggWorldOptions& options);

  /// Runs all phases to the end. @errors what ended the session.
  Result<aggregation::RunningSum> run();

  /// The same once the list is closed.
  Result<aggregation::RunningSum> finish_from_share();

  /// Single phases, for attacks that step in between. Each delivers what is due and takes the answers.
  void advertise();
  Status close_advertise() { return server->close_advertise(); }
  void share();
  void mask();
  /// Nothing reaches or leaves this device in the phase.
  void mask_all_but(const DeviceId& left_out);
  void advertise_others(std::uint32_t left_out);
  void agree();
  void unmask();

  /// The sum in the clear of those whose masked updates the server counted.
  [[nodiscard]] Result<aggregation::RunningSum> clear_sum(const std::vector<std::uint32_t>& contributors) const;
  [[nodiscard]] std::vector<std::uint32_t> counted_masked() const { return counted_masked_; }

  /// A message through its frame to the other side, counted in the device's bytes.
  template <class M>
  M deliver(const M& message, std::uint64_t& counter) const {
    const auto frame = wire::encode_frame(wire::Message(message), plan.round, 1);
    const auto back = frame.ok() ? wire::decode_frame(*frame) : Result<wire::Envelope>(frame.error());
    COVEY_ASSERT(back.ok());
    if (!back.ok()) return {};
    counter += frame->size();
    return std::get<M>(back->message);
  }
  template <class M>
  M deliver(const M& message) const {
    std::uint64_t uncounted = 0;
    return deliver(message, uncounted);
  }
  aggregation::SecAggRoster roster() const;
  void admit(const wire::Key& identity) { roster_.insert(identity); }
  void revoke(const wire::Key& identity) { roster_.erase(identity); }

  SecAggWorldOptions options;
  wire::RoundPlan plan;
  aggregation::SecAggSetup setup;
  aggregation::SecAggSeam seam;                 ///< of devices made from here on; see make_client()
  std::optional<aggregation::SecAggDraw> draw;  ///< of devices made from here on, where sortition is on
  std::vector<Device> devices;
  std::optional<aggregation::SecAggServer> server;
  /// Called with what is due to a device; may change it, or empty it (not delivered).
  std::function<void(std::uint32_t device, std::optional<wire::Message>&)> tamper;
  /// Called with what a device sends (but for its upload); may change it.
  std::function<void(std::uint32_t device, wire::Message&)> damage;

  /// The seed of a session number `which`; devices start with that of their own index.
  [[nodiscard]] std::array<std::uint8_t, 32> entropy(std::uint64_t which) const;
  /// What the device whose entropy this is holds in secret: an adversary knows it of the devices that it runs.
  [[nodiscard]] aggregation::SessionSecrets secrets(std::uint64_t which) const;
  void make_client(Device& device, const aggregation::SecAggSetup& with, std::uint64_t which);

 private:
  std::vector<std::uint32_t> order();
  std::optional<wire::Message> due(std::uint32_t device);
  /// deliver(), from a device and through `damage`.
  template <class M>
  M sent(std::uint32_t device, const M& message) {
    wire::Message out(deliver(message, devices[device].bytes.sent));
    if (damage) damage(device, out);
    return std::get<M>(std::move(out));
  }
  template <class Question, class Step>
  void each(DropAt phase, Step&& step);

  Rng rng_;
  SignatureMemory memory_;
  std::set<wire::Key> roster_;
  std::optional<DeviceId> left_out_;
  std::vector<std::uint32_t> counted_masked_;
};

}  // namespace covey::simulations
