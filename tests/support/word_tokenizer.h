/// A tokenizer.json in the way of BERT's, for tests: whole lower-case words, [CLS] before a text and [SEP] after it.
#pragma once

#include <string>
#include <vector>

namespace covey::test {

/// Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then the words, which must be distinct and without quotes.
inline std::string word_tokenizer_json(const std::vector<std::string>& words) {
  const std::vector<std::string> special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  std::string added;
  std::string vocab;
  for (std::size_t i = 0; i < special.size(); ++i) {
    const std::string id = std::to_string(i);
    added += (i > 0 ? ", " : "") + std::string("{\"id\": ") + id + ", \"content\": \"" + special[i] +
             "\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
             "\"special\": true}";
    vocab += (i > 0 ? ", \"" : "\"") + special[i] + "\": " + id;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    vocab += ", \"" + words[i] + "\": " + std::to_string(special.size() + i);
  }
  return R"({"version": "1.0", "added_tokens": [)" + added + R"(],
"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
  "lowercase": true},
"pre_tokenizer": {"type": "BertPreTokenizer"},
"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
"model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
  "max_input_chars_per_word": 100, "vocab": {)" +
         vocab + "}}}";
}

}  // namespace covey::test
