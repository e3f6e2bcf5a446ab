#include "core/formats/torch_pickle.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

namespace covey::formats {
namespace {

constexpr std::size_t kNameMax = 1024;
constexpr std::int64_t kCountMax = std::int64_t{1} << 40;

using Ref = std::uint32_t;  // a value, by its place in the machine's list

struct Value {
  enum class Kind : std::uint8_t { none, boolean, integer, real, text, tuple, list, dict, name, storage, tensor };
  Kind kind = Kind::none;
  DType dtype = DType::f32;  // storage, tensor
  std::int64_t number = 0;   // boolean, integer; storage: elements; tensor: index into tensors
  std::string_view text;     // text; name: "module attribute"; storage: its key
  std::vector<Ref> items;    // tuple, list; dict: key, value, key, value, ...
};

const char* kind_name(Value::Kind kind) {
  constexpr std::array names = {"None",   "a boolean",    "an integer", "a number",  "a text",  "a tuple",
                                "a list", "a dictionary", "a callable", "a storage", "a tensor"};
  return names.at(static_cast<std::size_t>(kind));
}

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr std::array kStorageTypes = {
    StorageType{"torch FloatStorage", DType::f32},     StorageType{"torch HalfStorage", DType::f16},
    StorageType{"torch BFloat16Storage", DType::bf16}, StorageType{"torch DoubleStorage", DType::f64},
    StorageType{"torch LongStorage", DType::i64},      StorageType{"torch IntStorage", DType::i32},
    StorageType{"torch ShortStorage", DType::i16},     StorageType{"torch CharStorage", DType::i8},
    StorageType{"torch ByteStorage", DType::u8},       StorageType{"torch BoolStorage", DType::boolean}};

constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";

bool known_name(std::string_view name) {
  return name == kOrderedDict || name == kRebuildTensor || name == kRebuildParameter ||
         std::ranges::find(kStorageTypes, name, &StorageType::name) != kStorageTypes.end();
}

/// The stack machine. One run; every failing step ends it.
class Machine {
 public:
  Machine(ByteSpan program, const std::string& where) : program_(program), where_(where) {}

  Result<std::vector<PickledTensor>> run() {
    values_.reserve(std::min(program_.size(), std::size_t{4096}));
    for (const auto kind : {Value::Kind::none, Value::Kind::boolean, Value::Kind::boolean, Value::Kind::tuple}) {
      values_.push_back({.kind = kind, .text = {}, .items = {}});
    }
    values_[kTrue].number = 1;
    while (!stopped_) COVEY_TRY(step());
    if (at_ != program_.size()) return corrupt("has bytes after its end");
    if (stack_.size() != 1 || !marks_.empty()) return corrupt("does not end with one value");
    return tensors_of(stack_[0]);
  }

 private:
  static constexpr Ref kNone = 0, kFalse = 1, kTrue = 2, kEmptyTuple = 3;

  [[nodiscard]] Error corrupt(const std::string& what) const {
    return {ErrorCode::corrupt_data, where_ + ": the pickle " + what + " (byte " + std::to_string(at_) + ")"};
  }
  [[nodiscard]] Error refused(const std::string& what) const {
    return {ErrorCode::unsupported, where_ + ": " + what + "; only files that hold nothing but tensors are read"};
  }

  Result<ByteSpan> take(std::size_t count) {
    if (program_.size() - at_ < count) return corrupt("is cut short");
    const ByteSpan out = program_.subspan(at_, count);
    at_ += count;
    return out;
  }
  /// Little-endian, `width` <= 4 bytes.
  Result<std::uint32_t> number(std::size_t width) {
    COVEY_ASSIGN(const ByteSpan bytes, take(width));
    std::uint32_t out = 0;
    for (std::size_t i = 0; i < width; ++i) out |= std::uint32_t{bytes[i]} << (8 * i);
    return out;
  }
  Result<std::string_view> line() {
    const auto rest = as_text(program_.subspan(at_));
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos || end > kNameMax) return corrupt("has a name without an end");
    at_ += end + 1;
    return rest.substr(0, end);
  }

  void push(Ref value) { stack_.push_back(value); }
  Status push_new(Value value) {
    if (values_.size() == kPickleValuesMax) {
      return Error{ErrorCode::resource_exhausted,
                   where_ + ": the pickle makes more than " + std::to_string(kPickleValuesMax) + " values"};
    }
    values_.push_back(std::move(value));
    push(static_cast<Ref>(values_.size() - 1));
    return {};
  }
  Status push_integer(std::int64_t value) {
    return push_new({.kind = Value::Kind::integer, .number = value, .text = {}, .items = {}});
  }
  [[nodiscard]] std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  Result<Ref> pop() {
    if (stack_.size() <= floor()) return corrupt("takes a value that is not there");
    const Ref out = stack_.back();
    stack_.pop_back();
    return out;
  }
  Result<std::vector<Ref>> pop_to_mark() {
    if (marks_.empty()) return corrupt("has no mark where one is needed");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Ref> out(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return out;
  }
  Status tuple(std::size_t count) {
    if (stack_.size() - floor() < count) return corrupt("takes a value that is not there");
    const auto from = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<Ref> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    return push_new({.kind = Value::Kind::tuple, .text = {}, .items = std::move(items)});
  }
  /// Adds to the list or dictionary on top of the stack.
  Status extend(Value::Kind kind, const std::vector<Ref>& items) {
    if (stack_.size() <= floor() || values_[stack_.back()].kind != kind) {
      return corrupt("adds to something that is not " + std::string(kind_name(kind)));
    }
    if (kind == Value::Kind::dict && items.size() % 2 != 0) return corrupt("adds a key without a value");
    auto& into = values_[stack_.back()].items;
    into.insert(into.end(), items.begin(), items.end());
    return {};
  }
  Status remember(std::uint32_t slot) {
    if (stack_.size() <= floor()) return corrupt("keeps a value that is not there");
    memo_[slot] = stack_.back();
    return {};
  }
  Status recall(std::uint32_t slot) {
    const auto found = memo_.find(slot);
    if (found == memo_.end()) return corrupt("recalls a value that it never kept");
    push(found->second);
    return {};
  }

  Status step() {
    COVEY_ASSIGN(const ByteSpan byte, take(1));
    switch (byte[0]) {
      case 0x80: {  // PROTO
        COVEY_ASSIGN(const auto version, number(1));
        if (version == 2 || version == 3) return {};
        return refused("a pickle of protocol " + std::to_string(version) + " instead of torch.save's 2");
      }
      case '.':  // STOP
        stopped_ = true;
        return {};
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return {};
      case 'N':
        push(kNone);
        return {};
      case 0x88:
        push(kTrue);
        return {};
      case 0x89:
        push(kFalse);
        return {};
      case ')':
        push(kEmptyTuple);
        return {};
      case '}':
        return push_new({.kind = Value::Kind::dict, .text = {}, .items = {}});
      case ']':
        return push_new({.kind = Value::Kind::list, .text = {}, .items = {}});
      default:
        return step_with_operands(byte[0]);
    }
  }

  Status step_with_operands(std::uint8_t code) {
    switch (code) {
      case 'K':
      case 'M':
      case 'J': {  // BININT1, BININT2, BININT (signed)
        COVEY_ASSIGN(const auto value, number(code == 'K' ? 1 : code == 'M' ? 2 : 4));
        return push_integer(code == 'J' ? std::int64_t{static_cast<std::int32_t>(value)} : std::int64_t{value});
      }
      case 0x8a:  // LONG1
        return long_integer();
      case 'G':  // BINFLOAT: only ever beside tensors, so its value is of no interest
        COVEY_TRY(take(8));
        return push_new({.kind = Value::Kind::real, .text = {}, .items = {}});
      case 'X': {  // BINUNICODE
        COVEY_ASSIGN(const auto length, number(4));
        COVEY_ASSIGN(const ByteSpan text, take(length));
        return push_new({.kind = Value::Kind::text, .text = as_text(text), .items = {}});
      }
      case 'c':  // GLOBAL
        return global();
      case 'q':
      case 'r': {  // BINPUT, LONG_BINPUT
        COVEY_ASSIGN(const auto slot, number(code == 'q' ? 1 : 4));
        return remember(slot);
      }
      case 'h':
      case 'j': {  // BINGET, LONG_BINGET
        COVEY_ASSIGN(const auto slot, number(code == 'h' ? 1 : 4));
        return recall(slot);
      }
      default:
        return step_that_builds(code);
    }
  }

  Status step_that_builds(std::uint8_t code) {
    switch (code) {
      case 't': {  // TUPLE
        COVEY_ASSIGN(auto items, pop_to_mark());
        return push_new({.kind = Value::Kind::tuple, .text = {}, .items = std::move(items)});
      }
      case 0x85:
      case 0x86:
      case 0x87:  // TUPLE1, TUPLE2, TUPLE3
        return tuple(code - std::size_t{0x84});
      case 's': {  // SETITEM
        COVEY_ASSIGN(const Ref value, pop());
        COVEY_ASSIGN(const Ref key, pop());
        return extend(Value::Kind::dict, {key, value});
      }
      case 'u': {  // SETITEMS
        COVEY_ASSIGN(const auto items, pop_to_mark());
        return extend(Value::Kind::dict, items);
      }
      case 'a': {  // APPEND
        COVEY_ASSIGN(const Ref value, pop());
        return extend(Value::Kind::list, {value});
      }
      case 'e': {  // APPENDS
        COVEY_ASSIGN(const auto items, pop_to_mark());
        return extend(Value::Kind::list, items);
      }
      case 'Q':  // BINPERSID
        return persistent();
      case 'R':  // REDUCE
        return reduce();
      case 'b': {  // BUILD: OrderedDict's attribute _metadata, which says nothing about the tensors
        COVEY_TRY(pop());
        if (stack_.size() > floor() && values_[stack_.back()].kind == Value::Kind::dict) return {};
        return refused("the pickle sets the attributes of an object");
      }
      default: {
        constexpr std::string_view kDigits = "0123456789abcdef";
        return refused(std::string("the pickle has instruction 0x") + kDigits[code >> 4] + kDigits[code & 15]);
      }
    }
  }

  Status long_integer() {
    COVEY_ASSIGN(const auto length, number(1));
    if (length > 8) return refused("the pickle holds an integer of " + std::to_string(length) + " bytes");
    COVEY_ASSIGN(const ByteSpan bytes, take(length));
    std::uint64_t bits = !bytes.empty() && bytes.back() >= 0x80 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = bytes.size(); i-- > 0;) bits = bits << 8 | bytes[i];
    return push_integer(static_cast<std::int64_t>(bits));
  }

  Status global() {
    const std::size_t begin = at_;
    COVEY_TRY(line());
    COVEY_TRY(line());
    std::string name(as_text(program_.subspan(begin, at_ - begin - 1)));
    std::ranges::replace(name, '\n', ' ');
    if (!known_name(name)) {
      std::ranges::replace(name, ' ', '.');
      return refused("the pickle asks for " + shown(name));
    }
    const std::string_view kept = name == kOrderedDict     ? kOrderedDict
                                  : name == kRebuildTensor ? kRebuildTensor
                                  : name == kRebuildParameter
                                      ? kRebuildParameter
                                      : std::ranges::find(kStorageTypes, name, &StorageType::name)->name;
    return push_new({.kind = Value::Kind::name, .text = kept, .items = {}});
  }

  /// ("storage", type, key, location, elements). Where the storage once was is of no interest.
  Status persistent() {
    COVEY_ASSIGN(const Ref top, pop());
    const Value& id = values_[top];
    const auto is = [&](std::size_t i, Value::Kind kind) { return values_[id.items[i]].kind == kind; };
    if (id.kind != Value::Kind::tuple || id.items.size() != 5 || !is(0, Value::Kind::text) ||
        values_[id.items[0]].text != "storage" || !is(1, Value::Kind::name) || !is(2, Value::Kind::text) ||
        !is(3, Value::Kind::text) || !is(4, Value::Kind::integer)) {
      return corrupt("has an outside reference that is not a torch storage");
    }
    const auto type = std::ranges::find(kStorageTypes, values_[id.items[1]].text, &StorageType::name);
    if (type == kStorageTypes.end()) return corrupt("has a storage without an element type");
    const std::int64_t count = values_[id.items[4]].number;
    if (count < 0 || count > kCountMax) return corrupt("has a storage of impossible size");
    return push_new({.kind = Value::Kind::storage,
                     .dtype = type->dtype,
                     .number = count,
                     .text = values_[id.items[2]].text,
                     .items = {}});
  }

  Status reduce() {
    COVEY_ASSIGN(const Ref args, pop());
    COVEY_ASSIGN(const Ref callee, pop());
    if (values_[args].kind != Value::Kind::tuple || values_[callee].kind != Value::Kind::name) {
      return corrupt("calls something that is not a function");
    }
    const std::string_view name = values_[callee].text;
    if (name == kRebuildTensor) return rebuild_tensor(values_[args].items);
    if (name == kOrderedDict && values_[args].items.empty()) {
      return push_new({.kind = Value::Kind::dict, .text = {}, .items = {}});
    }
    if (name == kRebuildParameter && !values_[args].items.empty() &&
        values_[values_[args].items[0]].kind == Value::Kind::tensor) {
      push(values_[args].items[0]);
      return {};
    }
    return corrupt("calls " + shown(name) + " with other arguments than torch.save gives it");
  }

  [[nodiscard]] bool counts(const Value& tuple, std::vector<std::int64_t>& out) const {
    if (tuple.kind != Value::Kind::tuple || tuple.items.size() > kPickleDimsMax) return false;
    for (const Ref item : tuple.items) {
      const Value& value = values_[item];
      if (value.kind != Value::Kind::integer || value.number < 0 || value.number > kCountMax) return false;
      out.push_back(value.number);
    }
    return true;
  }

  /// (storage, offset, size, stride, requires_grad, hooks[, metadata])
  Status rebuild_tensor(const std::vector<Ref>& args) {
    const auto bad = [&] { return corrupt("describes a tensor as torch.save does not"); };
    if (args.size() < 6 || args.size() > 7) return bad();
    const Value& storage = values_[args[0]];
    const Value& offset = values_[args[1]];
    if (storage.kind != Value::Kind::storage || offset.kind != Value::Kind::integer || offset.number < 0 ||
        offset.number > kCountMax) {
      return bad();
    }
    if (args.size() == 7 && values_[args[6]].kind != Value::Kind::none && !values_[args[6]].items.empty()) {
      return refused("a tensor has attributes of its own");
    }
    PickledTensor tensor{.name = {},
                         .dtype = storage.dtype,
                         .storage = std::string(storage.text),
                         .storage_count = storage.number,
                         .offset = offset.number,
                         .shape = {},
                         .stride = {}};
    if (!counts(values_[args[2]], tensor.shape) || !counts(values_[args[3]], tensor.stride) ||
        tensor.shape.size() != tensor.stride.size()) {
      return bad();
    }
    if (tensors_.size() == kPickleTensorsMax) {
      return Error{ErrorCode::resource_exhausted,
                   where_ + ": holds more than " + std::to_string(kPickleTensorsMax) + " tensors"};
    }
    tensors_.push_back(std::move(tensor));
    return push_new({.kind = Value::Kind::tensor,
                     .number = static_cast<std::int64_t>(tensors_.size() - 1),
                     .text = {},
                     .items = {}});
  }

  Result<std::vector<PickledTensor>> tensors_of(Ref root) const {
    const Value& dict = values_[root];
    if (dict.kind != Value::Kind::dict) return refused(std::string("the file holds ") + kind_name(dict.kind));
    std::vector<PickledTensor> out;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const Value& key = values_[dict.items[i]];
      const Value& value = values_[dict.items[i + 1]];
      if (key.kind != Value::Kind::text) return refused(std::string("an entry is named by ") + kind_name(key.kind));
      if (value.kind != Value::Kind::tensor) {
        return refused("entry \"" + shown(key.text) + "\" is " + kind_name(value.kind));
      }
      const bool plain = std::ranges::all_of(key.text, [](char c) { return c < 0 || (c >= 0x20 && c != 0x7f); });
      if (key.text.empty() || key.text.size() > kNameMax || !plain || !names.insert(key.text).second) {
        return corrupt("names entry \"" + shown(key.text) + "\" twice, or by no name for a tensor");
      }
      out.push_back(tensors_[static_cast<std::size_t>(value.number)]);
      out.back().name = key.text;
    }
    return out;
  }

  ByteSpan program_;
  const std::string& where_;
  std::size_t at_ = 0;
  bool stopped_ = false;
  std::vector<Value> values_;
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, Ref> memo_;
  std::vector<PickledTensor> tensors_;
};

}  // namespace

Result<std::vector<PickledTensor>> read_tensor_pickle(ByteSpan pickle, const std::string& where) {
  if (pickle.size() > kPickleBytesMax) {
    return Error{ErrorCode::resource_exhausted, where + ": the pickle has " + std::to_string(pickle.size()) +
                                                    " bytes, more than " + std::to_string(kPickleBytesMax)};
  }
  return Machine(pickle, where).run();
}

}  // namespace covey::formats
