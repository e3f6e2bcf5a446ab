#include "core/text/jinja.h"

#include "support/support.h"

using namespace covey;  // NOLINT
using text::ChatMessage;
using text::JinjaTemplate;

namespace {

const std::vector<ChatMessage> kMessages = {{"system", " s "}, {"user", "caf\xC3\xA9"}, {"assistant", "yes\n"}};

Result<text::MarkedText> run(std::string_view source) {
  auto jinja = JinjaTemplate::compile(source, "t");
  if (!jinja.ok()) return jinja.error();
  return jinja->render({.messages = kMessages, .bos = "<s>", .eos = "</s>"});
}
std::string text_of(std::string_view source) {
  CAPTURE(std::string(source));
  auto out = run(source);
  REQUIRE_OK(out);
  return out->text;
}
void check_fails(const std::string& source, ErrorCode code, std::string_view part) {
  CAPTURE(source.substr(0, 200));
  const auto out = run(source);
  REQUIRE_FALSE(out.ok());
  CAPTURE(out.error().message);
  CHECK(out.error().code == code);
  CHECK(out.error().message.find(part) != std::string::npos);
  CHECK(out.error().message.find('\n') == std::string::npos);
}
std::string repeated(std::string_view piece, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += piece;
  return out;
}

}  // namespace

TEST_CASE("Jinja's white space is cut as trim_blocks, lstrip_blocks and the marks say") {
  CHECK(text_of("a\n  {% if true %}\n b\n  {% endif %}\nc\n") == "a\n b\nc");
  CHECK(text_of("a \n {%- if true -%} \n b {% endif %} c") == "ab  c");
  CHECK(text_of("{{ 1 }}\n{{ 2 }} {% if true %}x{% endif %}") == "1\n2 x");
  CHECK(text_of("  {%+ if true +%}\nx{% endif %}") == "  \nx");
  CHECK(text_of("{# a {{ comment #}\nx  {#- another -#}  y") == "xy");
  CHECK(text_of("  {# first #}x") == "x");
}

TEST_CASE("Jinja's operators bind and compute as in Python") {
  CHECK(text_of("{{ 1 + 2 * 3 }},{{ -7 // 2 }},{{ -7 % 3 }},{{ 7 - 2 - 1 }}") == "7,-4,2,4");
  CHECK(text_of("{{ not 1 == 2 and 1 < 2 or x }}") == "True");
  CHECK(text_of("{{ 'a' ~ 1 + 2 ~ none }}").empty() == false);
  CHECK(text_of("{{ 'x' if false else 'y' if true }}{{ 'z' if false }}") == "y");
  CHECK(text_of("{{ 'b' in 'abc' }}{{ 'd' not in ['a', 'b'] }}{{ 'role' in messages[0] }}") == "TrueTrueTrue");
  CHECK(text_of("{{ messages[1].content[-1] }}{{ messages[1]['content'][:3] }}{{ messages|length }}") ==
        "\xC3\xA9"
        "caf3");
  CHECK(text_of("{{ [1, 2, 3][::-1][0] }}{{ [1, 2, 3][1:]|length }}{{ [1, 2, 3][-2:][0] }}{{ (4, 5)|last }}") ==
        "3225");
  CHECK(text_of(R"({{ 'a\n\'\x41\u00e9\d' }})") == "a\n'A\xC3\xA9\\d");
  CHECK(text_of("{{ {'a': 1, 'b': 'c'}['b'] }}{{ {'a': 1}.get('x', 7) }}") == "c7");
  CHECK(text_of("{{ ' x '|trim + '|' }}{{ 'a-b'.split('-')[1] }}{{ 'xxyx'.strip('x') }}{{ 'aXb' | lower | upper }}") ==
        "x|byAXB");
  CHECK(text_of("{{ 'hello world'.title() }} {{ 'hELLO'|capitalize }} {{ 'aab'.replace('a', 'cc') }}") ==
        "Hello World Hello ccccb");
  CHECK(text_of("{{ x is defined }}{{ x is none }}{{ none is none }}{{ 'a' is string }}{{ 3 is not number }}") ==
        "FalseFalseTrueTrueFalse");
  CHECK(text_of("{{ x | default('d') }}{{ '' | default('e', true) }}{{ ['a', 'b'] | join(', ') }}") == "dea, b");
}

TEST_CASE("Jinja's loops and variables have the scopes that its documentation states") {
  CHECK(
      text_of("{% for m in messages %}{{ loop.index }}{{ m.role[0] }}{% if not loop.last %},{% endif %}{% endfor %}") ==
      "1s,2u,3a");
  CHECK(text_of("{% set n = 1 %}{% for i in [1, 2] %}{% set n = n + 10 %}{% endfor %}{{ n }}") == "1");
  CHECK(text_of("{% set ns = namespace(n=1) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}") ==
        "4");
  CHECK(text_of("{% for i in [1, 2, 3, 4] if i % 2 == 0 %}{{ loop.index0 }}{{ i }}{% else %}none{% endfor %}") ==
        "0214");
  CHECK(text_of("{% for i in [] %}x{% else %}none{% endfor %}{% for i in missing %}x{% endfor %}") == "none");
  CHECK(text_of("{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% if i == 3 %}{% break %}{% "
                "endif %}{% endfor %}") == "13");
  CHECK(text_of("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}") == "a1b2");
  CHECK(text_of("{% set x %}a{{ 1 }}{% endset %}{{ x }}{{ x|length }}") == "a12");
  CHECK(text_of("{% if 0 %}a{% elif '' %}b{% elif x %}c{% else %}d{% endif %}") == "d");
  CHECK(text_of("{{ (messages | selectattr('role', 'equalto', 'user') | list)[0].content }}") == "caf\xC3\xA9");
}

TEST_CASE("an assistant's words keep their marks wherever a template puts them") {
  const auto marks = [](std::string_view source) {
    const auto out = run(source);
    REQUIRE_OK(out);
    std::string marked;
    for (const auto& mark : out->marks) {
      CHECK(mark.message == 2);
      marked += "[" + out->text.substr(mark.begin, mark.end - mark.begin) + "]";
    }
    return marked;
  };
  CHECK(marks("{% for m in messages %}{{ '<' + m.content | trim + '>' }}{% endfor %}") == "[yes]");
  CHECK(marks("{{ messages[2].content[1:] ~ messages[0].content }}") == "[es\n]");
  CHECK(marks("{{ messages[2].content.split('e')[1] }}{{ messages[2].content.replace('e', 'E') | upper }}") ==
        "[s\n][Y][S\n]");
  CHECK(marks("{% set x %}({{ messages[2].content }}){% endset %}{{ x }}{{ messages[1].content }}") == "[yes\n]");
}

TEST_CASE("what is no Jinja, or more than we run, is refused in one line") {
  for (const char* broken : {"{{", "{%", "{{ '", "{{ 'a\\", "{% if %}", "{% if x %}", "{% endfor %}", "{{ a b }}",
                             "{{ }}", "{% for x of y %}{% endfor %}", "{# open", "{{ [1, }}", "{{ a. }}", "{{ 1 @ 2 }}",
                             "{{ 99999999999999999999 }}", "{% set 3 = 4 %}", "{{ '\\ud800' }}"}) {
    check_fails(broken, ErrorCode::corrupt_data, "t: line 1");
  }
  check_fails("{% macro f() %}{% endmacro %}", ErrorCode::unsupported, "macro");
  check_fails("{% include 'x' %}", ErrorCode::unsupported, "include");
  check_fails("{{ x() }}", ErrorCode::unsupported, "calls \"x\"");
  check_fails("{{ 'a'.encode() }}", ErrorCode::unsupported, "method \"encode\"");
  check_fails("{{ 'a' | shout }}", ErrorCode::unsupported, "filter \"shout\"");
  check_fails("{{ 'a' is odd }}", ErrorCode::unsupported, "test \"odd\"");
  check_fails("{{ 1 < 2 < 3 }}", ErrorCode::unsupported, "three values");
  check_fails("{{ x.y }}", ErrorCode::invalid_argument, "of nothing");
  check_fails("{{ 'a' + 1 }}", ErrorCode::invalid_argument, "adds a number to a string");
  check_fails("{{ 1 % 0 }}", ErrorCode::invalid_argument, "zero");
}

TEST_CASE("hostile templates end within their bounds") {
  check_fails("{% set ns = namespace(x='aaaaaaaa') %}{% for i in '" + repeated("a,", 60) +
                  "'.split(',') %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
              ErrorCode::resource_exhausted, "more text");
  const std::string many = "'" + repeated("a,", 2000) + "'.split(',')";
  check_fails(
      "{% set l = " + many + " %}{% for i in l %}{% for j in l %}{% for k in l %}{% endfor %}{% endfor %}{% endfor %}",
      ErrorCode::resource_exhausted, "");
  check_fails("{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}", ErrorCode::resource_exhausted, "deep");
  check_fails("{{ " + repeated("not ", 5000) + "1 }}", ErrorCode::resource_exhausted, "deep");
  check_fails("{{ " + repeated("-", 5000) + "1 }}", ErrorCode::resource_exhausted, "deep");
  check_fails("{{ 1" + repeated(" + 1", 5000) + " }}", ErrorCode::resource_exhausted, "deep");
  check_fails(repeated("{% if 1 %}", 5000), ErrorCode::resource_exhausted, "deep");
  check_fails("{% set ns = namespace(x=1) %}{% for i in " + many + " %}{% set ns.x = [ns.x] %}{% endfor %}",
              ErrorCode::resource_exhausted, "without end");
  check_fails("{% set ns = namespace() %}{% set ns.x = ns %}", ErrorCode::invalid_argument, "namespace");
  check_fails("{% set ns = namespace() %}{% set ns.x = [ns] %}", ErrorCode::invalid_argument, "namespace");
}
