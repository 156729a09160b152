//! Exchanges as tokens: in the model's chat template, or one after the other as plain text. Which tokens are learnt is found by
//! rendering up to each answer and up to its end, as TRL does.

use std::rc::Rc;

use crate::{
    config::Config,
    data::Exchange,
    error::{Error, Result},
    plan, platform,
    tokenizer::{ChatTemplate, Message},
    weights::folder::Folder,
};

/// Times that a text is shortened until the whole fits.
const TRIES: usize = 8;
/// No token of a usual text is longer.
const MOST_BYTES_A_TOKEN: usize = 64;

/// Puts exchanges into tokens.
pub struct Prompter {
    folder: Rc<Folder>,
    template: Option<ChatTemplate>,
    lead: &'static str,
    max: usize,
}

/// An exchange in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// Which of them are learnt.
    pub learnt: Vec<bool>,
    /// Something was cut off for the rest to fit.
    pub cut: bool,
}

impl Prompter {
    /// # Errors
    /// A chat template that is asked for and not there, or cannot be run.
    pub fn new(config: &Config, folder: Rc<Folder>) -> Result<Self> {
        let template = match config.data.apply_chat_template {
            Some(false) => None,
            _ => folder.chat_template(platform::unix_time())?,
        };
        if config.data.apply_chat_template == Some(true) && template.is_none() {
            let got = format!("true, while {} has no chat template", folder.name);
            return Err(Error::config("data.apply_chat_template", "false", got));
        }
        let max = plan::max_length(config, folder.config());
        Ok(Self { template, lead: config.task.scenario().lead(), max, folder })
    }

    /// What the model is given: everything up to where its answer begins.
    ///
    /// # Errors
    /// What the template refuses, and characters without a token.
    pub fn ask(&self, turns: &[Message]) -> Result<Vec<u32>> {
        match &self.template {
            Some(template) => self.folder.tokenizer.encode_chat(&template.render(turns, true)?),
            None => self.plain(&plain(turns, self.lead)),
        }
    }

    /// The whole of it, cut to the longest length: first the long part of what is asked, then the answer.
    ///
    /// # Errors
    /// As [`Self::ask`]; `Ok(Err)` says why this row cannot be used.
    pub fn exchange(&self, exchange: &Exchange) -> Result<std::result::Result<Tokens, String>> {
        let Some(answer) = exchange.answers.first() else { return Ok(Err("no answer".into())) };
        let mut turns = exchange.turns.clone();
        let mut tokens = match self.tokens(&turns, answer) {
            Ok(tokens) => tokens,
            Err(error) => return refused(error),
        };
        if let (true, Some(long)) = (tokens.ids.len() > self.max, &exchange.long) {
            let mut keep = floor(long, self.max.saturating_mul(MOST_BYTES_A_TOKEN));
            for _ in 0..TRIES {
                if tokens.ids.len() <= self.max || keep == 0 {
                    break;
                }
                // By its share of the tokens, and a little more.
                let over = (tokens.ids.len() - self.max + 2) as f64 / tokens.ids.len() as f64;
                keep = floor(long, (keep as f64 * (1.0 - over)).max(0.0) as usize);
                if let (Some(last), Some(whole)) = (turns.last_mut(), exchange.turns.last()) {
                    last.content = whole.content.replacen(long.as_str(), &long[..keep], 1);
                }
                tokens = match self.tokens(&turns, answer) {
                    Ok(tokens) => tokens,
                    Err(error) => return refused(error),
                };
                tokens.cut = true;
            }
        }
        if tokens.ids.len() > self.max {
            tokens.ids.truncate(self.max);
            tokens.learnt.truncate(self.max);
            tokens.cut = true;
        }
        // The first token is predicted from nothing.
        if !tokens.learnt.iter().skip(1).any(|learnt| *learnt) {
            return Ok(Err(format!("the prompt alone fills the {} tokens of model.max_seq_length", self.max)));
        }
        Ok(Ok(tokens))
    }

    fn tokens(&self, turns: &[Message], answer: &str) -> Result<Tokens> {
        let mut all = turns.to_vec();
        all.push(Message::new("assistant", answer));
        let (ids, until) = match &self.template {
            Some(template) => {
                let encode =
                    |turns: &[Message], asks| self.folder.tokenizer.encode_chat(&template.render(turns, asks)?);
                (encode(&all, false)?, Box::new(encode) as Until<'_>)
            }
            None => {
                let mut ids = self.plain(&plain(&all, self.lead))?;
                if let Some(end) = self.folder.tokenizer.eos_id().filter(|end| ids.last() != Some(end)) {
                    ids.push(end);
                }
                (ids, Box::new(|turns: &[Message], _| self.plain(&plain(turns, self.lead))) as Until<'_>)
            }
        };
        let mut learnt = vec![false; ids.len()];
        // A greeting answers nobody.
        for (i, _) in all.iter().enumerate().filter(|(i, turn)| *i > 0 && turn.role == "assistant") {
            let begin = common(&ids, &until(&all[..i], true)?);
            let end = if i + 1 == all.len() { ids.len() } else { common(&ids, &until(&all[..=i], false)?) };
            learnt.get_mut(begin..end).unwrap_or_default().fill(true);
        }
        Ok(Tokens { ids, learnt, cut: false })
    }

    /// As the tokenizer begins a text, but without the end token that some put after it.
    fn plain(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = &self.folder.tokenizer;
        let mut ids = tokenizer.encode(text, None)?.ids;
        let (_, after) = tokenizer.around();
        if !after.is_empty() && ids.ends_with(after) {
            ids.truncate(ids.len() - after.len());
        }
        Ok(ids)
    }
}

/// What a template refuses is the row's fault: two turns of one role, say.
fn refused(error: Error) -> Result<std::result::Result<Tokens, String>> {
    match error {
        Error::Tokenizer { .. } => Ok(Err(error.to_string())),
        other => Err(other),
    }
}

/// Tokens at the beginning that both have: a token may span the border of prompt and answer.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The largest place in `text` at or before `end` where a character begins.
fn floor(text: &str, end: usize) -> usize {
    let mut end = end.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The tokens up to the end of some turns, or to where the next answer begins.
type Until<'a> = Box<dyn Fn(&[Message], bool) -> Result<Vec<u32>> + 'a>;

/// Without a chat template: one prompt as it is with the system's turn before it, and its answer; a longer conversation as
/// a transcript.
fn plain(turns: &[Message], lead: &str) -> String {
    let (answer, asked) = match turns.split_last() {
        Some((last, asked)) if last.role == "assistant" => (Some(last.content.as_str()), asked),
        _ => (None, turns),
    };
    let prompt = if asked.iter().filter(|turn| turn.role != "system").count() <= 1 {
        let texts: Vec<&str> = asked.iter().map(|turn| turn.content.as_str()).collect();
        texts.join("\n\n") + lead
    } else {
        let name = |role: &str| match role {
            "assistant" => "Assistant",
            "system" => "System",
            _ => "User",
        };
        let lines = asked.iter().map(|turn| format!("{}: {}\n", name(&turn.role), turn.content));
        lines.collect::<String>() + "Assistant:"
    };
    match answer {
        Some(answer) => format!("{prompt}{}{answer}", gap(&prompt, answer)),
        None => prompt,
    }
}

/// Between a prompt and its answer. White space of their own is left as it is, as TRL does.
fn gap(prompt: &str, answer: &str) -> &'static str {
    match prompt.chars().last() {
        None => "",
        Some(last) if last.is_whitespace() || answer.starts_with(char::is_whitespace) => "",
        // `Answer:` and its kin.
        Some(':') => " ",
        Some(_) => "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_prompts_and_transcripts() {
        let turn = Message::new;
        assert_eq!(plain(&[turn("user", "Q")], "\nAnswer:"), "Q\nAnswer:");
        assert_eq!(plain(&[turn("system", "S"), turn("user", "Q")], ""), "S\n\nQ");
        let talk = [turn("user", "a"), turn("assistant", "b"), turn("user", "c")];
        assert_eq!(plain(&talk, "\nAnswer:"), "User: a\nAssistant: b\nUser: c\nAssistant:");
        assert_eq!(plain(&[turn("user", "a"), turn("assistant", "b")], "\nAnswer:"), "a\nAnswer: b");
        assert_eq!((gap("Q:", " a"), gap("Q\n", "a"), gap("Q", "a"), gap("Answer:", "a")), ("", "", "\n", " "));
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!((floor("aé", 2), floor("aé", 3), floor("aé", 9)), (1, 3, 3));
        assert_eq!(common(&[1, 2, 3], &[1, 2, 4, 5]), 2);
    }
}
