//! Answers in the form of OpenAI's API, whole and in pieces.

use paddock::{event::Prediction, generate::Finish, platform};
use serde_json::{Map, Value, json};

use super::openai::random;

/// One answer's envelope.
pub struct Wire {
    chat: bool,
    id: String,
    created: u64,
    model: String,
    /// Whether pieces end with the tokens that were used.
    include_usage: bool,
}

/// Tokens of prompts and answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

impl Tokens {
    pub fn add(&mut self, prediction: &Prediction) {
        self.prompt += prediction.prompt_tokens.unwrap_or_default() as u64;
        self.completion += prediction.completion_tokens.unwrap_or_default() as u64;
    }

    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        })
    }
}

impl Wire {
    pub fn new(chat: bool, model: String, include_usage: bool) -> Self {
        let prefix = if chat { "chatcmpl" } else { "cmpl" };
        Self { chat, id: format!("{prefix}-{:016x}", random()), created: platform::unix_time(), model, include_usage }
    }

    /// All answers, in the prompts' order.
    pub fn whole(&self, answers: &[Prediction], tokens: Tokens) -> Value {
        let choice = |(index, answer): (usize, &Prediction)| {
            let reason = finish(answer.finish_reason);
            match self.chat {
                true => json!({
                    "index": index,
                    "message": {"role": "assistant", "content": answer.label, "refusal": null},
                    "logprobs": null,
                    "finish_reason": reason,
                }),
                false => json!({"index": index, "text": answer.label, "logprobs": null, "finish_reason": reason}),
            }
        };
        let choices: Vec<Value> = answers.iter().enumerate().map(choice).collect();
        let object = if self.chat { "chat.completion" } else { "text_completion" };
        self.envelope(object, choices.into(), Some(tokens.json()))
    }

    /// What a chat's pieces begin with.
    pub fn first(&self, index: usize) -> Option<Value> {
        self.chat.then(|| self.piece(index, json!({"role": "assistant", "content": ""}), "", Value::Null))
    }

    pub fn text(&self, index: usize, text: &str) -> Value {
        self.piece(index, json!({"content": text}), text, Value::Null)
    }

    pub fn last(&self, index: usize, reason: Option<Finish>) -> Value {
        self.piece(index, json!({}), "", finish(reason).into())
    }

    /// What comes after the pieces of all answers, where it was asked for.
    pub fn usage(&self, tokens: Tokens) -> Option<Value> {
        self.include_usage.then(|| self.envelope(self.object(), json!([]), Some(tokens.json())))
    }

    fn piece(&self, index: usize, delta: Value, text: &str, reason: Value) -> Value {
        let choice = match self.chat {
            true => json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": reason}),
            false => json!({"index": index, "text": text, "logprobs": null, "finish_reason": reason}),
        };
        self.envelope(self.object(), json!([choice]), self.include_usage.then_some(Value::Null))
    }

    /// Of a piece.
    fn object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn envelope(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut envelope = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            envelope["usage"] = usage;
        }
        envelope
    }
}

fn finish(reason: Option<Finish>) -> &'static str {
    match reason {
        Some(Finish::Length) => "length",
        // Answers that were broken off are told as errors.
        Some(Finish::Stop | Finish::Abort) | None => "stop",
    }
}

/// Classes and their probabilities, by the names of vLLM's `/classify`; `scores` has them by label.
pub fn classes(model: &str, predictions: &[Prediction], numbers: bool) -> Value {
    let class = |(index, prediction): (usize, &Prediction)| {
        let scores: Map<String, Value> =
            prediction.scores.iter().map(|(label, score)| (label.clone(), json!(score))).collect();
        let probabilities: Vec<f64> = prediction.scores.iter().map(|(_, score)| *score).collect();
        match numbers {
            // One output: a number, not the probability of something.
            true => json!({
                "index": index,
                "label": null,
                "probs": [],
                "num_classes": 1,
                "scores": scores,
            }),
            false => json!({
                "index": index,
                "label": prediction.label,
                "probs": probabilities,
                "num_classes": probabilities.len(),
                "scores": scores,
            }),
        }
    };
    json!({
        "id": format!("classify-{:016x}", random()),
        "object": "list",
        "created": platform::unix_time(),
        "model": model,
        "data": predictions.iter().enumerate().map(class).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(label: &str, finish_reason: Finish) -> Prediction {
        Prediction {
            index: 0,
            label: label.into(),
            scores: Vec::new(),
            finish_reason: Some(finish_reason),
            prompt_tokens: Some(3),
            completion_tokens: Some(2),
        }
    }

    #[test]
    fn answers_have_openais_form() {
        let wire = Wire::new(true, "m".into(), true);
        let mut tokens = Tokens::default();
        tokens.add(&answer("a", Finish::Stop));
        let whole = wire.whole(&[answer("a", Finish::Stop)], tokens);
        assert!(whole["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-") && id.len() == 25));
        assert_eq!((&whole["object"], &whole["usage"]["total_tokens"]), (&json!("chat.completion"), &json!(5)));
        let choice = &whole["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("a"), &json!("stop")));

        let first = wire.first(0).expect("a chat begins with a role");
        assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!((&first["object"], &first["usage"]), (&json!("chat.completion.chunk"), &Value::Null));
        assert_eq!(wire.text(0, "a")["choices"][0]["delta"], json!({"content": "a"}));
        let last = &wire.last(0, Some(Finish::Length))["choices"][0];
        assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("length")));
        let usage = wire.usage(tokens).expect("usage");
        assert_eq!((&usage["choices"], &usage["usage"]["prompt_tokens"]), (&json!([]), &json!(3)));

        let wire = Wire::new(false, "m".into(), false);
        assert_eq!((wire.first(0), wire.usage(tokens)), (None, None));
        let piece = wire.text(1, "b");
        assert!(piece.get("usage").is_none());
        assert_eq!((&piece["object"], &piece["choices"][0]["text"]), (&json!("text_completion"), &json!("b")));
    }

    #[test]
    fn classes_have_their_scores_by_label() {
        let of = |label: &str, scores: &[(&str, f64)]| Prediction {
            index: 0,
            label: label.into(),
            scores: scores.iter().map(|(label, score)| ((*label).to_owned(), *score)).collect(),
            finish_reason: None,
            prompt_tokens: None,
            completion_tokens: None,
        };
        let told = &classes("m", &[of("b", &[("a", 0.25), ("b", 0.75)])], false)["data"][0];
        assert_eq!(
            (&told["label"], &told["probs"], &told["num_classes"]),
            (&json!("b"), &json!([0.25, 0.75]), &json!(2))
        );
        assert_eq!(told["scores"], json!({"a": 0.25, "b": 0.75}));
        let number = &classes("m", &[of("1.5000", &[("value", 1.5)])], true)["data"][0];
        assert_eq!((&number["label"], &number["scores"]), (&Value::Null, &json!({"value": 1.5})));
    }
}
