//! The tab's shell: plain objects and blobs across to JavaScript, no logic. Empty on other targets.
#![cfg(target_family = "wasm")]

use std::{cell::RefCell, io};

use js_sys::{Array, Function, Reflect, Uint8Array};
use paddock::{
    config::DeviceChoice,
    device,
    event::{Command, Envelope, Event, Failure},
    kernels::{Layout, measure::product_rate as product_rate_on},
    platform::{Blob, LocalFuture, NamedFile},
};
use serde::Serialize;
use serde_wasm_bindgen::Serializer;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs the static constructors (CubeCL registers its instructions by them) once. A module that does not name them
/// gets them from the linker before every call of every export: that took two thirds of a training step.
#[allow(unsafe_code)]
#[wasm_bindgen(start)]
pub fn start() {
    // SAFETY: the linker makes this function; nothing has run before that could have run it.
    unsafe { __wasm_call_ctors() };
    console_error_panic_hook::set_once();
}

/// Floating-point operations a second of a matrix product on the GPU or CPU; `layout` is `nn`, `nt` or `tn`.
#[wasm_bindgen]
pub async fn product_rate(
    gpu: bool,
    m: usize,
    n: usize,
    k: usize,
    layout: String,
    stock: bool,
) -> Result<f64, JsValue> {
    let layout = match layout.as_str() {
        "nt" => Layout::Nt,
        "tn" => Layout::Tn,
        _ => Layout::Nn,
    };
    let choice = if gpu { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
    let rate = async {
        let (opened, _) = device::open(choice).await?;
        product_rate_on(&opened.device, [m, n, k], layout, stock).await
    };
    rate.await.map_err(|error| JsValue::from(error.to_string()))
}

/// The engine as a worker sees it. Every event goes to `emit(envelope, bytes)`; `bytes` is a Uint8Array with an
/// `export_chunk` and undefined with the others.
#[wasm_bindgen]
pub struct Engine {
    /// Away while a call is under way: calls do not nest.
    engine: RefCell<Option<paddock::engine::Engine>>,
    emit: Function,
}

#[wasm_bindgen]
impl Engine {
    #[wasm_bindgen(constructor)]
    pub fn new(emit: Function) -> Self {
        Self { engine: RefCell::new(Some(paddock::engine::Engine::new())), emit }
    }

    /// Carries out one command (a plain object) with the `File`s that belong to it. What goes wrong is a `failed`
    /// event; the promise is rejected only by what `emit` throws.
    pub async fn handle(&self, command: JsValue, files: Array) -> Result<(), JsValue> {
        let command: Command = match serde_wasm_bindgen::from_value(command) {
            Ok(command) => command,
            Err(error) => return self.fail(format!("not a command: {error}"), "Reload the page."),
        };
        let files = match files.iter().map(named_file).collect() {
            Ok(files) => files,
            Err(message) => return self.fail(message, "Choose the file again."),
        };
        let Some(mut engine) = self.engine.take() else { return self.at_work() };
        let envelopes = engine.handle(command, files).await;
        self.done(engine, envelopes)
    }

    /// One unit of work.
    pub async fn advance(&self) -> Result<(), JsValue> {
        let Some(mut engine) = self.engine.take() else { return self.at_work() };
        let envelopes = engine.advance().await;
        self.done(engine, envelopes)
    }

    /// Whether `advance` has something to do, or a call is under way.
    pub fn busy(&self) -> bool {
        self.engine.borrow().as_ref().is_none_or(|engine| engine.busy())
    }
}

impl Engine {
    /// Puts the engine back first: `emit` may call in again.
    fn done(&self, mut engine: paddock::engine::Engine, envelopes: Vec<Envelope>) -> Result<(), JsValue> {
        let chunk = engine.take_chunk();
        self.engine.replace(Some(engine));
        for envelope in &envelopes {
            let bytes = match envelope.event {
                Event::ExportChunk { .. } => Uint8Array::from(chunk.as_slice()).into(),
                _ => JsValue::UNDEFINED,
            };
            self.send(envelope, &bytes)?;
        }
        Ok(())
    }

    fn send(&self, envelope: &Envelope, bytes: &JsValue) -> Result<(), JsValue> {
        // Plain objects and numbers, not Map and BigInt. A person's configuration may hold a number too large for that.
        let envelope = match envelope.serialize(&Serializer::json_compatible()) {
            Ok(envelope) => envelope,
            Err(error) => return self.fail(error.to_string(), "Use numbers of at most 15 digits."),
        };
        self.emit.call2(&JsValue::NULL, &envelope, bytes).map(drop)
    }

    fn fail(&self, message: String, advice: &str) -> Result<(), JsValue> {
        let event = Event::Failed(Failure { message, advice: advice.to_owned() });
        self.send(&Envelope { run: String::new(), event }, &JsValue::UNDEFINED)
    }

    fn at_work(&self) -> Result<(), JsValue> {
        self.fail("the engine is still at work on the call before".to_owned(), "Wait for its promise first.")
    }
}

/// A `File`, or any `Blob` that was given a `name`.
fn named_file(value: JsValue) -> Result<NamedFile, String> {
    let name = Reflect::get(&value, &"name".into()).ok().and_then(|name| name.as_string()).unwrap_or_default();
    let blob: web_sys::Blob = value.dyn_into().map_err(|_| format!("`{name}` is not a file"))?;
    Ok(NamedFile { name, blob: Box::new(JsBlob(blob)) })
}

struct JsBlob(web_sys::Blob);

impl Blob for JsBlob {
    fn size(&self) -> u64 {
        self.0.size() as u64
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, io::Result<Vec<u8>>> {
        Box::pin(async move {
            // A slice beyond the end would come back short instead of failing.
            let end = offset.checked_add(len as u64).filter(|end| *end <= self.size());
            let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
            let part = self.0.slice_with_f64_and_f64(offset as f64, end as f64).map_err(io_error)?;
            let buffer = JsFuture::from(part.array_buffer()).await.map_err(io_error)?;
            Ok(Uint8Array::new(&buffer).to_vec())
        })
    }
}

/// What a browser throws when the file was changed, moved or may no longer be read.
fn io_error(error: JsValue) -> io::Error {
    let text = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    io::Error::other(text.unwrap_or_else(|| format!("{error:?}")))
}
