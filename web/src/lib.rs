//! The tab's shell: plain objects and blobs across to JavaScript, no logic. Empty on other targets.
#![cfg(target_family = "wasm")]

use std::{cell::RefCell, io, rc::Rc};

use js_sys::{Array, Function, Reflect, Uint8Array};
use paddock::{
    config::DeviceChoice,
    device,
    event::{Command, Envelope, Event, Failure},
    kernels::{
        ceilings::ceilings,
        measure::{self, LONG, Shapes, rates},
    },
    platform::{Blob, LocalFuture, NamedFile},
    storage::Storage,
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

/// For the benchmarks: what the GPU gives at most through WGSL (`kernels::ceilings::Ceilings`).
#[wasm_bindgen]
pub async fn kernel_ceilings() -> Result<JsValue, JsValue> {
    let found = async {
        let (opened, _) = device::open(DeviceChoice::Gpu).await?;
        ceilings(&opened).await
    };
    plain(&found.await.map_err(|error| JsValue::from(error.to_string()))?)
}

/// For the benchmarks: what a training step runs (`kernels::measure::Rate`s of a model of these `Shapes`), on the GPU or
/// the CPU.
#[wasm_bindgen]
pub async fn kernel_rates(shapes: JsValue, gpu: bool) -> Result<JsValue, JsValue> {
    let shapes: Shapes = serde_wasm_bindgen::from_value(shapes)?;
    let choice = if gpu { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
    let found = async {
        let (opened, _) = device::open(choice).await?;
        rates(&shapes, &opened.device, false, LONG).await
    };
    plain(&found.await.map_err(|error| JsValue::from(error.to_string()))?)
}

/// For the tests: how far a product of these sizes (batch, rows, columns, steps) is from the true one, in parts of its
/// largest number (`kernels::measure::product_error`), on the GPU or the CPU.
#[wasm_bindgen]
pub async fn product_error(sizes: Vec<u32>, gpu: bool) -> Result<f64, JsValue> {
    let sizes: [u32; 4] = sizes.try_into().map_err(|_| JsValue::from("four sizes are needed"))?;
    let choice = if gpu { DeviceChoice::Gpu } else { DeviceChoice::Cpu };
    let found = async {
        let (opened, _) = device::open(choice).await?;
        measure::product_error(sizes.map(|size| size as usize), &opened.device).await
    };
    found.await.map_err(|error| JsValue::from(error.to_string()))
}

fn plain(value: &impl Serialize) -> Result<JsValue, JsValue> {
    Ok(value.serialize(&Serializer::json_compatible())?)
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

    /// Where runs that start from now on keep checkpoints and record: an object as `www/app/run-storage.js` makes it, or
    /// undefined.
    pub fn use_storage(&self, storage: Option<RunStorage>) {
        if let Some(engine) = self.engine.borrow_mut().as_mut() {
            engine.use_storage(storage.map(|storage| Rc::new(JsStorage(storage)) as Rc<dyn Storage>));
        }
    }

    /// Where what was measured on this machine is kept: an object of the same kind, or undefined.
    pub fn use_cache(&self, cache: Option<RunStorage>) {
        if let Some(engine) = self.engine.borrow_mut().as_mut() {
            engine.use_cache(cache.map(|cache| Rc::new(JsStorage(cache)) as Rc<dyn Storage>));
        }
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
        let event = Event::Failed(Failure { message, advice: advice.to_owned(), kind: None });
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

#[wasm_bindgen]
extern "C" {
    /// A run's folder in the browser's private file system.
    pub type RunStorage;

    #[wasm_bindgen(method, catch)]
    async fn list(this: &RunStorage) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn open(this: &RunStorage, name: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn append(this: &RunStorage, name: &str, bytes: Uint8Array) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn rename(this: &RunStorage, from: &str, to: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    async fn remove(this: &RunStorage, name: &str) -> Result<JsValue, JsValue>;
}

struct JsStorage(RunStorage);

impl Storage for JsStorage {
    fn list(&self) -> LocalFuture<'_, io::Result<Vec<String>>> {
        Box::pin(async move {
            let names = self.0.list().await.map_err(io_error)?;
            Ok(Array::from(&names).iter().filter_map(|name| name.as_string()).collect())
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<Box<dyn Blob>>> {
        Box::pin(async move {
            let blob = self.0.open(name).await.map_err(io_error)?;
            let blob = blob.dyn_into::<web_sys::Blob>().map_err(|_| io::Error::other("not a file"))?;
            Ok(Box::new(JsBlob(blob)) as Box<dyn Blob>)
        })
    }

    fn append<'a>(&'a self, name: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move {
            // A copy: the wasm memory may move while the browser writes.
            let copy = Uint8Array::from(bytes);
            self.0.append(name, copy).await.map(drop).map_err(io_error)
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move { self.0.rename(from, to).await.map(drop).map_err(io_error) })
    }

    fn remove<'a>(&'a self, name: &'a str) -> LocalFuture<'a, io::Result<()>> {
        Box::pin(async move { self.0.remove(name).await.map(drop).map_err(io_error) })
    }
}

/// What a browser throws when the file was changed, moved or may no longer be read.
fn io_error(error: JsValue) -> io::Error {
    let text = |key: &str| Reflect::get(&error, &key.into()).ok().and_then(|text| text.as_string());
    let kind = match text("name").as_deref() {
        Some("QuotaExceededError") => io::ErrorKind::StorageFull,
        Some("NotFoundError") => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text("message").unwrap_or_else(|| format!("{error:?}")))
}
