/// Jinja templates that write the families' forms, in our own words: each makes the text that its family's documentation
/// shows (see core/text/chat.h), in one of the spellings found in tokenizer_config.json files.
#pragma once

#include <array>
#include <string_view>

namespace covey::test {

struct KnownTemplate {
  std::string_view name;
  std::string_view jinja;
};

inline constexpr std::array kChatTemplates = {
    KnownTemplate{"chatml", R"({% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})"},
    KnownTemplate{"chatml", R"(
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>" + "\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\n" }}
{%- endif %}
)"},
    KnownTemplate{"llama-3", R"({{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})"},
    KnownTemplate{"llama-3", R"({%- for message in messages -%}
{%- set turn = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

' + message['content'] | trim + '<|eot_id|>' -%}
{{- bos_token + turn if loop.first else turn -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>

' -}}{%- endif -%})"},
    KnownTemplate{"gemma", R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system message') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') != (loop.index0 % 2 == 1) %}{{ raise_exception('roles out of order') }}{% endif %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = 'user' %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %})"},
    KnownTemplate{"phi-3", R"({% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}{% else %}{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %})"},
    KnownTemplate{"mistral", R"({{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') != (loop.index0 % 2 == 1) %}{{ raise_exception('roles out of order') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %})"},
    KnownTemplate{"mistral-v0.1", R"({{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') != (loop.index0 % 2 == 1) %}{{ raise_exception('roles out of order') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token + ' ' }}{% endif %}{% endfor %})"}};

/// ChatML with a system message of its own where the conversation brings none, as Qwen 2 has one.
inline constexpr std::string_view kChatMlWithDefault =
    R"({% for message in messages %}{% if loop.first and message['role'] != 'system' %}{{ '<|im_start|>system\nYou\'re a lamp.\nShine.<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

/// Not written here: a header with the date, as Llama 3.1 has it.
inline constexpr std::string_view kLlama31 =
    R"({{ bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\n\nToday is ' + date_string + '<|eot_id|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})";
/// Nor this: Llama 2's bos before every question.
inline constexpr std::string_view kLlama2 =
    R"({% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %})";

}  // namespace covey::test
