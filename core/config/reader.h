/// YAML files to checked values. Each module defines its own struct and fills it through a Section; nothing of YAML is
/// visible to it.
///
///   COVEY_ASSIGN(auto file, config::Document::load(path));
///   auto root = file.root();
///   RunConfig run;
///   run.rounds = root.int64("rounds", 20, 1, 100000);
///   run.model = root.text("model", config::required);
///   auto round = root.section("round");                        // absent: every default below holds
///   run.deadline_ms = round.duration_ms("deadline", 600'000, 1'000, 86'400'000);  // deadline_s: 600 or deadline_min:
///   10 if (run.rounds < 2 && run.compare) root.problem("rounds", "needs at least 2 where `compare` is true");
///   COVEY_TRY(file.finish());                                  // the first problem, or unknown keys
///
/// Getters never fail: on a problem they return the default (or the type's zero) and the document remembers it, so look
/// at no value before finish() is ok. A message is one line, `file:line:col: what; how to mend`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::config {

struct Required {};
/// In the place of a default: the key must be there.
inline constexpr Required required{};

template <typename T>
class Default {
 public:
  Default(Required) {}                                                                   // NOLINT: implicit by design
  Default(T value) : value_(std::move(value)) {}                                         // NOLINT: implicit by design
  Default(const char* value) requires std::is_same_v<T, std::string> : value_(value) {}  // NOLINT: implicit by design
  [[nodiscard]] bool is_required() const { return !value_; }
  [[nodiscard]] T or_zero() const { return value_ ? *value_ : T(); }

 private:
  std::optional<T> value_;
};

namespace detail {
struct Node;
struct State;
struct Output;
}  // namespace detail

/// A place in a document: a map, perhaps absent. Cheap to copy; keeps the document alive. Not thread-safe.
class Section {
 public:
  std::int64_t int64(std::string_view key, Default<std::int64_t> fallback, std::int64_t min, std::int64_t max);
  double real(std::string_view key, Default<double> fallback, double min, double max);
  bool boolean(std::string_view key, Default<bool> fallback);
  /// Plain or quoted; at most 4096 bytes and without control characters except newline and tab.
  std::string text(std::string_view key, Default<std::string> fallback);
  /// One of `choices`.
  std::string choice(std::string_view key, const std::vector<std::string>& choices, Default<std::string> fallback);
  /// Reads any one of key_ms, key_s, key_min, key_h (a number, fractions allowed) and gives milliseconds.
  std::int64_t duration_ms(std::string_view key, Default<std::int64_t> fallback_ms, std::int64_t min_ms,
                           std::int64_t max_ms);

  /// Lists of at most 10,000 elements; a single value counts as a list of one.
  std::vector<std::int64_t> int64s(std::string_view key, Default<std::vector<std::int64_t>> fallback, std::int64_t min,
                                   std::int64_t max);
  std::vector<double> reals(std::string_view key, Default<std::vector<double>> fallback, double min, double max);
  std::vector<std::string> texts(std::string_view key, Default<std::vector<std::string>> fallback);

  /// The map under `key`; where it is absent, a section without keys.
  Section section(std::string_view key);
  /// A list of maps; where it is absent, none.
  std::vector<Section> sections(std::string_view key);

  [[nodiscard]] bool has(std::string_view key) const;
  /// The keys as the file orders them: for maps whose keys are names (read each one, or finish() calls it unknown).
  [[nodiscard]] std::vector<std::string> keys() const;
  /// Adds a problem at `key` (at the section, where the key is absent): for rules between keys. The text goes on from
  /// the key's name: "`round.deadline_ms` " + what.
  void problem(std::string_view key, const std::string& what);

 private:
  friend class Document;
  Section(std::shared_ptr<detail::State> state, detail::Node* node, detail::Output* output, std::string path)
      : state_(std::move(state)), node_(node), output_(output), path_(std::move(path)) {}
  detail::Node* find(std::string_view key);
  detail::Node* value_of(std::string_view key, bool is_required, std::string_view example);
  detail::Node* scalar(std::string_view key, bool is_required, const char* wanted, std::string_view example);
  std::vector<detail::Node*> elements(std::string_view key, bool is_required, const char* wanted);
  void complain(const detail::Node* at, std::string message);
  void record(std::string_view key, std::string value);
  void record_list(std::string_view key, const std::vector<std::string>& values);
  [[nodiscard]] std::string name(std::string_view key) const;

  std::shared_ptr<detail::State> state_;
  detail::Node* node_ = nullptr;  ///< owned by state_; nullptr: absent
  detail::Output* output_ = nullptr;
  std::string path_;
};

/// A parsed file. Bounds: 1 MiB, 32 levels, 100,000 nodes with aliases expanded; no tags, one document.
class Document {
 public:
  /// @errors those of read_text_file; invalid_argument: not YAML, or over a bound.
  static Result<Document> load(const std::string& path);
  /// `name` stands for the file in messages.
  static Result<Document> parse(std::string_view text, const std::string& name);

  /// Puts `value`, YAML on one line, at a dotted key in place of what the file says there; sections on the way are
  /// made. Call before root(). @errors invalid_argument: not YAML; a part of `key` is empty or no section.
  Status set(std::string_view key, std::string_view value);

  Section root();
  /// ok where everything read was right and nothing was left unread. @errors invalid_argument: unknown keys come first
  /// (a misspelt key explains a missing one), then the problem nearest to the file's beginning.
  [[nodiscard]] Status finish() const;
  /// Everything that was read, defaults included, as YAML that reads back to the same values.
  [[nodiscard]] std::string resolved() const;

 private:
  explicit Document(std::shared_ptr<detail::State> state) : state_(std::move(state)) {}
  std::shared_ptr<detail::State> state_;
};

}  // namespace covey::config
