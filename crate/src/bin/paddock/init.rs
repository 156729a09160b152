//! `paddock init`

use paddock::{
    config::RawConfig,
    model::{self, Sizes},
    tokenizer::{BOS, EOS, PAD, train_bpe},
    weights::safetensors::DType,
};
use serde_json::json;

use crate::{
    args::InitArgs,
    files::{OutputDir, Result, failure},
    output::Output,
    rows,
};

/// The weights are made in memory.
const MOST_PARAMETERS: u128 = 2_000_000_000;

pub fn run(args: &InitArgs, output: &mut Output) -> Result<()> {
    let parameters = parameters(args);
    if parameters > MOST_PARAMETERS {
        return Err(failure(
            format!("a model of these sizes has {parameters} parameters, at most {MOST_PARAMETERS} can be made"),
            "Lower --hidden_size, --intermediate_size, --num_hidden_layers or --vocab_size.",
        ));
    }
    let read = rows::read(&args.train_file, &RawConfig::default())?;
    for message in read.warnings {
        output.warning(message)?;
    }
    let folder = OutputDir::prepare(&args.output_dir, args.overwrite_output_dir, &[])?;
    output.note(&format!("learning a vocabulary from {} texts", read.rows.len()));
    let texts = read.rows.iter().map(|row| row.text.as_str());
    let tokenizer = train_bpe(texts, args.vocab_size)?;
    let sizes = Sizes {
        vocab_size: args.vocab_size,
        hidden_size: args.hidden_size,
        intermediate_size: args.intermediate_size,
        num_hidden_layers: args.num_hidden_layers,
        num_attention_heads: args.num_attention_heads,
        num_key_value_heads: args.num_key_value_heads,
        max_position_embeddings: args.max_position_embeddings,
    };
    let dtype = DType::ALL.into_iter().find(|dtype| dtype.torch_name() == args.torch_dtype).ok_or_else(|| {
        failure(format!("--torch_dtype {}: no such type", args.torch_dtype), "Give float32, float16 or bfloat16.")
    })?;
    let mut files = model::init(&sizes, [BOS, EOS, PAD].map(|token| Some(token.1)), dtype, args.seed)?;
    files.push(("tokenizer.json".to_owned(), tokenizer));
    folder.write_all(&files)?;
    let place = args.output_dir.display();
    let fields =
        json!({"output_dir": place.to_string(), "vocab_size": args.vocab_size, "parameters": parameters as u64});
    output.result(fields, &format!("a LLaMA of {parameters} parameters, written to {place}"))
}

/// Of the model that [`model::init`] makes; what does not fit together is its to refuse.
fn parameters(args: &InitArgs) -> u128 {
    let [vocab, hidden, ffn, layers, heads, kv_heads] = [
        args.vocab_size,
        args.hidden_size,
        args.intermediate_size,
        args.num_hidden_layers,
        args.num_attention_heads,
        args.num_key_value_heads,
    ]
    .map(|size| size as u128);
    let kv = (hidden / heads.max(1)).saturating_mul(kv_heads);
    let attention = hidden.saturating_mul(hidden.saturating_add(kv)).saturating_mul(2);
    let mlp = hidden.saturating_mul(ffn).saturating_mul(3);
    let layer = attention.saturating_add(mlp).saturating_add(2 * hidden);
    layers.saturating_mul(layer).saturating_add(vocab.saturating_mul(hidden)).saturating_add(hidden)
}
