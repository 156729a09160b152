//! The keys of a request's JSON, taken one by one, so that what is wrong is named and what is unknown is told.

use serde_json::{Map, Value};

use super::refusal::Refusal;

type Result<T> = std::result::Result<T, Refusal>;

/// What is left is not known yet.
pub struct Keys(Map<String, Value>);

impl Keys {
    pub fn read(body: &[u8]) -> Result<Self> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(keys)) => Ok(Self(keys)),
            Ok(_) => Err(Refusal::bad(None, "The body must be a JSON object.")),
            // Names line and column; nesting is bounded by the parser.
            Err(error) => Err(Refusal::bad(None, format!("The body is not JSON: {error}."))),
        }
    }

    /// A key that is there and not null.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "a string", &other)),
        }
    }

    pub fn number(&mut self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong(key, "a number", &value))
    }

    pub fn whole(&mut self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        // More than a machine counts is more than any limit.
        let whole = value.as_u64().map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        whole.map(Some).ok_or_else(|| wrong(key, "a whole number of at least 0", &value))
    }

    /// A seed: OpenAI takes negative ones as well.
    pub fn bits(&mut self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let bits = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        bits.map(Some).ok_or_else(|| wrong(key, "a whole number", &value))
    }

    pub fn flag(&mut self, key: &str) -> Result<bool> {
        let Some(value) = self.take(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| wrong(key, "true or false", &value))
    }

    /// One string, or a list of them, at most `most`.
    pub fn texts(&mut self, key: &str, most: usize) -> Result<Vec<String>> {
        let list = match self.take(key) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => return Ok(vec![text]),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong(key, "a string or a list of strings", &other)),
        };
        if list.len() > most {
            return Err(Refusal::bad(
                Some(key),
                format!("`{key}` has {} entries; at most {most} are taken.", list.len()),
            ));
        }
        let text = |(index, value): (usize, Value)| match value {
            Value::String(text) => Ok(text),
            other => Err(wrong(&format!("{key}[{index}]"), "a string", &other)),
        };
        list.into_iter().enumerate().map(text).collect()
    }

    /// An object.
    pub fn keys(&mut self, key: &str) -> Result<Option<Self>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(keys)) => Ok(Some(Self(keys))),
            Some(other) => Err(wrong(key, "an object", &other)),
        }
    }

    /// An object of strings.
    pub fn strings(&mut self, key: &str) -> Result<Vec<(String, String)>> {
        let pairs = self.keys(key)?.map(|keys| keys.0).unwrap_or_default();
        let pair = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok((name, text)),
            other => Err(wrong(&format!("{key}.{}", shown(&name)), "a string", &other)),
        };
        pairs.into_iter().map(pair).collect()
    }

    /// Refuses a key of OpenAI's that has no effect here, unless it says what is done anyway.
    pub fn only(&mut self, key: &str, same: impl Fn(&Value) -> bool, why: &str) -> Result<()> {
        match self.take(key) {
            Some(value) if !same(&value) => Err(Refusal::bad(Some(key), format!("`{key}` is not supported: {why}."))),
            _ => Ok(()),
        }
    }

    /// Keys that may be there and mean nothing here.
    pub fn ignore(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.0.remove(*key)));
    }

    /// # Errors
    /// Names a key that nobody took.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            Some(key) => Err(Refusal::bad(Some(shown(key).as_str()), format!("Unknown key `{}`.", shown(key)))),
            None => Ok(()),
        }
    }
}

/// A value of another type than is wanted; what it holds is not repeated.
pub fn wrong(key: &str, expected: &str, got: &Value) -> Refusal {
    let got = match got {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    Refusal::bad(Some(key), format!("`{key}` must be {expected}, not {got}."))
}

fn shown(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(result: Result<T>) -> String {
        result.err().expect("a refusal").message
    }

    #[test]
    fn what_is_no_json_is_told_where() {
        assert!(refused(Keys::read(b"{\"a\": 1")).contains("line 1 column 7"));
        assert!(refused(Keys::read(b"[]")).contains("object"));
        assert!(refused(Keys::read(b"\xff")).contains("not JSON"));
        assert!(refused(Keys::read(&b"[".repeat(100_000))).contains("recursion limit"));
        assert!(refused(Keys::read(b"{\"a\": 1e999}")).contains("number out of range"));
    }

    #[test]
    fn keys_are_taken_by_their_types() {
        let body = br#"{"t": "x", "n": 1, "f": true, "l": ["a", "b"], "o": {"k": "v"}, "z": null, "neg": -1, "big": 18446744073709551615}"#;
        let mut keys = Keys::read(body).expect("JSON");
        assert_eq!((keys.text("t"), keys.number("n"), keys.flag("f")), (Ok(Some("x".into())), Ok(Some(1.0)), Ok(true)));
        assert_eq!(
            (keys.texts("l", 2), keys.strings("o")),
            (Ok(vec!["a".into(), "b".into()]), Ok(vec![("k".into(), "v".into())]))
        );
        assert_eq!((keys.bits("neg"), keys.whole("big")), (Ok(Some(u64::MAX)), Ok(Some(usize::MAX))));
        assert_eq!((keys.text("z"), keys.text("none")), (Ok(None), Ok(None)));
        assert!(keys.finish().is_ok());

        let mut keys = Keys::read(
            br#"{"t": 1, "n": "x", "w": 1.5, "l": [1], "many": ["a", "b"], "o": {"k": []}, "temprature": 1}"#,
        )
        .expect("JSON");
        assert!(refused(keys.text("t")).contains("`t` must be a string, not the number 1"));
        assert!(refused(keys.number("n")).contains("`n` must be a number, not a string"));
        assert!(refused(keys.whole("w")).contains("`w` must be a whole number"));
        assert!(refused(keys.texts("l", 9)).contains("`l[0]`"));
        assert!(refused(keys.texts("many", 1)).contains("at most 1"));
        assert!(refused(keys.strings("o")).contains("`o.k`"));
        assert!(refused(keys.finish()).contains("Unknown key `temprature`"));
    }
}
