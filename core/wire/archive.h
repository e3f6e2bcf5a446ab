/// Internal: the two cereal archives behind codec.h. Only codec_impl.h includes this, and that only in .cpp files.
///
/// cereal's own archives resize a container to whatever its bytes claim: 9 bytes made one allocate 1 GiB (measured). So
/// none of cereal's container functions is included; ours check every count twice before they allocate: against the
/// bytes left, and against a budget of memory for the whole decoding.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cereal/cereal.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/crypto/types.h"
#include "core/wire/field.h"

namespace covey::wire {

/// What a decoding throws inside cereal; decode() turns it into an Error.
struct Refused {
  Error error;
};

template <class T>
inline constexpr bool kIsPlain = std::is_arithmetic_v<T> && !std::is_same_v<T, long double> && sizeof(T) <= 8;

template <class Field>
constexpr void check_field() {
  using T = std::remove_cvref_t<Field>;
  static_assert(!std::is_pointer_v<T>, "pointers do not travel");
  static_assert(!std::is_same_v<T, long double>, "long double differs between machines");
  static_assert(!std::is_enum_v<T>, "write wire::up_to(value, Last) for an enum");
}

class OutputArchive : public cereal::OutputArchive<OutputArchive> {
  using Base = cereal::OutputArchive<OutputArchive>;

 public:
  static constexpr bool kReading = false;
  explicit OutputArchive(Bytes& out) : Base(this), out_(out) {}

  template <class... Fields>
  OutputArchive& operator()(Fields&&... fields) {
    (check_field<Fields>(), ...);
    return Base::operator()(std::forward<Fields>(fields)...);
  }

  void write(const void* data, std::size_t size);
  template <class T>
  void write_plain(T value) {
    std::array<std::uint8_t, sizeof(T)> raw{};
    std::memcpy(raw.data(), &value, sizeof(T));
    if constexpr (std::endian::native == std::endian::big) std::reverse(raw.begin(), raw.end());
    write(raw.data(), raw.size());
  }
  void write_count(std::size_t count);

 private:
  Bytes& out_;
};

class InputArchive : public cereal::InputArchive<InputArchive> {
  using Base = cereal::InputArchive<InputArchive>;

 public:
  static constexpr bool kReading = true;
  /// Reads `bytes`, borrowed for the archive's life.
  explicit InputArchive(ByteSpan bytes) : Base(this), bytes_(bytes), memory_left_(2 * bytes.size() + 64 * 1024) {}

  template <class... Fields>
  InputArchive& operator()(Fields&&... fields) {
    (check_field<Fields>(), ...);
    return Base::operator()(std::forward<Fields>(fields)...);
  }

  void read(void* out, std::size_t size);
  template <class T>
  T read_plain() {
    std::array<std::uint8_t, sizeof(T)> raw{};
    read(raw.data(), raw.size());
    if constexpr (std::endian::native == std::endian::big) std::reverse(raw.begin(), raw.end());
    T value{};
    std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  /// A container's element count: at most `max`, at most what is left allows at `encoded_min` bytes each, and its
  /// memory
  /// (`memory_each` per element) is taken from the budget. Refused before the caller allocates.
  std::size_t read_count(std::size_t max, std::size_t encoded_min, std::size_t memory_each);
  /// @throws Refused unless `ok`; `what` completes "byte 17: ...".
  void require(bool ok, const char* what) const;
  /// @throws Refused where bytes are left.
  void finish() const;

 private:
  [[noreturn]] void refuse(ErrorCode code, const std::string& what) const;

  ByteSpan bytes_;
  std::size_t at_ = 0;
  std::size_t memory_left_;
};

inline constexpr std::size_t kNoBound = ~std::size_t{0};

/// Fewest bytes an element can take: exact for plain values, 1 for anything else.
template <class T>
inline constexpr std::size_t kEncodedMin = kIsPlain<T> ? sizeof(T) : 1;

// ---- plain values --------------------------------------------------------------------------------------------------

template <class T, std::enable_if_t<kIsPlain<T>, int> = 0>
void save(OutputArchive& a, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    a.write_plain<std::uint8_t>(value ? 1 : 0);
  } else {
    a.write_plain(value);
  }
}

template <class T, std::enable_if_t<kIsPlain<T>, int> = 0>
void load(InputArchive& a, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    const auto raw = a.read_plain<std::uint8_t>();
    a.require(raw <= 1, "a yes-or-no field is neither 0 nor 1");
    value = raw == 1;
  } else {
    value = a.read_plain<T>();
  }
}

template <class E>
void save(OutputArchive& a, const UpTo<E>& field) {
  a.write_plain(static_cast<std::underlying_type_t<E>>(field.value));
}

template <class E>
void load(InputArchive& a, UpTo<E>& field) {
  using U = std::underlying_type_t<E>;
  static_assert(std::is_unsigned_v<U>, "give an enum that travels an unsigned type");
  const auto raw = a.read_plain<U>();
  a.require(raw <= static_cast<U>(field.last), "an unknown choice in a field of named values");
  field.value = static_cast<E>(raw);
}

// ---- containers ----------------------------------------------------------------------------------------------------

template <class T, std::size_t N>
void save(OutputArchive& a, const std::array<T, N>& value) {
  if constexpr (sizeof(T) == 1 && kIsPlain<T>) {
    a.write(value.data(), N);
  } else {
    for (const T& element : value) a(element);
  }
}

template <class T, std::size_t N>
void load(InputArchive& a, std::array<T, N>& value) {
  static_assert(!std::is_same_v<T, bool>, "an array of bool would skip their check");
  if constexpr (sizeof(T) == 1 && kIsPlain<T>) {
    a.read(value.data(), N);
  } else {
    for (T& element : value) a(element);
  }
}

inline void save(OutputArchive& a, const std::string& value) {
  a.write_count(value.size());
  a.write(value.data(), value.size());
}

inline void load_bounded(InputArchive& a, std::string& value, std::size_t max) {
  const std::size_t size = a.read_count(max, 1, 1);
  value.resize(size);
  a.read(value.data(), size);
}

template <class T>
void save(OutputArchive& a, const std::vector<T>& value) {
  a.write_count(value.size());
  if constexpr (kIsPlain<T> && (sizeof(T) == 1 || std::endian::native == std::endian::little)) {
    a.write(value.data(), value.size() * sizeof(T));
  } else {
    for (const T& element : value) a(element);
  }
}

template <class T>
void load_bounded(InputArchive& a, std::vector<T>& value, std::size_t max) {
  static_assert(!std::is_same_v<T, bool>, "use vector<uint8_t>");
  const std::size_t size = a.read_count(max, kEncodedMin<T>, sizeof(T));
  value.clear();
  value.shrink_to_fit();
  value.resize(size);
  if constexpr (kIsPlain<T> && (sizeof(T) == 1 || std::endian::native == std::endian::little)) {
    a.read(value.data(), size * sizeof(T));
  } else {
    for (T& element : value) a(element);
  }
}

template <class K, class V>
void save(OutputArchive& a, const std::map<K, V>& value) {
  a.write_count(value.size());
  for (const auto& [key, mapped] : value) a(key, mapped);
}

template <class K, class V>
void load_bounded(InputArchive& a, std::map<K, V>& value, std::size_t max) {
  // A tree node is its pair and four words; the allocator rounds up.
  const std::size_t size = a.read_count(max, kEncodedMin<K> + 1, sizeof(std::pair<const K, V>) + 64);
  value.clear();
  for (std::size_t i = 0; i < size; ++i) {
    K key{};
    V mapped{};
    a(key, mapped);
    // One order only, so that equal maps have equal bytes and no key comes twice.
    a.require(value.empty() || value.rbegin()->first < key, "keys are not in ascending order");
    value.emplace_hint(value.end(), std::move(key), std::move(mapped));
  }
}

inline void load(InputArchive& a, std::string& value) {
  load_bounded(a, value, kNoBound);
}
template <class T>
void load(InputArchive& a, std::vector<T>& value) {
  load_bounded(a, value, kNoBound);
}
template <class K, class V>
void load(InputArchive& a, std::map<K, V>& value) {
  load_bounded(a, value, kNoBound);
}

template <class T>
void save(OutputArchive& a, const Bounded<T>& field) {
  a(field.value);
}
template <class T>
void load(InputArchive& a, Bounded<T>& field) {
  load_bounded(a, field.value, field.max);
}

// ---- compounds -----------------------------------------------------------------------------------------------------

template <class T>
void save(OutputArchive& a, const std::optional<T>& value) {
  a(value.has_value());
  if (value) a(*value);
}
template <class T>
void load(InputArchive& a, std::optional<T>& value) {
  bool present = false;
  a(present);
  value.reset();
  if (present) a(value.emplace());
}

template <class First, class Second>
void save(OutputArchive& a, const std::pair<First, Second>& value) {
  a(value.first, value.second);
}
template <class First, class Second>
void load(InputArchive& a, std::pair<First, Second>& value) {
  a(value.first, value.second);
}

template <class Archive, class Tag>
void serialize(Archive& a, StrongId<Tag>& id) {
  a(id.value);
}
template <class Archive>
void serialize(Archive& a, DeviceId& id) {
  a(id.key);
}
template <class Archive, class Tag, std::size_t N>
void serialize(Archive& a, crypto::FixedBytes<Tag, N>& value) {
  a(value.bytes);
}

}  // namespace covey::wire
