/// Structs to canonical bytes and back: little-endian, fixed widths, one encoding per value, no types inside.
/// Built on cereal through bounded archives (archive.h); cereal stays out of this header.
///
/// Works for every message of messages.h, and for a module's own records (rows of its store):
///   1  row.h declares the struct with a `serialize` member (field.h says how); it includes no cereal;
///   2  one .cpp of the module includes "core/wire/codec_impl.h" and says, outside any namespace,
///   COVEY_WIRE_RECORD(Row); 3  anyone calls wire::encode(row) and wire::decode<Row>(bytes).
/// A field may be: bool, integer, float, double, enum (up_to), string, std::array, vector, optional, pair, map,
/// StrongId, DeviceId, crypto's fixed bytes, and any struct with `serialize`. Not: pointers, long double, vector<bool>.
///
/// Pure functions, thread-safe.
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::wire {

/// @cost one allocation that grows to the encoded size.
template <class T>
Bytes encode(const T& value);

/// Inverse of encode(): encode(*decode<T>(b)) == b for all b that it accepts. Every length is checked against what is
/// left before anything is allocated, and all that is allocated stays within 2 x bytes.size() + 64 KiB.
/// @errors corrupt_data: truncated, trailing bytes, a count that cannot be, a bool that is neither 0 nor 1, an unknown
/// enum value; resource_exhausted: a field above its bound.
template <class T>
Result<T> decode(ByteSpan bytes);

}  // namespace covey::wire
