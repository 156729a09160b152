//! Parquet files that pyarrow wrote (tests/golden/parquet.py), as Python says their cells are; and small ones of our own for
//! tests/suite/hostile.rs.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use ::parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::{WriterProperties, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};
use paddock::{
    config::{Config, RawConfig, Task},
    data::{Format, Table, exchanges},
    scenario,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/parquet")
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}: tests/golden/parquet.py writes it"))
}

fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&golden("expected.json")).expect("expected.json")
}

#[test]
fn files_of_pyarrow_are_read_as_python_reads_them() {
    let expected = expected();
    for (name, Expected { columns, rows }) in &expected {
        let table = Table::read(name, &golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((table.format, &table.columns, table.len()), (Format::Parquet, columns, rows.len()), "{name}");
        for (row, cells) in rows.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                let got = table.cell(row, column);
                assert!(same(got, cell), "{name}, row {row}, `{}`: {got:?}, not {cell:?}", columns[column]);
            }
        }
    }
    for kind in ["plain", "labels", "chat", "squad", "types", "many"] {
        assert!(expected.keys().any(|name| name.starts_with(kind)), "{kind}");
    }
}

/// JSON by what it says: the order of keys is a writer's own.
fn same(got: &str, expected: &str) -> bool {
    let json = |text: &str| {
        let nested = text.starts_with(['[', '{']);
        nested.then(|| serde_json::from_str::<serde_json::Value>(text).ok()).flatten()
    };
    got == expected || json(got).is_some_and(|got| json(expected) == Some(got))
}

#[test]
fn codecs_that_are_not_read_are_named() {
    for (name, codec) in [("brotli.parquet", "Brotli"), ("lz4.parquet", "LZ4")] {
        let error = Table::read(name, &golden(name)).expect_err(name);
        assert!(error.to_string().contains(codec), "{error}");
        assert!(error.advice().contains("compression=\"snappy\""), "{}", error.advice());
    }
}

/// Rows of such files are examples as those of other files are.
#[test]
fn tasks_are_found_for_their_rows() {
    let data = Config::resolve(&RawConfig::default()).expect("defaults").data;
    for (name, task, shape) in [
        ("labels.parquet", Task::TextClassification, "text-label"),
        ("chat.parquet", Task::TextGeneration, "messages"),
        ("squad.parquet", Task::QuestionAnswering, "question-answer"),
    ] {
        let table = Table::read(name, &golden(name)).expect(name);
        let fit = scenario::fits(&table).into_iter().next().expect(name);
        assert_eq!((fit.task.as_str(), fit.shape.as_str()), (task.as_str(), shape), "{name}");
        let mapping = task.mapping(&table, &data).expect(name);
        if task != Task::TextClassification {
            let found = exchanges(&table, &mapping, |row| task.exchange(mapping.shape, row)).expect(name);
            assert!(!found.rows.is_empty(), "{name}");
        }
    }
}

/// A text, a label and a conversation in five rows.
pub fn small(codec: Compression, version: WriterVersion) -> Vec<u8> {
    let schema = "message schema { required binary text (STRING); optional int64 label;
        optional group messages (LIST) { repeated group list { optional group element {
            optional binary role (STRING); optional binary content (STRING); } } } }";
    let schema = parse_message_type(schema).expect("a schema");
    let properties = WriterProperties::builder().set_compression(codec).set_writer_version(version).build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).expect("a file");
    let mut group = file.next_row_group().expect("a group");
    let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
    let reviews = texts(&["a good film", "a bad film", "a good film", "neither", "a good film to remember"]);
    let (rep, role) = ([0, 1, 0, 0, 0, 1, 1, 0], [4, 4, 0, 1, 4, 4, 4, 0]);
    let roles = texts(&["user", "assistant", "system", "user", "assistant"]);
    let contents = texts(&["Is it good?", "It is.", "Be brief.", "And now?"]);
    let mut number = 0;
    while let Some(mut column) = group.next_column().expect("a column") {
        let written = match number {
            0 => column.typed::<ByteArrayType>().write_batch(&reviews, None, None),
            1 => column.typed::<Int64Type>().write_batch(&[1, 0, 1, 1], Some(&[1, 1, 1, 0, 1]), None),
            2 => column.typed::<ByteArrayType>().write_batch(&roles, Some(&role), Some(&rep)),
            _ => column.typed::<ByteArrayType>().write_batch(&contents, Some(&[4, 4, 0, 1, 4, 4, 3, 0]), Some(&rep)),
        };
        written.expect("values");
        column.close().expect("a column");
        number += 1;
    }
    group.close().expect("a group");
    file.into_inner().expect("a file")
}
