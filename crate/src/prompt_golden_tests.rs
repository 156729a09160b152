//! Tokens, labels and positions that TRL's SFTTrainer gives the same rows: tests/golden/sft.py wrote them. A test whose name
//! ends in `unlike_trl` says where Paddock does something else on purpose, and what. Cases called plain are prompts and
//! completions without a chat template; TRL never puts such texts into one, which here is `data.apply_chat_template: false`.

use std::{collections::BTreeMap, fs, path::Path, rc::Rc};

use pollster::block_on;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    batch::{Batch, IGNORE_INDEX, Sequences, Targets},
    config::{Config, RawConfig, Task},
    data::{Exchange, Fields, Role, Shape, Target},
    packing::Packer,
    platform::{Memory, NamedFile},
    prompt::Prompter,
    tokenizer::{SpecialIds, Tokenizer, TokenizerConfig, tokenizer_model_json},
    weights::folder::Folder,
};

const GOLDEN: &str = include_str!("../../tests/golden/sft.json");

#[derive(Deserialize)]
struct Golden {
    tokenizers: BTreeMap<String, Vocabulary>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Vocabulary {
    /// From the repository's root.
    file: String,
    /// tokenizer_config.json.
    config: Value,
    /// Special tokens after those of the file.
    added: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tokenizer: String,
    max_length: usize,
    rows: Vec<Row>,
    results: Vec<Labelled>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    Plain { prompt: String, completion: String },
    Asked { prompt: Vec<Value>, completion: Vec<Value> },
    Talk { messages: Vec<Value> },
    Text { text: String },
}

#[derive(Deserialize)]
struct Labelled {
    /// Which of the case's rows; none where several are packed together.
    row: Option<usize>,
    input_ids: Vec<u32>,
    labels: Vec<i32>,
    #[serde(default)]
    position_ids: Vec<usize>,
}

/// Ids and labels.
type Both<'a> = (&'a [u32], &'a [i32]);

impl Labelled {
    fn both(&self) -> Both<'_> {
        (&self.input_ids, &self.labels)
    }
}

impl Case {
    fn result(&self, row: usize) -> Option<&Labelled> {
        self.results.iter().find(|result| result.row == Some(row))
    }
}

impl Golden {
    fn read() -> Self {
        serde_json::from_str(GOLDEN).expect("sft.json")
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Case> {
        let mut found = self.cases.iter().filter(move |case| case.name == name).peekable();
        assert!(found.peek().is_some(), "no case {name}");
        found
    }

    fn case(&self, name: &str, tokenizer: &str) -> &Case {
        let found = self.cases.iter().find(|case| case.name == name && case.tokenizer == tokenizer);
        found.unwrap_or_else(|| panic!("no case {name} of {tokenizer}"))
    }

    /// The starter model with a case's vocabulary and chat template.
    fn folder(&self, case: &Case) -> Folder {
        let Vocabulary { file, config, added } = &self.tokenizers[&case.tokenizer];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bytes = fs::read(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let settings = config.to_string().into_bytes();
        let json = if file.ends_with(".model") {
            let config = TokenizerConfig::from_json_bytes(&settings).expect("a configuration");
            tokenizer_model_json(file, &bytes, &config).expect("a tokenizer.model")
        } else {
            with_added(&bytes, added)
        };
        let build = |special| Tokenizer::from_json_bytes(file, &json, special).expect("a tokenizer");
        let plain = build(SpecialIds::default());
        let id = |key: &str| config[key].as_str().and_then(|token| plain.token_to_id(token));
        let tokenizer = build(SpecialIds { bos: id("bos_token"), eos: id("eos_token"), pad: id("pad_token") });
        assert!(tokenizer.eos_id().is_some(), "{file}");
        let texts = vec![("tokenizer_config.json".to_owned(), settings)];
        Folder { name: case.tokenizer.clone(), weights: starter().weights, tokenizer, texts }
    }

    fn prompter(&self, case: &Case) -> Prompter {
        let mut config = Config::resolve(&RawConfig::default()).expect("defaults");
        config.task = Task::TextGeneration;
        config.data.apply_chat_template = Some(!case.name.starts_with("plain"));
        config.model.max_seq_length = case.max_length;
        Prompter::new(&config, Rc::new(self.folder(case))).expect("a prompter")
    }
}

fn with_added(json: &[u8], added: &[String]) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(json).expect("a tokenizer.json");
    let next = json["model"]["vocab"].as_object().expect("a vocabulary").len();
    let tokens = (next..).zip(added).map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    json["added_tokens"].as_array_mut().expect("added tokens").extend(tokens);
    json.to_string().into_bytes()
}

fn starter() -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("starter");
    let files = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| {
        let bytes = fs::read(path.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        NamedFile { name: name.into(), blob: Box::new(Memory(bytes)) }
    });
    block_on(Folder::open("starter".into(), files.into())).expect("the starter model")
}

/// A row as the scenario takes it from a file.
fn exchange(row: &Row) -> Result<Exchange, String> {
    let talk = |turns: &[Value]| {
        let cell = Value::from(turns.to_vec()).to_string();
        Task::TextGeneration.exchange(Shape::Messages, &Fields::new(vec![(Role::Messages, cell.as_str())]))
    };
    match row {
        Row::Plain { prompt, completion } => pair(prompt, completion),
        Row::Asked { prompt, completion } => talk(&[prompt.as_slice(), completion.as_slice()].concat()),
        Row::Talk { messages } => talk(messages),
        Row::Text { text } => Err(format!("nothing is asked in {text:?}")),
    }
}

fn pair(prompt: &str, completion: &str) -> Result<Exchange, String> {
    let fields = Fields::new(vec![(Role::Prompt, prompt), (Role::Completion, completion)]);
    Task::TextGeneration.exchange(Shape::PromptCompletion, &fields)
}

/// Ids and labels as a batch has them, without its padding; none where the row cannot be used.
fn learnt(prompter: &Prompter, exchange: &Exchange) -> Option<(Vec<u32>, Vec<i32>)> {
    let tokens = prompter.exchange(exchange).expect("a tokenizer that has all characters").ok()?;
    let mut sequences = Sequences::default();
    assert!(sequences.push_masked(2, &tokens.ids, &tokens.learnt));
    let mut labels = labels(&sequences, 0);
    assert!(labels.drain(tokens.ids.len()..).all(|label| label == IGNORE_INDEX));
    Some((tokens.ids, labels))
}

/// A text that is packed with nothing else.
fn text_alone(tokenizer: &Tokenizer, text: &str, max_length: usize) -> (Vec<u32>, Vec<i32>) {
    let mut packer = Packer::new(max_length, tokenizer.eos_id());
    packer.push(2, &tokenizer.encode(text, None).expect("a text").ids);
    let packed = packer.finish();
    let ids: Vec<u32> = packed.ids(0).iter().map(|id| id.cast_unsigned()).collect();
    let mut labels = labels(&packed, 0);
    labels.truncate(ids.len());
    (ids, labels)
}

fn labels(sequences: &Sequences, row: usize) -> Vec<i32> {
    let Targets::Tokens(labels) = Batch::new(sequences, &[row], 512, 0).targets else { panic!("no tokens") };
    labels
}

fn same(name: &str, row: usize, got: Option<&(Vec<u32>, Vec<i32>)>, expected: Option<Both<'_>>) {
    let got = got.map(|(ids, labels)| (ids.as_slice(), labels.as_slice()));
    assert_eq!(got, expected, "{name}, row {row}");
}

/// The labels without the first stretch of learnt ones.
fn without_first(labels: &[i32]) -> Vec<i32> {
    let begin = labels.iter().position(|label| *label != IGNORE_INDEX).expect("something learnt");
    let end = begin + labels[begin..].iter().position(|label| *label == IGNORE_INDEX).expect("two stretches");
    let mut labels = labels.to_vec();
    labels[begin..end].fill(IGNORE_INDEX);
    labels
}

#[test]
fn rows_have_trls_tokens_and_labels() {
    let golden = Golden::read();
    let mut rows = 0;
    for name in [
        "plain",
        "plain, with a line between",
        "plain, ended",
        "plain, cut",
        "asked",
        "talks",
        "talks, cut",
        "talks, forged",
    ] {
        for case in golden.named(name) {
            let prompter = golden.prompter(case);
            let name = format!("{name} ({})", case.tokenizer);
            for (i, row) in case.rows.iter().enumerate() {
                let exchange = exchange(row).expect(&name);
                let got = learnt(&prompter, &exchange);
                // TRL leaves out rows without anything to learn, and so do we.
                same(&name, i, got.as_ref(), case.result(i).map(Labelled::both));
                rows += 1;
                // What is asked later is what was learnt from, but for tokens that span the border.
                let Some((ids, labels)) = got.filter(|_| !name.contains("cut")) else { continue };
                let asked = prompter.ask(&exchange.turns).expect(&name);
                let last = labels.iter().rposition(|label| *label == IGNORE_INDEX).map_or(0, |before| before + 1);
                assert!(asked.len() <= last + 2 && ids[..last] == asked[..last], "{name}, row {i}");
            }
        }
    }
    assert_eq!(rows, 30 + 15 + 1 + 6 + 26 + 38 + 22 + 1);
}

#[test]
fn a_prompt_and_its_system_text_are_a_conversation() {
    let golden = Golden::read();
    for case in golden.named("asked") {
        let prompter = golden.prompter(case);
        for (i, row) in case.rows.iter().enumerate() {
            let exchange = exchange(row).expect("a row");
            let (system, prompt) = match exchange.turns.as_slice() {
                [system, prompt] => (system.content.as_str(), prompt),
                [prompt] => ("", prompt),
                other => panic!("{other:?}"),
            };
            if exchange.turns.len() == 2 && system.is_empty() {
                continue; // An empty cell is no system text.
            }
            let cells = vec![
                (Role::System, system),
                (Role::Prompt, prompt.content.as_str()),
                (Role::Completion, exchange.answers[0].as_str()),
            ];
            let got = Task::TextGeneration.exchange(Shape::PromptCompletion, &Fields::new(cells)).expect("a row");
            same(&case.tokenizer, i, learnt(&prompter, &got).as_ref(), case.result(i).map(Labelled::both));
        }
    }
}

#[test]
fn texts_are_trls_wrapped_blocks() {
    let golden = Golden::read();
    for case in golden.named("texts, end to end") {
        let tokenizer = golden.folder(case).tokenizer;
        let mut packer = Packer::new(case.max_length, tokenizer.eos_id());
        for (i, row) in case.rows.iter().enumerate() {
            let Row::Text { text } = row else { panic!("no text") };
            packer.push(i as u64, &tokenizer.encode(text, None).expect("a text").ids);
        }
        let packed = packer.finish();
        assert_eq!(packed.len(), case.results.len());
        for (i, expected) in case.results.iter().enumerate() {
            let ids: Vec<u32> = packed.ids(i).iter().map(|id| id.cast_unsigned()).collect();
            let mut labels = labels(&packed, i);
            labels.truncate(ids.len());
            same(&case.tokenizer, i, Some(&(ids, labels)), Some(expected.both()));
        }
    }
}

/// Best fit, longest first: the same rows in the same sequences, each at positions of its own from 0 on, where nothing is
/// learnt.
#[test]
fn rows_are_packed_as_trl_packs_them() {
    let golden = Golden::read();
    for name in ["plain, packed", "talks, packed", "texts, packed"] {
        let case = golden.named(name).next().expect("a case");
        let tokenizer = golden.folder(case).tokenizer;
        let prompter = (!name.starts_with("texts")).then(|| golden.prompter(case));
        let mut rows = Sequences::default();
        for (i, row) in case.rows.iter().enumerate() {
            let number = i as u64;
            match (row, &prompter) {
                (Row::Text { text }, _) => {
                    let (ids, _) = text_alone(&tokenizer, text, case.max_length);
                    assert!(rows.push(number, &ids, Target::None));
                }
                (row, Some(prompter)) => {
                    let tokens = prompter.exchange(&exchange(row).expect("a row")).expect("tokens").expect("a row");
                    assert!(rows.push_masked(number, &tokens.ids, &tokens.learnt));
                }
                _ => panic!("{name}: no text"),
            }
        }
        let packed = rows.packed(case.max_length);
        assert_eq!(packed.len(), case.results.len(), "{name}");
        // All in one batch, so that what is padded is looked at as well.
        let all: Vec<usize> = (0..packed.len()).collect();
        let batch = Batch::new(&packed, &all, case.max_length, 0);
        let (positions, Targets::Tokens(labels)) = (batch.positions(), &batch.targets) else { panic!("no tokens") };
        for (i, expected) in case.results.iter().enumerate() {
            let (line, length) = (i * batch.seq..(i + 1) * batch.seq, expected.input_ids.len());
            let ids: Vec<u32> = batch.ids[line.clone()].iter().map(|id| id.cast_unsigned()).collect();
            let (labels, positions) = (&labels[line.clone()], &positions[line]);
            assert_eq!(ids[..length], expected.input_ids, "{name}, sequence {i}");
            assert_eq!(labels[..length], expected.labels, "{name}, sequence {i}");
            assert!(labels[length..].iter().all(|label| *label == IGNORE_INDEX), "{name}, sequence {i}");
            let positions: Vec<usize> = positions[..length].iter().map(|position| *position as usize).collect();
            assert_eq!(positions, expected.position_ids, "{name}, sequence {i}");
            assert_eq!(batch.last[i] as usize + 1, length, "{name}, sequence {i}");
        }
    }
}

/// TRL puts a completion straight after its prompt ("un" + "believable"); rows of files rarely mean that.
#[test]
fn a_line_goes_between_prompt_and_completion_unlike_trl() {
    let golden = Golden::read();
    for case in golden.named("plain, glued") {
        let prompter = golden.prompter(case);
        let apart = golden.case("plain, with a line between", &case.tokenizer);
        for (i, row) in case.rows.iter().enumerate() {
            let got = learnt(&prompter, &exchange(row).expect("a row"));
            same(&case.name, i, got.as_ref(), apart.result(i).map(Labelled::both));
            assert_ne!(got.map(|(ids, _)| ids), case.result(i).map(|result| result.input_ids.clone()));
        }
    }
}

/// TRL has no columns for these beside a text prompt: they are joined by an empty line.
#[test]
fn system_text_and_input_are_joined_to_the_prompt_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("plain, a system text", "starter");
    let prompter = golden.prompter(case);
    for (i, row) in case.rows.iter().enumerate() {
        let Row::Plain { prompt, completion } = row else { panic!("no pair") };
        let (first, second) = prompt.split_once("\n\n").expect("two parts");
        for cells in [[(Role::System, first), (Role::Prompt, second)], [(Role::Prompt, first), (Role::Input, second)]] {
            let cells = cells.into_iter().chain([(Role::Completion, completion.as_str())]).collect();
            let got = Task::TextGeneration.exchange(Shape::PromptCompletion, &Fields::new(cells)).expect("a row");
            same(&case.name, i, learnt(&prompter, &got).as_ref(), case.result(i).map(Labelled::both));
        }
    }
}

/// TRL learns a completion without a prompt; a row whose cell is empty is more likely a mistake.
#[test]
fn a_row_without_a_prompt_is_left_out_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("plain, no prompt", "starter");
    assert!(case.result(0).is_some());
    assert_eq!(exchange(&case.rows[0]), Err("no prompt".to_owned()));
    let got = learnt(&golden.prompter(case), &exchange(&case.rows[1]).expect("a row"));
    same(&case.name, 1, got.as_ref(), case.result(1).map(Labelled::both));
}

/// TRL writes the end token after the text, and a tokenizer that puts one there puts another.
#[test]
fn a_text_ends_once_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("plain, ended twice", "ends");
    let prompter = golden.prompter(case);
    for (i, row) in case.rows.iter().enumerate() {
        let got = learnt(&prompter, &exchange(row).expect("a row"));
        let (ids, labels) = case.result(i).expect("a row").both();
        let [once @ .., again] = ids else { panic!("no end") };
        assert_eq!(once.last(), Some(again));
        same(&case.name, i, got.as_ref(), Some((once, &labels[..once.len()])));
    }
}

/// TRL cuts a long document's answer off and leaves the row out; here the document is cut.
#[test]
fn a_long_document_keeps_its_answer_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("plain, cut", "starter");
    let prompter = golden.prompter(case);
    let tokenizer = golden.folder(case).tokenizer;
    let Row::Plain { prompt, completion } = &case.rows[4] else { panic!("no pair") };
    assert!(case.result(4).is_none());
    let exchange = pair(prompt, completion).expect("a row").long(prompt);
    let tokens = prompter.exchange(&exchange).expect("a text").expect("a row");
    assert!(tokens.cut && tokens.ids.len() <= case.max_length && tokens.ids.len() > case.max_length / 2);
    let begin = tokens.learnt.iter().position(|learnt| *learnt).expect("an answer");
    let (asked, answer) = tokens.ids.split_at(begin);
    assert!(tokens.learnt[begin..].iter().all(|learnt| *learnt));
    assert_eq!(answer.last().copied(), tokenizer.eos_id());
    assert_eq!(tokenizer.decode(answer, true).expect("ids").trim(), completion);
    assert_eq!(asked[0], tokenizer.bos_id().expect("a first token"));
    let asked = tokenizer.decode(asked, true).expect("ids");
    assert!(asked.len() > 10 && prompt.starts_with(asked.trim_end()), "{asked:?}");
}

/// TRL learns only the completion of a prompt of several turns, or, of `messages`, by its defaults every token. Here it
/// is every turn of the assistant, as with `assistant_only_loss`.
#[test]
fn every_answer_of_a_conversation_is_learnt_unlike_trl() {
    let golden = Golden::read();
    for case in ["asked, several turns", "talks, everything learnt"].into_iter().flat_map(|name| golden.named(name)) {
        let prompter = golden.prompter(case);
        let answers = golden.case("talks", &case.tokenizer);
        for (i, row) in case.rows.iter().enumerate() {
            let other = case.result(i).expect("a row");
            let expected = answers.results.iter().find(|result| result.input_ids == other.input_ids).expect("the same");
            assert_ne!(other.labels, expected.labels);
            let got = learnt(&prompter, &exchange(row).expect("a row"));
            same(&case.name, i, got.as_ref(), Some(expected.both()));
        }
    }
}

/// TRL learns what the assistant says before anything is asked, too.
#[test]
fn a_greeting_is_not_learnt_unlike_trl() {
    let golden = Golden::read();
    for case in golden.named("talks, the assistant first") {
        let got = learnt(&golden.prompter(case), &exchange(&case.rows[0]).expect("a row"));
        let (ids, labels) = case.result(0).expect("a row").both();
        same(&case.tokenizer, 0, got.as_ref(), Some((ids, without_first(labels).as_slice())));
    }
}

/// What nobody answers stands in TRL's row, where nothing of it is learnt and nothing sees it; here it is left out.
#[test]
fn turns_behind_the_last_answer_are_left_out_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("talks, unanswered", "chatml");
    let exchange = exchange(&case.rows[0]).expect("a row");
    assert!(exchange.trailing);
    let (ids, labels) = learnt(&golden.prompter(case), &exchange).expect("something to learn");
    let (all, targets) = case.result(0).expect("a row").both();
    assert!(ids.len() < all.len() && labels.iter().any(|label| *label != IGNORE_INDEX));
    assert_eq!((ids.as_slice(), labels.as_slice()), (&all[..ids.len()], &targets[..ids.len()]));
    assert!(targets[ids.len()..].iter().all(|label| *label == IGNORE_INDEX));
}

/// A template may write an answer in another way once it is an earlier one (without its thoughts). TRL learns it so; here it
/// is not learnt, as that is not how the model is to answer.
#[test]
fn an_answer_that_the_template_rewrites_is_not_learnt_unlike_trl() {
    let golden = Golden::read();
    let case = golden.case("talks, thoughts left out", "thoughts");
    let got = learnt(&golden.prompter(case), &exchange(&case.rows[0]).expect("a row"));
    let (ids, labels) = case.result(0).expect("a row").both();
    same(&case.name, 0, got.as_ref(), Some((ids, without_first(labels).as_slice())));
}
