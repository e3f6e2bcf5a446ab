/// Which fields of each message travel, in which order, within which bounds. Cereal-free templates; the order is the
/// format: fields are never moved or removed, a change of meaning takes a new frame version.
#pragma once

#include <string_view>

#include "core/wire/field.h"
#include "core/wire/limits.h"
#include "core/wire/messages.h"

namespace covey::wire {

/// No path: not empty, no slash or zero byte, neither "." nor "..".
inline bool is_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos && name.find('\0') == name.npos;
}

template <class A>
void serialize(A& a, Capabilities& m) {
  a(bounded(m.software, kNameBytesMax), bounded(m.processor, kNameBytesMax), m.cores, m.memory_bytes,
    m.training_memory_bytes_max, bounded(m.isa, kNameBytesMax), m.tokens_per_s, m.bytes_per_s, m.examples,
    up_to(m.weakest_mode, PrivacyMode::secure));
}

template <class A>
void serialize(A& a, Enroll& m) {
  a(m.invite, m.identity, m.curve, bounded(m.name, kNameBytesMax), m.signature);
}

template <class A>
void serialize(A& a, RosterChange& m) {
  a(m.identity, m.curve, up_to(m.status, DeviceStatus::revoked));
}

template <class A>
void serialize(A& a, RosterEpoch& m) {
  a(m.epoch, m.previous, m.issued_ms, bounded(m.changes, kRosterChangesMax));
}

template <class A>
void serialize(A& a, SignedRosterEpoch& m) {
  a(bounded(m.epoch, kRosterEpochBytesMax), m.signature);
}

template <class A>
void serialize(A& a, Enrolled& m) {
  a(bounded(m.task, kNameBytesMax), m.roster_epoch);
}

template <class A>
void serialize(A& a, RosterRequest& m) {
  a(m.after_epoch);
}

template <class A>
void serialize(A& a, RosterReply& m) {
  a(bounded(m.epochs, kRosterEpochsMax), m.head);
}

template <class A>
void serialize(A& a, Hello& m) {
  a(m.identity, m.curve, m.sent_ms, m.nonce, m.roster_epoch, m.signature);
}

template <class A>
void serialize(A& a, Welcome& m) {
  a(m.server_ms, m.roster_epoch, m.signature);
}

template <class A>
void serialize(A& a, EndpointNotice& m) {
  a(m.number, bounded(m.task, kNameBytesMax), bounded(m.endpoint, kEndpointBytesMax), m.curve, m.from_ms,
    m.overlap_until_ms);
}

template <class A>
void serialize(A& a, SignedEndpoint& m) {
  a(bounded(m.notice, kNoticeBytesMax), m.signature);
}

template <class A>
void serialize(A& a, FileBlob& m) {
  a(bounded(m.name, kFileNameBytesMax), m.blob, m.bytes);
  if constexpr (A::kReading) a.require(is_file_name(m.name), "a file name is empty or a path");
}

template <class A>
void serialize(A& a, SecurePlan& m) {
  a(m.corrupt_fraction, m.dropout_fraction, m.survivors_min, m.phase_ms, m.groups, m.drawn_below);
}

template <class A>
void serialize(A& a, SeededPlan& m) {
  a(m.candidates, m.seed);
}

template <class A>
void serialize(A& a, NoisePlan& m) {
  a(up_to(m.kind, NoiseKind::skellam), m.multiplier);
}

template <class A>
void serialize(A& a, CorrelatedPlan& m) {
  a(up_to(m.kind, CorrelatedKind::blt), m.multiplier, m.separation, m.participations_max, m.buffers, m.fitted_rounds);
}

template <class A>
void serialize(A& a, RoundPlan& m) {
  a(bounded(m.task, kNameBytesMax), m.round, m.base_version, bounded(m.model, kModelFilesMax),
    bounded(m.adapter_layout, kLayoutBytesMax), m.adapter, m.seed);
  a(bounded(m.method, kNameBytesMax), bounded(m.optimizer, kNameBytesMax), m.learning_rate, m.weight_decay,
    m.gradient_clip, m.prox_mu, m.local_steps, m.local_epochs, m.local_steps_max, m.batch, m.seq);
  a(up_to(m.mode, PrivacyMode::secure), m.clip_norm, m.value_bits, m.weight_max, m.cohort_invited, m.goal_count,
    m.min_count, m.update_bytes_max, m.deadline_ms, m.roster_epoch, m.secure, m.seeded, m.noise, m.rotate, m.correlated,
    m.kept, m.stochastic_rounding);
}

template <class A>
void serialize(A& a, CheckIn& m) {
  a(m.capabilities, m.last_round);
}

template <class A>
void serialize(A& a, CheckBack& m) {
  a(m.retry_after_ms, up_to(m.reason, WaitReason::finished));
}

template <class A>
void serialize(A& a, TaskOffer& m) {
  a(bounded(m.plan, kPlanBytesMax), m.left_ms, m.signature);
}

template <class A>
void serialize(A& a, TaskAnswer& m) {
  a(m.round, m.accepted, up_to(m.reason, RefusalReason::failed));
}

template <class A>
void serialize(A& a, Progress& m) {
  a(m.round, m.step, m.steps);
}

template <class A>
void serialize(A& a, TrainingReport& m) {
  a(m.steps, m.tokens, m.train_ms, m.tokens_per_s, m.bytes_per_s, m.loss_first, m.loss_last);
}

template <class A>
void serialize(A& a, SubmitBegin& m) {
  a(m.round, up_to(m.kind, UpdateKind::masked), m.content, m.bytes, m.report);
}

template <class A>
void serialize(A& a, SubmitNext& m) {
  a(m.round, m.chunk);
}

template <class A>
void serialize(A& a, SubmitChunk& m) {
  a(m.round, m.chunk, bounded(m.bytes, kChunkBytes));
}

template <class A>
void serialize(A& a, Receipt& m) {
  a(m.round, m.content, up_to(m.status, ReceiptStatus::conflicting));
}

template <class A>
void serialize(A& a, ClearUpdate& m) {
  a(m.round, m.plan, m.weight, m.count, m.bits, m.words);  // no frame: bounded by the plan's update_bytes_max
}

template <class A>
void serialize(A& a, SecureKeys& m) {
  a(m.identity, m.mask_key, m.share_key, m.nonce, m.commitment, m.signature);
}

template <class A>
void serialize(A& a, SecureAdvertise& m) {
  a(m.round, m.version, m.plan, m.roster_epoch, m.keys);
}

template <class A>
void serialize(A& a, SecureList& m) {
  a(m.round, m.version, m.plan, m.roster_epoch, m.degree, m.threshold, bounded(m.devices, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, SecureBoxes& m) {
  a(m.round, m.session, bounded(m.boxes, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, BoxFrom& m) {
  a(m.from, m.box);
}

template <class A>
void serialize(A& a, SecureInbox& m) {
  a(m.round, m.session, bounded(m.boxes, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, MaskedUpdate& m) {
  a(m.round, m.session, m.count, m.bits, m.words);  // no frame: bounded by the plan's update_bytes_max
}

template <class A>
void serialize(A& a, SecureSurvivors& m) {
  a(m.round, m.session, bounded(m.dead, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, SecureAgree& m) {
  a(m.round, m.session, m.signature);
}

template <class A>
void serialize(A& a, SignatureFrom& m) {
  a(m.from, m.signature);
}

template <class A>
void serialize(A& a, SecureUnmask& m) {
  a(m.round, m.session, bounded(m.dead, kSecureDevicesMax), bounded(m.signatures, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, ShareOf& m) {
  a(m.of, m.share);
}

template <class A>
void serialize(A& a, SecureShares& m) {
  a(m.round, m.session, bounded(m.shares, kSecureDevicesMax));
}

template <class A>
void serialize(A& a, SecureAbort& m) {
  a(m.round, up_to(m.reason, SecureReason::not_drawn));
}

template <class A>
void serialize(A& a, Manifest& m) {
  a(m.bytes, bounded(m.chunks, kManifestChunksMax));
}

template <class A>
void serialize(A& a, ManifestRequest& m) {
  a(m.blob);
}

template <class A>
void serialize(A& a, ManifestReply& m) {
  a(m.blob, m.manifest);
}

template <class A>
void serialize(A& a, ChunkRequest& m) {
  a(m.blob, m.chunk);
}

template <class A>
void serialize(A& a, ChunkReply& m) {
  a(m.blob, m.chunk, bounded(m.bytes, kChunkBytes));
}

template <class A>
void serialize(A& a, ErrorReply& m) {
  a(up_to(m.complaint, Complaint::clock_skew), bounded(m.message, kErrorBytesMax), bounded(m.versions, kVersionsMax));
}

}  // namespace covey::wire
