//! A vocabulary of a model's own: byte-level BPE trained on given texts.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder,
};

use crate::error::{Error, Result};

/// The special tokens of a trained vocabulary, with the ids 0, 1 and 2.
pub const BOS: (&str, u32) = ("<|begin_of_text|>", 0);
pub const EOS: (&str, u32) = ("<|end_of_text|>", 1);
pub const PAD: (&str, u32) = ("<|pad|>", 2);

/// Trains a byte-level BPE (GPT-2's way of splitting, digits one by one, [`BOS`] before every text) and returns it
/// as a `tokenizer.json`. The same texts give the same bytes.
///
/// # Errors
/// `vocab_size` has no room for the 256 bytes and the three special tokens.
pub fn train_bpe<S: AsRef<str> + Send>(texts: impl Iterator<Item = S> + Send, vocab_size: usize) -> Result<Vec<u8>> {
    const NAME: &str = "tokenizer.json";
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let specials = [BOS.0, EOS.0, PAD.0];
    let least = alphabet.len() + specials.len();
    if vocab_size < least {
        return Err(Error::config(
            "vocab_size",
            format!("at least {least} (every byte and special token)"),
            vocab_size,
        ));
    }
    let failed = |error: tokenizers::Error| Error::tokenizer(NAME, error.to_string(), "Check the texts.");
    let template = TemplateProcessing::builder()
        .try_single(vec![BOS.0, "$A"])
        .and_then(|builder| builder.try_pair(vec![BOS.0, "$A", "$B:1"]))
        .map_err(|error| failed(error.into()))?
        .special_tokens(vec![BOS])
        .build()
        .map_err(|error| failed(error.into()))?;
    let split: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(split))))
        .with_post_processor(Some(PostProcessorWrapper::Template(template)))
        .with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::new(false, true, true))))
        .build()
        .map_err(failed)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .initial_alphabet(alphabet)
        .special_tokens(specials.map(|token| AddedToken::from(token, true)).to_vec())
        .show_progress(false)
        .build();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    Ok(tokenizer.to_string(false).map_err(failed)?.into_bytes())
}
