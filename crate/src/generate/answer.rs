//! Texts answered by a model in use: [`crate::event::Command::Predict`].

use super::{Delta, Generation, Prompt, Sampling};
use crate::{
    apply::{Applied, Asked},
    config::{Method, Task},
    data::{Fields, Role, Shape},
    error::{Error, Result},
    event::{Event, Phase, Prediction, TextDelta},
    platform,
    prompt::Prompter,
    scenario::Learns,
    tokenizer::{ChatTemplate, Message},
    weights::folder::Folder,
};

/// Bytes a token that no text comes near: what has more than the model's tokens at this many each need not be tokenized.
const TOKEN_BYTES: usize = 32;

/// Answers to some texts.
pub struct Answering {
    generation: Generation,
    /// Whether each answer's text has begun: the white space before it parts it from its prompt. None where an answer goes
    /// on from its prompt as it is.
    begun: Vec<Option<bool>>,
}

impl Answering {
    /// # Errors
    /// A text that cannot be asked: too long, or without a part that its task needs.
    pub fn new(applied: &Applied, asked: &Asked, sampling: &Sampling) -> Result<Self> {
        let (prompts, begun) = prompts(applied, asked, sampling)?;
        Ok(Self { generation: Generation::new(&applied.folder, prompts)?, begun })
    }

    /// Further texts for the same model; their places go on from those before.
    ///
    /// # Errors
    /// As [`Self::new`]; the answers under way go on.
    pub fn join(&mut self, applied: &Applied, asked: &Asked, sampling: &Sampling) -> Result<()> {
        let (prompts, begun) = prompts(applied, asked, sampling)?;
        self.generation.extend(&applied.folder, prompts)?;
        self.begun.extend(begun);
        Ok(())
    }

    /// Breaks one answer off.
    pub fn cancel(&mut self, row: usize) {
        self.generation.cancel(row);
    }

    /// One step; whether there are more.
    pub async fn advance(&mut self, applied: &Applied) -> Result<(Vec<Event>, bool)> {
        let deltas = self.generation.advance(&applied.model, &applied.folder, &applied.opened.device).await?;
        let (done, total) = self.generation.progress();
        let mut events = vec![Event::Progress { phase: Phase::Generating, done, total }];
        self.tell(deltas, &mut events);
        Ok((events, !self.generation.done()))
    }

    /// Ends here; what there is of the answers is kept.
    pub fn stop(&mut self, applied: &Applied) -> Result<Vec<Event>> {
        let deltas = self.generation.stop(&applied.folder.tokenizer)?;
        let mut events = Vec::new();
        self.tell(deltas, &mut events);
        Ok(events)
    }

    fn tell(&mut self, deltas: Vec<Delta>, events: &mut Vec<Event>) {
        for Delta { row, mut text, tokens, finished } in deltas {
            let index = row as u64;
            let mut label = self.generation.text(row);
            if let Some(Some(begun)) = self.begun.get_mut(row) {
                label = label.trim_start();
                if !*begun {
                    text = text.trim_start().to_owned();
                    *begun = !text.is_empty();
                }
            }
            if !text.is_empty() {
                events.push(Event::TextDelta(TextDelta { index, text }));
            }
            if let Some(finish) = finished {
                events.push(Event::Prediction(Prediction {
                    index,
                    label: label.to_owned(),
                    scores: Vec::new(),
                    finish_reason: Some(finish),
                    prompt_tokens: Some(self.generation.prompt_tokens(row)),
                    completion_tokens: Some(tokens),
                }));
            }
        }
    }
}

/// The tokens of what is asked, and for each whether white space before its answer is left out (`Answering::begun`).
fn prompts(applied: &Applied, asked: &Asked, sampling: &Sampling) -> Result<(Vec<Prompt>, Vec<Option<bool>>)> {
    sampling.check()?;
    let scenario = applied.config.task.scenario();
    let shape = applied.config.data.shape.filter(|shape| scenario.learns(*shape) == Learns::Answers);
    let talks = applied.config.task == Task::TextGeneration && !asked.messages.is_empty();
    let (ids, begun) = match shape {
        _ if talks => (conversations(applied, asked)?, Some(false)),
        Some(shape) => (as_trained(applied, shape, asked)?, Some(false)),
        None => (plain(applied, asked)?, None),
    };
    let begun = vec![begun; ids.len()];
    Ok((ids.into_iter().map(|ids| Prompt { ids, sampling: sampling.clone() }).collect(), begun))
}

/// Whole conversations: in the model's chat template, or as a transcript where it has none or has learnt plain text.
fn conversations(applied: &Applied, asked: &Asked) -> Result<Vec<Vec<u32>>> {
    let mut config = applied.config.clone();
    let plain = (config.data.shape == Some(Shape::Text)).then_some(false);
    config.data.apply_chat_template = asked.chat.or(config.data.apply_chat_template).or(plain);
    let prompter = Prompter::new(&config, applied.folder.clone())?;
    let ids = |(index, turns): (usize, &Vec<Message>)| {
        if turns.last().is_none_or(|turn| turn.role == "assistant") {
            let message = format!("Conversation {} ends without a turn that is to be answered.", index + 1);
            return Err(Error::session(message, "End it with what the user says."));
        }
        fits(&applied.folder, index, turns.iter().map(|turn| turn.content.len()).sum())?;
        prompter.ask(turns)
    };
    if asked.messages.len() != asked.texts.len() {
        let message = format!("{} conversations beside {} texts.", asked.messages.len(), asked.texts.len());
        return Err(Error::session(message, "Give one beside each text, or none at all."));
    }
    asked.messages.iter().enumerate().map(ids).collect()
}

/// Prompts as the model has learnt to answer them.
fn as_trained(applied: &Applied, shape: Shape, asked: &Asked) -> Result<Vec<Vec<u32>>> {
    let mut config = applied.config.clone();
    config.data.apply_chat_template = asked.chat.or(config.data.apply_chat_template);
    let prompter = Prompter::new(&config, applied.folder.clone())?;
    // A person types a prompt, not a conversation in JSON.
    let shape = if shape == Shape::Messages { Shape::PromptCompletion } else { shape };
    let mut prompts = Vec::with_capacity(asked.texts.len());
    for (index, text) in asked.texts.iter().enumerate() {
        let mut cells = vec![(shape.main(), text.as_str())];
        for (word, cell) in asked.fields.get(index).into_iter().flatten() {
            let role = Role::find(word).ok_or_else(|| {
                let known: Vec<_> = shape.roles().iter().map(|(role, _)| role.as_str()).collect();
                let word: String = word.chars().take(40).collect();
                Error::session(
                    format!("`{word}` is no part of a prompt."),
                    format!("Name one of {}.", known.join(", ")),
                )
            })?;
            cells.push((role, cell));
        }
        cells.iter().try_for_each(|(_, cell)| fits(&applied.folder, index, cell.len()))?;
        let exchange = config.task.scenario().ask(shape, &Fields::new(cells)).map_err(|why| {
            Error::session(format!("Prompt {} cannot be asked: {why}.", index + 1), "Give it what is missing.")
        })?;
        prompts.push(prompter.ask(&exchange.turns)?);
    }
    Ok(prompts)
}

/// Texts that a model goes on from, or messages of a user where it has a chat template and was not trained here on
/// plain text.
fn plain(applied: &Applied, asked: &Asked) -> Result<Vec<Vec<u32>>> {
    let folder = &applied.folder;
    let trained = applied.summary.is_some() || applied.config.training.method == Method::Lora;
    let template = match asked.chat {
        Some(false) => None,
        None if trained => None,
        _ => folder.chat_template(platform::unix_time())?,
    };
    if asked.chat == Some(true) && template.is_none() {
        let advice = "Give the prompt as it is, or put the model's chat_template.jinja into its folder.";
        return Err(Error::session(format!("{} has no chat template.", folder.name), advice));
    }
    let texts = asked.texts.iter().enumerate();
    texts.map(|(index, text)| prompt_ids(folder, template.as_ref(), index, text)).collect()
}

/// The tokens that a model goes on from after `text`, or after `text` as a user's message where there is a template.
/// `index` is the prompt's place, for errors.
///
/// # Errors
/// A text that is too long for the model, before much is done with it.
pub fn prompt_ids(folder: &Folder, template: Option<&ChatTemplate>, index: usize, text: &str) -> Result<Vec<u32>> {
    fits(folder, index, text.len())?;
    let tokenizer = &folder.tokenizer;
    match template {
        Some(template) => tokenizer.encode_chat(&template.render(&[Message::new("user", text)], true)?),
        None => Ok(without_end(tokenizer.encode(text, None)?.ids, tokenizer.around().1)),
    }
}

/// A prompt that goes on does not end with the end token that a tokenizer may put there.
fn without_end(mut ids: Vec<u32>, suffix: &[u32]) -> Vec<u32> {
    ids.truncate(ids.len() - if ids.ends_with(suffix) { suffix.len() } else { 0 });
    ids
}

/// A text that has surely more tokens than the model reads is refused before it is tokenized.
fn fits(folder: &Folder, index: usize, bytes: usize) -> Result<()> {
    let longest = folder.config().longest();
    let most = longest.saturating_mul(TOKEN_BYTES);
    if bytes <= most {
        return Ok(());
    }
    Err(Error::too_long(format!(
        "Prompt {} has {bytes} bytes; the model reads {longest} tokens, and a text of more than {most} bytes has more.",
        index + 1
    )))
}
