/// Examples read from files that a user wrote: every bound stated, every error with file and line.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/text/chat.h"

namespace covey::data {

struct Example {
  std::string prompt;  ///< read by the model, not predicted; may be empty
  std::string text;    ///< predicted
  std::string key{};   ///< whose it is (speaker, household, user); empty where the file does not say
  /// A conversation, rendered: its assistant parts are predicted. Then `prompt` and `text` are empty.
  std::vector<text::ChatPart> chat{};
  std::string text_pair{};             ///< a classifier's second text; may be empty
  std::optional<std::string> label{};  ///< a classifier's answer: a name, or a whole number in decimal
  std::size_t line = 0;                ///< where in its file, from 1; 0: unknown
};

struct ReadLimits {
  std::size_t file_bytes_max = std::size_t{1} << 30;
  std::size_t line_bytes_max = std::size_t{1} << 20;
  std::size_t examples_max = 10'000'000;
  std::size_t messages_max = 1000;         ///< of one conversation
  const text::ChatFormat* chat = nullptr;  ///< how conversations are written; without it they are refused. Borrowed.
};

/// `.jsonl`: one object per line with "text", or "prompt" and "completion" (or "response"), or "messages" (a list of
/// {"role", "content"}), or "source" and "target" (the same as prompt and completion), and optionally "key",
/// "text_pair" and "label" (a text or a whole number); other members are left alone. `.csv`: columns of these names
/// (csv.h). Anything else: one example per line. Blank lines are skipped, '\r' before a line break is dropped.
/// @errors not_found, io_error; corrupt_data: the line, and what is wrong with it (never its content: it may be
/// private); invalid_argument: over a limit, or no example at all; unsupported: a conversation without `limits.chat`.
Result<std::vector<Example>> read_examples(const std::string& path, const ReadLimits& limits = {});

/// The same on text in memory; `where` stands for the file's name.
Result<std::vector<Example>> parse_lines(std::string_view content, const std::string& where,
                                         const ReadLimits& limits = {});
Result<std::vector<Example>> parse_jsonl(std::string_view content, const std::string& where,
                                         const ReadLimits& limits = {});
Result<std::vector<Example>> parse_csv_examples(std::string_view content, const std::string& where,
                                                const ReadLimits& limits = {});

}  // namespace covey::data
