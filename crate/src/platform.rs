//! What differs between a tab and a command: reading files, the clock, giving way. The only place that asks for the target.

pub mod encodings;

use std::{future::Future, pin::Pin};

/// Whether this is the page's engine: there is no other GPU than WebGPU's, and every byte is loaded by a visitor.
pub const IN_TAB: bool = cfg!(target_family = "wasm");

/// A future that stays on its thread: the engine is single-threaded by design, as a worker is.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Bytes somewhere else (a file on disk, a `File` in the tab), read a range at a time.
pub trait Blob {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Exactly `len` bytes from `offset`, or an error that says why not.
    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>>;
}

/// A blob with the name its person knows it by.
pub struct NamedFile {
    /// File name without folders.
    pub name: String,
    pub blob: Box<dyn Blob>,
}

/// Bytes already in memory: embedded models, adapters out of a zip, tests.
pub struct Memory(pub Vec<u8>);

impl Blob for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>> {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(len)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
        Box::pin(std::future::ready(range))
    }
}

/// Bytes of memory that are free, where the system tells: in a tab all that a 32-bit module can address.
pub fn memory() -> Option<u64> {
    #[cfg(target_family = "wasm")]
    {
        Some(1 << 32)
    }
    #[cfg(not(target_family = "wasm"))]
    {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
    }
}

/// Whether [`in_runs`] shares its work between threads. In the tab there is one.
pub const THREADS: bool = cfg!(not(target_family = "wasm"));

/// Calls `work` with each run of `size` items (the last may be shorter) and the run's number, on all threads where there
/// are several. Which thread gets which run is left open, so what comes out must not depend on it.
pub fn in_runs<T: Send>(items: &mut [T], size: usize, work: impl Fn(usize, &mut [T]) + Send + Sync) {
    #[cfg(target_family = "wasm")]
    {
        items.chunks_mut(size).enumerate().for_each(|(at, run)| work(at, run));
    }
    #[cfg(not(target_family = "wasm"))]
    {
        use rayon::prelude::*;
        items.par_chunks_mut(size).enumerate().for_each(|(at, run)| work(at, run));
    }
}

/// Calls `work` with each number below `count`, on all threads where there are several.
pub fn in_turns(count: usize, work: impl Fn(usize) + Send + Sync) {
    #[cfg(target_family = "wasm")]
    {
        (0..count).for_each(work);
    }
    #[cfg(not(target_family = "wasm"))]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().for_each(work);
    }
}

/// A function of a WebAssembly module that is made while the page runs, over the page's own memory. Natively there is none.
pub struct Routine(
    #[cfg(target_family = "wasm")] js_sys::Function,
    #[cfg(not(target_family = "wasm"))] std::convert::Infallible,
);

impl Routine {
    /// The function `name` of a module that imports a memory of that name in that space, and nothing else. None where the
    /// browser does not take the module.
    pub fn new(module: &[u8], [space, memory]: [&str; 2], name: &str) -> Option<Self> {
        #[cfg(target_family = "wasm")]
        {
            use js_sys::{
                Function, Object, Reflect, Uint8Array,
                WebAssembly::{Instance, Module},
            };
            use wasm_bindgen::JsCast;

            let module = Module::new(&Uint8Array::from(module)).ok()?;
            let (imports, of_space) = (Object::new(), Object::new());
            Reflect::set(&of_space, &memory.into(), &wasm_bindgen::memory()).ok()?;
            Reflect::set(&imports, &space.into(), &of_space).ok()?;
            let exports = Instance::new(&module, &imports).ok()?.exports();
            let function: Function = Reflect::get(&exports, &name.into()).ok()?.dyn_into().ok()?;
            Some(Self(function))
        }
        #[cfg(not(target_family = "wasm"))]
        {
            let _ = (module, space, memory, name);
            None
        }
    }

    /// Calls it with an address.
    ///
    /// # Safety
    /// What the function does with the memory there, and wherever that leads it, must be the caller's to do.
    ///
    /// # Panics
    /// Where the function leaves the memory.
    #[allow(unsafe_code)]
    pub unsafe fn call(&self, address: usize) {
        #[cfg(target_family = "wasm")]
        {
            use wasm_bindgen::JsValue;

            let called = self.0.call1(&JsValue::UNDEFINED, &JsValue::from(address as u32));
            assert!(called.is_ok(), "a made function stays inside the memory");
        }
        #[cfg(not(target_family = "wasm"))]
        {
            let _ = address;
            match self.0 {}
        }
    }
}

/// Seconds since some fixed moment.
pub fn now() -> f64 {
    #[cfg(target_family = "wasm")]
    {
        js_sys::Date::now() / 1000.0
    }
    #[cfg(not(target_family = "wasm"))]
    {
        use std::{sync::OnceLock, time::Instant};
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_secs_f64()
    }
}

/// Milliseconds since 1970.
fn unix_millis() -> u64 {
    #[cfg(target_family = "wasm")]
    {
        js_sys::Date::now() as u64
    }
    #[cfg(not(target_family = "wasm"))]
    {
        use std::time::{SystemTime, UNIX_EPOCH};
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    unix_millis() / 1000
}

/// A new run's id: its starting time.
pub fn run_id() -> String {
    format!("run-{:x}", unix_millis())
}
