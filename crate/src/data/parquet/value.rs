//! One stored value as text.

use std::borrow::Cow;

use super::footer::{Meaning, Physical, Unit};
use super::schema::Leaf;

/// A value as it is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Raw<'a> {
    Bool(bool),
    I32(i32),
    I64(i64),
    I96([u8; 12]),
    F32(f32),
    F64(f64),
    Bytes(&'a [u8]),
}

#[derive(Debug, PartialEq)]
pub enum Text<'a> {
    /// Quoted in JSON.
    Words(Cow<'a, str>),
    /// A number or a boolean.
    Bare(String),
    /// No number, or no class: as a missing value.
    Missing,
    /// Bytes that are no text.
    Binary,
}

impl<'a> Raw<'a> {
    /// From the bytes of one value; none where they are too few.
    pub fn of(physical: Physical, bytes: &'a [u8]) -> Option<Self> {
        Some(match physical {
            Physical::Bool => Self::Bool(*bytes.first()? != 0),
            Physical::I32 => Self::I32(i32::from_le_bytes(*bytes.first_chunk()?)),
            Physical::I64 => Self::I64(i64::from_le_bytes(*bytes.first_chunk()?)),
            Physical::I96 => Self::I96(*bytes.first_chunk()?),
            Physical::F32 => Self::F32(f32::from_le_bytes(*bytes.first_chunk()?)),
            Physical::F64 => Self::F64(f64::from_le_bytes(*bytes.first_chunk()?)),
            Physical::Bytes | Physical::Fixed => Self::Bytes(bytes),
        })
    }
}

const DAY: i64 = 86_400;

impl Leaf {
    /// What a value of this column says.
    pub fn text<'a>(&self, raw: Raw<'a>) -> Text<'a> {
        let whole = match raw {
            Raw::I32(number) => Some(i64::from(number)),
            Raw::I64(number) => Some(number),
            _ => None,
        };
        match (raw, self.meaning) {
            // -1 is "no label" in `datasets`.
            (_, Meaning::Plain) if whole.is_some_and(|class| class < 0) && !self.classes.is_empty() => Text::Missing,
            (Raw::I32(number), Meaning::Unsigned) => Text::Bare(number.cast_unsigned().to_string()),
            (Raw::I64(number), Meaning::Unsigned) => Text::Bare(number.cast_unsigned().to_string()),
            (Raw::I32(days), Meaning::Date) => words(date(i64::from(days))),
            (Raw::I32(_) | Raw::I64(_), Meaning::Time(unit)) => words(clock(whole.unwrap_or_default(), unit)),
            (Raw::I64(time), Meaning::Timestamp { unit, utc }) => words(moment(time, unit, utc)),
            (_, Meaning::Decimal { scale }) => decimal(raw, scale),
            (Raw::Bytes(bytes), Meaning::Half) => match bytes.first_chunk() {
                Some(bytes) => float(half::f16::from_le_bytes(*bytes).to_f32()),
                None => Text::Binary,
            },
            (Raw::Bytes(bytes), Meaning::Uuid) => uuid(bytes).map_or(Text::Binary, words),
            (Raw::Bool(value), _) => Text::Bare(value.to_string()),
            (Raw::I32(_) | Raw::I64(_), _) => {
                let number = whole.unwrap_or_default();
                let class = usize::try_from(number).ok().and_then(|class| self.classes.get(class));
                class.map_or_else(|| Text::Bare(number.to_string()), |name| words(name.clone()))
            }
            (Raw::I96(bytes), _) => words(moment96(bytes)),
            (Raw::F32(number), _) => float(number),
            (Raw::F64(number), _) if number.is_finite() => Text::Bare(format!("{number:?}")),
            (Raw::F64(_), _) => Text::Missing,
            (Raw::Bytes(bytes), _) => std::str::from_utf8(bytes).map_or(Text::Binary, |text| Text::Words(text.into())),
        }
    }
}

fn words(text: String) -> Text<'static> {
    Text::Words(text.into())
}

/// In the digits of its own type: 0.1, not 0.10000000149011612.
fn float(number: f32) -> Text<'static> {
    if number.is_finite() { Text::Bare(format!("{number:?}")) } else { Text::Missing }
}

/// Days since 1970 as ISO 8601 writes them. The algorithm is Howard Hinnant's `civil_from_days`.
fn date(days: i64) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    // The year begins in March there.
    let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + late)
}

impl Unit {
    fn in_a_second(self) -> (i64, usize) {
        match self {
            Self::Millis => (1_000, 3),
            Self::Micros => (1_000_000, 6),
            Self::Nanos => (1_000_000_000, 9),
        }
    }
}

/// A time of day; without a fraction where it is zero.
fn clock(time: i64, unit: Unit) -> String {
    let (units, digits) = unit.in_a_second();
    let (seconds, fraction) = (time.div_euclid(units), time.rem_euclid(units));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { clock } else { format!("{clock}.{fraction:0digits$}") }
}

/// A time since 1970.
fn moment(time: i64, unit: Unit, utc: bool) -> String {
    let day = DAY * unit.in_a_second().0;
    let zone = if utc { "Z" } else { "" };
    format!("{}T{}{zone}", date(time.div_euclid(day)), clock(time.rem_euclid(day), unit))
}

/// Spark's older timestamps: nanoseconds of a day, and its Julian number.
fn moment96(bytes: [u8; 12]) -> String {
    let [a, b, c, d, e, f, g, h, day @ ..] = bytes;
    let nanos = i64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let days = i64::from(u32::from_le_bytes(day)) - 2_440_588;
    format!("{}T{}", date(days), clock(nanos.rem_euclid(DAY * 1_000_000_000), Unit::Nanos))
}

fn decimal(raw: Raw<'_>, scale: u32) -> Text<'static> {
    let number = match raw {
        Raw::I32(number) => Some(i128::from(number)),
        Raw::I64(number) => Some(i128::from(number)),
        Raw::Bytes(bytes) => wide(bytes),
        _ => None,
    };
    let Some(number) = number else { return Text::Binary };
    let sign = if number < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", number.unsigned_abs(), width = scale as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    Text::Bare(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Two's complement, the highest byte first; none beyond 128 bits.
fn wide(bytes: &[u8]) -> Option<i128> {
    let fill = if bytes.first()? & 0x80 == 0 { 0 } else { 0xFF };
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut number = [fill; 16];
    number[16 - low.len()..].copy_from_slice(low);
    let kept = high.iter().all(|byte| *byte == fill) && (high.is_empty() || (low.first()? ^ fill) & 0x80 == 0);
    kept.then(|| i128::from_be_bytes(number))
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let number = u128::from_be_bytes(bytes.try_into().ok()?);
    let hex = format!("{number:032x}");
    Some([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(meaning: Meaning) -> Leaf {
        Leaf {
            path: "c".into(),
            physical: Physical::I64,
            length: 0,
            meaning,
            def: 0,
            rep: 0,
            flat: true,
            classes: Vec::new(),
        }
    }

    /// As in JSON.
    fn shown(meaning: Meaning, raw: Raw<'_>) -> String {
        match leaf(meaning).text(raw) {
            Text::Words(text) => format!("\"{text}\""),
            Text::Bare(text) => text,
            Text::Missing => "missing".into(),
            Text::Binary => "binary".into(),
        }
    }

    #[test]
    fn numbers_and_texts() {
        for (raw, expected) in [
            (Raw::Bool(true), "true"),
            (Raw::I32(-5), "-5"),
            (Raw::I64(i64::MIN), "-9223372036854775808"),
            (Raw::F32(0.1), "0.1"),
            (Raw::F64(1.0), "1.0"),
            (Raw::F64(f64::NAN), "missing"),
            (Raw::F32(f32::INFINITY), "missing"),
            (Raw::Bytes("é".as_bytes()), "\"é\""),
            (Raw::Bytes(&[0xFF, 0xFE]), "binary"),
        ] {
            assert_eq!(shown(Meaning::Plain, raw), expected);
        }
        assert_eq!(shown(Meaning::Unsigned, Raw::I32(-1)), "4294967295");
        assert_eq!(shown(Meaning::Unsigned, Raw::I64(-1)), "18446744073709551615");
        assert_eq!(shown(Meaning::Half, Raw::Bytes(&[0x00, 0x3E])), "1.5");
        assert_eq!(shown(Meaning::Half, Raw::Bytes(&[0x00])), "binary");
        let id: Vec<u8> = (0..16).collect();
        assert_eq!(shown(Meaning::Uuid, Raw::Bytes(&id)), "\"00010203-0405-0607-0809-0a0b0c0d0e0f\"");
    }

    #[test]
    fn dates_and_times() {
        for (days, expected) in [(0, "1970-01-01"), (-1, "1969-12-31"), (19_782, "2024-02-29"), (11_016, "2000-02-29")]
        {
            assert_eq!(shown(Meaning::Date, Raw::I32(days)), format!("\"{expected}\""));
        }
        let millis = Meaning::Timestamp { unit: Unit::Millis, utc: true };
        assert_eq!(shown(millis, Raw::I64(1_709_209_799_500)), "\"2024-02-29T12:29:59.500Z\"");
        let nanos = Meaning::Timestamp { unit: Unit::Nanos, utc: false };
        assert_eq!(shown(nanos, Raw::I64(-1)), "\"1969-12-31T23:59:59.999999999\"");
        assert_eq!(shown(nanos, Raw::I64(0)), "\"1970-01-01T00:00:00\"");
        assert_eq!(shown(Meaning::Time(Unit::Micros), Raw::I64(3_723_000_001)), "\"01:02:03.000001\"");
        let mut old = [0; 12];
        old[..8].copy_from_slice(&1_500_000_000_i64.to_le_bytes());
        old[8..].copy_from_slice(&2_440_589_u32.to_le_bytes());
        assert_eq!(shown(Meaning::Plain, Raw::I96(old)), "\"1970-01-02T00:00:01.500000000\"");
        // As far from now as numbers go.
        for time in [i64::MIN, i64::MAX] {
            assert!(shown(millis, Raw::I64(time)).ends_with("Z\""));
        }
        assert!(shown(Meaning::Plain, Raw::I96([0xFF; 12])).contains('T'));
    }

    #[test]
    fn decimals() {
        let of = |raw, scale| shown(Meaning::Decimal { scale }, raw);
        assert_eq!(of(Raw::I32(1234), 2), "12.34");
        assert_eq!(of(Raw::I64(-5), 2), "-0.05");
        assert_eq!(of(Raw::I64(7), 0), "7");
        assert_eq!(of(Raw::Bytes(&[0xFF, 0x85]), 1), "-12.3");
        assert_eq!(of(Raw::Bytes(&[0; 20]), 1), "0.0");
        assert_eq!(of(Raw::Bytes(&[0xFF; 20]), 0), "-1");
        assert_eq!(of(Raw::Bytes(&[1; 20]), 0), "binary");
        // A number of 129 bits whose lower 128 alone would be another.
        let long = [[0_u8].as_slice(), &[0x80; 16]].concat();
        assert_eq!(of(Raw::Bytes(&long), 0), "binary");
        assert_eq!(of(Raw::Bytes(&[]), 0), "binary");
    }

    #[test]
    fn classes() {
        let leaf = Leaf { classes: vec!["neg".into(), "pos".into()], ..leaf(Meaning::Plain) };
        assert_eq!(leaf.text(Raw::I64(1)), Text::Words("pos".into()));
        assert_eq!(leaf.text(Raw::I32(-1)), Text::Missing);
        assert_eq!(leaf.text(Raw::I64(2)), Text::Bare("2".into()));
    }
}
