/// Everything that travels between a device and the coordinator. One struct per message; the codec (codec.h) bounds and
/// checks every field, frame.h carries them. Byte strings that are keys or hashes have their own types.
///
/// A device speaks first, always:
///   1  Enroll -> Enrolled                      once, on a connection keyed by the invite
///   2  Hello -> Welcome [, SignedEndpoint]     on every connection, signed; nothing else is served before
///   3  CheckIn -> TaskOffer | CheckBack        CheckBack: disconnect and come back later
///   4  TaskAnswer                              may refuse
///   5  ManifestRequest/ChunkRequest -> Manifest/Chunk     base model and adapter, resumable
///   6  Progress                                while training
///   7  SubmitBegin -> SubmitNext, SubmitChunk -> SubmitNext ..., -> Receipt (after the commit it speaks of)
/// In `secure` and `grouped` mode the phases of secure aggregation stand around step 7 (Secure... below); the
/// coordinator speaks when it closes a phase, and again to a device that repeats its last message.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/ids.h"

namespace covey::wire {

using Hash = std::array<std::uint8_t, 32>;       ///< BLAKE2b-256
using Key = std::array<std::uint8_t, 32>;        ///< Ed25519 or CURVE public key
using Signature = std::array<std::uint8_t, 64>;  ///< Ed25519
using Nonce = std::array<std::uint8_t, 16>;

enum class PrivacyMode : std::uint8_t { robust = 0, grouped = 1, secure = 2 };  ///< weakest to strongest
const char* to_string(PrivacyMode mode);

/// What a device says of itself; measured figures are 0 until measured.
struct Capabilities {
  std::string software;  ///< "covey 0.1.0"
  std::string processor;
  std::uint32_t cores = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t training_memory_bytes_max = 0;  ///< what its policy grants to training
  std::string isa;                              ///< "avx512", "portable", ...
  double tokens_per_s = 0;                      ///< last training run
  double bytes_per_s = 0;                       ///< last transfer
  std::uint64_t examples = 0;  ///< rounded down to a power of two: the exact number stays on the device
  PrivacyMode weakest_mode = PrivacyMode::secure;
};

// ---- identity ------------------------------------------------------------------------------------------------------

/// Sent on a connection whose CURVE key is derived from the invite's secret.
struct Enroll {
  Hash invite{};  ///< BLAKE2b-256 of the invite's secret
  Key identity{};
  Key curve{};  ///< what the device will connect with from now on
  std::string name;
  Signature signature{};  ///< by identity, over the fields above
};

enum class DeviceStatus : std::uint8_t { active = 0, revoked = 1 };

struct RosterChange {
  Key identity{};
  Key curve{};
  DeviceStatus status = DeviceStatus::active;
};

/// One link of the roster's hash chain: what changed since the epoch before.
struct RosterEpoch {
  std::uint64_t epoch = 0;  ///< 1, 2, 3, ...
  Hash previous{};          ///< hash of the encoded SignedRosterEpoch before it; zero for epoch 1
  std::int64_t issued_ms = 0;
  std::vector<RosterChange> changes;  ///< at most 1,024
};

struct SignedRosterEpoch {
  Bytes epoch;            ///< encoded RosterEpoch
  Signature signature{};  ///< by the roster key
};

struct Enrolled {
  std::string task;
  std::uint64_t roster_epoch = 0;  ///< the device is listed from this epoch on; 0 = the epoch is still to be signed
};

struct RosterRequest {
  std::uint64_t after_epoch = 0;
};
struct RosterReply {
  std::vector<SignedRosterEpoch> epochs;  ///< in order; as many as fit a frame
  std::uint64_t head = 0;
};

struct Hello {
  Key identity{};
  Key curve{};  ///< must be the key the connection was made with
  std::int64_t sent_ms = 0;
  Nonce nonce{};
  std::uint64_t roster_epoch = 0;  ///< newest one the device knows
  Signature signature{};           ///< by identity, over the fields above
};

struct Welcome {
  std::int64_t server_ms = 0;
  std::uint64_t roster_epoch = 0;
  Signature signature{};  ///< by the coordinator's identity over (device's nonce, fields above): proves who answers
};

/// Where the coordinator can be reached from now on, and with which transport key: how a server key is rotated. The
/// endpoint before it is served beside it for a while, so that devices hear of it in time.
struct EndpointNotice {
  std::uint64_t number = 0;  ///< 1, 2, ...: a device follows a higher one than it knows
  std::string task;
  std::string endpoint;  ///< as in an invite
  Key curve{};
  std::int64_t from_ms = 0;           ///< served from then on; the coordinator's wall clock, as Welcome::server_ms
  std::int64_t overlap_until_ms = 0;  ///< the endpoint before it is served until then
};

/// May follow any Welcome.
struct SignedEndpoint {
  Bytes notice;           ///< encoded EndpointNotice
  Signature signature{};  ///< by the coordinator's identity
};

// ---- a round -------------------------------------------------------------------------------------------------------

struct FileBlob {
  std::string name;  ///< file name inside the model's directory, no slashes
  Hash blob{};
  std::uint64_t bytes = 0;
};

/// What a plan says of secure aggregation; k and t follow from it and the number of devices that advertised.
struct SecurePlan {
  double corrupt_fraction = 0;      ///< gamma; [0, 1)
  double dropout_fraction = 0;      ///< delta; [0, 1)
  std::uint32_t survivors_min = 0;  ///< n_min: fewer are never summed
  std::int64_t phase_ms = 0;        ///< how long each phase after the advertised keys may take
  /// In `grouped` mode: how many groups the devices are dealt into, each a session of its own to which the four above
  /// apply (aggregation/grouped.h). 0 in `secure` mode.
  std::uint32_t groups = 0;
  /// Sortition: a list may hold only devices whose draw (signing.h, draw_of) is below this. 0: no device was drawn so,
  /// and whom the coordinator chose cannot be checked.
  std::uint64_t drawn_below = 0;
};

/// A seeded task: versions and updates are K scalars, one for each candidate direction, in place of the adapter's P
/// values. Whoever has the base model makes the adapter from them (adapters/seeded.h).
struct SeededPlan {
  std::uint32_t candidates = 0;  ///< K; 0: dense versions and updates
  std::uint64_t seed = 0;        ///< of the whole task: the adapter's first values and the candidates follow from it
};

enum class NoiseKind : std::uint8_t { none = 0, discrete_gaussian = 1, skellam = 2 };

/// Distributed differential privacy, in `secure` mode: each device adds its share of the noise before it masks.
struct NoisePlan {
  NoiseKind kind = NoiseKind::none;
  double multiplier = 0;  ///< deviation of the noise in a sum over the sensitivity; (0, 1000]
};

enum class CorrelatedKind : std::uint8_t { none = 0, tree = 1, blt = 2 };

/// DP-FTRL: the coordinator adds noise that is correlated over the rounds of a task, and devices keep their updates
/// apart. Constant over a task; a device that has agreed to it takes nothing weaker (aggregation/dp_correlated.h).
struct CorrelatedPlan {
  CorrelatedKind kind = CorrelatedKind::none;
  double multiplier = 0;                 ///< deviation of the independent noise over one update's sensitivity
  std::uint32_t separation = 1;          ///< b: updates of one device lie at least b rounds apart, aborted ones counted
  std::uint32_t participations_max = 0;  ///< k; 0: as many as the separation lets
  std::uint32_t buffers = 0;             ///< d, of a BLT
  std::uint32_t fitted_rounds = 0;       ///< what a BLT is fitted to
  bool operator==(const CorrelatedPlan&) const = default;
};

/// Everything a device must know to take part in one round. Stored before it is sent, signed by the coordinator.
struct RoundPlan {
  std::string task;
  RoundId round;
  ModelVersion base_version;    ///< adapter version the devices start from
  std::vector<FileBlob> model;  ///< base model, file by file
  std::string adapter_layout;   ///< canonical text of adapters::AdapterLayout
  FileBlob adapter;             ///< its current values, P little-endian f32; K of a seeded task
  std::uint64_t seed = 0;       ///< for whatever devices draw in common

  std::string method = "backprop";
  std::string optimizer = "adamw";
  double learning_rate = 0;
  double weight_decay = 0;
  double gradient_clip = 0;       ///< by global norm; 0 = off
  double prox_mu = 0;             ///< FedProx; 0 = off
  std::uint32_t local_steps = 0;  ///< 0 = by epochs
  std::uint32_t local_epochs = 0;
  std::uint32_t local_steps_max = 0;  ///< bound on both
  std::uint32_t batch = 0;            ///< B
  std::uint32_t seq = 0;              ///< T

  PrivacyMode mode = PrivacyMode::robust;
  double clip_norm = 0;          ///< L2 bound of a delta; > 0
  std::uint32_t value_bits = 0;  ///< m: bits of one quantized value
  std::uint32_t weight_max = 1;  ///< w_max; 1 = unweighted
  std::uint32_t cohort_invited = 0;
  std::uint32_t goal_count = 0;  ///< updates that end the collection
  std::uint32_t min_count = 0;   ///< fewer at the deadline: the round is aborted
  std::uint64_t update_bytes_max = 0;
  std::int64_t deadline_ms = 0;  ///< after the round's start
  std::uint64_t roster_epoch = 0;
  SecurePlan secure;  ///< in `secure` and `grouped` mode
  SeededPlan seeded;
  NoisePlan noise;
  bool rotate = false;  ///< updates are rotated by `seed` before they are rounded (aggregation/compress_rotate.h)
  CorrelatedPlan correlated;
  std::uint32_t kept =
      0;  ///< top-k, `robust` mode: values of an update that are sent; 0: all (aggregation/compress_topk.h)
  /// backprop on int8 weights: how gradients are rounded (train::GradientConfig), each device with noise of its own
  bool stochastic_rounding = false;
};

struct CheckIn {
  Capabilities capabilities;
  RoundId last_round;  ///< newest round the device finished
};

enum class WaitReason : std::uint8_t {
  no_round = 0,
  not_selected = 1,
  paused = 2,
  draining = 3,
  already_contributed = 4,
  busy = 5,
  finished = 6
};
struct CheckBack {
  std::uint32_t retry_after_ms = 0;
  WaitReason reason = WaitReason::no_round;
};

struct TaskOffer {
  Bytes plan;                ///< encoded RoundPlan
  std::int64_t left_ms = 0;  ///< until the round's deadline, as the coordinator's clock sees it
  Signature signature{};     ///< by the coordinator's identity, over `plan`
};

enum class RefusalReason : std::uint8_t {
  none = 0,
  policy = 1,
  memory = 2,
  no_data = 3,
  mode = 4,
  budget = 5,
  bad_plan = 6,
  busy = 7,
  failed = 8
};
const char* to_string(RefusalReason reason);
struct TaskAnswer {
  RoundId round;
  bool accepted = false;
  RefusalReason reason = RefusalReason::none;
};

struct Progress {
  RoundId round;
  std::uint32_t step = 0;
  std::uint32_t steps = 0;
};

/// What a device reports beside its update; in `secure` mode only what section 4 of the specification allows.
struct TrainingReport {
  std::uint32_t steps = 0;
  std::uint64_t tokens = 0;
  std::uint32_t train_ms = 0;
  double tokens_per_s = 0;
  double bytes_per_s = 0;  ///< of the downloads of this round; 0 = nothing was downloaded
  double loss_first = 0;   ///< mean loss of the first local step
  double loss_last = 0;
};

enum class UpdateKind : std::uint8_t { clear = 0, masked = 1 };

/// Announces an upload. The same announcement again is answered by what is still missing, or by the stored receipt.
struct SubmitBegin {
  RoundId round;
  UpdateKind kind = UpdateKind::clear;
  Hash content{};  ///< of the whole encoded update
  std::uint64_t bytes = 0;
  TrainingReport report;
};
struct SubmitNext {
  RoundId round;
  std::uint32_t chunk = 0;  ///< the chunk to send next
};
struct SubmitChunk {
  RoundId round;
  std::uint32_t chunk = 0;
  Bytes bytes;  ///< kChunkBytes, less in the last one
};

enum class ReceiptStatus : std::uint8_t { accepted = 0, late = 1, refused = 2, conflicting = 3 };
const char* to_string(ReceiptStatus status);
struct Receipt {
  RoundId round;
  Hash content{};
  ReceiptStatus status = ReceiptStatus::accepted;
};

/// The content of an upload in `robust` mode: what aggregation's protect() makes. Values are packed words.
struct ClearUpdate {
  RoundId round;
  Hash plan{};               ///< hash of the encoded RoundPlan it answers
  std::uint32_t weight = 1;  ///< w <= weight_max
  std::uint32_t count = 0;   ///< P; of a sparse update k
  std::uint32_t bits = 0;    ///< m
  Bytes words;               ///< P values of m bits, packed; of a sparse update before them k positions
};

// ---- secure aggregation (security.md section 4; aggregation/secagg_client.h and secagg_server.h)
// ---------------------
//
//   device                              coordinator
//   SecureAdvertise                 ->
//                                   <-  SecureList          everyone's keys, sorted by identity
//   SecureBoxes                     ->
//                                   <-  SecureInbox         the boxes of its neighbours for it
//   SubmitBegin (masked), chunks    ->                      content: an encoded MaskedUpdate
//                                   <-  SecureSurvivors
//   SecureAgree                     ->
//                                   <-  SecureUnmask
//   SecureShares                    ->
//   SecureAbort                    <->                      at any time; whoever gets it erases the session
//
// Devices are named by their index in the list. `session` is the hash of that list and of what it is bound to.

constexpr std::uint16_t kSecureVersion = 1;
constexpr std::size_t kSecretShareBytes = 36;                       ///< aggregation/shamir.h
constexpr std::size_t kShareBoxBytes = 2 * kSecretShareBytes + 16;  ///< two shares and a tag
using SecretShare = std::array<std::uint8_t, kSecretShareBytes>;
using ShareBox = std::array<std::uint8_t, kShareBoxBytes>;

/// One device's keys for one session, made fresh and wiped with it.
struct SecureKeys {
  Key identity{};
  Key mask_key{};   ///< X25519: pairwise masks
  Key share_key{};  ///< X25519: boxes between devices
  Nonce nonce{};
  Hash commitment{};      ///< H(b), b the seed of its own mask
  Signature signature{};  ///< by identity, over round, version, plan, roster epoch and the fields above
};

struct SecureAdvertise {
  RoundId round;
  std::uint16_t version = kSecureVersion;
  Hash plan{};  ///< of the encoded RoundPlan, which names the model's and the adapter's blobs
  std::uint64_t roster_epoch = 0;
  SecureKeys keys;
};

struct SecureList {
  RoundId round;
  std::uint16_t version = kSecureVersion;
  Hash plan{};
  std::uint64_t roster_epoch = 0;
  std::uint32_t degree = 0;         ///< k, for comparison: every device computes its own
  std::uint32_t threshold = 0;      ///< t, likewise
  std::vector<SecureKeys> devices;  ///< identities ascending
};

/// One box for each neighbour, in ascending order of their indices.
struct SecureBoxes {
  RoundId round;
  Hash session{};
  std::vector<ShareBox> boxes;
};

struct BoxFrom {
  std::uint16_t from = 0;
  ShareBox box{};
};
/// The boxes that neighbours made for this device; who is not among them has dropped out before its mask counted.
struct SecureInbox {
  RoundId round;
  Hash session{};
  std::vector<BoxFrom> boxes;  ///< indices ascending
};

/// The content of an upload in `secure` mode: (1 + P) words modulo 2^bits, packed as in aggregation/secagg_words.h.
/// Word 0 carries the weight w, the others w x.
struct MaskedUpdate {
  RoundId round;
  Hash session{};
  std::uint32_t count = 0;  ///< 1 + P
  std::uint32_t bits = 0;   ///< b
  Bytes words;
};

/// Survivors are all devices of the list but these.
struct SecureSurvivors {
  RoundId round;
  Hash session{};
  std::vector<std::uint16_t> dead;  ///< ascending
};

struct SecureAgree {
  RoundId round;
  Hash session{};
  Signature signature{};  ///< by identity, over session and survivors
};

struct SignatureFrom {
  std::uint16_t from = 0;
  Signature signature{};
};
/// Carries the dead alone, so that nobody can ask for both secrets of one device.
struct SecureUnmask {
  RoundId round;
  Hash session{};
  std::vector<std::uint16_t> dead;        ///< ascending
  std::vector<SignatureFrom> signatures;  ///< of the addressee's neighbours; indices ascending
};

struct ShareOf {
  std::uint16_t of = 0;
  SecretShare share{};
};
/// For each device whose box it holds: the share of b where that device survived, else of its mask secret.
struct SecureShares {
  RoundId round;
  Hash session{};
  std::vector<ShareOf> shares;  ///< indices ascending
};

/// Why one side goes no further in a session. `none`: the coordinator has the sum, all is done.
enum class SecureReason : std::uint8_t {
  none = 0,
  ended = 1,        ///< deadline, shutdown, a dropout: nobody's fault
  round_seen = 2,   ///< the same round offered twice
  wrong_round = 3,  ///< a message of another round or session
  wrong_version = 4,
  plan_differs = 5,     ///< another model or plan than the one this device trained on
  stale_roster = 6,     ///< another roster epoch than the plan's
  malformed = 7,        ///< order, indices, lengths
  too_few_devices = 8,  ///< below n_min
  too_many_devices = 9,
  self_missing = 10,
  listed_twice = 11,    ///< an identity or a key stands in the list twice
  self_changed = 12,    ///< this device's own entry is not what it sent
  unknown_device = 13,  ///< not active in the pinned roster
  bad_signature = 14,
  parameters_differ = 15,   ///< k or t is not what follows from the plan
  bad_key = 16,             ///< an exchange key that gives no secret
  too_few_shares = 17,      ///< fewer than t boxes open, or shares came
  already_masked = 18,      ///< as many masked updates for this model version as allowed
  declared_dead = 19,       ///< this device is alive, the survivor set says it is not
  too_few_neighbours = 20,  ///< fewer than t of its neighbours survive
  survivors_differ = 21,    ///< another survivor set than the one signed
  too_few_signatures = 22,  ///< of its own neighbours on that set
  request_differs = 23,     ///< a second request that is not the first again
  wrong_shape = 24,         ///< a masked update of another length or modulus
  bad_share = 25,           ///< a rebuilt secret is not the advertised one
  unexpected = 26,          ///< no message of this phase
  conflicting = 27,         ///< a second message that is not the first again
  not_drawn = 28,           ///< sortition did not draw a listed device, or too few of those drawn are listed
};
const char* to_string(SecureReason reason);
struct SecureAbort {
  RoundId round;
  SecureReason reason = SecureReason::ended;
};

// ---- blobs ---------------------------------------------------------------------------------------------------------

constexpr std::uint32_t kChunkBytes = 256 * 1024;

/// A blob's name is the hash of its encoded manifest, so whoever trusts the name can check manifest and chunks.
struct Manifest {
  std::uint64_t bytes = 0;
  std::vector<Hash> chunks;  ///< BLAKE2b-256 of each kChunkBytes piece; at most 8,192 (2 GiB)
};
struct ManifestRequest {
  Hash blob{};
};
struct ManifestReply {
  Hash blob{};
  Manifest manifest;
};
struct ChunkRequest {
  Hash blob{};
  std::uint32_t chunk = 0;
};
struct ChunkReply {
  Hash blob{};
  std::uint32_t chunk = 0;
  Bytes bytes;
};

// ---- errors --------------------------------------------------------------------------------------------------------

enum class Complaint : std::uint8_t {
  unknown_version = 0,
  malformed = 1,
  not_enrolled = 2,
  bad_signature = 3,
  revoked = 4,
  unexpected = 5,
  not_found = 6,
  too_large = 7,
  clock_skew = 8,
};
const char* to_string(Complaint complaint);
struct ErrorReply {
  Complaint complaint = Complaint::malformed;
  std::string message;                  ///< one line, at most 512 bytes
  std::vector<std::uint16_t> versions;  ///< the frame versions we speak
};

/// Frame type numbers; fixed for ever. 64 to 95 are the phases of secure aggregation.
enum class MessageType : std::uint16_t {
  enroll = 1,
  enrolled = 2,
  roster_request = 3,
  roster_reply = 4,
  hello = 5,
  welcome = 6,
  signed_endpoint = 7,
  check_in = 16,
  check_back = 17,
  task_offer = 18,
  task_answer = 19,
  progress = 20,
  submit_begin = 24,
  submit_next = 25,
  submit_chunk = 26,
  receipt = 27,
  manifest_request = 32,
  manifest_reply = 33,
  chunk_request = 34,
  chunk_reply = 35,
  error_reply = 48,
  secure_advertise = 64,
  secure_list = 65,
  secure_boxes = 66,
  secure_inbox = 67,
  secure_survivors = 68,
  secure_agree = 69,
  secure_unmask = 70,
  secure_shares = 71,
  secure_abort = 72,
};
constexpr std::uint16_t kSecureFirst = 64;
constexpr std::uint16_t kSecureLast = 95;

using Message =
    std::variant<Enroll, Enrolled, RosterRequest, RosterReply, Hello, Welcome, SignedEndpoint, CheckIn, CheckBack,
                 TaskOffer, TaskAnswer, Progress, SubmitBegin, SubmitNext, SubmitChunk, Receipt, ManifestRequest,
                 ManifestReply, ChunkRequest, ChunkReply, ErrorReply, SecureAdvertise, SecureList, SecureBoxes,
                 SecureInbox, SecureSurvivors, SecureAgree, SecureUnmask, SecureShares, SecureAbort>;

}  // namespace covey::wire
