// Blobs: manifests, serving, fetching over a lossy link, and a store that survives interruption and damage.
#include "core/net/blobs.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/net/blob_fetch.h"
#include "core/net/blob_store.h"
#include "support/support.h"

using namespace covey;
using namespace covey::net;
using wire::kChunkBytes;

namespace {

Bytes content(std::size_t size, std::uint64_t seed = 1) {
  Rng rng(seed);
  Bytes out(size);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
  return out;
}

BlobStore open_store(const std::string& path, std::uint64_t bytes_max = 64 << 20) {
  auto store = BlobStore::open(path, bytes_max);
  REQUIRE_OK(store);
  return *std::move(store);
}

wire::Message answer(const BlobServer& server, const wire::Message& request) {
  if (const auto* manifest = std::get_if<wire::ManifestRequest>(&request)) return server.answer(*manifest);
  return server.answer(std::get<wire::ChunkRequest>(request));
}

/// Answers every request until there is none left, or `chunks_max` chunks were served. @return all that got done.
std::vector<BlobDownloads::Done> serve(const BlobServer& server, BlobDownloads& downloads,
                                       BlobDownloads::Outcome outcome, std::size_t chunks_max = 1'000'000) {
  std::vector<BlobDownloads::Done> done;
  std::deque<wire::Message> requests;
  std::size_t chunks = 0;
  while (true) {
    for (auto& d : outcome.done) done.push_back(std::move(d));
    for (auto& r : outcome.requests) requests.push_back(std::move(r));
    CHECK(requests.size() <= 2);  // the window
    if (requests.empty()) return done;
    if (std::holds_alternative<wire::ChunkRequest>(requests.front()) && ++chunks > chunks_max) return done;
    wire::Message reply = answer(server, requests.front());
    requests.pop_front();
    outcome = downloads.feed(std::move(reply));
  }
}

}  // namespace

TEST_CASE("a manifest cuts content into chunks, and its hash is the blob's name") {
  const auto empty = make_manifest({});
  REQUIRE_OK(empty);
  CHECK(empty->chunks.empty());
  for (const std::size_t size : {std::size_t{1}, std::size_t{kChunkBytes}, std::size_t{kChunkBytes} + 1}) {
    const auto made = make_manifest(content(size));
    REQUIRE_OK(made);
    CHECK(made->bytes == size);
    CHECK(made->chunks.size() == (size + kChunkBytes - 1) / kChunkBytes);
    CHECK(check_manifest(blob_id(*made), *made).ok());
    CHECK(blob_id(*made) != blob_id(*empty));
  }
  CHECK(chunk_size(kChunkBytes + 1, 0) == kChunkBytes);
  CHECK(chunk_size(kChunkBytes + 1, 1) == 1);
  CHECK(chunk_size(kChunkBytes + 1, 2) == 0);
  CHECK(chunk_size(kChunkBytes, ~std::uint64_t{0}) == 0);
}

TEST_CASE("a manifest whose sizes disagree or whose hash is another is refused") {
  auto manifest = *make_manifest(content(3 * kChunkBytes));
  const auto name = blob_id(manifest);
  auto fewer = manifest;
  fewer.chunks.pop_back();
  CHECK(!check_manifest(blob_id(fewer), fewer).ok());
  auto huge = manifest;
  huge.bytes = ~std::uint64_t{0};
  CHECK(!check_manifest(blob_id(huge), huge).ok());
  auto swapped = manifest;
  std::swap(swapped.chunks[0], swapped.chunks[1]);
  CHECK(!check_manifest(name, swapped).ok());

  covey::test::TempDir folder;
  auto store = open_store(folder.path());
  CHECK(!store.begin(name, swapped).ok());
  CHECK(!store.begin(blob_id(huge), huge).ok());
  CHECK(store.bytes_used() == 0);
}

TEST_CASE("memory and file serve the same blob; what is not there is answered as not found") {
  covey::test::TempDir folder;
  const Bytes bytes = content(kChunkBytes + 77);
  REQUIRE_OK(write_file_durably(folder.file("model"), ByteSpan(bytes)));
  BlobServer memory;
  BlobServer files;
  const auto a = memory.add(bytes);
  const auto b = files.add_file(folder.file("model"));
  REQUIRE_OK(a);
  REQUIRE_OK(b);
  CHECK(*a == *b);
  for (const BlobServer* server : {&memory, &files}) {
    const auto reply = server->answer(wire::ChunkRequest{*a, 1});
    REQUIRE(std::holds_alternative<wire::ChunkReply>(reply));
    CHECK(std::get<wire::ChunkReply>(reply).bytes == Bytes(bytes.begin() + kChunkBytes, bytes.end()));
    CHECK(std::holds_alternative<wire::ErrorReply>(server->answer(wire::ChunkRequest{*a, 2})));
    CHECK(std::holds_alternative<wire::ErrorReply>(server->answer(wire::ChunkRequest{*a, ~0U})));
    CHECK(std::holds_alternative<wire::ErrorReply>(server->answer(wire::ManifestRequest{})));
  }
  files.remove(*b);
  CHECK(!files.has(*b));
}

TEST_CASE("blobs are fetched one after the other, and one that is there already costs nothing") {
  covey::test::TempDir folder;
  auto store = open_store(folder.path());
  BlobServer server;
  const Bytes first = content(5 * kChunkBytes + 3, 1);
  const Bytes second = content(10, 2);
  const auto a = *server.add(first);
  const auto b = *server.add(second);
  const auto c = *server.add({});
  BlobDownloads downloads(store);
  auto outcome = downloads.want(a, first.size());
  CHECK(downloads.want(b, second.size()).requests.empty());
  CHECK(downloads.want(c, 0).requests.empty());
  const auto done = serve(server, downloads, std::move(outcome));
  REQUIRE(done.size() == 3);
  CHECK(done[0].fetched_bytes == first.size());
  CHECK(*read_file(done[0].path) == first);
  CHECK(*read_file(done[1].path) == second);
  CHECK(read_file(done[2].path)->empty());
  CHECK(downloads.idle());
  CHECK(store.bytes_used() == first.size() + second.size());
  const auto again = downloads.want(a, first.size());
  REQUIRE(again.done.size() == 1);
  CHECK(again.requests.empty());
  CHECK(again.done[0].fetched_bytes == 0);
}

TEST_CASE("a fetch that is interrupted goes on where it was, in a new process too") {
  covey::test::TempDir folder;
  BlobServer server;
  const Bytes bytes = content(10 * kChunkBytes);
  const auto blob = *server.add(bytes);
  {
    auto store = open_store(folder.path());
    BlobDownloads downloads(store);
    CHECK(serve(server, downloads, downloads.want(blob, bytes.size()), 4).empty());
    // The connection is lost, and the same process goes on.
    CHECK(serve(server, downloads, downloads.reconnected(), 3).empty());
  }
  auto store = open_store(folder.path());
  CHECK(store.bytes_used() == bytes.size());
  BlobDownloads downloads(store);
  const auto done = serve(server, downloads, downloads.want(blob, bytes.size()));
  REQUIRE(done.size() == 1);
  CHECK(!done[0].failed);
  CHECK(done[0].fetched_bytes == 3 * kChunkBytes);
  CHECK(*read_file(done[0].path) == bytes);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++files;
  CHECK(files == 1);
}

TEST_CASE("a chunk that was damaged on disk is found and fetched again") {
  covey::test::TempDir folder;
  BlobServer server;
  const Bytes bytes = content(6 * kChunkBytes);
  const auto blob = *server.add(bytes);
  {
    auto store = open_store(folder.path());
    BlobDownloads downloads(store);
    serve(server, downloads, downloads.want(blob, bytes.size()), 4);
  }
  const std::string part = folder.file(to_hex(blob) + ".part");
  const int fd = ::open(part.c_str(), O_RDWR);
  REQUIRE(fd >= 0);
  const std::uint8_t wrong = static_cast<std::uint8_t>(bytes[kChunkBytes + 5] ^ 1);
  REQUIRE(::pwrite(fd, &wrong, 1, kChunkBytes + 5) == 1);
  ::close(fd);
  auto store = open_store(folder.path());
  BlobDownloads downloads(store);
  const auto done = serve(server, downloads, downloads.want(blob, bytes.size()));
  REQUIRE(done.size() == 1);
  CHECK(done[0].fetched_bytes == 3 * kChunkBytes);
  CHECK(*read_file(done[0].path) == bytes);
}

TEST_CASE("a damaged note costs the download, not the result") {
  covey::test::TempDir folder;
  BlobServer server;
  const Bytes bytes = content(3 * kChunkBytes);
  const auto blob = *server.add(bytes);
  {
    auto store = open_store(folder.path());
    BlobDownloads downloads(store);
    serve(server, downloads, downloads.want(blob, bytes.size()), 2);
  }
  REQUIRE_OK(write_file_durably(folder.file(to_hex(blob) + ".have"), std::string_view("rubbish")));
  auto store = open_store(folder.path());
  CHECK(store.bytes_used() == 0);
  BlobDownloads downloads(store);
  const auto done = serve(server, downloads, downloads.want(blob, bytes.size()));
  REQUIRE(done.size() == 1);
  CHECK(*read_file(done[0].path) == bytes);
}

TEST_CASE("a complete blob that changed on disk is found by verify and removed") {
  covey::test::TempDir folder;
  auto store = open_store(folder.path());
  BlobServer server;
  const Bytes bytes = content(1000);
  const auto blob = *server.add(bytes);
  BlobDownloads downloads(store);
  const auto done = serve(server, downloads, downloads.want(blob, bytes.size()));
  REQUIRE(done.size() == 1);
  const auto manifest = *make_manifest(bytes);
  CHECK(store.verify(blob, manifest).ok());
  REQUIRE_OK(write_file_durably(done[0].path, ByteSpan(content(1000, 9))));
  CHECK(!store.verify(blob, manifest).ok());
  CHECK(!store.has(blob));
}

TEST_CASE("the store stays within its bound and can be swept") {
  covey::test::TempDir folder;
  auto store = open_store(folder.path(), 3 * kChunkBytes);
  BlobServer server;
  const Bytes fits = content(2 * kChunkBytes, 1);
  const Bytes too_much = content(kChunkBytes + 1, 2);
  const auto a = *server.add(fits);
  const auto b = *server.add(too_much);
  BlobDownloads downloads(store);
  CHECK(!serve(server, downloads, downloads.want(a, fits.size()))[0].failed);
  auto done = serve(server, downloads, downloads.want(b, too_much.size()));
  REQUIRE(done.size() == 1);
  REQUIRE(done[0].failed);
  CHECK(done[0].failed->code == ErrorCode::resource_exhausted);
  REQUIRE_OK(store.keep_only({b}));
  CHECK(store.bytes_used() == 0);
  CHECK(!serve(server, downloads, downloads.want(b, too_much.size()))[0].failed);
}

TEST_CASE("a coordinator that serves wrong chunks, other manifests or nothing is given up") {
  const Bytes bytes = content(4 * kChunkBytes);
  const auto manifest = *make_manifest(bytes);
  const auto blob = blob_id(manifest);

  BlobFetcher wrong_chunks(blob, bytes.size());
  CHECK(wrong_chunks.start(std::nullopt).requests.size() == 1);
  CHECK(wrong_chunks.feed(wire::ManifestReply{blob, manifest}).begin);
  CHECK(wrong_chunks.resumed({}).requests.size() == 2);
  CHECK(!wrong_chunks.feed(wire::ChunkReply{blob, 3, Bytes(kChunkBytes)}).failed);  // not asked for: ignored
  for (int n = 0; n < 2; ++n) {
    const auto step = wrong_chunks.feed(wire::ChunkReply{blob, 0, Bytes(kChunkBytes)});
    CHECK(!step.failed);
    CHECK(!step.store);
    REQUIRE(step.requests.size() == 1);  // asked again
  }
  CHECK(wrong_chunks.feed(wire::ChunkReply{blob, 0, Bytes(1)}).failed);

  BlobFetcher other_size(blob, bytes.size() + 1);
  other_size.start(std::nullopt);
  CHECK(other_size.feed(wire::ManifestReply{blob, manifest}).failed);

  BlobFetcher other_manifest(blob, bytes.size());
  other_manifest.start(std::nullopt);
  CHECK(other_manifest.feed(wire::ManifestReply{blob, *make_manifest(content(4 * kChunkBytes, 5))}).failed);

  BlobFetcher nothing(blob, bytes.size());
  nothing.start(std::nullopt);
  const auto step = nothing.feed(wire::ErrorReply{wire::Complaint::not_found, "no such blob", {}});
  REQUIRE(step.failed);
  CHECK(step.failed->code == ErrorCode::not_found);
}
