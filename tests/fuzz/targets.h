/// One function per parser: takes any bytes, must return. What it checks beyond "does not crash" is asserted inside.
/// libFuzzer drives them (preset fuzz), and fuzz_replay_test runs them over the seeds and over damaged copies of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace covey::fuzz {

void json(const std::uint8_t* data, std::size_t size);
void safetensors(const std::uint8_t* data, std::size_t size);
void gguf(const std::uint8_t* data, std::size_t size);
void llama2c(const std::uint8_t* data, std::size_t size);
void rwkv_cpp(const std::uint8_t* data, std::size_t size);
void sentencepiece(const std::uint8_t* data, std::size_t size);
void tokenizer_bin(const std::uint8_t* data, std::size_t size);
void tokenizer_json(const std::uint8_t* data, std::size_t size);
void peft_config(const std::uint8_t* data, std::size_t size);
void model_config(const std::uint8_t* data, std::size_t size);
void torch_pickle(const std::uint8_t* data, std::size_t size);
void torch_zip(const std::uint8_t* data, std::size_t size);
void chat_template(const std::uint8_t* data, std::size_t size);
void jsonl(const std::uint8_t* data, std::size_t size);
void device_scores(const std::uint8_t* data, std::size_t size);
void packet_trace(const std::uint8_t* data, std::size_t size);
void csv(const std::uint8_t* data, std::size_t size);

}  // namespace covey::fuzz
