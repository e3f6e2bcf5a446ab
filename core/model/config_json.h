/// Reading a config.json that was parsed already. Internal to core/model.
#pragma once

#include <set>
#include <string>

#include "core/formats/json.h"
#include "core/model/config.h"

namespace covey::model {

inline constexpr int kSizeMax = 1 << 24;   ///< of a vocabulary or a context
inline constexpr int kWidthMax = 1 << 16;  ///< of a hidden or intermediate layer

Result<ModelConfig> config_from_json(const formats::Json& json, const std::string& where);

/// A config.json, remembering which members were read: whoever reads one takes the responsibility for what it means.
class Fields {
 public:
  Fields(const formats::Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Status size(const char* key, int max, int& to, int missing = 0);  ///< from 1; `missing` 0: it must be there
  Status number(const char* key, double& to);                       ///< keeps what is in `to` where missing or null
  Status flag(const char* key, bool& to);
  Result<std::string> text(const char* key, std::string missing);
  Status activation(const char* key, const char* missing, Activation& to);
  /// A member that we can only have at one value. @errors unsupported, naming it.
  Status must_be(const char* key, const formats::Json& value);
  /// Members that do not change what is computed when nothing is dropped out.
  void ignore(std::initializer_list<const char*> keys) { known_.insert(keys.begin(), keys.end()); }
  /// null or missing.
  [[nodiscard]] bool absent(const char* key);
  const formats::Json* find(const char* key);
  /// Every member was read, cannot matter, or says "off". @errors unsupported.
  Status finish(const std::string& family) const;

  [[nodiscard]] const formats::Json& json() const { return json_; }
  [[nodiscard]] const std::string& where() const { return where_; }
  [[nodiscard]] Error unsupported(const std::string& what) const {
    return Error{ErrorCode::unsupported, where_ + ": " + what};
  }

 private:
  const formats::Json& json_;
  std::string where_;
  std::set<std::string, std::less<>> known_;
};

/// Whether a member says "off": null, false, zero or empty.
bool is_neutral(const formats::Json& value);

/// rope_theta, rope_scaling (or rope_parameters) into c.rope; c.head_dim, rotary_dim and context must be set.
/// config_rope.cpp
Status read_rope(Fields& fields, ModelConfig& c);
/// The part of a head that turns, from `key` or rope_parameters; keeps what is in `partial` where neither says it.
Status read_partial_rotation(Fields& fields, const char* key, double& partial);
/// The family tables. @errors unsupported: not one of theirs (found false).
Status read_decoder(Fields& fields, ModelConfig& c, bool& found);
/// RWKV 4 and 7: config_rwkv.cpp.
Status read_rwkv(Fields& fields, ModelConfig& c);
Status read_rwkv7(Fields& fields, ModelConfig& c);
Status read_encoder(Fields& fields, ModelConfig& c, bool& found);

}  // namespace covey::model
