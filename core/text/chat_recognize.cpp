// Which family's marks a Jinja chat_template writes. The template is brought into one spelling and searched for the
// expressions that make a family's text; it is never run.
#include <algorithm>
#include <array>

#include "core/text/chat.h"

namespace covey::text {
namespace {

void replace_in(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// Copies a string literal whose opening quote stands at `i`, with ' for its quotes; `i` moves behind it. Line breaks
/// and escaped ones become the same two characters, an inner quote becomes \x27 or " (no family has one).
void copy_literal(std::string_view jinja, std::size_t& i, std::string& out) {
  const char quote = jinja[i++];
  out += '\'';
  while (i < jinja.size() && jinja[i] != quote) {
    if (jinja[i] == '\\' && i + 1 < jinja.size()) {
      if (jinja[i + 1] == '\'') {
        out += "\\x27";
      } else if (jinja[i + 1] == '"') {
        out += '"';
      } else {
        out += jinja.substr(i, 2);
      }
      i += 2;
      continue;
    }
    if (jinja[i] == '\n') {
      out += "\\n";
    } else if (jinja[i] == '\'') {
      out += "\\x27";
    } else {
      out += jinja[i];
    }
    ++i;
  }
  ++i;
  out += '\'';
}

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/// Text between two tags, cut as Jinja cuts it with Hugging Face's settings (trim_blocks, lstrip_blocks).
/// `before`: the tag it follows ends with "-}}" or "-%}"; `block_before`: it is a block; likewise for what follows.
std::string_view cut_text(std::string_view text, bool before, bool block_before, bool after, bool block_after) {
  if (before) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  } else if (block_before && text.starts_with('\n')) {
    text.remove_prefix(1);
  }
  if (after) {
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  } else if (block_after) {
    const std::size_t line = text.find_last_not_of(" \t");
    if (line == std::string_view::npos || text[line] == '\n') {
      text = text.substr(0, line == std::string_view::npos ? 0 : line + 1);
    }
  }
  return text;
}

/// What stands inside a tag from `i` on, up to its close: no white space, ' for every quote.
/// @return whether the close has the mark that strips the text after it. `i` moves behind the close.
bool copy_tag(std::string_view jinja, std::size_t& i, std::string_view close, std::string& out) {
  bool strips = false;
  while (i < jinja.size() && jinja.substr(i, 2) != close) {
    const char c = jinja[i];
    if (c == '\'' || c == '"') {
      copy_literal(jinja, i, out);
      continue;
    }
    const bool mark = (c == '-' || c == '+') && jinja.substr(i + 1, 2) == close;
    strips = mark && c == '-';
    if (!mark && !is_blank(c)) out += c;
    ++i;
  }
  out += close;
  i += 2;
  return strips;
}

/// One spelling: no white space or whitespace marks inside {{ }} and {% %}, ' for every quote, neighbouring literals
/// joined, message['x'] for message.x. Text that Jinja would print as it stands is kept between two \x01.
std::string in_one_spelling(std::string_view jinja) {
  if (jinja.ends_with('\n')) jinja.remove_suffix(1);
  std::string out;
  bool strips = false, block = false;
  for (std::size_t i = 0; i <= jinja.size();) {
    std::size_t open = i;
    while (open < jinja.size() && jinja.substr(open, 2) != "{{" && jinja.substr(open, 2) != "{%") ++open;
    const bool at_end = open >= jinja.size();
    const bool next_block = !at_end && jinja[open + 1] == '%';
    const bool next_strips = !at_end && jinja.substr(open + 2, 1) == "-";
    const std::string_view text = cut_text(jinja.substr(i, open - i), strips, block, next_strips, next_block);
    if (!text.empty()) out += "\x01" + std::string(text) + "\x01";
    if (at_end) break;
    out += jinja.substr(open, 2);
    i = open + 2;
    if (i < jinja.size() && (jinja[i] == '-' || jinja[i] == '+')) ++i;
    block = next_block;
    strips = copy_tag(jinja, i, block ? "%}" : "}}", out);
  }
  replace_in(out, "'+'", "");
  replace_in(out, "message.role", "message['role']");
  replace_in(out, "message.content", "message['content']");
  return out;
}

struct Signs {
  const char* name;
  std::vector<std::string_view> needs;    ///< all of these
  std::vector<std::string_view> refuses;  ///< none of these: they change the text
};

/// The expressions that make each family's text, in the spelling above.
const std::vector<Signs>& families() {
  static const std::vector<Signs> list = {
      {"chatml",
       {R"('<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n')", R"('<|im_start|>assistant\n')"},
       {"think", "|trim", ".strip(", "bos_token", "eos_token", "<|im_sep|>", "capitalize"}},
      {"llama-3",
       {R"('<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>')",
        "bos_token", R"('<|start_header_id|>assistant<|end_header_id|>\n\n')"},
       {"date_string", "tools", "Cutting", R"('<|start_header_id|>system)", "eos_token"}},
      {"gemma",
       {R"('<start_of_turn>'+role+'\n'+message['content']|trim+'<end_of_turn>\n')", "bos_token", "role='model'",
        R"('<start_of_turn>model\n')"},
       {"first_user_prefix", "tools", "eos_token"}},
      {"phi-3",
       {R"('<|user|>\n'+message['content']+'<|end|>\n')", R"('<|assistant|>\n'+message['content']+'<|end|>\n')",
        R"({{'<|assistant|>\n'}})"},
       {"bos_token", "|trim", "tools", ".strip("}},
      {"mistral-v0.1",
       {"{{bos_token}}", "'[INST] '+message['content']+' [/INST]'", "{{message['content']+eos_token+' '}}"},
       {"<<SYS>>", "system_message", "tools", "|trim", ".strip("}},
      {"mistral",
       {"{{bos_token}}", "'[INST] '+message['content']+' [/INST]'", "{{message['content']+eos_token}}"},
       {"<<SYS>>", "system_message", "tools", "|trim", ".strip("}}};
  return list;
}

/// The text of a system message that is said where the conversation has none: '<|im_start|>system\nTEXT<|im_end|>\n'.
std::string default_system(std::string_view spelled) {
  constexpr std::string_view kOpen = R"('<|im_start|>system\n)", kClose = R"(<|im_end|>\n')";
  for (std::size_t at = spelled.find(kOpen); at != std::string_view::npos; at = spelled.find(kOpen, at + 1)) {
    const std::string_view rest = spelled.substr(at + kOpen.size());
    const std::string_view literal = rest.substr(0, rest.find('\''));
    const std::size_t end = rest.find(kClose);
    if (end == std::string_view::npos || end == 0 || end > literal.size()) continue;
    std::string text(rest.substr(0, end));
    replace_in(text, "\\n", "\n");
    replace_in(text, "\\x27", "'");
    return text;
  }
  return {};
}

}  // namespace

Result<ChatTemplate> ChatTemplate::recognize(std::string_view jinja, const std::string& where) {
  const std::string spelled = in_one_spelling(jinja);
  const auto has = [&](std::string_view sign) { return spelled.find(sign) != std::string::npos; };
  for (const Signs& family : families()) {
    if (!std::ranges::all_of(family.needs, has)) continue;
    const auto addition = std::ranges::find_if(family.refuses, has);
    if (addition != family.refuses.end()) {
      return Error{ErrorCode::unsupported, where + ": is " + family.name + " with \"" + std::string(*addition) +
                                               "\", which Covey does not write; name a plain template"};
    }
    if (has("\x01")) {
      return Error{ErrorCode::unsupported,
                   where + ": is " + family.name + " with text outside its expressions; name a plain template"};
    }
    COVEY_ASSIGN(ChatTemplate out, named(family.name));
    if (out.name_ == "chatml") out.default_system_ = default_system(spelled);
    if (out.eos_ == Eos::at_end && !has("{%else%}{{eos_token}}")) out.eos_ = Eos::none;
    return out;
  }
  return Error{ErrorCode::unsupported,
               where + ": writes none of ChatML, Llama 3, Gemma, Phi-3 and Mistral v0.1 or v0.2; name a template"};
}

}  // namespace covey::text
