#include "coordinator/deployment.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/crypto/key_file.h"

namespace covey::coordinator {

namespace {
namespace fs = std::filesystem;

/// It is written into a YAML file as it is.
bool is_task_name(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !name.empty() && name.size() <= 128 && is_letter(name.front()) && std::ranges::all_of(name, [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  });
}

Result<wire::Key> read_public(const std::string& path) {
  COVEY_ASSIGN(std::string text, read_text_file(path, 4096));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  const auto raw = from_hex(text);
  wire::Key key{};
  if (!raw || raw->size() != key.size()) {
    return Error{ErrorCode::corrupt_data, path + ": is no public key; restore the file that `init` made"};
  }
  std::copy(raw->begin(), raw->end(), key.begin());
  return key;
}
}  // namespace

Status init_deployment(const std::string& directory, const std::string& task) {
  if (!is_task_name(task)) {
    return Error{ErrorCode::invalid_argument,
                 "--task: a name is 1 to 128 letters, digits, dots, underscores or dashes, and begins with a letter"};
  }
  COVEY_TRY(make_folders(directory));
  std::error_code error;
  const std::string config = directory + "/coordinator.yaml";
  if (fs::exists(config, error)) {
    return Error{ErrorCode::already_exists, config + ": exists already; choose another directory"};
  }
  const auto identity = crypto::IdentityKey::generate();
  const auto roster = crypto::IdentityKey::generate();
  COVEY_TRY(crypto::save_identity(directory + "/identity.key", identity));
  COVEY_TRY(crypto::save_identity(directory + "/roster.key", roster, "roster"));
  COVEY_TRY(crypto::save_curve(directory + "/curve.key", crypto::CurveKeyPair::generate()));
  COVEY_TRY(write_file_durably(directory + "/roster.pub", std::string_view(roster.public_key().hex() + "\n")));
  return write_file_durably(config, std::string_view(settings_template(task)));
}

Status make_transport_key(const std::string& path) {
  return crypto::save_curve(path, crypto::CurveKeyPair::generate());
}

Result<Deployment> open_deployment(Settings settings, const Clock& clock, int lock_wait_ms) {
  COVEY_ASSIGN(auto identity, crypto::load_identity(settings.home + "/identity.key"));
  COVEY_ASSIGN(auto curve, crypto::load_curve(settings.home + "/curve.key"));
  std::optional<crypto::CurveKeyPair> next_curve;
  if (settings.rotate) {
    auto next = crypto::load_curve(settings.rotate->key);
    if (!next.ok() && next.error().code == ErrorCode::not_found) {
      return Error{ErrorCode::not_found, settings.rotate->key +
                                             ": the key to rotate to is not there; make it with `covey-coordinator "
                                             "rotate-key FILE`"};
    }
    COVEY_ASSIGN(next_curve, std::move(next));
    if (next_curve->public_key() == curve.public_key()) {
      return Error{ErrorCode::invalid_argument, settings.rotate->key +
                                                    ": is the key in use already; delete `rotate` from the "
                                                    "configuration, or make another key"};
    }
  }
  COVEY_ASSIGN(const wire::Key roster_public, read_public(settings.home + "/roster.pub"));
  std::optional<crypto::IdentityKey> roster_key;
  if (!settings.roster_key.empty()) {
    auto loaded = crypto::load_identity(settings.roster_key, "roster");
    if (!loaded.ok() && loaded.error().code == ErrorCode::not_found) {
      return Error{ErrorCode::not_found, settings.roster_key +
                                             ": the roster key is not there; where it is kept apart, delete "
                                             "`roster_key` from the configuration"};
    }
    COVEY_ASSIGN(roster_key, std::move(loaded));
  }
  COVEY_TRY(make_folders(settings.data_dir));
  COVEY_ASSIGN(auto store, store::SqliteStore::open({settings.data_dir + "/coordinator.db", "", true, lock_wait_ms}));
  COVEY_ASSIGN(auto registration, Registration::open(*store, roster_public, std::move(roster_key), clock));
  return Deployment{std::move(settings), std::move(identity), std::move(curve),       std::move(next_curve),
                    roster_public,       std::move(store),    std::move(registration)};
}

Result<std::string> told_endpoint(const std::string& advertise, const std::string& bound, const std::string& where) {
  if (!advertise.empty()) return advertise;
  if (bound.find('*') != std::string::npos || bound.find("//0.0.0.0") != std::string::npos) {
    return Error{ErrorCode::invalid_argument,
                 where + ": devices cannot connect to " + bound + "; set `advertise` in the configuration"};
  }
  return bound;
}

Result<net::ServerAddress> Deployment::invite_address(const std::string& bound) const {
  if (next_curve) {
    COVEY_ASSIGN(const auto rotation, find_rotation(*store, next_curve->public_key().bytes));
    if (rotation) return net::ServerAddress{rotation->endpoint, rotation->curve};
  }
  COVEY_ASSIGN(std::string endpoint,
               told_endpoint(settings.advertise, bound.empty() ? settings.listen : bound, "invite"));
  return net::ServerAddress{std::move(endpoint), curve.public_key().bytes};
}

}  // namespace covey::coordinator
