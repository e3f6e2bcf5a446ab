/// Wrappers for the `serialize` of records and messages. Cereal-free: include this where the struct is declared.
///
///   struct Row {
///     std::string name;
///     Phase phase{};
///     std::vector<float> sum;
///     template <class Archive> void serialize(Archive& a) {
///       a(wire::bounded(name, 64), wire::up_to(phase, Phase::finished), sum);
///     }
///   };
#pragma once

#include <cstddef>
#include <cstdint>

namespace covey::wire {

template <class T>
struct Bounded {
  T& value;
  std::size_t max;
};
/// A string, byte string, vector or map of at most `max` elements; decoding refuses more.
template <class T>
Bounded<T> bounded(T& value, std::size_t max) {
  return {value, max};
}

template <class E>
struct UpTo {
  E& value;
  E last;
};
/// An enum whose values are 0 ... last; decoding refuses others. An enum travels only through this.
template <class E>
UpTo<E> up_to(E& value, E last) {
  return {value, last};
}

}  // namespace covey::wire
