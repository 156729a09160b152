//! Conversations in a cell of JSON: `[{"role": …, "content": …}]` as OpenAI and TRL write them, `[{"from": …, "value": …}]` as
//! ShareGPT does.

use serde_json::Value;

use crate::tokenizer::Message;

/// More turns than that are no conversation.
const MOST_TURNS: usize = 1000;

/// # Errors
/// Says what is wrong with the turn.
pub fn conversation(cell: &str) -> Result<Vec<Message>, String> {
    let json: Value = serde_json::from_str(cell).map_err(|error| format!("no JSON list of turns: {error}"))?;
    let turns = json.as_array().ok_or("no JSON list of turns")?;
    if turns.len() > MOST_TURNS {
        return Err(format!("{} turns; at most {MOST_TURNS}", turns.len()));
    }
    (1..).zip(turns).map(|(number, turn)| message(turn).map_err(|why| format!("turn {number}: {why}"))).collect()
}

fn message(turn: &Value) -> Result<Message, String> {
    let text = |keys: [&str; 2]| keys.iter().find_map(|key| turn.get(key)).and_then(Value::as_str);
    let role = text(["role", "from"]).ok_or("no `role` (or `from`)")?;
    let content = text(["content", "value"]).ok_or("no text in `content` (or `value`)")?;
    let role = match role {
        "user" | "human" | "prompter" => "user",
        "assistant" | "gpt" | "model" | "bot" | "chatgpt" => "assistant",
        "system" => "system",
        other => return Err(format!("unknown role `{}`", other.chars().take(40).collect::<String>())),
    };
    Ok(Message::new(role, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_turns() {
        let expected = [Message::new("system", "S"), Message::new("user", "Q"), Message::new("assistant", "A")];
        let openai =
            r#"[{"role":"system","content":"S"},{"role":"user","content":"Q"},{"role":"assistant","content":"A"}]"#;
        let sharegpt = r#"[{"from":"system","value":"S"},{"from":"human","value":"Q"},{"from":"gpt","value":"A"}]"#;
        assert_eq!(conversation(openai).as_deref(), Ok(&expected[..]));
        assert_eq!(conversation(sharegpt).as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn the_turn_that_is_wrong_is_named() {
        for (cell, why) in [
            ("hello", "no JSON list"),
            ("{}", "no JSON list of turns"),
            (r#"[{"role":"user"}]"#, "turn 1: no text"),
            (r#"[{"role":"user","content":"a"},{"content":"b"}]"#, "turn 2: no `role`"),
            (r#"[{"role":"tool","content":"b"}]"#, "unknown role `tool`"),
            (r#"[{"role":"user","content":["a"]}]"#, "no text"),
        ] {
            let error = conversation(cell).expect_err(cell);
            assert!(error.contains(why), "{error}");
        }
        let many = format!("[{}]", vec![r#"{"role":"user","content":"a"}"#; 1001].join(","));
        assert!(conversation(&many).is_err_and(|why| why.contains("1001 turns")));
    }
}
