//! What a key takes: kind, range, words and default, each written once (in [`super::keys`]) and used by the readers of
//! YAML and of `--set`, by [`super::Config::resolve`] and by the JSON Schema.

use std::fmt::Display;

use super::{nearest::nearest, tree::Node};
use crate::error::{Error, Result};

/// One key of the file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// With its section: `training.batch_size`.
    pub name: &'static str,
    /// The doc comment of its field.
    pub doc: &'static str,
    pub rule: Rule,
}

/// A part of the file: its name (empty for the top), what it is and its keys.
pub struct Section {
    pub name: &'static str,
    pub doc: &'static str,
    pub keys: &'static [Key],
}

/// What a value has to be, and what it is where the key is absent.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub kind: Kind,
    pub default: Option<Default>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Text,
    Flag,
    /// Both ends included.
    Whole {
        least: u64,
        most: u64,
    },
    /// An `open` end is not included.
    Real {
        least: f64,
        least_open: bool,
        most: f64,
        most_open: bool,
    },
    /// One of these.
    Word(&'static [&'static str]),
    /// Some of these.
    Words(&'static [&'static str]),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default {
    Text(&'static str),
    Flag(bool),
    Number(f64),
    /// The whole list.
    All,
}

pub const fn text() -> Rule {
    Rule { kind: Kind::Text, default: None }
}

pub const fn flag(default: bool) -> Rule {
    Rule { kind: Kind::Flag, default: Some(Default::Flag(default)) }
}

/// A flag whose absence means something of its own.
pub const fn yes_or_no() -> Rule {
    Rule { kind: Kind::Flag, default: None }
}

pub const fn whole(least: u64, most: u64) -> Rule {
    Rule { kind: Kind::Whole { least, most }, default: None }
}

const fn real(least: f64, least_open: bool, most: f64, most_open: bool) -> Rule {
    Rule { kind: Kind::Real { least, least_open, most, most_open }, default: None }
}

/// From `least` to `most`.
pub const fn within(least: f64, most: f64) -> Rule {
    real(least, false, most, false)
}

/// Above `least`, up to `most`.
pub const fn above(least: f64, most: f64) -> Rule {
    real(least, true, most, false)
}

/// From 0 to below 1.
pub const fn below_one() -> Rule {
    real(0.0, false, 1.0, true)
}

/// Neither 0 nor 1, but between.
pub const fn share() -> Rule {
    real(0.0, true, 1.0, true)
}

/// One of `words`.
pub const fn one_of(words: &'static [&'static str]) -> Rule {
    Rule { kind: Kind::Word(words), default: None }
}

/// All of `words` where the key is absent.
pub const fn all_of(words: &'static [&'static str]) -> Rule {
    Rule { kind: Kind::Words(words), default: Some(Default::All) }
}

impl Rule {
    /// The default of a number.
    pub const fn or(self, number: f64) -> Self {
        Self { default: Some(Default::Number(number)), ..self }
    }

    pub const fn or_text(self, text: &'static str) -> Self {
        Self { default: Some(Default::Text(text)), ..self }
    }
}

impl Key {
    /// `batch_size`.
    pub fn short(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, short)| short)
    }

    /// What it takes, in words.
    pub fn expected(&self) -> String {
        match self.rule.kind {
            Kind::Text => "text".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Kind::Real { least, least_open: false, most, most_open: false } => {
                format!("a number from {least} to {most}")
            }
            Kind::Real { least, least_open: true, most, most_open: false } => {
                format!("a number above {least} and at most {most}")
            }
            Kind::Real { least, least_open: false, most, .. } => format!("a number from {least} to below {most}"),
            Kind::Real { least, most, .. } => format!("a number between {least} and {most}, both excluded"),
            Kind::Word(words) => words.join(" or "),
            Kind::Words(words) => format!("a list from {}", words.join(", ")),
        }
    }

    pub fn wrong(&self, got: impl Display) -> Error {
        Error::config(self.name, self.expected(), got)
    }

    fn unknown(&self, word: &str, words: &[&'static str]) -> Error {
        self.wrong(format!("`{word}`")).nearest(nearest(word, words.iter().copied()))
    }

    /// `value` where it lies in the range.
    pub fn whole(&self, value: u64) -> Result<u64> {
        match self.rule.kind {
            Kind::Whole { least, most } if value < least || value > most => Err(self.wrong(value)),
            _ => Ok(value),
        }
    }

    pub fn real(&self, value: f64) -> Result<f64> {
        let Kind::Real { least, least_open, most, most_open } = self.rule.kind else { return Ok(value) };
        let enough = if least_open { value > least } else { value >= least };
        let not_too_much = if most_open { value < most } else { value <= most };
        // False for NaN, either of them.
        if enough && not_too_much { Ok(value) } else { Err(self.wrong(value)) }
    }

    /// Where the word stands among those there are.
    pub fn word(&self, value: &str) -> Result<usize> {
        let Kind::Word(words) = self.rule.kind else { return Err(self.wrong(format!("`{value}`"))) };
        words.iter().position(|word| *word == value).ok_or_else(|| self.unknown(value, words))
    }

    /// The list in the order of the words there are, each once.
    pub fn words(&self, values: &[String]) -> Result<Vec<String>> {
        let Kind::Words(words) = self.rule.kind else { return Ok(values.to_vec()) };
        if values.is_empty() {
            return Err(self.wrong("an empty list"));
        }
        if let Some(unknown) = values.iter().find(|value| !words.contains(&value.as_str())) {
            return Err(self.unknown(unknown, words));
        }
        Ok(words
            .iter()
            .filter(|word| values.iter().any(|value| value == *word))
            .map(|word| (*word).to_owned())
            .collect())
    }

    /// A written value as the JSON that a field of [`super::RawConfig`] reads. `null` is an absent key.
    pub fn read(&self, node: &Node) -> Result<serde_json::Value> {
        use serde_json::Value;
        if *node == Node::Null {
            return Ok(Value::Null);
        }
        let wrong = || self.wrong(node);
        match self.rule.kind {
            Kind::Text => node.text().map(Value::from).ok_or_else(wrong),
            Kind::Flag => match node {
                Node::Flag(value, _) => Ok(Value::from(*value)),
                _ => Err(wrong()),
            },
            Kind::Whole { .. } => self.whole(node.whole().ok_or_else(wrong)?).map(Value::from),
            Kind::Real { .. } => self.real(node.real().ok_or_else(wrong)?).map(Value::from),
            Kind::Word(_) => {
                let word = node.text().ok_or_else(wrong)?;
                self.word(word)?;
                Ok(Value::from(word))
            }
            Kind::Words(_) => {
                let Node::List(items) = node else { return Err(wrong()) };
                let words: Option<Vec<String>> = items.iter().map(|item| Some(item.value.text()?.to_owned())).collect();
                let words = words.ok_or_else(wrong)?;
                self.words(&words)?;
                Ok(Value::from(words))
            }
        }
    }
}

/// A field's type once it is resolved, and how it is made of what was written.
pub trait Field: Sized {
    /// As written.
    type Raw;

    /// The checked value, or the default where the key is absent.
    ///
    /// # Errors
    /// Names the key, and what it takes.
    fn resolve(key: &Key, raw: Option<&Self::Raw>) -> Result<Self>;

    /// The way back; none where there is nothing to write.
    fn written(&self) -> Option<Self::Raw>;

    fn is_absent(&self) -> bool {
        false
    }
}

impl<T: Field> Field for Option<T> {
    type Raw = T::Raw;

    fn resolve(key: &Key, raw: Option<&Self::Raw>) -> Result<Self> {
        raw.map(|raw| T::resolve(key, Some(raw))).transpose()
    }

    fn written(&self) -> Option<Self::Raw> {
        self.as_ref().and_then(T::written)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Field for f64 {
    type Raw = Self;

    fn resolve(key: &Key, raw: Option<&Self>) -> Result<Self> {
        let default = match key.rule.default {
            Some(Default::Number(number)) => Some(number),
            _ => None,
        };
        key.real(raw.copied().or(default).ok_or_else(|| key.wrong("nothing"))?)
    }

    fn written(&self) -> Option<Self> {
        Some(*self)
    }
}

macro_rules! whole_fields {
    ($($ty:ty),+) => { $(
        impl Field for $ty {
            type Raw = Self;

            fn resolve(key: &Key, raw: Option<&Self>) -> Result<Self> {
                let default = match key.rule.default {
                    Some(Default::Number(number)) => Some(number as u64),
                    _ => None,
                };
                let value = raw.map(|raw| *raw as u64).or(default).ok_or_else(|| key.wrong("nothing"))?;
                Self::try_from(key.whole(value)?).map_err(|_| key.wrong(value))
            }

            fn written(&self) -> Option<Self> {
                Some(*self)
            }
        }
    )+ };
}

whole_fields!(usize, u64);

impl Field for bool {
    type Raw = Self;

    fn resolve(key: &Key, raw: Option<&Self>) -> Result<Self> {
        Ok(raw.copied().unwrap_or(key.rule.default == Some(Default::Flag(true))))
    }

    fn written(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Field for String {
    type Raw = Self;

    fn resolve(key: &Key, raw: Option<&Self>) -> Result<Self> {
        match (raw, key.rule.default) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(Default::Text(text))) => Ok(text.to_owned()),
            (None, _) => Err(key.wrong("nothing")),
        }
    }

    fn written(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Field for Vec<String> {
    type Raw = Self;

    fn resolve(key: &Key, raw: Option<&Self>) -> Result<Self> {
        match (raw, key.rule.kind) {
            (Some(values), _) => key.words(values),
            (None, Kind::Words(words)) => Ok(words.iter().map(|word| (*word).to_owned()).collect()),
            (None, _) => Ok(Self::new()),
        }
    }

    fn written(&self) -> Option<Self> {
        Some(self.clone())
    }
}

/// A closed set of words: parsed by name, and an unknown name is told the words there are.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[allow(non_camel_case_types)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            #[allow(dead_code, reason = "for words that are listed")]
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];
            pub(crate) const WORDS: &[&'static str] = &[$($word),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The rule of a key that takes one of these words.
            #[allow(dead_code, reason = "some keys have no default")]
            pub(crate) const fn or(default: Self) -> $crate::config::rule::Rule {
                $crate::config::rule::one_of(Self::WORDS).or_text(default.as_str())
            }
        }

        impl $crate::config::rule::Field for $name {
            type Raw = String;

            fn resolve(key: &$crate::config::rule::Key, raw: Option<&String>) -> $crate::error::Result<Self> {
                let word = match (raw, key.rule.default) {
                    (Some(word), _) => word.as_str(),
                    (None, Some($crate::config::rule::Default::Text(word))) => word,
                    (None, _) => return Err(key.wrong("nothing")),
                };
                Ok(Self::ALL[key.word(word)?])
            }

            fn written(&self) -> Option<String> {
                Some(self.as_str().to_owned())
            }
        }
    };
}

pub(crate) use words;

/// A section twice: as a person writes it, every key optional and unknown ones refused, and resolved; with its table of
/// keys. A further key is `/// What it is.` and `name: type of the resolved field = rule;`, a further section one more
/// `section!` and its line under `sections`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])+
        $section:literal: $raw:ident => $resolved:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[ts($($ts:tt)*)])?
                $field:ident $(as $name:literal)?: $ty:ty = $rule:expr;
            )*
            $(sections { $($sub:ident: $sub_raw:ident => $sub_resolved:ident),+ $(,)? })?
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
        #[serde(deny_unknown_fields, default)]
        #[ts(optional_fields = nullable)]
        pub struct $raw {
            $(
                $(#[doc = $doc])+
                $(#[ts($($ts)*)])?
                $(#[serde(rename = $name)])?
                pub $field: Option<<$ty as Field>::Raw>,
            )*
            $($(pub $sub: $sub_raw,)+)?
        }

        $(#[doc = $section_doc])+
        #[doc = ""]
        #[doc = "Every default is filled in and every value checked."]
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct $resolved {
            $(
                $(#[doc = $doc])+
                $(#[serde(rename = $name)])?
                #[serde(skip_serializing_if = "Field::is_absent")]
                pub $field: $ty,
            )*
            $($(pub $sub: $sub_resolved,)+)?
        }

        impl $raw {
            #[allow(dead_code, reason = "for files with a schema")]
            pub(crate) const DOC: &str = concat!($($section_doc),+);
            pub(crate) const KEYS: &[Key] = &[$(section!(@key $section, $field $($name)?, [$($doc)+], $rule)),*];

            /// `over`'s values where it has them, else this one's: flags over a file.
            #[must_use]
            pub fn merge(self, over: Self) -> Self {
                Self {
                    $($field: over.$field.or(self.$field),)*
                    $($($sub: self.$sub.merge(over.$sub),)+)?
                }
            }
        }

        $(impl $raw {
            /// In the order of the file, the top first.
            pub(crate) const SECTIONS: &[Section] = &[
                Section { name: "", doc: Self::DOC, keys: Self::KEYS },
                $(Section { name: stringify!($sub), doc: $sub_raw::DOC, keys: $sub_raw::KEYS }),+
            ];
        })?

        impl $resolved {
            /// Fills in and checks each key by itself; what is wrong goes to `errors`.
            pub(crate) fn each(raw: &$raw, errors: &mut Vec<Error>) -> Option<Self> {
                $(
                    let key = section!(@key $section, $field $($name)?, [$($doc)+], $rule);
                    let $field = Field::resolve(&key, raw.$field.as_ref()).map_err(|error| errors.push(error)).ok();
                )*
                $($(let $sub = $sub_resolved::each(&raw.$sub, errors);)+)?
                Some(Self { $($field: $field?,)* $($($sub: $sub?,)+)? })
            }
        }

        impl From<&$resolved> for $raw {
            fn from(config: &$resolved) -> Self {
                Self {
                    $($field: Field::written(&config.$field),)*
                    $($($sub: (&config.$sub).into(),)+)?
                }
            }
        }
    };
    (@key $section:literal, $field:ident, [$($doc:literal)+], $rule:expr) => {
        Key { name: concat!($section, stringify!($field)), doc: concat!($($doc),+), rule: $rule }
    };
    (@key $section:literal, $field:ident $name:literal, [$($doc:literal)+], $rule:expr) => {
        Key { name: concat!($section, $name), doc: concat!($($doc),+), rule: $rule }
    };
}

pub(crate) use section;
