/// Fills any struct that has a `serialize` with random values within its bounds: a third archive beside the codec's
/// two.
#pragma once

#include <array>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/rng.h"
#include "core/wire/fields.h"

namespace covey::wire {

class RandomArchive {
 public:
  static constexpr bool kReading = false;
  /// @param elements_max  no container gets more than this, whatever its bound.
  RandomArchive(Rng& rng, std::size_t elements_max) : rng_(rng), elements_max_(elements_max) {}

  template <class... Fields>
  void operator()(Fields&&... fields) {
    (fill(fields), ...);
  }

 private:
  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  void fill(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      value = rng_.below(2) == 1;
    } else if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<T>(rng_.normal() * 1e3);
    } else {
      // Small numbers, large ones, and both ends.
      const std::uint64_t kind = rng_.below(4);
      value = static_cast<T>(kind == 0 ? rng_.below(10) : kind == 1 ? ~std::uint64_t{0} : rng_.next_u64());
    }
  }
  void fill(std::string& value) { fill_bounded(value, elements_max_); }
  template <class T>
  void fill(std::vector<T>& value) {
    fill_bounded(value, elements_max_);
  }
  template <class T, std::size_t N>
  void fill(std::array<T, N>& value) {
    for (T& element : value) fill(element);
  }
  template <class E>
  void fill(UpTo<E>& field) {
    field.value = static_cast<E>(rng_.below(static_cast<std::uint64_t>(field.last) + 1));
  }
  template <class T>
  void fill(Bounded<T>& field) {
    fill_bounded(field.value, std::min(field.max, elements_max_));
  }
  template <class Tag>
  void fill(StrongId<Tag>& id) {
    fill(id.value);
  }
  template <class T, std::enable_if_t<std::is_class_v<T>, int> = 0>
  void fill(T& record) {
    serialize(*this, record);
  }

  void fill_bounded(std::string& value, std::size_t max) {
    value.assign(1 + rng_.below(max), 'a');  // never empty: a file name may not be
    for (char& c : value) c = static_cast<char>('a' + rng_.below(26));
  }
  template <class T>
  void fill_bounded(std::vector<T>& value, std::size_t max) {
    value.resize(rng_.below(max + 1));
    for (T& element : value) fill(element);
  }

  Rng& rng_;
  std::size_t elements_max_;
};

/// A random message of the given alternative of Message.
inline Message random_message(Rng& rng, std::size_t alternative, std::size_t elements_max) {
  Message out;
  const auto make = [&]<std::size_t... I>(std::index_sequence<I...>) {
    const auto one = [&]<std::size_t J>(std::integral_constant<std::size_t, J>) {
      if (J != alternative) return;
      std::variant_alternative_t<J, Message> m;
      RandomArchive archive(rng, elements_max);
      serialize(archive, m);
      out = std::move(m);
    };
    (one(std::integral_constant<std::size_t, I>{}), ...);
  };
  make(std::make_index_sequence<std::variant_size_v<Message>>());
  return out;
}

}  // namespace covey::wire
