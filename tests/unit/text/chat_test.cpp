#include "core/text/chat.h"

#include <algorithm>

#include "core/base/file.h"
#include "support/support.h"
#include "unit/text/chat_templates.h"

using namespace covey;  // NOLINT
using text::ChatMessage;
using text::ChatPart;
using text::ChatTemplate;

namespace {

const std::vector<ChatMessage> kTalk = {
    {"user", "Hello there"}, {"assistant", " Hi! \n"}, {"user", "Two + two?"}, {"assistant", "4"}};

ChatTemplate named(const char* name) {
  auto chat = ChatTemplate::named(name);
  REQUIRE_OK(chat);
  return *chat;
}

std::string joined(const std::vector<ChatPart>& parts, bool only_assistant = false) {
  std::string out;
  for (const ChatPart& part : parts) {
    if (part.assistant) {
      out += only_assistant ? "[" + part.text + "]" : part.text;
    } else if (!only_assistant) {
      out += part.text;
    }
  }
  return out;
}
std::string render(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, bool generate = false) {
  const auto parts = chat.render(messages, "<s>", "</s>", generate);
  REQUIRE_OK(parts);
  return joined(*parts);
}
std::string answers(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) {
  const auto parts = chat.render(messages, "<s>", "</s>");
  REQUIRE_OK(parts);
  return joined(*parts, true);
}
std::vector<ChatMessage> with_system(std::vector<ChatMessage> messages) {
  messages.insert(messages.begin(), {"system", "Be brief."});
  return messages;
}

template <typename T>
void check_refused(const Result<T>& result, std::string_view part) {
  REQUIRE_FALSE(result.ok());
  CAPTURE(result.error().message);
  CHECK(result.error().message.find(part) != std::string::npos);
  CHECK(result.error().message.find('\n') == std::string::npos);
}

}  // namespace

TEST_CASE("ChatML: every message between its two marks") {
  const ChatTemplate chat = named("chatml");
  CHECK(render(chat, with_system(kTalk)) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n Hi! "
        "\n<|im_end|>\n<|im_start|>user\nTwo + two?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n");
  CHECK(render(chat, {{"user", "x"}}, true) == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
  CHECK(answers(chat, kTalk) == "[ Hi! \n<|im_end|>][4<|im_end|>]");
}

TEST_CASE("Llama 3: bos first, role headers, contents without white space around them") {
  const ChatTemplate chat = named("llama-3");
  CHECK(render(chat, with_system(kTalk)) ==
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
        "\n\nHello there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHi!<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nTwo + two?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>");
  CHECK(render(chat, {{"user", "\xC2\xA0x\xE3\x80\x80\x1F"}}, true) ==
        "<s><|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  CHECK(answers(chat, kTalk) == "[Hi!<|eot_id|>][4<|eot_id|>]");
}

TEST_CASE("Gemma: the assistant is called model, and there is no system message") {
  const ChatTemplate chat = named("gemma");
  CHECK(
      render(chat, kTalk) ==
      "<s><start_of_turn>user\nHello there<end_of_turn>\n<start_of_turn>model\nHi!<end_of_turn>\n<start_of_turn>user\n"
      "Two + two?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n");
  CHECK(render(chat, {{"user", "x"}}, true) == "<s><start_of_turn>user\nx<end_of_turn>\n<start_of_turn>model\n");
  CHECK(answers(chat, kTalk) == "[Hi!<end_of_turn>][4<end_of_turn>]");
  check_refused(chat.render(with_system(kTalk), "<s>", "</s>"), "message 1 is a system message");
}

TEST_CASE("Phi-3: the end token closes a conversation that asks for nothing") {
  const ChatTemplate chat = named("phi-3");
  CHECK(render(chat, with_system(kTalk)) ==
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHello there<|end|>\n<|assistant|>\n Hi! \n<|end|>\n<|user|>\nTwo + "
        "two?<|end|>\n<|assistant|>\n4<|end|>\n</s>");
  CHECK(render(chat, {{"user", "x"}}, true) == "<|user|>\nx<|end|>\n<|assistant|>\n");
  CHECK(answers(chat, kTalk) == "[ Hi! \n<|end|>][4<|end|>]");
}

TEST_CASE("Mistral: questions in brackets, the end token after every answer") {
  const ChatTemplate chat = named("mistral");
  CHECK(render(chat, kTalk) == "<s>[INST] Hello there [/INST] Hi! \n</s>[INST] Two + two? [/INST]4</s>");
  CHECK(render(chat, {{"user", "x"}}, true) == "<s>[INST] x [/INST]");
  CHECK(answers(chat, kTalk) == "[ Hi! \n</s>][4</s>]");
  CHECK(render(named("mistral-v0.1"), kTalk) ==
        "<s>[INST] Hello there [/INST] Hi! \n</s> [INST] Two + two? [/INST]4</s> ");
  check_refused(chat.render(with_system(kTalk), "<s>", "</s>"), "message 1 is a system message");
}

TEST_CASE("a conversation that a family cannot say is refused with the message's number") {
  const ChatTemplate gemma = named("gemma");
  const auto talk = [](const ChatTemplate& chat, std::vector<ChatMessage> messages) {
    return chat.render(messages, "", "");
  };
  check_refused(talk(gemma, {}), "at least one message");
  check_refused(talk(gemma, {{"assistant", "x"}}), "message 1 breaks the order");
  check_refused(talk(gemma, {{"user", "x"}, {"user", "secret"}}), "message 2 breaks the order");
  check_refused(talk(named("chatml"), {{"user", "x"}, {"tool", "secret"}}), "message 2 has a role");
  CHECK(talk(gemma, {{"user", "x"}, {"user", "secret"}}).error().message.find("secret") == std::string::npos);
  check_refused(ChatTemplate::named("alpaca"), "chatml, llama-3, gemma, phi-3, mistral");
}

TEST_CASE("a family's template in Jinja, in any spelling, gives the texts and answers of the family by name") {
  for (const auto& known : test::kChatTemplates) {
    CAPTURE(known.jinja);
    const auto chat = ChatTemplate::of_jinja(known.jinja, "t");
    REQUIRE_OK(chat);
    const ChatTemplate family = named(std::string(known.name).c_str());
    for (const bool generate : {false, true}) CHECK(render(*chat, kTalk, generate) == render(family, kTalk, generate));
    CHECK(answers(*chat, kTalk) == answers(family, kTalk));
    CHECK(chat->answer_end("</s>") == family.answer_end("</s>"));
    CHECK(chat->needs_bos() == family.needs_bos());
  }
  const auto qwen = ChatTemplate::of_jinja(test::kChatMlWithDefault, "t");
  REQUIRE_OK(qwen);
  CHECK(render(*qwen, {{"user", "x"}}) ==
        "<|im_start|>system\nYou're a lamp.\nShine.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
  CHECK(
      render(*qwen, {{"system", "y"}, {"user", "x"}}).starts_with("<|im_start|>system\ny<|im_end|>\n<|im_start|>user"));
  const auto llama2 = ChatTemplate::of_jinja(test::kLlama2, "t");
  REQUIRE_OK(llama2);
  CHECK(render(*llama2, {{"user", "x"}, {"assistant", "y"}}) == "<s>[INST] x [/INST] y </s>");
}

TEST_CASE("what a newer template writes for the model to say is from the generation prompt to the mark") {
  const auto newer = [](std::size_t i) {
    auto chat = ChatTemplate::of_jinja(test::kNewerChatTemplates[i].jinja, "t");
    REQUIRE_OK(chat);
    return *chat;
  };
  const std::vector<ChatMessage> talk = with_system(kTalk);
  CHECK(answers(newer(0), talk) == "[Hi!<|eot_id|>][4<|eot_id|>]");
  CHECK(render(newer(0), talk)
            .starts_with("<s><|start_header_id|>system<|end_header_id|>\n\nDay: 01 Feb 2003\n\nBe brief.<|eot_id|>"));
  // The last answer is to begin with its (empty) thought, as the template writes it.
  CHECK(answers(newer(1), talk) == "[ Hi! \n<|im_end|>][<think>\n\n</think>\n\n4<|im_end|>]");
  CHECK(answers(newer(1), {{"user", "x"}, {"assistant", "<think>\nhm\n</think>\n\ny"}}) ==
        "[<think>\nhm\n</think>\n\ny<|im_end|>]");
  CHECK(answers(newer(2), talk) == "[Hi!<end_of_turn>][4<end_of_turn>]");
  CHECK(render(newer(2), talk).starts_with("<s><start_of_turn>user\nBe brief.\n\nHello there<end_of_turn>"));
  CHECK(answers(newer(3), talk) == "[Hi!</s>][4</s>]");
  CHECK(answers(newer(4), talk) == "[ Hi! \n<|im_end|>][4<|im_end|>]");
  CHECK(newer(1).answer_end("</s>") == "<|im_end|>");
  CHECK(newer(3).answer_end("</s>") == "</s>");
}

TEST_CASE("a template that leaves the answers out, or asks for what is not there, is refused by name") {
  const auto talk = [](std::string_view jinja) {
    const auto chat = ChatTemplate::of_jinja(jinja, "t");
    REQUIRE_OK(chat);
    return chat->render(kTalk, "<s>", "</s>");
  };
  check_refused(talk("{{ messages[0].content }}"), "leaves the assistant's messages out");
  check_refused(talk("{{ messages }}"), "prints a list");
  check_refused(talk("{{ strftime_now('%Y') }}"), "strftime_now");
  check_refused(talk("{{ messages | tojson }}"), "tojson");
  check_refused(talk("{{ raise_exception('no, ' + messages[1].content) }}"), "refuses the conversation");
  CHECK(talk("{{ raise_exception('no, ' + messages[1].content) }}").error().message.find("Hi") == std::string::npos);
  check_refused(talk("{{ raise_exception('not today') }}"), "not today");
}

TEST_CASE("a model directory's template is found where Hugging Face puts it") {
  const test::TempDir dir;
  const auto put = [&](const std::string& name, std::string_view content) {
    REQUIRE_OK(write_file_durably(dir.file(name), content));
  };
  check_refused(text::chat_template_of(dir.path()), "no tokenizer_config.json");
  put("tokenizer_config.json", R"({"bos_token": "<s>"})");
  check_refused(text::chat_template_of(dir.path()), "has no chat_template");
  put("tokenizer_config.json", R"({"chat_template": 3})");
  check_refused(text::chat_template_of(dir.path()), "chat_template");
  put("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "x"}]})");
  check_refused(text::chat_template_of(dir.path()), "names none");
  const std::string inside = R"("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + )"
                             R"(message['content'] + '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}")";
  put("tokenizer_config.json", "{\"chat_template\": " + inside + "}");
  CHECK(text::chat_template_of(dir.path())->answer_end("") == "<|im_end|>");
  put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\", \"template\": " + inside + "}]}");
  CHECK(text::chat_template_of(dir.path())->answer_end("") == "<|im_end|>");
  put("chat_template.jinja", test::kChatTemplates[1].jinja);
  CHECK(text::chat_template_of(dir.path())->answer_end("") == "<|im_end|>");
  put("chat_template.jinja", "{% macro f() %}");
  check_refused(text::chat_template_of(dir.path()), "macro");
}
