#include "client/example_store.h"

#include <bit>

#include "client/session_rows.h"
#include "core/wire/codec.h"

namespace covey::client {
namespace {

constexpr const char* kExamplesTable = "examples";

Error over(const std::string& what) {
  return {ErrorCode::resource_exhausted, "examples: " + what + "; `covey-device forget` makes room"};
}

}  // namespace

Result<ExampleStore> ExampleStore::open(store::Store& store, ExampleLimits limits) {
  ExampleStore out(store, limits);
  COVEY_TRY(store.scan(kExamplesTable, {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto number, store::number_in_key(key));
    out.next_ = number + 1;
    ++out.count_;
    out.bytes_ += value.size();
    return {};
  }));
  return out;
}

Status ExampleStore::add(std::span<const adapters::TextExample> examples) {
  if (count_ + examples.size() > limits_.count_max)
    return over("more than " + std::to_string(limits_.count_max) + " are not kept");
  std::vector<store::Write> writes;
  writes.reserve(examples.size());
  std::uint64_t bytes = 0;
  for (const auto& example : examples) {
    if (example.text.empty()) return Error{ErrorCode::invalid_argument, "examples: an empty text; leave it out"};
    Bytes row = wire::encode(ExampleRow{example.prompt, example.text});
    if (row.size() > limits_.example_bytes_max)
      return Error{ErrorCode::invalid_argument,
                   "examples: one is longer than " + std::to_string(limits_.example_bytes_max) + " bytes; split it"};
    bytes += row.size();
    writes.push_back({kExamplesTable, store::key_of(next_ + writes.size()), std::move(row)});
  }
  if (bytes_ + bytes > limits_.bytes_max)
    return over("more than " + std::to_string(limits_.bytes_max) + " bytes are not kept");
  if (writes.empty()) return {};
  COVEY_TRY(store_->commit(writes));
  next_ += writes.size();
  count_ += writes.size();
  bytes_ += bytes;
  return {};
}

Result<std::vector<adapters::TextExample>> ExampleStore::all() const {
  std::vector<adapters::TextExample> out;
  COVEY_TRY(store_->scan(kExamplesTable, {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(auto row, wire::decode<ExampleRow>(value));
    out.push_back({std::move(row.prompt), std::move(row.text)});
    return {};
  }));
  return out;
}

Status ExampleStore::wipe() {
  std::vector<store::Write> writes;
  COVEY_TRY(store_->scan(kExamplesTable, {}, [&](ByteSpan key, ByteSpan) -> Status {
    writes.push_back({kExamplesTable, Bytes(key.begin(), key.end()), std::nullopt});
    return {};
  }));
  if (!writes.empty()) COVEY_TRY(store_->commit(writes));
  count_ = bytes_ = 0;
  return {};
}

std::uint64_t ExampleStore::rounded_count() const {
  return std::bit_floor(count_);
}

}  // namespace covey::client
