#include "core/config/tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <sstream>

namespace covey::config::detail {
namespace {

constexpr std::size_t kMaxDepth = 32;
constexpr std::size_t kMaxNodes = 100'000;

Position position(const YAML::Mark& mark) {
  return {mark.line + 1, mark.column + 1};
}

/// Thrown through yaml-cpp's parser, caught in parse_tree.
struct Refused {
  Position at;
  std::string message;
};

/// Builds the tree from the parser's events: yaml-cpp's own nodes forget positions of keys and accept cycles.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(State& state) : state_(state) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(make(mark, anchor, Kind::null), true); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(mark, tag);
    Node* node = make(mark, anchor, Kind::scalar);
    node->text = value;
    node->quoted = tag == "!";
    add(node, true);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end() || !found->second->complete) {
      throw Refused{position(mark), "an alias refers to itself; write the values out"};
    }
    count(mark, found->second->weight);
    add(found->second, false);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    Node* node = nullptr;
    bool has_key = false;
    std::string key;
    Position key_at;
  };

  static void refuse_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Refused{position(mark), "the tag " + printable(tag) + " is not supported; leave it out"};
  }

  void count(const YAML::Mark& mark, std::size_t nodes) {
    total_ += nodes;
    if (total_ <= kMaxNodes) return;
    throw Refused{position(mark),
                  "more than " + std::to_string(kMaxNodes) + " values with aliases written out; make the file smaller"};
  }

  Node* make(const YAML::Mark& mark, YAML::anchor_t anchor, Kind kind) {
    count(mark, 1);
    Node& node = state_.nodes.emplace_back();
    node.kind = kind;
    node.at = position(mark);
    if (anchor != 0) anchors_[anchor] = &node;
    return &node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Kind kind) {
    refuse_tag(mark, tag);
    if (stack_.size() >= kMaxDepth) {
      throw Refused{position(mark), "nested deeper than " + std::to_string(kMaxDepth) + " levels; make it flatter"};
    }
    stack_.push_back({make(mark, anchor, kind), false, "", {}});
  }

  void close() {
    Node* node = stack_.back().node;
    stack_.pop_back();
    add(node, true);
  }

  /// Puts a finished node where it belongs. An alias's node is finished already.
  void add(Node* node, bool finish) {
    if (finish) node->complete = true;
    if (stack_.empty()) {
      state_.root = node;
      return;
    }
    Open& top = stack_.back();
    if (top.node->kind == Kind::map && !top.has_key) {
      take_key(top, *node);
      return;
    }
    top.node->weight += node->weight;
    if (top.node->kind == Kind::list) {
      top.node->list.push_back(node);
    } else {
      if (finish && node->kind == Kind::null) node->at = top.key_at;  // nothing has no place of its own
      top.node->map.push_back({std::move(top.key), top.key_at, node});
      top.has_key = false;
    }
  }

  static void take_key(Open& top, const Node& node) {
    if (node.kind != Kind::scalar) throw Refused{node.at, "a key must be a name; write `name: value`"};
    for (const Node::Entry& entry : top.node->map) {
      if (entry.key == node.text) {
        throw Refused{node.at, "the key `" + printable(node.text) + "` stands here twice, first in line " +
                                   std::to_string(entry.at.line) + "; remove one"};
      }
    }
    if (top.node->map.size() >= 2000) throw Refused{node.at, "more than 2000 keys in one place; make it smaller"};
    top.has_key = true;
    top.key = node.text;
    top.key_at = node.at;
  }

  State& state_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, Node*> anchors_;
  std::size_t total_ = 0;
};

}  // namespace

std::string printable(std::string_view text, std::size_t limit) {
  std::string out(text.substr(0, limit));
  if (text.size() > limit) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
    if (!out.empty() && static_cast<unsigned char>(out.back()) >= 0xc0) out.pop_back();
    out += "...";
  }
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return out;
}

Error problem_error(const State& state, const Position& at, const std::string& message) {
  return {ErrorCode::invalid_argument,
          state.name + ":" + std::to_string(at.line) + ":" + std::to_string(at.column) + ": " + message};
}

Status parse_tree(std::string_view text, State& state) {
  if (text.size() > (std::size_t{1} << 20)) {
    return Error{ErrorCode::invalid_argument, state.name + ": has more than 1 MiB; this is not a configuration file"};
  }
  if (text.find('\0') != std::string_view::npos) {
    return Error{ErrorCode::invalid_argument, state.name + ": holds bytes of zero; this is not a text file"};
  }
  try {
    // The end mark makes yaml-cpp see a quote that nobody closed; at a bare end of input it lets that pass.
    std::istringstream in{std::string(text) + "\n...\n"};
    YAML::Parser parser(in);
    Builder builder(state);
    parser.HandleNextDocument(builder);
    State rest;
    Builder ignored(rest);
    if (parser.HandleNextDocument(ignored)) {
      return problem_error(state, rest.root != nullptr ? rest.root->at : Position{},
                           "a second document begins; keep one per file");
    }
  } catch (const Refused& refused) {
    return problem_error(state, refused.at, refused.message);
  } catch (const YAML::Exception& error) {
    return problem_error(
        state, position(error.mark),
        "is not YAML (" + printable(error.msg, 100) + "); look at indentation, quotes and colons here");
  } catch (const std::exception& error) {
    return Error{ErrorCode::invalid_argument, state.name + ": is not YAML (" + printable(error.what(), 100) + ")"};
  }
  if (state.root == nullptr) state.root = &state.nodes.emplace_back();
  if (state.root->kind == Kind::null) state.root->at = {};
  if (state.root->kind == Kind::null || state.root->kind == Kind::map) return {};
  return problem_error(state, state.root->at, "must hold lines of `key: value`");
}

}  // namespace covey::config::detail
