#include "core/data/examples.h"

#include <algorithm>

#include "core/base/file.h"
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
  if (int{has_text} + int{has_prompt} + int{has_messages} != 1) {
    return Error{ErrorCode::corrupt_data,
                 where + ": needs either \"text\", or \"prompt\" and \"completion\", or \"messages\""};
  }
  if (has_messages) {
    COVEY_ASSIGN(example.chat, read_chat(json, where, limits));
  } else if (has_text) {
    COVEY_ASSIGN(example.text, json.get_string("text"));
  } else {
    COVEY_ASSIGN(example.prompt, json.get_string("prompt"));
    COVEY_ASSIGN(example.text, json.get_string(json.contains("response") ? "response" : "completion"));
  }
  COVEY_ASSIGN(example.key, json.get_string("key", ""));
  return example;
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

Result<std::vector<Example>> read_examples(const std::string& path, const ReadLimits& limits) {
  COVEY_ASSIGN(const std::string content, read_text_file(path, limits.file_bytes_max));
  return path.ends_with(".jsonl") ? parse_jsonl(content, path, limits) : parse_lines(content, path, limits);
}

}  // namespace covey::data
