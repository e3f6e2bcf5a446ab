// The fields that config.json files of published models have, with their values: all are read, and mean what they
// should.
#include "core/model/config.h"

#include "tests/support/support.h"

namespace covey::model {
namespace {

ModelConfig published(const char* text) {
  const auto config = config_from_hf(text, "config.json");
  REQUIRE_OK(config);
  return config.value();
}

}  // namespace

TEST_CASE("Published decoders with llama's shape are read: SmolLM2, Llama 3.2, Mistral, Qwen 2.5 with YaRN, Qwen 3") {
  const auto smol = published(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576,
      "initializer_range": 0.0416, "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192,
      "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
      "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
      "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
      "transformers_version": "4.40.1", "use_cache": true, "vocab_size": 49152})");
  CHECK(smol.head_dim == 64);
  CHECK(smol.tied_head);
  const auto llama = published(R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
      "eos_token_id": [128001, 128008], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
      "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
      "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
      "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
      "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
      "tie_word_embeddings": true, "vocab_size": 128256})");
  CHECK(llama.rope.scaling == RopeScaling::llama3);
  CHECK(llama.eos_ids.size() == 2);
  const auto mistral = published(R"({"architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
      "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
      "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
      "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000})");
  CHECK(mistral.window_of(31) == 4096);
  const auto qwen = published(R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "hidden_act": "silu",
      "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 131072, "max_window_layers": 24,
      "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
      "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
      "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936,
      "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}})");
  CHECK(qwen.rope.scaling == RopeScaling::yarn);
  CHECK(qwen.window_of(23) == 0);
  CHECK(qwen.qkv_bias);
  CHECK_FALSE(qwen.o_bias);
  const auto qwen3 = published(R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
      "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
      "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
      "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
      "use_sliding_window": false, "vocab_size": 151936})");
  CHECK(qwen3.q_width() == 2048);  // not the hidden size
  CHECK(qwen3.qk_norm == QkNorm::head);
}

TEST_CASE("Published decoders of other shapes are read: Gemma 2, Phi 2 and 3, Pythia, StableLM, OLMo 2") {
  const auto gemma = published(R"({"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid",
      "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
      "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26,
      "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
      "sliding_window": 4096, "vocab_size": 256000})");
  CHECK(gemma.window_of(0) == 4096);
  CHECK(gemma.window_of(1) == 0);
  CHECK(gemma.logit_cap == 30);
  CHECK(gemma.tied_head);
  const auto phi = published(R"({"architectures": ["PhiForCausalLM"], "attention_dropout": 0.0, "embd_pdrop": 0.0,
      "hidden_act": "gelu_new", "hidden_size": 2560, "intermediate_size": 10240, "layer_norm_eps": 1e-05,
      "max_position_embeddings": 2048, "model_type": "phi", "num_attention_heads": 32, "num_hidden_layers": 32,
      "num_key_value_heads": 32, "partial_rotary_factor": 0.4, "qk_layernorm": false, "resid_pdrop": 0.1,
      "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 51200})");
  CHECK(phi.rope.rotary_dim == 32);
  const auto phi3 = published(R"({"architectures": ["Phi3ForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "auto_map": {"AutoConfig": "x"}, "embd_pdrop": 0.0, "hidden_act": "silu",
      "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096, "model_type": "phi3",
      "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
      "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
      "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false,
      "vocab_size": 32064})");
  CHECK(phi3.window_of(3) == 2047);
  const auto pythia = published(R"({"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
      "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
      "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8,
      "num_hidden_layers": 6, "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false,
      "use_parallel_residual": true, "vocab_size": 50304})");
  CHECK(pythia.rope.rotary_dim == 16);
  CHECK(pythia.parallel);
  const auto stable = published(R"({"architectures": ["StableLmForCausalLM"], "attention_dropout": 0.0,
      "hidden_act": "silu", "hidden_dropout": 0.0, "hidden_size": 2048, "intermediate_size": 5632,
      "layer_norm_eps": 1e-05, "max_position_embeddings": 4096, "model_type": "stablelm", "num_attention_heads": 32,
      "num_hidden_layers": 24, "num_key_value_heads": 32, "partial_rotary_factor": 0.25, "qk_layernorm": false,
      "rope_theta": 10000, "tie_word_embeddings": false, "use_parallel_residual": false, "use_qkv_bias": true,
      "vocab_size": 100352})");
  CHECK(stable.qkv_bias);
  const auto olmo = published(R"({"architectures": ["Olmo2ForCausalLM"], "attention_bias": false,
      "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192,
      "max_position_embeddings": 4096, "model_type": "olmo2", "num_attention_heads": 16, "num_hidden_layers": 16,
      "num_key_value_heads": 16, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 500000,
      "tie_word_embeddings": false, "vocab_size": 100352})");
  CHECK(olmo.placement == NormPlacement::branch);
}

TEST_CASE("Published GPTs and RWKVs are read: GPT-2, GPT-Neo, OPT, Bloom, RWKV 4 and 7") {
  const auto gpt2 = published(R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
      "attn_pdrop": 0.1, "embd_pdrop": 0.1, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
      "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
      "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
      "summary_type": "cls_index", "summary_use_proj": true,
      "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}, "vocab_size": 50257})");
  CHECK(gpt2.linear_in_out);
  const auto neo = published(R"({"activation_function": "gelu_new", "architectures": ["GPTNeoForCausalLM"],
      "attention_dropout": 0, "attention_layers": ["global", "local"], "attention_types": [[["global", "local"], 6]],
      "embed_dropout": 0, "gradient_checkpointing": false, "hidden_size": 768, "intermediate_size": null,
      "layer_norm_epsilon": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neo", "num_heads": 12,
      "num_layers": 12, "resid_dropout": 0, "summary_activation": null, "summary_first_dropout": 0.1,
      "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true, "vocab_size": 50257,
      "window_size": 256})");
  CHECK(neo.window_of(1) == 256);
  const auto opt = published(R"({"_remove_final_layer_norm": false, "activation_dropout": 0.0,
      "activation_function": "relu", "architectures": ["OPTForCausalLM"], "attention_dropout": 0.0,
      "do_layer_norm_before": true, "dropout": 0.1, "ffn_dim": 3072, "hidden_size": 768, "init_std": 0.02,
      "layerdrop": 0.0, "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 12,
      "num_hidden_layers": 12, "pad_token_id": 1, "prefix": "</s>", "vocab_size": 50272,
      "word_embed_proj_dim": 768})");
  CHECK(opt.position_offset == 2);
  const auto bloom = published(R"({"apply_residual_connection_post_layernorm": false,
      "architectures": ["BloomForCausalLM"], "attention_dropout": 0.0, "attention_softmax_in_fp32": true,
      "bias_dropout_fusion": true, "hidden_dropout": 0.0, "layer_norm_epsilon": 1e-05, "masked_softmax_fusion": true,
      "model_type": "bloom", "n_embed": 1024, "n_inner": null, "n_layer": 24, "num_attention_heads": 16,
      "offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048, "skip_bias_add": true,
      "skip_bias_add_qkv": false, "slow_but_exact": false, "unk_token_id": 0, "vocab_size": 250880})");
  CHECK(bloom.heads == 16);
  const auto rwkv = published(R"({"architectures": ["RwkvForCausalLM"], "attention_hidden_size": 768,
      "bos_token_id": 0, "context_length": 1024, "eos_token_id": 0, "hidden_size": 768, "intermediate_size": 3072,
      "layer_norm_epsilon": 1e-05, "model_type": "rwkv", "num_hidden_layers": 12, "rescale_every": 6,
      "tie_word_embeddings": false, "vocab_size": 50277})");
  CHECK(rwkv.block == BlockKind::rwkv);
  const auto goose = published(R"({"a_low_rank_dim": 64, "architectures": ["RWKV7ForCausalLM"], "attn": null,
      "attn_mode": "chunk", "decay_low_rank_dim": 64, "fuse_cross_entropy": true, "fuse_norm": false,
      "gate_low_rank_dim": 128, "head_dim": 64, "hidden_act": "sqrelu", "hidden_ratio": 4.0, "hidden_size": 768,
      "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 2048, "model_type": "rwkv7",
      "norm_bias": true, "norm_eps": 1e-05, "norm_first": true, "num_heads": null, "num_hidden_layers": 2,
      "tie_word_embeddings": false, "v_low_rank_dim": 32, "value_dim": [768, 768], "vocab_size": 50304})");
  CHECK(goose.heads == 12);
}

TEST_CASE("Published encoders and encoder-decoders are read: BERT, DistilBERT, ALBERT, T5, FLAN-T5, BART") {
  const auto bert = published(R"({"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
      "directionality": "bidi", "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
      "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
      "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
      "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
      "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "position_embedding_type": "absolute",
      "type_vocab_size": 2, "use_cache": true, "vocab_size": 30522})");
  CHECK(bert.task == Task::masked_lm);
  const auto distil = published(R"({"activation": "gelu", "architectures": ["DistilBertForSequenceClassification"],
      "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "finetuning_task": "sst-2", "hidden_dim": 3072,
      "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
      "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12, "n_layers": 6,
      "output_past": true, "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2,
      "sinusoidal_pos_embds": false, "tie_weights_": true, "vocab_size": 30522})");
  CHECK(distil.classes == 2);
  const auto albert = published(R"({"architectures": ["AlbertForMaskedLM"], "attention_probs_dropout_prob": 0,
      "classifier_dropout_prob": 0.1, "down_scale_factor": 1, "embedding_size": 128, "gap_size": 0,
      "hidden_act": "gelu_new", "hidden_dropout_prob": 0, "hidden_size": 768, "inner_group_num": 1,
      "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "albert",
      "net_structure_type": 0, "num_attention_heads": 12, "num_hidden_groups": 1, "num_hidden_layers": 12,
      "num_memory_blocks": 0, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30000})");
  CHECK(albert.layer_groups == 1);
  const auto t5 = published(R"({"architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64,
      "d_model": 512, "decoder_start_token_id": 0, "dropout_rate": 0.1, "initializer_factor": 1.0,
      "is_encoder_decoder": true, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
      "num_heads": 8, "num_layers": 6, "output_past": true, "relative_attention_num_buckets": 32,
      "task_specific_params": {"summarization": {"length_penalty": 2.0}}, "vocab_size": 32128})");
  CHECK(t5.activation == Activation::relu);
  const auto flan = published(R"({"architectures": ["T5ForConditionalGeneration"], "d_ff": 1024, "d_kv": 64,
      "d_model": 512, "decoder_start_token_id": 0, "dropout_rate": 0.1, "feed_forward_proj": "gated-gelu",
      "initializer_factor": 1.0, "is_encoder_decoder": true, "is_gated_act": true, "dense_act_fn": "gelu_new",
      "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512, "num_decoder_layers": 8, "num_heads": 6,
      "num_layers": 8, "output_past": true, "relative_attention_max_distance": 128,
      "relative_attention_num_buckets": 32, "tie_word_embeddings": false, "vocab_size": 32128})");
  CHECK(flan.gated);
  const auto bart = published(R"({"_num_labels": 3, "activation_dropout": 0.0, "activation_function": "gelu",
      "add_bias_logits": false, "add_final_layer_norm": false, "architectures": ["BartForConditionalGeneration"],
      "attention_dropout": 0.0, "classif_dropout": 0.0, "classifier_dropout": 0.0, "d_model": 1024,
      "decoder_attention_heads": 16, "decoder_ffn_dim": 4096, "decoder_layerdrop": 0.0, "decoder_layers": 12,
      "decoder_start_token_id": 2, "dropout": 0.1, "early_stopping": true, "encoder_attention_heads": 16,
      "encoder_ffn_dim": 4096, "encoder_layerdrop": 0.0, "encoder_layers": 12,
      "force_bos_token_to_be_generated": true, "forced_bos_token_id": 0, "gradient_checkpointing": false,
      "init_std": 0.02, "is_encoder_decoder": true, "max_position_embeddings": 1024, "model_type": "bart",
      "no_repeat_ngram_size": 3, "normalize_before": false, "normalize_embedding": true, "num_beams": 4,
      "num_hidden_layers": 12, "output_past": true, "prefix": " ", "scale_embedding": false,
      "static_position_embeddings": false, "vocab_size": 50264})");
  CHECK(bart.decoder_layers == 12);
}

}  // namespace covey::model
