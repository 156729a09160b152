//! Tells the encoding of text that is not UTF-8. The engine does not link this in a tab: its tables are a twentieth of what a
//! visitor would load, so it is a module beside the page's, loaded where a file needs it (crate/src/platform/encodings.rs).

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::Encoding;

/// The most likely encoding of text that is not UTF-8, from some of its bytes.
pub fn guess(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Deny)
}

#[cfg(target_family = "wasm")]
mod module {
    use wasm_bindgen::prelude::wasm_bindgen;

    /// The name that the Encoding Standard gives it.
    #[wasm_bindgen]
    pub fn guess(bytes: &[u8]) -> String {
        super::guess(bytes).name().to_owned()
    }
}
