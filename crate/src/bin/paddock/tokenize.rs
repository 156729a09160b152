//! `paddock tokenize`

use std::time::{SystemTime, UNIX_EPOCH};

use paddock::{config::RawConfig, tokenizer::Message, weights::folder::Folder};
use pollster::block_on;
use serde_json::json;

use crate::{
    args::TokenizeArgs,
    files::{Result, failure},
    model,
    output::Output,
    rows,
};

pub fn run(args: &TokenizeArgs, output: &mut Output) -> Result<()> {
    let (name, files) = model::open(&args.model_name_or_path, output)?;
    let folder = block_on(Folder::open(name, files))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let template = match (args.apply_chat_template, folder.chat_template(now)) {
        (false, _) => None,
        (true, Ok(None)) => {
            return Err(failure(
                format!("{} has no chat template", args.model_name_or_path.display()),
                "Leave --apply_chat_template out, or put the model's chat_template.jinja into its folder.",
            ));
        }
        (true, template) => template?,
    };
    let rows: Vec<(u64, String)> = match &args.test_file {
        Some(file) => {
            let mut config = RawConfig::default();
            config.data.text_column.clone_from(&args.text_column);
            let read = rows::read(file, &config)?;
            for message in read.warnings {
                output.warning(message)?;
            }
            read.rows.into_iter().map(|row| (row.number, row.text)).collect()
        }
        None => (1..).zip(args.text.iter().cloned()).collect(),
    };
    let mut tokens = 0;
    for (row, text) in &rows {
        let ids = match &template {
            Some(template) => {
                let text = template.render(&[Message::new("user", text)], true)?;
                folder.tokenizer.encode_chat(&text)?
            }
            None => folder.tokenizer.encode(text, None)?.ids,
        };
        tokens += ids.len();
        output.tokens(*row, &ids)?;
        if output.is_closed() {
            return Ok(());
        }
    }
    output.result(json!({"rows": rows.len(), "tokens": tokens}), "")
}
