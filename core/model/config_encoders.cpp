// Tables of the encoders and encoder-decoders: from config.json to ModelConfig. Defaults are the reference's own.
#include <algorithm>
#include <cmath>

#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

/// Both directions, norms after each part, biases everywhere, a learned table of positions.
void encoder_shape(ModelConfig& c) {
  c.bidirectional = true;
  c.norm = NormKind::layer;
  c.placement = NormPlacement::post;
  c.norm_bias = c.qkv_bias = c.o_bias = c.mlp_bias = true;
  c.gated = false;
  c.final_norm = false;
  c.position = PositionKind::learned;
  c.embedding_norm = true;
  c.norm_eps = 1e-12;
}

Status even_heads(const Fields& f, int width, int heads, int& head_dim) {
  if (width % heads != 0) {
    return Error{ErrorCode::invalid_argument, f.where() + ": the width is not a multiple of the number of heads"};
  }
  head_dim = width / heads;
  return {};
}

/// What bert, roberta, albert and mobilebert call their sizes.
Status bert_sizes(Fields& f, ModelConfig& c) {
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size));
  COVEY_TRY(f.size("num_hidden_layers", 1024, c.layers));
  COVEY_TRY(f.size("num_attention_heads", 1024, c.heads));
  COVEY_TRY(f.size("intermediate_size", 1 << 20, c.intermediate_size));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 512));
  COVEY_TRY(f.size("type_vocab_size", 1 << 16, c.type_vocab, 2));
  COVEY_TRY(f.number("layer_norm_eps", c.norm_eps));
  COVEY_TRY(f.activation("hidden_act", "gelu", c.activation));
  COVEY_TRY(f.must_be("position_embedding_type", Json("absolute")));
  COVEY_TRY(f.must_be("is_decoder", Json(false)));
  COVEY_TRY(f.must_be("add_cross_attention", Json(false)));
  f.ignore({"attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "gradient_checkpointing"});
  c.kv_heads = c.heads;
  return even_heads(f, c.hidden_size, c.heads, c.head_dim);
}

Status read_bert(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.pooler = Pooler::bert;
  // Google's first files describe a pooler that no program reads from them.
  f.ignore({"directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
            "pooler_size_per_head", "pooler_type"});
  return bert_sizes(f, c);
}

Status read_roberta(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.pooler = Pooler::roberta;
  COVEY_TRY(bert_sizes(f, c));
  COVEY_ASSIGN(const auto pad, f.json().get_int_between("pad_token_id", 0, 1 << 16, 1));
  c.position_offset = static_cast<int>(pad) + 1;
  c.position_rows = c.context_max;
  c.context_max -= c.position_offset;
  if (c.context_max < 1) return f.json().error_at("max_position_embeddings", "leaves no position");
  return {};
}

Status read_distilbert(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.pooler = Pooler::distilbert;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 30522));
  COVEY_TRY(f.size("dim", kWidthMax, c.hidden_size, 768));
  COVEY_TRY(f.size("n_layers", 1024, c.layers, 6));
  COVEY_TRY(f.size("n_heads", 1024, c.heads, 12));
  COVEY_TRY(f.size("hidden_dim", 1 << 20, c.intermediate_size, 3072));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 512));
  COVEY_TRY(f.activation("activation", "gelu", c.activation));
  // Sinusoidal positions are weights like learned ones: the file has them.
  f.ignore(
      {"attention_dropout", "dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_"});
  c.kv_heads = c.heads;
  return even_heads(f, c.hidden_size, c.heads, c.head_dim);
}

Status read_albert(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.pooler = Pooler::albert;
  COVEY_TRY(bert_sizes(f, c));
  COVEY_TRY(f.size("embedding_size", kWidthMax, c.embedding_size, 128));
  COVEY_TRY(f.size("num_hidden_groups", 1024, c.layer_groups, 1));
  COVEY_TRY(f.size("inner_group_num", 64, c.inner_layers, 1));
  f.ignore({"classifier_dropout_prob", "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks"});
  if (c.layer_groups > c.layers || c.layers * c.inner_layers > 1024) {
    return f.json().error_at("num_hidden_groups", "does not fit the number of layers");
  }
  c.layers *= c.inner_layers;
  return {};
}

Status read_mobilebert(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.block = BlockKind::mobilebert;
  c.pooler = Pooler::mobilebert;
  COVEY_TRY(bert_sizes(f, c));
  COVEY_TRY(f.size("embedding_size", kWidthMax, c.embedding_size, 128));
  COVEY_TRY(f.activation("hidden_act", "relu", c.activation));
  c.trigram = true;
  COVEY_TRY(f.flag("trigram_input", c.trigram));
  COVEY_ASSIGN(const std::string norm, f.text("normalization_type", "no_norm"));
  if (norm != "no_norm" && norm != "layer_norm") return f.unsupported("normalization_type \"" + norm + "\"");
  c.norm = norm == "no_norm" ? NormKind::affine : NormKind::layer;
  bool narrow = true;
  COVEY_TRY(f.flag("use_bottleneck", narrow));
  COVEY_TRY(f.size("intra_bottleneck_size", kWidthMax, c.bottleneck_size, 128));
  if (!narrow) c.bottleneck_size = 0;
  COVEY_TRY(f.flag("use_bottleneck_attention", c.bottleneck_attention));
  COVEY_TRY(f.flag("key_query_shared_bottleneck", c.shared_query_bottleneck));
  COVEY_TRY(f.size("num_feedforward_networks", 64, c.feedforward_networks, 4));
  bool pooled = true;
  COVEY_TRY(f.flag("classifier_activation", pooled));
  if (!pooled) c.pooler = Pooler::none;
  f.ignore({"true_hidden_size"});  // follows from the others
  return even_heads(f, narrow ? c.bottleneck_size : c.hidden_size, c.heads, c.head_dim);
}

Status read_t5(Fields& f, ModelConfig& c) {
  c.bidirectional = true;
  c.position = PositionKind::relative;
  c.norm_eps = 1e-6;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 32128));
  COVEY_TRY(f.size("d_model", kWidthMax, c.hidden_size, 512));
  COVEY_TRY(f.size("d_kv", 4096, c.head_dim, 64));
  COVEY_TRY(f.size("d_ff", 1 << 20, c.intermediate_size, 2048));
  COVEY_TRY(f.size("num_layers", 1024, c.layers, 6));
  COVEY_TRY(f.size("num_decoder_layers", 1024, c.decoder_layers, c.layers));
  COVEY_TRY(f.size("num_heads", 1024, c.heads, 8));
  COVEY_TRY(f.size("relative_attention_num_buckets", 1 << 16, c.relative_buckets, 32));
  COVEY_TRY(f.size("relative_attention_max_distance", kSizeMax, c.relative_distance, 128));
  COVEY_TRY(f.number("layer_norm_epsilon", c.norm_eps));
  COVEY_TRY(f.must_be("is_encoder_decoder", Json(true)));
  COVEY_ASSIGN(std::string kind, f.text("feed_forward_proj", "relu"));
  c.gated = kind.starts_with("gated-");
  if (c.gated) kind.erase(0, 6);
  if (kind == "gelu" && c.gated) kind = "gelu_new";  // the reference's own exception
  Activation named = Activation::relu;
  COVEY_TRY(f.activation("dense_act_fn", kind.c_str(), named));
  Json one = Json::object({{"f", kind}});
  Fields inner(one, f.where());
  COVEY_TRY(inner.activation("f", "relu", c.activation));
  if (named != c.activation) return f.unsupported("dense_act_fn differs from what feed_forward_proj says");
  COVEY_TRY(f.must_be("is_gated_act", Json(c.gated)));
  f.ignore({"dropout_rate", "classifier_dropout", "initializer_factor", "n_positions", "output_past"});
  c.kv_heads = c.decoder_heads = c.heads;
  c.decoder_head_dim = c.head_dim;
  c.decoder_intermediate = c.intermediate_size;
  c.attention_scale = 1;
  c.context_max = 1 << 16;  // relative positions have no end
  return {};
}

Status read_bart(Fields& f, ModelConfig& c) {
  encoder_shape(c);
  c.norm_eps = 1e-5;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 50265));
  COVEY_TRY(f.size("d_model", kWidthMax, c.hidden_size, 1024));
  COVEY_TRY(f.size("encoder_layers", 1024, c.layers, 12));
  COVEY_TRY(f.size("decoder_layers", 1024, c.decoder_layers, 12));
  COVEY_TRY(f.size("encoder_attention_heads", 1024, c.heads, 16));
  COVEY_TRY(f.size("decoder_attention_heads", 1024, c.decoder_heads, 16));
  COVEY_TRY(f.size("encoder_ffn_dim", 1 << 20, c.intermediate_size, 4096));
  COVEY_TRY(f.size("decoder_ffn_dim", 1 << 20, c.decoder_intermediate, 4096));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 1024));
  COVEY_TRY(f.activation("activation_function", "gelu", c.activation));
  COVEY_TRY(f.must_be("is_encoder_decoder", Json(true)));
  COVEY_TRY(f.must_be("normalize_embedding", Json(true)));
  COVEY_TRY(f.must_be("extra_pos_embeddings", Json(2)));
  COVEY_TRY(f.must_be("normalize_before", Json(false)));
  COVEY_TRY(f.must_be("add_final_layer_norm", Json(false)));
  bool scaled = false;
  COVEY_TRY(f.flag("scale_embedding", scaled));
  if (scaled) c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  f.ignore({"activation_dropout", "attention_dropout", "dropout", "classifier_dropout", "classif_dropout",
            "encoder_layerdrop", "decoder_layerdrop", "init_std", "num_hidden_layers", "gradient_checkpointing",
            "force_bos_token_to_be_generated"});
  c.position_offset = 2;
  c.head_bias = true;  // final_logits_bias
  c.kv_heads = c.heads;
  COVEY_TRY(even_heads(f, c.hidden_size, c.heads, c.head_dim));
  return even_heads(f, c.hidden_size, c.decoder_heads, c.decoder_head_dim);
}

}  // namespace

Status read_encoder(Fields& fields, ModelConfig& c, bool& found) {
  found = true;
  if (c.family == "bert") return read_bert(fields, c);
  if (c.family == "roberta") return read_roberta(fields, c);
  if (c.family == "distilbert") return read_distilbert(fields, c);
  if (c.family == "albert") return read_albert(fields, c);
  if (c.family == "mobilebert") return read_mobilebert(fields, c);
  if (c.family == "t5") return read_t5(fields, c);
  if (c.family == "bart") return read_bart(fields, c);
  found = false;
  return {};
}

}  // namespace covey::model
