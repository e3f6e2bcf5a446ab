#include "core/wire/invite.h"

#include <algorithm>
#include <cstring>

namespace covey::wire {
namespace {

constexpr std::string_view kPrefix = "covey1:";
constexpr std::size_t kTextMax = 4096;
constexpr std::size_t kSecretBytes = 32;

/// FNV-1a, 32 bits: catches a lost or changed character, protects from nobody.
std::uint32_t checksum(ByteSpan bytes) {
  std::uint32_t hash = 2166136261U;
  for (const auto byte : bytes) hash = (hash ^ byte) * 16777619U;
  return hash;
}

void append_number(Bytes& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

/// Cuts pieces off the front; a piece too many makes it bad for good.
struct Cutter {
  ByteSpan left;
  bool good = true;
  ByteSpan take(std::size_t count) {
    if (!good || left.size() < count) {
      good = false;
      return {};
    }
    const ByteSpan piece = left.first(count);
    left = left.subspan(count);
    return piece;
  }
  std::uint64_t number(int bytes) {
    std::uint64_t value = 0;
    const ByteSpan piece = take(static_cast<std::size_t>(bytes));
    for (std::size_t i = 0; i < piece.size(); ++i) value |= std::uint64_t{piece[i]} << (8 * i);
    return value;
  }
  void key(Key& out) {
    const ByteSpan piece = take(out.size());
    if (good) std::memcpy(out.data(), piece.data(), out.size());
  }
  std::string text() { return std::string(as_text(take(static_cast<std::size_t>(number(1))))); }
};

Status check(const Invite& invite) {
  const auto fits = [](const std::string& text) { return !text.empty() && text.size() <= 255; };
  if (!fits(invite.endpoint) || !fits(invite.task) || invite.secret.size() != kSecretBytes)
    return Error{ErrorCode::invalid_argument, "invite: needs an endpoint and a task of 1 to 255 bytes, and a secret"};
  return {};
}

}  // namespace

Result<std::string> encode_invite(const Invite& invite) {
  COVEY_TRY(check(invite));
  Bytes out;
  for (const auto* text : {&invite.endpoint, &invite.task}) {
    append_number(out, text->size(), 1);
    append(out, as_byte_span(*text));
  }
  append(out, invite.server_curve);
  append(out, invite.coordinator);
  append(out, invite.roster);
  append_number(out, static_cast<std::uint64_t>(invite.expires_ms), 8);
  append(out, invite.secret.span());
  append_number(out, checksum(out), 4);
  std::string text = std::string(kPrefix) + to_hex(out);
  explicit_bzero(out.data(), out.size());
  return text;
}

Result<Invite> decode_invite(std::string_view text) {
  const Error damaged{ErrorCode::invalid_argument, "invite: damaged; copy it whole, from \"covey1:\" to its end"};
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  if (!text.starts_with(kPrefix)) {
    if (text.starts_with("covey") && text.find(':') != std::string_view::npos)
      return Error{ErrorCode::invalid_argument, "invite: made by another version; this one reads \"covey1:\""};
    return Error{ErrorCode::invalid_argument, "invite: not an invite; it begins with \"covey1:\""};
  }
  if (text.size() > kTextMax) return damaged;
  auto raw = from_hex(text.substr(kPrefix.size()));
  if (!raw || raw->size() < 4) return damaged;
  Invite invite;
  Cutter cut{ByteSpan(*raw).first(raw->size() - 4)};
  const std::uint32_t expected = checksum(cut.left);
  invite.endpoint = cut.text();
  invite.task = cut.text();
  cut.key(invite.server_curve);
  cut.key(invite.coordinator);
  cut.key(invite.roster);
  invite.expires_ms = static_cast<std::int64_t>(cut.number(8));
  invite.secret = SecretBytes(cut.take(kSecretBytes));
  const bool whole = cut.good && cut.left.empty();
  cut = Cutter{ByteSpan(*raw).last(4)};
  const bool sums = cut.number(4) == expected;
  explicit_bzero(raw->data(), raw->size());
  if (!whole || !sums || !check(invite).ok()) return damaged;
  return invite;
}

}  // namespace covey::wire
