use super::*;
use crate::{
    data::{Role, Target, exchanges},
    tokenizer::Message,
};

fn table(name: &str, text: &str) -> Table {
    Table::read(name, text.as_bytes()).expect(name)
}

fn data() -> DataConfig {
    Config::resolve(&RawConfig::default()).expect("defaults").data
}

#[test]
fn every_scenario_measures_what_it_judges_and_says_what_it_is() {
    let config = Config::resolve(&RawConfig::default()).expect("defaults");
    for task in Task::ALL {
        let scenario = task.scenario();
        assert!(!scenario.name().is_empty() && !scenario.about().is_empty() && !scenario.shapes().is_empty());
        let sums = scenario.judge("an answer", &["an answer".to_owned()]);
        let judged = scenario.judged(&sums, 1.0);
        for (metric, value) in &judged {
            assert!(scenario.metrics(&config).contains(metric), "{} {}", task.as_str(), metric.as_str());
            assert!(value.is_finite());
        }
        assert!(task.check_metric("k", Metric::Loss, &config).is_ok());
        // What is learnt by answering is judged by answers.
        let answers = scenario.shapes().iter().any(|shape| scenario.learns(*shape) == Learns::Answers);
        assert_eq!(answers, !judged.is_empty(), "{}", task.as_str());
    }
    let infos = all();
    for info in &infos {
        let ids: Vec<&str> = info.metrics.iter().map(|metric| metric.id.as_str()).collect();
        assert_eq!(info.metrics.iter().filter(|metric| metric.default).count(), 1, "{ids:?}");
        assert!(info.metrics[0].default && ids.last() == Some(&"loss"), "{ids:?}");
        assert_eq!(info.number_metrics.is_empty(), info.id != "text-classification");
    }
    let number = &infos[0].number_metrics;
    assert_eq!((number[0].id.as_str(), number[0].greater_is_better, number[0].share), ("mse", false, false));
    let first = &infos[0].metrics[0];
    assert_eq!((first.id.as_str(), first.greater_is_better, first.share), ("macro_f1", true, true));
    let error = Task::Summarization.check_metric("k", Metric::MacroF1, &config).expect_err("no such metric");
    assert!(error.to_string().contains("rougeL"), "{error}");
    assert_eq!(all().len(), Task::ALL.len());
}

/// The task that is proposed first, its shape and columns.
fn best(name: &str, text: &str) -> (String, String, Vec<String>) {
    let fit = fits(&table(name, text)).into_iter().next().expect(name);
    (fit.task, fit.shape, fit.columns.iter().map(|(role, column)| format!("{role}={column}")).collect())
}

#[test]
fn shapes_are_told_by_their_columns() {
    let is = |found: (String, String, Vec<String>), task: &str, shape: &str, columns: &[&str]| {
        assert_eq!((found.0.as_str(), found.1.as_str()), (task, shape));
        assert_eq!(found.2, columns);
    };
    let mail = "text,label\na,x\nb,y\nc,x\nd,y\n";
    is(best("mail.csv", mail), "text-classification", "text-label", &["label=label", "text=text"]);
    let alpaca = r#"[{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Say hi.", "input": "", "output": "hi"}]"#;
    is(
        best("alpaca.json", alpaca),
        "text-generation",
        "prompt-completion",
        &["completion=output", "input=input", "prompt=instruction"],
    );
    let prompts = "{\"prompt\": \"a\", \"completion\": \" b\"}\n{\"prompt\": \"c\", \"completion\": \" d\"}\n";
    is(best("p.jsonl", prompts), "text-generation", "prompt-completion", &["completion=completion", "prompt=prompt"]);
    let chat = r#"[{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]"#;
    is(best("chat.json", chat), "text-generation", "messages", &["messages=conversations"]);
    let squad = r#"{"data": [{"paragraphs": [{"context": "C", "qas": [{"id": "1", "question": "Q?", "answers": [{"text": "A"}]}]}]}]}"#;
    is(
        best("squad.json", squad),
        "question-answering",
        "question-answer",
        &["answer=answers", "context=context", "question=question"],
    );
    let summaries = "document,summary\nlong text,short\nother text,brief\n";
    is(best("s.csv", summaries), "summarization", "document-summary", &["summary=summary", "text=document"]);
    is(best("speech.txt", "one line\nanother\n"), "text-generation", "text", &["text=text"]);
}

#[test]
fn what_is_configured_comes_before_what_is_guessed() {
    let table = table("t.csv", "prompt,completion,text\na,b,c\nd,e,f\n");
    let mut data = data();
    let resolved = |data: &DataConfig| Task::TextGeneration.mapping(&table, data).expect("a mapping");
    assert_eq!(resolved(&data).shape, Shape::PromptCompletion);
    data.text_column = Some("text".into());
    assert_eq!(resolved(&data).shape, Shape::Text);
    data.shape = Some(Shape::PromptCompletion);
    data.prompt_column = Some("text".into());
    assert_eq!(resolved(&data).column(Role::Prompt), Some("text"));
    data.completion_column = Some("text".into());
    let error = Task::TextGeneration.mapping(&table, &data).expect_err("one column twice");
    assert!(error.advice().contains("data.completion_column"), "{error}");
    data.completion_column = Some("nowhere".into());
    let error = Task::TextGeneration.mapping(&table, &data).expect_err("no such column").to_string();
    assert!(error.contains("nowhere") && error.contains("`completion`"), "{error}");
    data.shape = Some(Shape::DocumentSummary);
    let error = Task::TextGeneration.mapping(&table, &data).expect_err("another task's shape").to_string();
    assert!(error.contains("data.shape"), "{error}");
}

/// A table's rows as a task's exchanges, and the rows that it leaves out.
fn exchanged(task: Task, name: &str, text: &str) -> (Vec<Exchange>, Vec<String>) {
    let table = table(name, text);
    let mapping = task.mapping(&table, &data()).expect("a mapping");
    let found = exchanges(&table, &mapping, |row| task.exchange(mapping.shape, row)).expect("exchanges");
    assert!(found.rows.iter().all(|row| row.target == Target::None));
    let reasons = found.skipped.named.iter().map(|skipped| format!("{}: {}", skipped.row, skipped.reason)).collect();
    (found.rows.into_iter().filter_map(|row| row.exchange).collect(), reasons)
}

#[test]
fn rows_become_exchanges() {
    let alpaca = r#"[{"instruction": "Add.", "input": "1 2", "output": "3"}, {"instruction": "Say hi.", "input": "", "output": "hi"},
        {"instruction": "", "output": "x"}, {"instruction": "x", "output": " "}]"#;
    let (rows, skipped) = exchanged(Task::TextGeneration, "a.json", alpaca);
    assert_eq!(rows[0].turns, [Message::new("user", "Add.\n\n1 2")]);
    assert_eq!((rows[1].prompt(), rows[1].answers[0].as_str()), ("Say hi.", "hi"));
    assert_eq!(skipped, ["3: no prompt", "4: no completion"]);

    let chat = r#"[{"system": "S", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
        {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]},
        {"messages": [{"role": "user", "content": "q"}]}, {"messages": [{"role": "assistant", "content": "a"}]}, {"messages": "hello"}]"#;
    let (rows, skipped) = exchanged(Task::TextGeneration, "c.json", chat);
    let roles: Vec<&str> = rows[0].turns.iter().map(|turn| turn.role.as_str()).collect();
    assert_eq!((roles.as_slice(), rows[0].answers[0].as_str()), (&["system", "user", "assistant", "user"][..], "b"));
    assert_eq!(rows.len(), 1);
    assert!(
        skipped[0].contains("no turn of the assistant") && skipped[1].contains("no turn of the user"),
        "{skipped:?}"
    );
    assert!(skipped[2].contains("no JSON list"), "{skipped:?}");

    let qa = r#"[{"context": "Ada was born in 1815.", "question": "When?", "answers": ["1815", "in 1815"]},
        {"context": "Ada.", "question": "Where?", "answers": []}, {"question": "Who?", "answers": ""}, {"question": "What?", "answers": "it"}]"#;
    let (rows, skipped) = exchanged(Task::QuestionAnswering, "q.json", qa);
    assert_eq!(rows[0].prompt(), "Ada was born in 1815.\n\nQuestion: When?");
    assert_eq!(
        (rows[0].answers.as_slice(), rows[0].long.as_deref()),
        (&["1815".into(), "in 1815".into()][..], Some("Ada was born in 1815."))
    );
    assert_eq!((rows[1].answers[0].as_str(), rows[2].prompt()), ("unanswerable", "Question: What?"));
    assert_eq!(skipped, ["3: no answer"]);

    let tags = "text,label\nAda met Bob,\"{\"\"PER\"\": [\"\"Ada\"\", \"\"Bob\"\"]}\"\nnobody,[]\nx,PER\n";
    let (rows, skipped) = exchanged(Task::EntityTagging, "e.csv", tags);
    assert_eq!((rows.len(), rows[1].answers[0].as_str()), (2, "[]"));
    assert!(skipped[0].contains("no JSON"), "{skipped:?}");
}

#[test]
fn conversations_are_learnt_up_to_their_last_answer() {
    let turns = |roles: &[&str]| {
        let turns = roles.iter().enumerate();
        let turns = turns.map(|(i, role)| format!("{{\"role\": \"{role}\", \"content\": \"{role} {i}\"}}"));
        format!("{{\"messages\": [{}]}}\n", turns.collect::<Vec<_>>().join(", "))
    };
    let text = [
        turns(&["user", "assistant", "user"]),
        turns(&["system", "user", "assistant", "user", "assistant", "system", "user"]),
        turns(&["user", "assistant"]),
        turns(&["assistant", "user"]),
    ]
    .concat();
    let table = table("t.jsonl", &text);
    let task = Task::TextGeneration;
    let mapping = task.mapping(&table, &data()).expect("a mapping");
    let found = exchanges(&table, &mapping, |row| task.exchange(mapping.shape, row)).expect("exchanges");
    let rows: Vec<&Exchange> = found.rows.iter().filter_map(|row| row.exchange.as_ref()).collect();
    let shown: Vec<_> = rows.iter().map(|row| (row.turns.len(), row.prompt(), row.answers[0].as_str())).collect();
    assert_eq!(shown, [(1, "user 0", "assistant 1"), (4, "user 3", "assistant 4"), (1, "user 0", "assistant 1")]);
    assert_eq!(rows.iter().map(|row| row.trailing).collect::<Vec<_>>(), [true, true, false]);
    // One note for all of them; a greeting alone answers nobody.
    let notes: Vec<&String> = found.warnings.iter().filter(|warning| warning.contains("go on after")).collect();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("t.jsonl: 2 of 3 conversations"), "{notes:?}");
    assert_eq!((found.skipped.count, found.skipped.named[0].row), (1, 4));
    // What is asked is asked to its end.
    let asked = task.scenario().ask(Shape::Messages, &mapping.fields(&table, 0)).expect("a conversation");
    assert_eq!((asked.turns.len(), asked.prompt()), (3, "user 2"));
}

#[test]
fn answers_are_judged_by_the_fields_measures() {
    let of = |task: Task, pairs: &[(&str, &[&str])]| {
        let mut sums: Vec<f64> = Vec::new();
        for (answer, expected) in pairs {
            let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
            let numbers = task.scenario().judge(answer, &expected);
            sums.resize(numbers.len(), 0.0);
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        let judged = task.scenario().judged(&sums, pairs.len() as f64);
        move |metric: Metric| judged.iter().find(|(other, _)| *other == metric).expect("the metric").1
    };
    let qa =
        of(Task::QuestionAnswering, &[("The Eiffel Tower.", &["Eiffel Tower"]), ("in Paris", &["Paris", "France"])]);
    assert_eq!(qa(Metric::ExactMatch), 0.5);
    assert!((qa(Metric::F1) - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
    let summary = of(Task::Summarization, &[("the cat sat", &["the cat sat down"])]);
    assert!((summary(Metric::RougeL) - 6.0 / 7.0).abs() < 1e-12 && summary(Metric::Rouge2) < summary(Metric::Rouge1));
    let text = of(Task::TextGeneration, &[("a b c d e", &["a b c d e"]), ("f g h i", &["f g h i"])]);
    assert!((text(Metric::Bleu) - 100.0).abs() < 1e-9 && (text(Metric::RougeL) - 1.0).abs() < 1e-12);
    let tags = of(
        Task::EntityTagging,
        &[
            (r#"{"PER": ["Ada"]}"#, &[r#"{"PER": ["Ada", "Bob"]}"#]),
            ("sorry", &[r#"[{"type": "LOC", "text": "Rome"}]"#]),
        ],
    );
    assert!((tags(Metric::EntityF1) - 0.5).abs() < 1e-12 && (tags(Metric::Parsed) - 0.5).abs() < 1e-12);
}
