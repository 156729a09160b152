//! Files as people have them: good ones, odd ones, broken ones.

use super::super::{LabelSource, Mapping, Role, Shape, Target, examples, exchanges};
use super::*;
use crate::config::{Config, DataConfig, RawConfig, Task};
use crate::scenario::Learns;

fn read(name: &str, text: &str) -> Table {
    Table::read(name, text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let error = Table::read(name, bytes).expect_err(name);
    assert!(!error.advice().is_empty(), "{error}");
    let message = error.to_string();
    assert!(message.starts_with(name), "{message}");
    message
}

fn rows(table: &Table) -> Vec<Vec<&str>> {
    (0..table.len()).map(|row| (0..table.columns.len()).map(|column| table.cell(row, column)).collect()).collect()
}

fn data() -> DataConfig {
    Config::resolve(&RawConfig::default()).expect("defaults").data
}

#[test]
fn csv_with_quotes_and_line_breaks_in_cells() {
    let table = read("a.csv", "text,label\n\"a, \"\"b\"\"\nc\",pos\nplain 5\" pipe,neg\n\nlast,pos");
    assert_eq!((table.format, table.encoding.as_str()), (Format::Csv, "UTF-8"));
    assert_eq!(table.columns, ["text", "label"]);
    assert_eq!(rows(&table), [["a, \"b\"\nc", "pos"], ["plain 5\" pipe", "neg"], ["last", "pos"]]);
    // Rows are numbered by the line where they begin.
    assert_eq!((0..3).map(|row| table.row_number(row)).collect::<Vec<_>>(), [2, 4, 6]);
    assert!(table.warnings.is_empty(), "{:?}", table.warnings);
}

#[test]
fn line_ends_of_all_systems() {
    for ends in ["\n", "\r\n", "\r"] {
        let table = read("a.csv", &["text,label", "one,a", "\"two", "more\",b", "x,y,z"].join(ends));
        assert_eq!(rows(&table), [["one", "a"], ["two\nmore", "b"]]);
        assert_eq!((table.row_number(0), table.row_number(1), table.skipped.named[0].row), (2, 3, 5), "{ends:?}");
    }
}

#[test]
fn the_delimiter_is_found() {
    for (delimiter, format) in [(',', Format::Csv), (';', Format::Csv), ('\t', Format::Tsv), ('|', Format::Csv)] {
        let text = "text,label\n\"Good, bad; and\tso|on\",pos\nfine,neg\n".replacen("text,", "text\x00", 1);
        let text =
            text.replace("\",pos", "\"\x00pos").replace("fine,", "fine\x00").replace('\0', &delimiter.to_string());
        for name in ["a.csv", "a.data", "a"] {
            let table = read(name, &text);
            assert_eq!((table.format, table.columns.len(), table.len()), (format, 2, 2), "{delimiter:?}");
        }
    }
    let table = read("a.tsv", "text\tlabel\none, two, three\tpos\nfour, five\tneg\n");
    assert_eq!(rows(&table), [["one, two, three", "pos"], ["four, five", "neg"]]);
    // One column is a table too.
    assert_eq!(rows(&read("a.csv", "text\none\ntwo\n")), [["one"], ["two"]]);
    // A text file with the same number of tabs in each line is a table, prose is not.
    assert_eq!(read("a.txt", "id\tscore\ttext\n1\t0.5\tgood\n2\t1.5\tbad\n").format, Format::Tsv);
    assert_eq!(read("a.txt", "One, two.\n\nThree, four, five.\n").format, Format::Txt);
}

#[test]
fn text_lines_keep_their_numbers() {
    let table = read("a.txt", "first\n\n  \nsecond\r\n");
    assert_eq!(rows(&table), [["first"], ["second"]]);
    assert_eq!((table.row_number(0), table.row_number(1)), (1, 4));
}

#[test]
fn encodings_are_detected_or_refused() {
    let text = "text,label\nnaïve café,a\nßüß,b\n";
    let utf16 = |little: bool| {
        let mut bytes = if little { vec![0xFF, 0xFE] } else { vec![0xFE, 0xFF] };
        for unit in text.encode_utf16() {
            bytes.extend(if little { unit.to_le_bytes() } else { unit.to_be_bytes() });
        }
        bytes
    };
    let with_mark = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
    for (bytes, encoding) in [(with_mark, "UTF-8"), (utf16(true), "UTF-16LE"), (utf16(false), "UTF-16BE")] {
        let table = Table::read("a.csv", &bytes).expect(encoding);
        assert_eq!((table.encoding.as_str(), table.columns[0].as_str()), (encoding, "text"));
        assert_eq!(table.cell(0, 0), "naïve café");
        assert!(table.warnings.is_empty());
    }
    // Latin-1 is read, and said to be a guess.
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let table = Table::read("a.csv", &latin).expect("Latin-1");
    assert_eq!((table.encoding.as_str(), table.cell(0, 0), table.cell(1, 0)), ("windows-1252", "naïve café", "ßüß"));
    assert!(table.warnings[0].contains("windows-1252"), "{:?}", table.warnings);

    let russian =
        b"text,label\n\xD1\xE5\xE3\xEE\xE4\xED\xFF \xF3\xF2\xF0\xEE\xEC \xF8\xB8\xEB \xE4\xEE\xE6\xE4\xFC,a\n";
    let table = Table::read("a.csv", russian).expect("windows-1251");
    assert_eq!((table.encoding.as_str(), table.cell(0, 0)), ("windows-1251", "Сегодня утром шёл дождь"));
    let japanese = b"text,label\n\x82\xB1\x82\xCC\x89\x66\x89\xE6\x82\xCD\x96\xCA\x94\x92\x82\xA2,a\n";
    let table = Table::read("a.csv", japanese).expect("Shift_JIS");
    assert_eq!((table.encoding.as_str(), table.cell(0, 0)), ("Shift_JIS", "この映画は面白い"));

    // UTF-8 that is broken in one place is not taken for another encoding.
    let mut broken = "text,label\nnaïve café ïïïïïïïïïïïïï,a\nx,b\n".as_bytes().to_vec();
    broken.extend(b"bad \xFF byte,b\n");
    assert!(refused("a.csv", &broken).starts_with("a.csv, row 4: the file is UTF-8, but not in 1 places"));
    let mut odd = utf16(true);
    odd.push(b'x');
    assert!(refused("a.csv", &odd).contains("UTF-16LE"));
    assert!(refused("a.csv", b"\xFF\xFE\0\0a\0\0\0").contains("UTF-32"));
}

#[test]
fn what_is_no_text_is_refused_by_name() {
    for bytes in [&b""[..], b"\n\n  \n", b"\xEF\xBB\xBF", b"\xFF\xFE"] {
        assert_eq!(refused("a.csv", bytes), "a.csv: the file is empty");
    }
    assert!(refused("a.csv", b"text,label\nab\0cd,x\n").starts_with("a.csv, row 2: there is a NUL byte"));
    assert!(refused("a.csv", &[1, 2, 3, 4, 5, 6, 7, 8, b'a', b'\n']).contains("control characters"));
    for (magic, what) in
        [(&b"PK\x03\x04rest"[..], "Excel"), (b"\x1F\x8B\x08", "gzip"), (b"%PDF-1.7", "PDF"), (b"PAR1", "Parquet")]
    {
        assert!(refused("a.csv", magic).contains(what));
    }
    assert!(refused("a.parquet", b"text,label\na,b\n").contains("does not begin as a Parquet file does"));
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    assert!(refused("a.parquet", pointer).contains("Git LFS"));
}

#[test]
fn a_header_alone_is_refused() {
    assert_eq!(refused("a.csv", b"text,label\n"), "a.csv: there is a header and no rows");
    // The 50 MB single line: as a header, and as a row.
    let long = "word ".repeat(10 << 20);
    assert!(refused("a.csv", long.as_bytes()).contains("a column name of"));
    assert!(refused("a.csv", long.replace(' ', ",").as_bytes()).contains("10485761 columns"));
    let table = read("a.csv", &format!("text,label\n{long},a\nshort,b\n"));
    assert_eq!((table.len(), table.cell(0, 0).len(), table.cell(1, 0)), (2, long.len(), "short"));
    assert!(table.summary().preview[0][0].len() < 1000);
    assert_eq!(read("a.txt", &long).len(), 1);
}

#[test]
fn headers_are_made_usable() {
    let table = read("a.csv", "text, text ,,label\n1,2,3,4\n");
    assert_eq!(table.columns, ["text", "text_2", "column_3", "label"]);
    assert!(table.warnings[0].contains("`text` more than once"), "{:?}", table.warnings);
    assert_eq!(read("a.csv", "a,a_2,a,a,a_2\n1,2,3,4,5\n").columns, ["a", "a_2", "a_3", "a_4", "a_2_2"]);
    assert!(read("a.csv", "good film,1\nbad film,0\n").warnings[0].contains("`1` is no usual column name"));
}

#[test]
fn rows_of_another_width_are_counted_and_named() {
    let table = read("a.csv", "text,label\na,b\none\nc,d\nx,y,z\n");
    assert_eq!(rows(&table), [["a", "b"], ["c", "d"]]);
    assert_eq!(table.skipped.count, 2);
    assert_eq!(table.skipped.named[0], SkippedRow { row: 3, reason: "1 fields, the header has 2".into() });
    assert_eq!(table.skipped.named[1].row, 5);
    assert!(table.warnings[0].contains("2 rows cannot be used (row 3: 1 fields"), "{:?}", table.warnings);
    let many = format!("text,label\na,b\n{}", "x\n".repeat(1000));
    let table = read("many.csv", &many);
    assert_eq!((table.skipped.count, table.skipped.named.len()), (1000, MOST_NAMED));
    assert!(table.warnings[0].ends_with("; …)"));
    assert!(refused("a.csv", b"text,label\nx\ny\n").starts_with("a.csv, row 2: none of its 2 rows can be used"));
}

#[test]
fn broken_quotes_name_the_row_where_they_open() {
    for (text, row) in [
        ("text,label\na,b\n\"open,c\nd,e\n", 3),
        ("text,label\n\"a\nb\",x\n\"open", 4),
        ("text,label\n\"stray,pos\nfine,neg\n\"other\",pos\n", 2),
        ("\"text,label\na,b\n", 1),
        ("text,label\r\na,b\r\n\"open,c\r\n", 3),
    ] {
        let message = refused("a.csv", text.as_bytes());
        assert!(message.starts_with(&format!("a.csv, row {row}: a quote opens here")), "{text:?}: {message}");
    }
    // Sloppy, but clear: as spreadsheets read it.
    assert_eq!(rows(&read("a.csv", "text,label\n\"a\"b,c\n")), [["ab", "c"]]);
}

#[test]
fn json_lines_of_all_kinds_of_values() {
    let text = "{\"text\": \"a\\n\\u00e9\", \"label\": 1}\n\n{\"label\": 2.5, \"text\": null, \"more\": {\"b\": [1, true]}}\n{\"text\": true}\n";
    for name in ["a.jsonl", "a.json", "a"] {
        let table = read(name, text);
        assert_eq!(table.format, Format::Jsonl);
        assert_eq!(table.columns, ["text", "label", "more"]);
        assert_eq!(rows(&table), [["a\né", "1", ""], ["", "2.5", "{\"b\":[1,true]}"], ["true", "", ""]]);
        assert_eq!((table.row_number(0), table.row_number(1), table.row_number(2)), (1, 3, 4));
    }
}

#[test]
fn json_lines_that_are_no_objects_are_named() {
    let deep = format!("{{\"text\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!("{{\"text\": \"a\"}}\n[1, [2]]\n\"text\"\n5\n-5\n1.5\nnull\ntrue\n{{\"text\": \n{deep}\n");
    let table = read("a.jsonl", &text);
    assert_eq!(table.len(), 1);
    let reasons: Vec<(u64, &str)> = table.skipped.named.iter().map(|s| (s.row, s.reason.as_str())).collect();
    assert_eq!(
        reasons[..7],
        [
            (2, "a list, not an object"),
            (3, "a text, not an object"),
            (4, "a number, not an object"),
            (5, "a number, not an object"),
            (6, "a number, not an object"),
            (7, "null, not an object"),
            (8, "a boolean, not an object")
        ]
    );
    assert!(reasons[7].1.contains("EOF") && reasons[8].1.contains("recursion limit"), "{reasons:?}");
    assert!(refused("a.jsonl", b"[1]\n").contains("a number, not an object"));
    assert!(refused("b.jsonl", b"nonsense\nmore\n").starts_with("b.jsonl, row 1: none of its 2 rows"));
}

#[test]
fn json_arrays() {
    let table = read("a.json", " [\n {\"text\": \"a\", \"label\": \"x\"},\n 7, {\"text\": \"b\"}]");
    assert_eq!(table.format, Format::Json);
    assert_eq!(rows(&table), [["a", "x"], ["b", ""]]);
    assert_eq!((table.row_number(1), table.skipped.named[0].row), (3, 2));
    assert!(
        refused("a.json", b"[{\"text\": \"a\"},\n{\"text\"").starts_with("a.json, row 2: not a JSON array of objects")
    );
    assert!(refused("a.json", "[".repeat(1 << 20).as_bytes()).contains("EOF"));
    let deep = format!("[{{\"text\": {}", "[".repeat(1 << 20));
    assert!(refused("a.json", deep.as_bytes()).contains("recursion limit"));
    assert!(
        refused("a.json", b"{\n  \"data\": [{\"text\": \"a\"}]\n}\n").contains("one JSON value over several lines")
    );
    let wide: String = (0..1001).map(|i| format!("{{\"k{i}\": 1}}\n")).collect();
    assert!(refused("a.jsonl", wide.as_bytes()).starts_with("a.jsonl, row 1001: more than 1000 different keys"));
}

#[test]
fn the_summary_suggests_columns() {
    let review = |i: usize| format!("this film is number {i} of the ones I saw");
    for (header, expected) in [
        ("id,review_text,sentiment", (Some("review_text"), Some("sentiment"))),
        ("text,label,source", (Some("text"), Some("label"))),
        ("nr,what,kind", (Some("what"), Some("kind"))),
    ] {
        let body: String = (0..20).map(|i| format!("{i},{},{}\n", review(i), i % 2)).collect();
        let summary = read("a.csv", &format!("{header}\n{body}")).summary();
        assert_eq!((summary.text_column.as_deref(), summary.label_column.as_deref()), expected, "{header}");
        assert_eq!((summary.rows, summary.preview.len(), summary.preview[1][0].as_str()), (20, 8, "1"));
        assert_eq!(summary.columns[2].values, [("0".to_owned(), 10), ("1".to_owned(), 10)]);
        assert!(summary.columns[1].values.is_empty());
        assert_eq!(summary.columns.iter().map(|column| column.numeric).collect::<Vec<_>>(), [true, false, true]);
    }
    let summary = read("a.txt", "one\ntwo\n").summary();
    assert_eq!((summary.text_column.as_deref(), summary.label_column), (Some("text"), None));
}

#[test]
fn a_column_of_numbers_is_one_that_regression_can_read() {
    for (cells, numeric) in [
        (&["0.5", " -3e2 ", ""][..], true),
        (&["1", "2", "three"], false),
        (&["1", "inf", "2"], false),
        (&["1", "NaN", "2"], false),
        (&["1e39", "2", "3"], false),
        (&["", "", ""], false),
    ] {
        let body: String = cells.iter().map(|cell| format!("a,{cell}\n")).collect();
        assert_eq!(read("a.csv", &format!("text,label\n{body}")).summary().columns[1].numeric, numeric, "{cells:?}");
    }
}

fn mapped(table: &Table, source: LabelSource<'_>) -> Result<super::super::Examples> {
    examples(table, &Mapping::new(Shape::TextLabel, &[(Role::Text, "text"), (Role::Label, "label")]), source)
}

const DISCOVER: LabelSource<'_> = LabelSource::Discover { num_labels: None };

#[test]
fn examples_name_their_labels_and_what_is_left_out() {
    let table = read("a.csv", "text,label\na,neg\nb, pos\n ,pos\nc,\nd,neg \ne,pos\n");
    let found = mapped(&table, DISCOVER).expect("examples");
    assert_eq!(found.labels, ["neg", "pos"]);
    let rows: Vec<(u64, &str, Target)> = found.rows.iter().map(|r| (r.row, r.text.as_str(), r.target)).collect();
    assert_eq!(
        rows,
        [
            (2, "a", Target::Class(0)),
            (3, "b", Target::Class(1)),
            (6, "d", Target::Class(0)),
            (7, "e", Target::Class(1))
        ]
    );
    let skipped: Vec<(u64, &str)> = found.skipped.named.iter().map(|s| (s.row, s.reason.as_str())).collect();
    assert_eq!(skipped, [(4, "no text in `text`"), (5, "no label in `label`")]);
    assert!(found.warnings[0].contains("2 rows cannot be used"), "{:?}", found.warnings);
}

#[test]
fn labels_are_in_natural_order() {
    for (labels, expected) in [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["class 10", "class 9", "2"], ["2", "class 9", "class 10"]),
        (["b", "a", "C"], ["C", "a", "b"]),
        (["1.5", "0.5", "1"], ["0.5", "1", "1.5"]),
    ] {
        let body: String = (0..12).map(|i| format!("text {i},{}\n", labels[i % 3])).collect();
        let found = mapped(&read("a.csv", &format!("text,label\n{body}")), DISCOVER).expect("examples");
        assert_eq!(found.labels, expected);
    }
    let found =
        mapped(&read("a.csv", "text,label\na,Pos\nb,pos\nc,neg\nd,neg\ne,Pos\nf,pos\n"), DISCOVER).expect("examples");
    assert!(found.warnings.iter().any(|warning| warning.contains("differ by case only")), "{:?}", found.warnings);
}

#[test]
fn labels_that_cannot_be_learned_are_refused() {
    let error = |body: &str, source| mapped(&read("a.csv", &format!("text,label\n{body}")), source).expect_err(body);
    let one = error("a,x\nb,x\n", DISCOVER);
    assert_eq!(one.to_string(), "a.csv: `label` has one label only (`x` in all 2 rows)");
    assert!(one.advice().contains("another label"));
    assert!(error("a,\nb,\n", DISCOVER).to_string().contains("every cell is empty"));
    let distinct: String = (0..20).map(|i| format!("text,{i}\n")).collect();
    assert!(error(&distinct, DISCOVER).to_string().contains("20 different values in 20 rows"));
    let many: String = (0..4000).map(|i| format!("text,{}\n", i % 1001)).collect();
    assert!(error(&many, DISCOVER).to_string().contains("more than 1000 different values"));
    assert!(error(&format!("a,{}\n", "long ".repeat(100)), DISCOVER).to_string().contains("long texts"));
    let error = error("a,x\nb,y\nc,x\nd,y\n", LabelSource::Discover { num_labels: Some(3) }).to_string();
    assert!(error.starts_with("model.num_labels: expected 2, got 3"), "{error}");
}

#[test]
fn numbers_are_targets_of_regression() {
    let table = read("a.csv", "text,label\na,1.5\nb,-2\nc,NaN\nd,high\ne,1e999\n");
    let found = mapped(&table, LabelSource::for_training(Some(1))).expect("examples");
    assert_eq!(found.rows.iter().map(|row| row.target).collect::<Vec<_>>(), [Target::Value(1.5), Target::Value(-2.0)]);
    assert_eq!((found.labels.len(), found.skipped.count), (0, 3));
    assert_eq!(found.skipped.named[1].reason, "`high` is no number");
}

#[test]
fn validation_rows_keep_the_training_labels() {
    let labels = ["neg".to_owned(), "pos".to_owned()];
    let known = LabelSource::for_validation(None, &labels);
    let found = mapped(&read("v.csv", "text,label\na,pos\nb,mixed\n"), known).expect("examples");
    assert_eq!((found.rows.len(), found.rows[0].target), (1, Target::Class(1)));
    assert_eq!(found.skipped.named[0].reason, "unknown label `mixed`");
    let error = mapped(&read("v.csv", "text,label\na,x\nb,y\n"), known).expect_err("no known label").to_string();
    assert!(error.contains("no row can be used") && error.contains("unknown label `x`"), "{error}");
}

#[test]
fn a_rows_parts_are_given_by_role_and_cut() {
    let table = read("q.csv", "question,context,answer\nWho?,\"Ada\nwrote it.\",Ada\nWhen?, ,1843\n");
    let mapping = Task::QuestionAnswering.mapping(&table, &data()).expect("a mapping");
    let given = |row: usize, most: usize| mapping.given(&table, row, most).into_iter().collect::<Vec<_>>();
    let pair = |role: &str, text: &str| (role.to_owned(), text.to_owned());
    assert_eq!(given(0, 100), [pair("context", "Ada\nwrote it."), pair("question", "Who?")]);
    assert_eq!(given(0, 2), [pair("context", "Ad"), pair("question", "Wh")]);
    assert_eq!(given(1, 100), [pair("question", "When?")]);
    assert_eq!((table.find(2), table.find(3), table.find(4)), (Some(0), None, Some(1)));
    let chat = read("c.jsonl", "{\"system\": \"S\", \"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n");
    let mapping = Task::TextGeneration.mapping(&chat, &data()).expect("a mapping");
    assert_eq!(mapping.given(&chat, 0, 9).into_iter().collect::<Vec<_>>(), [pair("system", "S")]);
}

#[test]
fn text_generation_needs_no_label() {
    let table = read("a.txt", "one\ntwo\n");
    let mapping = Task::TextGeneration.mapping(&table, &data()).expect("a mapping");
    assert_eq!(mapping, Mapping::new(Shape::Text, &[(Role::Text, "text")]));
    let found = examples(&table, &mapping, LabelSource::None).expect("examples");
    assert_eq!((found.rows.len(), found.rows[1].target), (2, Target::None));
}

#[test]
fn a_missing_column_lists_the_columns_there_are() {
    let table = read("a.csv", "review,stars\nx,1\ny,2\n");
    let mapping = Task::TextClassification.mapping(&table, &data()).expect("guessed");
    assert_eq!((mapping.column(Role::Text), mapping.column(Role::Label)), (Some("review"), Some("stars")));
    let mut config = data();
    config.text_column = Some("text".into());
    let error = Task::TextClassification.mapping(&table, &config).expect_err("no such column");
    assert_eq!(error.to_string(), "a.csv: there is no column `text`; its columns are `review`, `stars`");
    assert!(error.advice().contains("data.text_column"));
    // The label column is asked for where there is only one column.
    let error = Task::TextClassification.mapping(&read("a.txt", "one\ntwo\n"), &data()).expect_err("no label");
    assert!(error.to_string().contains("no column looks like the label"), "{error}");
    // A text column that the guess took for the label still works when it is named.
    let mut config = data();
    config.text_column = Some("stars".into());
    assert!(Task::TextClassification.mapping(&table, &config).is_err());
}

/// Files made of the characters that mean something to one of the readers: whatever they are, no panic, and cells
/// only where there are rows and columns.
#[test]
fn random_files_do_not_panic() {
    let mut state = 7_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let alphabet = b"\"\",,;;\t|\n\n\r{}[]:ab01\\e \xC3\xA9\xFF\xFE\xEF\xBB\xBF\0\x07text,label\n";
    for round in 0..3000 {
        let length = random(80);
        // Every third file is of any bytes at all; the others get past the checks for binary files more often.
        let bytes: Vec<u8> = (0..length)
            .map(|_| if round % 3 == 0 { random(256) as u8 } else { alphabet[random(alphabet.len())] })
            .collect();
        for name in ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a"] {
            let Ok(table) = Table::read(name, &bytes) else { continue };
            assert!(!table.is_empty() && !table.columns.is_empty());
            let summary = table.summary();
            assert_eq!(summary.rows as usize, table.len());
            for row in 0..table.len() {
                assert!(table.row_number(row) >= 1);
            }
            assert_eq!((table.cell(table.len(), 0), table.cell(0, table.columns.len())), ("", ""));
            for task in Task::ALL {
                let Ok(mapping) = task.mapping(&table, &data()) else { continue };
                match task.scenario().learns(mapping.shape) {
                    Learns::Label => drop(examples(&table, &mapping, DISCOVER)),
                    Learns::Text => drop(examples(&table, &mapping, LabelSource::None)),
                    Learns::Answers => drop(exchanges(&table, &mapping, |row| task.exchange(mapping.shape, row))),
                }
            }
        }
    }
}
