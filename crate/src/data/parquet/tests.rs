//! Files written by the parquet crate, read back; and files that are damaged. Files of pyarrow's are in tests/suite/parquet.rs.

use std::sync::Arc;

use ::parquet::{
    basic::{Compression, Encoding, GzipLevel, ZstdLevel},
    data_type::{
        BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
        Int32Type, Int64Type, Int96, Int96Type,
    },
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use super::super::{answers, conversation};
use super::*;
use crate::tokenizer::Message;

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// A file of `groups` groups of rows, each written by `write`.
fn file(schema: &str, properties: WriterPropertiesBuilder, groups: usize, write: impl Fn(&mut Group<'_>)) -> Vec<u8> {
    let schema = parse_message_type(&format!("message schema {{ {schema} }}")).expect("a schema");
    let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties.build()));
    let mut writer = writer.expect("a writer");
    for _ in 0..groups {
        let mut group = writer.next_row_group().expect("a group");
        write(&mut group);
        group.close().expect("a group");
    }
    writer.into_inner().expect("a file")
}

/// The next column of a group.
fn column<T: DataType>(group: &mut Group<'_>, values: &[T::T], def: Option<&[i16]>, rep: Option<&[i16]>) {
    let mut column = group.next_column().expect("a column").expect("one more column");
    column.typed::<T>().write_batch(values, def, rep).expect("values");
    column.close().expect("a column");
}

fn texts(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

fn table(bytes: &[u8]) -> Table {
    read("t.parquet", bytes).unwrap_or_else(|error| panic!("{error}"))
}

fn rows(table: &Table) -> Vec<Vec<&str>> {
    (0..table.len()).map(|row| (0..table.columns.len()).map(|column| table.cell(row, column)).collect()).collect()
}

fn refused(bytes: &[u8]) -> Error {
    read("t.parquet", bytes).expect_err("an error")
}

const NESTED: &str = "
    required int64 id;
    optional binary text (STRING);
    optional int64 label;
    optional group messages (LIST) { repeated group list { optional group element {
        optional binary role (STRING); optional binary content (STRING); } } }
    optional group answers {
        optional group text (LIST) { repeated group list { optional binary element (STRING); } }
        optional group answer_start (LIST) { repeated group list { optional int32 element; } } }";

/// Four rows: all there, nothing there, empty, half there.
fn nested(group: &mut Group<'_>) {
    column::<Int64Type>(group, &[10, 11, 12, 13], None, None);
    column::<ByteArrayType>(group, &texts(&["one", "", "say \"4\"\né"]), Some(&[1, 0, 1, 1]), None);
    column::<Int64Type>(group, &[0, 1, -1], Some(&[1, 1, 1, 0]), None);
    let rep: &[i16] = &[0, 1, 0, 0, 0, 1];
    column::<ByteArrayType>(group, &texts(&["user", "assistant", "user"]), Some(&[4, 4, 0, 1, 4, 2]), Some(rep));
    column::<ByteArrayType>(group, &texts(&["hi \"you\"", "yo"]), Some(&[4, 4, 0, 1, 3, 2]), Some(rep));
    let rep: &[i16] = &[0, 1, 0, 0, 0];
    column::<ByteArrayType>(group, &texts(&["a", "b"]), Some(&[4, 4, 0, 2, 3]), Some(rep));
    column::<Int32Type>(group, &[1, 2, 7], Some(&[4, 4, 0, 2, 4]), Some(rep));
}

fn labelled(properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let features = r#"{"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}"#;
    properties.set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features.to_owned())]))
}

const EXPECTED: [[&str; 5]; 4] = [
    [
        "10",
        "one",
        "neg",
        r#"[{"role":"user","content":"hi \"you\""},{"role":"assistant","content":"yo"}]"#,
        r#"{"text":["a","b"],"answer_start":[1,2]}"#,
    ],
    ["11", "", "pos", "", ""],
    ["12", "", "", "[]", r#"{"text":[],"answer_start":[]}"#],
    ["13", "say \"4\"\né", "", r#"[{"role":"user"},null]"#, r#"{"text":[null],"answer_start":[7]}"#],
];

#[test]
fn lists_structures_and_classes_with_every_codec_and_kind_of_page() {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let properties = properties().set_compression(codec).set_writer_version(version);
                let properties = labelled(properties.set_dictionary_enabled(dictionary));
                let table = table(&file(NESTED, properties, 3, nested));
                assert_eq!(table.columns, ["id", "text", "label", "messages", "answers"]);
                assert_eq!((table.format, table.encoding.as_str()), (Format::Parquet, "UTF-8"));
                let expected = EXPECTED.repeat(3);
                assert_eq!(rows(&table), expected, "{codec} {version:?} {dictionary}");
                assert_eq!((table.row_number(0), table.row_number(11)), (1, 12));
                assert!(table.warnings.is_empty(), "{:?}", table.warnings);
            }
        }
    }
}

#[test]
fn cells_are_read_as_those_of_json_are() {
    let table = table(&file(NESTED, labelled(properties()), 1, nested));
    let turns = conversation(table.cell(0, 3)).expect("a conversation");
    assert_eq!(turns, [Message::new("user", "hi \"you\""), Message::new("assistant", "yo")]);
    assert_eq!(answers(table.cell(0, 4)), ["a", "b"]);
    assert!(answers(table.cell(2, 4)).is_empty());
}

#[test]
fn all_types() {
    let schema = "
        required boolean b; required int32 d (DATE); required int64 t (TIMESTAMP(MILLIS,true)); required int96 o;
        required float f; required double g; required int32 u (INTEGER(32,false)); required int64 m (DECIMAL(12,2));
        required fixed_len_byte_array(5) x (DECIMAL(10,1)); required fixed_len_byte_array(2) h (FLOAT16);
        required binary raw; required binary j (JSON);";
    let fixed = |bytes: &[u8]| FixedLenByteArray::from(bytes.to_vec());
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let mut properties = properties().set_writer_version(version).set_dictionary_enabled(false);
        if version == WriterVersion::PARQUET_2_0 {
            for (name, encoding) in [
                ("d", Encoding::DELTA_BINARY_PACKED),
                ("raw", Encoding::DELTA_LENGTH_BYTE_ARRAY),
                ("j", Encoding::DELTA_BYTE_ARRAY),
                ("f", Encoding::BYTE_STREAM_SPLIT),
                ("g", Encoding::BYTE_STREAM_SPLIT),
                ("x", Encoding::BYTE_STREAM_SPLIT),
            ] {
                properties = properties.set_column_encoding(ColumnPath::from(name), encoding);
            }
        }
        let bytes = file(schema, properties, 1, |group| {
            column::<BoolType>(group, &[true, false], None, None);
            column::<Int32Type>(group, &[0, 19_782], None, None);
            column::<Int64Type>(group, &[0, 1_709_209_799_500], None, None);
            let mut time = Int96::new();
            time.set_data(1_000_000_000, 0, 2_440_588);
            column::<Int96Type>(group, &[time, time], None, None);
            column::<FloatType>(group, &[0.1, f32::NAN], None, None);
            column::<DoubleType>(group, &[2.5, 1e300], None, None);
            column::<Int32Type>(group, &[-1, 1], None, None);
            column::<Int64Type>(group, &[1234, -5], None, None);
            column::<FixedLenByteArrayType>(group, &[fixed(&[0, 0, 0, 0, 123]), fixed(&[0xFF; 5])], None, None);
            column::<FixedLenByteArrayType>(group, &[fixed(&[0x00, 0x3E]), fixed(&[0, 0])], None, None);
            column::<ByteArrayType>(group, &[ByteArray::from("old"), ByteArray::from(vec![0xFF, 0xFE])], None, None);
            column::<ByteArrayType>(group, &texts(&[r#"{"a": 1}"#, r#"{"a": 2}"#]), None, None);
        });
        let table = table(&bytes);
        let first = ["true", "1970-01-01", "1970-01-01T00:00:00Z", "1970-01-01T00:00:01"];
        let second = ["false", "2024-02-29", "2024-02-29T12:29:59.500Z", "1970-01-01T00:00:01"];
        assert_eq!(rows(&table)[0][..4], first);
        assert_eq!(rows(&table)[0][4..], ["0.1", "2.5", "4294967295", "12.34", "12.3", "1.5", "old", r#"{"a": 1}"#]);
        assert_eq!(rows(&table)[1][..4], second);
        assert_eq!(rows(&table)[1][4..], ["", "1e300", "1", "-0.05", "-0.1", "0.0", "", r#"{"a": 2}"#]);
        assert_eq!(table.warnings.len(), 1);
        assert!(table.warnings[0].contains("`raw` holds bytes that are no text"), "{:?}", table.warnings);
    }
}

#[test]
fn many_pages_with_a_dictionary_that_becomes_too_large() {
    let cell = |i: usize| format!("row {} of many", i * 7919 % 3000);
    let values: Vec<ByteArray> = (0..5000).map(|i| ByteArray::from(cell(i).as_str())).collect();
    let reps: Vec<i16> = (0..5000).map(|i| i16::from(i % 5 > 0)).collect();
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        let properties = properties()
            .set_writer_version(version)
            .set_compression(Compression::SNAPPY)
            .set_dictionary_page_size_limit(20_000)
            .set_data_page_size_limit(2000)
            .set_write_batch_size(64);
        let schema = "required binary a (STRING); required group l (LIST) { repeated group list {
            required binary element (STRING); } }";
        let bytes = file(schema, properties, 1, |group| {
            column::<ByteArrayType>(group, &values[..1000], None, None);
            column::<ByteArrayType>(group, &values, Some(&[1; 5000]), Some(&reps));
        });
        let table = table(&bytes);
        assert_eq!(table.len(), 1000);
        for row in 0..1000 {
            assert_eq!(table.cell(row, 0), cell(row));
            let list: Vec<String> = (row * 5..row * 5 + 5).map(cell).collect();
            assert_eq!(table.cell(row, 1), serde_json::to_string(&list).expect("texts"));
        }
    }
}

#[test]
fn maps_and_lists_of_lists() {
    let schema = "
        required group m (MAP) { repeated group key_value { required binary key (STRING); optional int32 value; } }
        required group n (MAP) { repeated group key_value { required int32 key; required int32 value; } }
        required group l (LIST) { repeated group list { required group element (LIST) { repeated group list {
            required int32 element; } } } }";
    let bytes = file(schema, properties(), 1, |group| {
        column::<ByteArrayType>(group, &texts(&["a", "b\""]), Some(&[1, 1, 0]), Some(&[0, 1, 0]));
        column::<Int32Type>(group, &[1], Some(&[2, 1, 0]), Some(&[0, 1, 0]));
        column::<Int32Type>(group, &[5, 6], Some(&[1, 1]), Some(&[0, 0]));
        column::<Int32Type>(group, &[7, 8], Some(&[1, 1]), Some(&[0, 0]));
        column::<Int32Type>(group, &[1, 2, 3], Some(&[2, 2, 2, 1, 0]), Some(&[0, 2, 1, 1, 0]));
    });
    let table = table(&bytes);
    assert_eq!(rows(&table)[0], [r#"{"a":1,"b\"":null}"#, r#"{"5":7}"#, "[[1,2],[3],[]]"]);
    assert_eq!(rows(&table)[1], ["{}", r#"{"6":8}"#, "[]"]);
}

#[test]
fn files_without_rows_and_what_is_no_file() {
    let none = file("required int32 a;", properties(), 0, |_| {});
    assert_eq!(refused(&none).to_string(), "t.parquet: there are columns and no rows");
    let whole = file(NESTED, labelled(properties().set_compression(Compression::SNAPPY)), 1, nested);
    for end in 4..whole.len() {
        let error = refused(&whole[..end]);
        assert!(error.to_string().starts_with("t.parquet: this Parquet file is damaged: "), "{error}");
        assert!(error.advice().contains("again"), "{error}");
    }
    let mut encrypted = whole.clone();
    encrypted[..4].copy_from_slice(ENCRYPTED);
    assert!(refused(&encrypted).to_string().contains("encrypted"));
    let mut longer = whole.clone();
    let size = longer.len() - 8;
    longer[size..size + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refused(&longer).to_string().contains("footer is longer"));
}

/// A text of a quarter of a MiB that stands in thousands of rows takes a few bytes in the file.
#[test]
fn small_files_that_come_to_much_are_refused() {
    let text = ByteArray::from("x".repeat(1 << 18).as_str());
    let plain = properties().set_statistics_enabled(EnabledStatistics::None);
    let bytes = file("required binary a (STRING);", plain, 1, |group| {
        column::<ByteArrayType>(group, &vec![text.clone(); 2100], None, None);
    });
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
    let error = refused(&bytes);
    assert!(error.to_string().contains("more than 512 MiB of text"), "{error}");
    assert!(error.advice().contains("split the file"), "{error}");

    let packed = properties().set_compression(Compression::GZIP(GzipLevel::default()));
    let bytes = file(NESTED, labelled(packed), 1, nested);
    let small = |mut budget: Budget| read_within("t.parquet", &bytes, &mut budget).map(|table| table.len());
    assert_eq!(small(Budget::new()).expect("a table"), 4);
    for (budget, what) in [
        (Budget { bytes: 100, ..Budget::new() }, "unpacked it has more than"),
        (Budget { values: 20, ..Budget::new() }, "values"),
        (Budget { text: 20, ..Budget::new() }, "of text"),
        (Budget { cells: 20, ..Budget::new() }, "of text"),
    ] {
        let error = small(budget).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// Every bit of a small file turned over: an error or a table, never a panic. tests/suite/hostile.rs has more.
#[test]
fn damaged_files_do_not_panic() {
    let gzip = Compression::GZIP(GzipLevel::default());
    let (mut read_well, mut tried) = (0, 0);
    for (codec, version) in [(gzip, WriterVersion::PARQUET_1_0), (Compression::SNAPPY, WriterVersion::PARQUET_2_0)] {
        let properties = properties().set_compression(codec).set_writer_version(version);
        let whole = file(NESTED, labelled(properties), 1, nested);
        for at in 4..whole.len() {
            for bit in [0, 3, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                tried += 1;
                match read("t.parquet", &bytes) {
                    Ok(table) => {
                        read_well += 1;
                        assert!(!table.is_empty());
                    }
                    Err(error) => assert!(!error.advice().is_empty(), "{error}"),
                }
            }
        }
    }
    // Statistics and offsets of an index are not read, so many changes change nothing.
    assert!(read_well > 0 && read_well < tried, "{read_well} of {tried}");
}
