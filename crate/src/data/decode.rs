//! Bytes to text: the encoding is taken from the byte order mark, else UTF-8, else guessed and said so.

use std::borrow::Cow;

use crate::{
    error::{Error, Result},
    platform::encodings,
};

const UTF_8: &str = "UTF-8";

/// How much of a file the guess looks at, from shortly before its first letter that is not ASCII.
const LOOKED_AT: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub text: Cow<'a, str>,
    pub encoding: String,
    pub warning: Option<String>,
}

/// First bytes of files that people drop by mistake.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (b"PK\x03\x04", "a zip or Excel file", "Save the sheet as CSV (UTF-8), or unpack the archive."),
    (b"\xD0\xCF\x11\xE0", "an old Excel or Word file", "Save the sheet as CSV (UTF-8)."),
    (b"\x1F\x8B", "a gzip file", "Unpack it first."),
    (b"%PDF", "a PDF file", "Export the text as CSV or plain text."),
    (b"SQLite format 3", "an SQLite database", "Export the table as CSV."),
];

/// Byte order marks, but UTF-8's.
const MARKS: [(&[u8], &str); 2] = [(b"\xFF\xFE", "UTF-16LE"), (b"\xFE\xFF", "UTF-16BE")];

pub(super) fn decode<'a>(name: &str, bytes: &'a [u8]) -> Result<Decoded<'a>> {
    if let Some((_, what, advice)) = MAGIC.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Err(Error::data(name, format!("this is {what}, not text"), *advice));
    }
    if bytes.starts_with(&[0xFF, 0xFE, 0, 0]) || bytes.starts_with(&[0, 0, 0xFE, 0xFF]) {
        return Err(Error::data(name, "this is UTF-32 text", "Save the file as UTF-8."));
    }
    for (mark, encoding) in MARKS {
        let Some(bytes) = bytes.strip_prefix(mark) else { continue };
        let Some(text) = encodings::decode(encoding, bytes) else {
            let message = format!("the file begins as {encoding} and then is not");
            return Err(Error::data(name, message, "Save the file again, as UTF-8."));
        };
        refuse_binary(name, text.as_bytes())?;
        return Ok(Decoded { text: Cow::Owned(text), encoding: encoding.to_owned(), warning: None });
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    refuse_binary(name, bytes)?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Decoded { text: Cow::Borrowed(text), encoding: UTF_8.to_owned(), warning: None }),
        Err(error) => guess(name, bytes, error.valid_up_to()),
    }
}

/// NUL and other control bytes: text has none of the one and hardly any of the others.
fn refuse_binary(name: &str, bytes: &[u8]) -> Result<()> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let message = "there is a NUL byte, so this is not text (or UTF-16 without a byte order mark)";
        return Err(Error::row(name, line_of(bytes, at), message, "Choose a text file, or save it again as UTF-8."));
    }
    let head = &bytes[..bytes.len().min(1 << 16)];
    let control = head.iter().filter(|byte| matches!(**byte, 1..=8 | 0x0E..=0x1F | 0x7F)).count();
    if control * 50 > head.len() {
        return Err(Error::data(
            name,
            format!("{control} of its first {} bytes are control characters, so this is not text", head.len()),
            "Choose a CSV, TSV, JSON or plain text file.",
        ));
    }
    Ok(())
}

fn line_of(bytes: &[u8], at: usize) -> u64 {
    1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64
}

fn guess<'a>(name: &str, bytes: &'a [u8], first: usize) -> Result<Decoded<'a>> {
    // Real UTF-8 with a broken place would come out as nonsense in any other encoding.
    let (good, bad) = count_utf8(bytes);
    if good >= 10 * bad {
        return Err(Error::row(
            name,
            line_of(bytes, first),
            format!("the file is UTF-8, but not in {bad} places; the first is here"),
            "Correct these places, or save the file again as UTF-8.",
        ));
    }
    let start = first.saturating_sub(1024);
    let encoding = encodings::guess(&bytes[start..bytes.len().min(start + LOOKED_AT)]).map_err(|why| {
        let message = format!("the text is not UTF-8, and what tells other encodings is missing ({why})");
        Error::row(name, line_of(bytes, first), message, "Load the page again, or save the file as UTF-8.")
    })?;
    let Some(text) = encodings::decode(&encoding, bytes) else {
        let message = format!("the text is neither UTF-8 nor {encoding}, the most likely other encoding");
        return Err(Error::row(name, line_of(bytes, first), message, "Save the file as UTF-8."));
    };
    let warning =
        format!("{name}: not UTF-8; read as {encoding} (a guess). If letters look wrong, save the file as UTF-8.");
    Ok(Decoded { text: Cow::Owned(text), encoding, warning: Some(warning) })
}

/// Well-formed letters beyond ASCII, and broken places.
fn count_utf8(bytes: &[u8]) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|letter| !letter.is_ascii()).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    (good, bad)
}
