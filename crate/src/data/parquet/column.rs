//! The values of a leaf column in one group of rows, as text.

use super::encoding::{self, hybrid};
use super::footer::Chunk;
use super::page::{Kind, Page, Parts, levels};
use super::schema::Leaf;
use super::value::{Raw, Text};
use super::{Budget, Read, damaged};

/// What was read, in the order of the file.
#[derive(Debug, Default)]
pub struct Column {
    /// Levels of all values, missing ones too; empty where they are all the same.
    pub def: Vec<u8>,
    pub rep: Vec<u8>,
    values: Values,
    /// Some were bytes that are no text.
    pub binary: bool,
}

/// Texts, or JSON of one value each, one after the other.
#[derive(Debug, Default)]
struct Values {
    text: String,
    ends: Vec<usize>,
}

impl Values {
    fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before).copied()).unwrap_or_default();
        self.text.get(begin..end)
    }

    /// Whether the value could be told.
    fn push(&mut self, leaf: &Leaf, raw: Raw<'_>, budget: &mut Budget) -> Read<bool> {
        let begin = self.text.len();
        let mut told = true;
        match leaf.text(raw) {
            Text::Words(text) if leaf.flat => self.text.push_str(&text),
            Text::Words(text) => self.text.push_str(&serde_json::to_string(&text).unwrap_or_default()),
            Text::Bare(text) => self.text.push_str(&text),
            none => {
                if let (Text::Binary, Raw::Bytes(bytes)) = (none, raw) {
                    // Nothing is kept, and still it was looked at.
                    budget.text(bytes.len())?;
                    told = false;
                }
                if !leaf.flat {
                    self.text.push_str("null");
                }
            }
        }
        budget.text(self.text.len() - begin)?;
        self.ends.push(self.text.len());
        Ok(told)
    }

    fn copy(&mut self, text: &str, times: usize, budget: &mut Budget) -> Read<()> {
        budget.text(text.len().saturating_mul(times))?;
        for _ in 0..times {
            self.text.push_str(text);
            self.ends.push(self.text.len());
        }
        Ok(())
    }
}

impl Column {
    /// Of `rows` rows; `file` is what stands before the footer.
    pub fn read(file: &[u8], leaf: &Leaf, chunk: &Chunk, rows: u64, budget: &mut Budget) -> Read<Self> {
        if leaf.rep == 0 && chunk.values != rows {
            return damaged(format!("it has {} values for {rows} rows", chunk.values));
        }
        let Some(mut rest) = file.get(chunk.start..) else { return damaged("it begins beyond the end of the file") };
        let mut column = Self::default();
        let mut dictionary: Option<Values> = None;
        let mut left = chunk.values;
        while left > 0 {
            let (page, next) = Page::read(rest)?;
            rest = next;
            if page.kind == Kind::Other {
                continue;
            }
            budget.unpack(page.unpacked)?;
            budget.values(page.values)?;
            if page.kind == Kind::Dictionary {
                if dictionary.is_some() {
                    return damaged("it has two dictionaries");
                }
                let mut values = Values::default();
                page.unpack(chunk.codec, false, false, |parts| {
                    column.plain(&mut values, leaf, encoding::PLAIN, parts.values, page.values, budget)
                })?;
                dictionary = Some(values);
                continue;
            }
            let Some(less) = u64::try_from(page.values).ok().and_then(|values| left.checked_sub(values)) else {
                return damaged("its pages have more values than it says");
            };
            left = less;
            page.unpack(chunk.codec, leaf.rep > 0, leaf.def > 0, |parts| {
                column.page(leaf, &page, &parts, dictionary.as_ref(), budget)
            })?;
        }
        Ok(column)
    }

    fn page(
        &mut self,
        leaf: &Leaf,
        page: &Page<'_>,
        parts: &Parts<'_>,
        dictionary: Option<&Values>,
        budget: &mut Budget,
    ) -> Read<()> {
        if leaf.rep > 0 {
            levels(parts.rep, leaf.rep, page.values, &mut self.rep)?;
        }
        let mut there = page.values;
        if leaf.def > 0 {
            let begin = self.def.len();
            levels(parts.def, leaf.def, page.values, &mut self.def)?;
            there = self.def[begin..].iter().filter(|level| **level == leaf.def).count();
        }
        let mut values = std::mem::take(&mut self.values);
        if encoding::is_dictionary(page.encoding) {
            let Some(dictionary) = dictionary else { return damaged("it has no dictionary") };
            match parts.values.split_first() {
                Some((width, indices)) => {
                    hybrid(indices, u32::from(*width), there, |index, times| match dictionary.get(index as usize) {
                        Some(text) => values.copy(text, times, budget),
                        None if times == 0 => Ok(()),
                        None => damaged("a value is not in its dictionary"),
                    })?;
                }
                // Of missing values alone.
                None if there == 0 => {}
                None => return damaged("a page ends too early"),
            }
        } else {
            self.plain(&mut values, leaf, page.encoding, parts.values, there, budget)?;
        }
        self.values = values;
        Ok(())
    }

    fn plain(
        &mut self,
        values: &mut Values,
        leaf: &Leaf,
        encoding: i64,
        data: &[u8],
        count: usize,
        budget: &mut Budget,
    ) -> Read<()> {
        if count == 0 {
            return Ok(());
        }
        encoding::values(encoding, leaf.physical, leaf.length, data, count, |raw| {
            self.binary |= !values.push(leaf, raw, budget)?;
            Ok(())
        })
    }

    /// Values, missing ones too.
    pub fn count(&self) -> usize {
        if self.def.is_empty() { self.values.ends.len() } else { self.def.len() }
    }

    /// The text of a value, counted without the missing ones.
    pub fn text(&self, index: usize) -> &str {
        self.values.get(index).unwrap_or_default()
    }
}
