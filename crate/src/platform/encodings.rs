//! Text that is not UTF-8: natively by libraries, in a tab by the browser's own decoder and a module that the page loads when
//! a file first needs it (`paddock-encodings`). Both follow the Encoding Standard.

/// To be awaited before a file with these bytes is read: in a tab it brings what [`guess`] needs.
pub async fn prepare(bytes: &[u8]) {
    // NUL bytes: no text.
    #[cfg(target_family = "wasm")]
    if std::str::from_utf8(bytes).is_err() && !bytes.contains(&0) {
        module::load().await;
    }
    #[cfg(not(target_family = "wasm"))]
    let _ = bytes;
}

/// The name of the most likely encoding of text that is not UTF-8, from some of its bytes; or why none can be told.
pub fn guess(bytes: &[u8]) -> Result<String, String> {
    #[cfg(target_family = "wasm")]
    {
        module::guess(bytes)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        Ok(paddock_encodings::guess(bytes).name().to_owned())
    }
}

/// Text in the encoding of that name, without a byte order mark before it. None where it is not in that encoding.
pub fn decode(encoding: &str, bytes: &[u8]) -> Option<String> {
    #[cfg(target_family = "wasm")]
    {
        let options = web_sys::TextDecoderOptions::new();
        options.set_fatal(true);
        let decoder = web_sys::TextDecoder::new_with_label_and_options(encoding, &options).ok()?;
        let more = web_sys::TextDecodeOptions::new();
        more.set_stream(true);
        let mut text = String::with_capacity(bytes.len());
        // A string of the browser holds less than a file may have.
        for part in bytes.chunks(1 << 24) {
            text.push_str(&decoder.decode_with_u8_array_and_options(part, &more).ok()?);
        }
        text.push_str(&decoder.decode().ok()?);
        Some(text)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let encoding = encoding_rs::Encoding::for_label(encoding.as_bytes())?;
        encoding.decode_without_bom_handling_and_without_replacement(bytes).map(Into::into)
    }
}

#[cfg(target_family = "wasm")]
mod module {
    use std::cell::RefCell;

    use js_sys::{Function, Promise, Reflect, Uint8Array, global};
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;

    thread_local! {
        static GUESS: RefCell<Result<Function, String>> = RefCell::new(Err("the page did not load it".to_owned()));
    }

    pub(super) async fn load() {
        if GUESS.with_borrow(Result::is_err) {
            let loaded = ask().await.map_err(said);
            GUESS.set(loaded);
        }
    }

    /// By www/worker.js.
    async fn ask() -> Result<Function, JsValue> {
        let load: Function = Reflect::get(&global(), &"paddockEncodings".into())?.dyn_into()?;
        let promise: Promise = load.call0(&JsValue::UNDEFINED)?.dyn_into()?;
        JsFuture::from(promise).await?.dyn_into()
    }

    pub(super) fn guess(bytes: &[u8]) -> Result<String, String> {
        let guess = GUESS.with_borrow(Clone::clone)?;
        let name = guess.call1(&JsValue::UNDEFINED, &Uint8Array::from(bytes)).map_err(said)?;
        name.as_string().ok_or_else(|| "it gave no name".to_owned())
    }

    fn said(error: JsValue) -> String {
        error
            .dyn_ref::<js_sys::Error>()
            .map_or_else(|| "the page has none".to_owned(), |error| String::from(error.message()))
    }
}
