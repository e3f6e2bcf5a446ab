/// The definitions behind codec.h, and COVEY_WIRE_RECORD. It brings cereal along: include it in one .cpp per module
/// only.
#pragma once

#include <new>
#include <stdexcept>

#include "core/wire/archive.h"
#include "core/wire/codec.h"
#include "core/wire/fields.h"

namespace covey::wire {

template <class T>
Bytes encode(const T& value) {
  Bytes out;
  OutputArchive archive(out);
  archive(value);
  return out;
}

template <class T>
Result<T> decode(ByteSpan bytes) {
  try {
    InputArchive archive(bytes);
    T value{};
    archive(value);
    archive.finish();
    return value;
  } catch (Refused& refused) {
    return std::move(refused.error);
  } catch (const cereal::Exception& e) {
    return Error{ErrorCode::corrupt_data, e.what()};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::resource_exhausted, "out of memory while decoding"};
  }
}

}  // namespace covey::wire

/// Outside any namespace, in one .cpp: makes encode() and decode() of T.
#define COVEY_WIRE_RECORD(T)                                 \
  template ::covey::Bytes(covey::wire::encode<T>)(const T&); \
  template ::covey::Result<T>(covey::wire::decode<T>)(::covey::ByteSpan)
