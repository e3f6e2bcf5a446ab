#include "core/data/examples.h"

#include <algorithm>

#include "core/base/file.h"
#include "core/data/csv.h"
#include "core/formats/json.h"

namespace covey::data {
namespace {

/// @param json the whole line, which has "messages".
Result<std::vector<text::ChatPart>> read_chat(const formats::Json& json, const std::string& where,
                                              const ReadLimits& limits) {
  if (limits.chat == nullptr) {
    return Error{ErrorCode::unsupported,
                 where + ": is a conversation (\"messages\"), and no chat template was chosen to write it with"};
  }
  COVEY_ASSIGN(const formats::Json* list, json.get_array("messages"));
  if (list->size() > limits.messages_max) {
    return Error{ErrorCode::invalid_argument, where + ": has " + std::to_string(list->size()) +
                                                  " messages, more than " + std::to_string(limits.messages_max)};
  }
  std::vector<text::ChatMessage> messages;
  for (const formats::Json& item : list->items()) {
    if (!item.is_object()) {
      return Error{ErrorCode::corrupt_data, where + ": messages must be objects with \"role\" and \"content\""};
    }
    text::ChatMessage message;
    COVEY_ASSIGN(message.role, item.get_string("role"));
    COVEY_ASSIGN(message.content, item.get_string("content"));
    messages.push_back(std::move(message));
  }
  auto parts = limits.chat->render(messages);
  if (!parts.ok()) return parts.error().in(where);
  if (std::ranges::none_of(*parts, &text::ChatPart::assistant)) {
    return Error{ErrorCode::corrupt_data, where + ": has no assistant message, so nothing to learn"};
  }
  return parts;
}

Result<Example> read_json_line(std::string_view line, const std::string& where, const ReadLimits& limits) {
  COVEY_ASSIGN(
      const formats::Json json,
      formats::Json::parse(line, where, {.bytes_max = limits.line_bytes_max, .depth_max = 16, .where_has_line = true}));
  if (!json.is_object()) return json.error_at("", where + ": expected an object, found " + json.kind_name());
  Example example;
  const bool has_text = json.contains("text");
  const bool has_prompt = json.contains("prompt");
  const bool has_messages = json.contains("messages");
  const bool has_source = json.contains("source") && json.contains("target");
  const int kinds = int{has_text} + int{has_prompt} + int{has_messages};
  if (kinds > 1 || (kinds == 0 && !has_source)) {
    return Error{ErrorCode::corrupt_data, where +
                                              ": needs either \"text\", or \"prompt\" and \"completion\", or "
                                              "\"source\" and \"target\", or \"messages\""};
  }
  if (has_messages) {
    COVEY_ASSIGN(example.chat, read_chat(json, where, limits));
  } else if (has_text) {
    COVEY_ASSIGN(example.text, json.get_string("text"));
  } else if (!has_prompt) {
    COVEY_ASSIGN(example.prompt, json.get_string("source"));
    COVEY_ASSIGN(example.text, json.get_string("target"));
  } else {
    COVEY_ASSIGN(example.prompt, json.get_string("prompt"));
    COVEY_ASSIGN(example.text, json.get_string(json.contains("response") ? "response" : "completion"));
  }
  COVEY_ASSIGN(example.key, json.get_string("key", ""));
  // Of other shapes they are members of somebody else's, and left alone.
  if (const auto pair = json.get_string("text_pair"); pair.ok()) example.text_pair = *pair;
  if (const auto label = json.get_string("label"); label.ok()) example.label = *label;
  if (const auto label = json.get_int("label"); label.ok()) example.label = std::to_string(*label);
  return example;
}

/// Which column of a CSV file is what; absent ones are npos.
struct Columns {
  std::size_t prompt, text, key, text_pair, label;
};

Result<Columns> columns_of(const CsvRecord& header, const std::string& where) {
  const auto at = [&](std::initializer_list<std::string_view> names) {
    for (const std::string_view name : names) {
      const auto found = std::ranges::find(header.fields, name);
      if (found != header.fields.end()) return static_cast<std::size_t>(found - header.fields.begin());
    }
    return std::string::npos;
  };
  const Columns out{at({"prompt", "source"}), at({"text", "completion", "response", "target"}), at({"key"}),
                    at({"text_pair"}), at({"label"})};
  if (out.text != std::string::npos) return out;
  return Error{ErrorCode::corrupt_data, where + ":" + std::to_string(header.line) +
                                            ": the first line must name the columns: text (with text_pair, label), or "
                                            "prompt and completion, or source and target"};
}

/// Calls `add(line, where)` for every line that is not blank.
template <typename Add>
Result<std::vector<Example>> each_line(std::string_view content, const std::string& file, const ReadLimits& limits,
                                       Add add) {
  std::vector<Example> examples;
  for (std::size_t number = 1; !content.empty(); ++number) {
    const std::size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string where = file + ":" + std::to_string(number);
    if (line.size() > limits.line_bytes_max) {
      return Error{ErrorCode::invalid_argument, where + ": the line has " + std::to_string(line.size()) +
                                                    " bytes, more than " + std::to_string(limits.line_bytes_max) +
                                                    "; cut it into several"};
    }
    if (examples.size() == limits.examples_max) {
      return Error{ErrorCode::invalid_argument,
                   where + ": more than " + std::to_string(limits.examples_max) + " examples"};
    }
    Result<Example> example = add(line, where);
    if (!example.ok()) {
      Error error = example.error();
      if (error.code == ErrorCode::invalid_argument) error.code = ErrorCode::corrupt_data;
      return error;
    }
    example->line = number;
    examples.push_back(*std::move(example));
  }
  if (examples.empty()) return Error{ErrorCode::invalid_argument, file + ": holds no example; write one per line"};
  return examples;
}

}  // namespace

Result<std::vector<Example>> parse_lines(std::string_view content, const std::string& where, const ReadLimits& limits) {
  return each_line(content, where, limits, [](std::string_view line, const std::string&) -> Result<Example> {
    return Example{.prompt = {}, .text = std::string(line)};
  });
}

Result<std::vector<Example>> parse_jsonl(std::string_view content, const std::string& where, const ReadLimits& limits) {
  return each_line(content, where, limits, [&](std::string_view line, const std::string& line_where) {
    return read_json_line(line, line_where, limits);
  });
}

Result<std::vector<Example>> parse_csv_examples(std::string_view content, const std::string& where,
                                                const ReadLimits& limits) {
  COVEY_ASSIGN(
      auto records,
      parse_csv(content, where, {.record_bytes_max = limits.line_bytes_max, .records_max = limits.examples_max}));
  if (records.size() < 2) {
    return Error{ErrorCode::invalid_argument, where + ": holds no example; write column names, then one per line"};
  }
  COVEY_ASSIGN(const Columns columns, columns_of(records.front(), where));
  std::vector<Example> examples;
  for (std::size_t i = 1; i < records.size(); ++i) {
    const auto field = [&](std::size_t column) {
      return column == std::string::npos ? std::string() : std::move(records[i].fields[column]);
    };
    Example example{.prompt = field(columns.prompt), .text = field(columns.text), .key = field(columns.key)};
    example.text_pair = field(columns.text_pair);
    if (columns.label != std::string::npos) example.label = field(columns.label);
    example.line = records[i].line;
    examples.push_back(std::move(example));
  }
  return examples;
}

Result<std::vector<Example>> read_examples(const std::string& path, const ReadLimits& limits) {
  COVEY_ASSIGN(const std::string content, read_text_file(path, limits.file_bytes_max));
  if (path.ends_with(".jsonl")) return parse_jsonl(content, path, limits);
  return path.ends_with(".csv") ? parse_csv_examples(content, path, limits) : parse_lines(content, path, limits);
}

}  // namespace covey::data
