//! The footer: which columns a file has, and where their values are.

use super::thrift::{STRUCT, Thrift};
use super::{ENCRYPTED, Fault, MAGIC, Read, damaged};

/// More columns, with those inside lists and structures, are a file of another kind.
const MOST_ELEMENTS: usize = 10_000;
/// Characters of a column's name.
const LONGEST_NAME: usize = 1000;
/// Where Hugging Face's `datasets` says what its columns mean.
const HUGGING_FACE: &str = "huggingface";
const MOST_METADATA: usize = 16 << 20;

/// What is read of a file's footer.
#[derive(Debug, Default)]
pub struct Footer {
    /// The tree of columns, depth first.
    pub schema: Vec<Element>,
    pub groups: Vec<Group>,
    /// JSON.
    pub hugging_face: Option<String>,
}

/// A column, or a list or structure of columns.
#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    /// None for one that has others inside.
    pub physical: Option<Physical>,
    /// Bytes of a [`Physical::Fixed`].
    pub length: usize,
    pub repetition: Repetition,
    pub children: usize,
    pub meaning: Meaning,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    #[default]
    Required,
    Optional,
    Repeated,
}

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Physical {
    Bool,
    I32,
    I64,
    I96,
    F32,
    F64,
    Bytes,
    Fixed,
}

/// What a stored value stands for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    #[default]
    Plain,
    Unsigned,
    Decimal {
        scale: u32,
    },
    Date,
    Time(Unit),
    Timestamp {
        unit: Unit,
        utc: bool,
    },
    Half,
    Uuid,
    List,
    Map,
}

/// Of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// Rows whose columns stand together.
#[derive(Debug, Default)]
pub struct Group {
    pub rows: u64,
    /// In the order of the schema's leaves.
    pub chunks: Vec<Chunk>,
}

/// A column's values in a group.
#[derive(Debug, Default)]
pub struct Chunk {
    pub physical: Option<Physical>,
    /// As the format numbers them.
    pub codec: i64,
    pub values: u64,
    /// Where its first page begins.
    pub start: usize,
}

impl Physical {
    fn new(number: i64) -> Read<Self> {
        Ok(match number {
            0 => Self::Bool,
            1 => Self::I32,
            2 => Self::I64,
            3 => Self::I96,
            4 => Self::F32,
            5 => Self::F64,
            6 => Self::Bytes,
            7 => Self::Fixed,
            _ => return damaged(format!("there is no type of number {number}")),
        })
    }
}

/// The footer, and what stands before it.
pub fn read(file: &[u8]) -> Read<(Footer, &[u8])> {
    if file.starts_with(ENCRYPTED) {
        return Err(Fault::Refused {
            what: "this Parquet file is encrypted".into(),
            advice: "Write it without encryption.".into(),
        });
    }
    let cut = || damaged("it does not end as it began, so a part of it is missing");
    let Some(rest) = file.strip_suffix(MAGIC) else { return cut() };
    let Some((rest, size)) = rest.split_last_chunk::<4>() else { return cut() };
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
    let Some(at) = rest.len().checked_sub(size).filter(|at| *at >= MAGIC.len()) else {
        return damaged("its footer is longer than the file");
    };
    let (data, footer) = rest.split_at(at);
    let mut parsed = Footer::default();
    let mut rows = 0;
    Thrift::new(footer).fields(STRUCT, |thrift, id, kind| {
        match id {
            2 => thrift.list(kind, |thrift, kind| {
                if parsed.schema.len() == MOST_ELEMENTS {
                    return damaged(format!("it has more than {MOST_ELEMENTS} columns"));
                }
                parsed.schema.push(element(thrift, kind)?);
                Ok(())
            })?,
            3 => rows = thrift.number(kind)?,
            4 => thrift.list(kind, |thrift, kind| {
                parsed.groups.push(group(thrift, kind)?);
                Ok(())
            })?,
            5 => thrift.list(kind, |thrift, kind| {
                if let Some(value) = hugging_face(thrift, kind)? {
                    parsed.hugging_face = Some(value);
                }
                Ok(())
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let counted = parsed.groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(group.rows));
    if counted != u64::try_from(rows).ok() {
        return damaged(format!("it says that it has {rows} rows, and its parts have others"));
    }
    Ok((parsed, data))
}

fn size(number: i64, what: &str) -> Read<u64> {
    u64::try_from(number).or_else(|_| damaged(format!("{number} {what}")))
}

fn element(thrift: &mut Thrift<'_>, kind: u8) -> Read<Element> {
    let mut element = Element::default();
    let (mut converted, mut logical, mut scale) = (None, None, 0);
    thrift.fields(kind, |thrift, id, kind| {
        match id {
            1 => element.physical = Some(Physical::new(thrift.number(kind)?)?),
            2 => element.length = usize::try_from(thrift.number(kind)?).or_else(|_| damaged("a length below zero"))?,
            3 => {
                element.repetition = match thrift.number(kind)? {
                    0 => Repetition::Required,
                    1 => Repetition::Optional,
                    2 => Repetition::Repeated,
                    other => return damaged(format!("there is no repetition of number {other}")),
                }
            }
            4 => element.name = thrift.text(kind)?.to_owned(),
            5 => element.children = usize::try_from(thrift.number(kind)?).or_else(|_| damaged("columns below zero"))?,
            6 => converted = Some(thrift.number(kind)?),
            7 => scale = thrift.number(kind)?,
            10 => logical = meaning(thrift, kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if element.name.chars().count() > LONGEST_NAME {
        return damaged(format!("a column has a name of more than {LONGEST_NAME} characters"));
    }
    element.meaning = logical.or_else(|| older(converted?)).unwrap_or_default();
    if let Meaning::Decimal { scale: digits } = &mut element.meaning {
        *digits = u32::try_from(scale)
            .ok()
            .filter(|digits| *digits < 100)
            .map_or_else(|| damaged("a decimal's scale"), Ok)?;
    }
    if element.children > 0 {
        element.physical = None;
    }
    Ok(element)
}

/// As files say it since 2018.
fn meaning(thrift: &mut Thrift<'_>, kind: u8) -> Read<Option<Meaning>> {
    let mut meaning = None;
    thrift.fields(kind, |thrift, id, kind| {
        meaning = match id {
            2 => Some(Meaning::Map),
            3 => Some(Meaning::List),
            // The scale stands beside it, in the column's own field.
            5 => Some(Meaning::Decimal { scale: 0 }),
            6 => Some(Meaning::Date),
            7 => time(thrift, kind)?.map(|(unit, _)| Meaning::Time(unit)),
            8 => time(thrift, kind)?.map(|(unit, utc)| Meaning::Timestamp { unit, utc }),
            10 => signed(thrift, kind)?.then_some(Meaning::Plain).or(Some(Meaning::Unsigned)),
            14 => Some(Meaning::Uuid),
            15 => Some(Meaning::Half),
            _ => Some(Meaning::Plain),
        };
        Ok(matches!(id, 7 | 8 | 10))
    })?;
    Ok(meaning)
}

fn time(thrift: &mut Thrift<'_>, kind: u8) -> Read<Option<(Unit, bool)>> {
    let (mut utc, mut unit) = (false, None);
    thrift.fields(kind, |thrift, id, kind| {
        match id {
            1 => utc = thrift.boolean(kind)?,
            2 => thrift.fields(kind, |_, id, _| {
                unit = match id {
                    1 => Some(Unit::Millis),
                    2 => Some(Unit::Micros),
                    3 => Some(Unit::Nanos),
                    _ => None,
                };
                Ok(false)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(unit.map(|unit| (unit, utc)))
}

fn signed(thrift: &mut Thrift<'_>, kind: u8) -> Read<bool> {
    let mut signed = true;
    thrift.fields(kind, |thrift, id, kind| {
        if id == 2 {
            signed = thrift.boolean(kind)?;
        }
        Ok(id == 2)
    })?;
    Ok(signed)
}

/// As older files say it.
fn older(converted: i64) -> Option<Meaning> {
    Some(match converted {
        1 | 2 => Meaning::Map,
        3 => Meaning::List,
        5 => Meaning::Decimal { scale: 0 },
        6 => Meaning::Date,
        7 => Meaning::Time(Unit::Millis),
        8 => Meaning::Time(Unit::Micros),
        9 => Meaning::Timestamp { unit: Unit::Millis, utc: true },
        10 => Meaning::Timestamp { unit: Unit::Micros, utc: true },
        11..=14 => Meaning::Unsigned,
        _ => return None,
    })
}

fn group(thrift: &mut Thrift<'_>, kind: u8) -> Read<Group> {
    let mut group = Group::default();
    thrift.fields(kind, |thrift, id, kind| {
        match id {
            1 => thrift.list(kind, |thrift, kind| {
                group.chunks.push(chunk(thrift, kind)?);
                Ok(())
            })?,
            3 => group.rows = size(thrift.number(kind)?, "rows")?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(group)
}

fn chunk(thrift: &mut Thrift<'_>, kind: u8) -> Read<Chunk> {
    let mut chunk = Chunk::default();
    let (mut elsewhere, mut first, mut dictionary) = (false, None, None);
    thrift.fields(kind, |thrift, id, kind| {
        match id {
            1 => elsewhere = !thrift.text(kind)?.is_empty(),
            3 => thrift.fields(kind, |thrift, id, kind| {
                match id {
                    1 => chunk.physical = Some(Physical::new(thrift.number(kind)?)?),
                    4 => chunk.codec = thrift.number(kind)?,
                    5 => chunk.values = size(thrift.number(kind)?, "values")?,
                    9 => first = Some(size(thrift.number(kind)?, "as a place in the file")?),
                    11 => dictionary = Some(size(thrift.number(kind)?, "as a place in the file")?),
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if elsewhere {
        return Err(Fault::Refused {
            what: "a part of this Parquet file stands in another file".into(),
            advice: "Write it as one file.".into(),
        });
    }
    let Some(first) = first else { return damaged("a column does not say where it is") };
    // Some writers give 0 where there is no dictionary.
    let start = dictionary.filter(|dictionary| (1..first).contains(dictionary)).unwrap_or(first);
    chunk.start = usize::try_from(start).or_else(|_| damaged("a column beyond the end of the file"))?;
    Ok(chunk)
}

/// The value of Hugging Face's key.
fn hugging_face(thrift: &mut Thrift<'_>, kind: u8) -> Read<Option<String>> {
    let (mut key, mut value) = ("", "");
    thrift.fields(kind, |thrift, id, kind| {
        match id {
            1 => key = thrift.text(kind)?,
            2 => value = thrift.text(kind)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((key == HUGGING_FACE && value.len() <= MOST_METADATA).then(|| value.to_owned()))
}
