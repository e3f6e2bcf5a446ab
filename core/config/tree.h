/// Inside of core/config: the parsed tree with positions, without anything of yaml-cpp.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::config::detail {

enum class Kind { null, scalar, list, map };

struct Position {
  int line = 1;  ///< both count from 1
  int column = 1;
};

struct Node {
  struct Entry {
    std::string key;
    Position at;
    Node* value = nullptr;
  };
  Kind kind = Kind::null;
  Position at;
  std::string text;     ///< scalar
  bool quoted = false;  ///< scalar
  std::vector<Node*> list;
  std::vector<Entry> map;
  std::size_t weight = 1;       ///< nodes below and including this one, aliases expanded
  bool complete = false;        ///< an alias to a node that is still open would be a cycle
  bool opened = false;          ///< some section reads this map
  std::string path;             ///< of the section that opened it, for messages
  std::set<std::string> known;  ///< keys that were asked for
};

/// What was read, in the order of reading.
struct Output {
  std::string key;
  std::vector<std::string> values;  ///< as YAML
  bool is_list = false;
  bool is_section = false;
  std::deque<Output> children;  ///< deque: sections point into it while it grows
};

struct Problem {
  Position at;
  std::string message;
};

struct State {
  std::string name;
  std::deque<Node> nodes;
  Node* root = nullptr;
  std::vector<Problem> problems;
  std::vector<std::shared_ptr<State>> grafts;  ///< own the nodes that Document::set() put into this tree
  Output output;
};

/// Fills state.nodes and state.root. @errors invalid_argument with `name:line:col: `.
Status parse_tree(std::string_view text, State& state);

/// `name:line:col: message`
Error problem_error(const State& state, const Position& at, const std::string& message);
/// At most `limit` bytes, control characters replaced: for quoting what a file says.
std::string printable(std::string_view text, std::size_t limit = 48);

}  // namespace covey::config::detail
