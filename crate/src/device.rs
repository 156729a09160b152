//! The only file that names a backend: what this machine has, and which of it a run takes.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use burn::tensor::{
    Device,
    wgpu::{WgpuSetup, wgpu},
};

use crate::{
    config::{Config, DeviceChoice, Kernels, MixedPrecision},
    error::{Error, Result},
    event::{DeviceInfo, Environment},
    kernels::{self, Cores},
    platform, scenario,
};

/// An opened device and what is known of it.
#[derive(Debug, Clone)]
pub struct Opened {
    pub device: Device,
    pub info: DeviceInfo,
    /// Set by the driver when the GPU is gone: WebGPU goes on silently with a lost device (wgpu#5545).
    lost: Arc<AtomicBool>,
}

impl Opened {
    pub fn new(device: Device, info: DeviceInfo) -> Self {
        Self { device, info, lost: Arc::default() }
    }

    pub fn is_gpu(&self) -> bool {
        self.info.id == GPU
    }

    /// Whether its kernels are those for a card's many cores, of which the fastest are to be found.
    pub fn is_card(&self) -> bool {
        self.is_gpu() && !self.info.software && self.shared_memory() >= kernels::LEAST_SHARED
    }

    /// Bytes that a workgroup shares at most.
    pub fn shared_memory(&self) -> u32 {
        self.info.limits.get("maxComputeWorkgroupStorageSize").map_or(0, |bytes| (*bytes).min(1 << 20) as u32)
    }

    /// What a measurement of it holds for: another version has other kernels.
    pub fn adapter(&self) -> String {
        format!("{}, {}, paddock {}", self.info.name, self.info.api, env!("CARGO_PKG_VERSION"))
    }

    /// Bytes of a weight that one binding holds at most.
    pub fn binding(&self) -> u64 {
        self.info.limits.get("maxStorageBufferBindingSize").copied().unwrap_or(u64::MAX)
    }

    /// Bytes that a run can have, where that is known: no GPU interface tells it.
    pub fn memory(&self) -> Option<u64> {
        if self.is_gpu() { None } else { platform::memory() }
    }

    /// Whether a run computes in 16 bits: `training.mixed_precision`, as far as the device has them.
    ///
    /// # Errors
    /// `fp16` where there is none.
    pub fn half(&self, config: &Config) -> Result<bool> {
        let missing = if !self.is_gpu() {
            Some("the CPU device".to_owned())
        } else if !self.info.features.iter().any(|feature| feature == SHADER_F16) {
            Some(format!("{}, which has no {SHADER_F16}", self.info.name))
        } else if config.kernels == Kernels::Stock {
            Some("kernels: stock".to_owned())
        } else {
            None
        };
        match (config.training.mixed_precision, missing) {
            (MixedPrecision::No, _) => Ok(false),
            (MixedPrecision::Auto, missing) => Ok(missing.is_none() && !self.info.software),
            (MixedPrecision::Fp16, None) => Ok(true),
            (MixedPrecision::Fp16, Some(with)) => {
                Err(Error::config("training.mixed_precision", "auto or no", format!("`fp16` with {with}")))
            }
        }
    }

    /// An error once the device stopped answering.
    pub fn check(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) { Err(Error::DeviceLost) } else { Ok(()) }
    }

    /// As if the driver had said so.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

const CPU: &str = "cpu";
const GPU: &str = "gpu";
/// WebGPU's name for 16-bit arithmetic.
const SHADER_F16: &str = "shader-f16";
const SUBGROUPS: &str = "subgroups";
/// WebAssembly's name for the proposal that has multiply-add in one instruction.
const RELAXED_SIMD: &str = "relaxed-simd";

/// What `auto` takes among the devices, and why.
fn choose(gpu: Option<&DeviceInfo>, missing: &str) -> (&'static str, String) {
    match gpu {
        None => (CPU, format!("No GPU can be used here ({missing}), so training runs on the CPU.")),
        Some(gpu) if gpu.software => {
            (CPU, format!("{} is a GPU imitated in software; the CPU device is much faster.", gpu.name))
        }
        Some(gpu) => (GPU, format!("{} is a hardware GPU.", gpu.name)),
    }
}

/// The report of [`crate::event::Command::Inspect`].
pub async fn environment() -> Environment {
    let found = adapter::find().await;
    let (gpu, missing) = match found {
        Ok(gpu) => (Some(gpu), String::new()),
        Err(why) => (None, why),
    };
    let (chosen, reason) = choose(gpu.as_ref(), &missing);
    let mut notes = Vec::new();
    if gpu.is_none() {
        notes.push(adapter::ADVICE.to_string());
    }
    if let Some(gpu) = gpu.as_ref().filter(|gpu| !gpu.features.iter().any(|f| f == SHADER_F16)) {
        notes.push(format!("{} has no 16-bit arithmetic ({SHADER_F16}); training runs in 32 bits.", gpu.name));
    }
    Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        platform: adapter::PLATFORM.into(),
        devices: std::iter::once(cpu()).chain(gpu).collect(),
        chosen: chosen.into(),
        reason,
        storage_free: None,
        notes,
        scenarios: scenario::all(),
    }
}

/// Opens the device that `choice` names; the sentence says why, where `auto` had to choose.
pub async fn open(choice: DeviceChoice) -> Result<(Opened, Option<String>)> {
    let found = match choice {
        DeviceChoice::Cpu => return Ok((open_cpu(), None)),
        DeviceChoice::Auto | DeviceChoice::Gpu => adapter::find().await,
    };
    let auto = choice == DeviceChoice::Auto;
    match found {
        Err(why) if !auto => Err(Error::device(format!("No GPU can be used here: {why}."), adapter::ADVICE)),
        Err(why) => Ok((open_cpu(), Some(choose(None, &why).1))),
        Ok(mut info) => {
            let (id, reason) = choose(Some(&info), "");
            if auto && id == CPU {
                return Ok((open_cpu(), Some(reason)));
            }
            let Gpu { device, half, subgroups, lost, .. } = open_gpu().await?;
            // What the adapter has, its device may have been opened without.
            info.features.retain(|feature| match feature.as_str() {
                SHADER_F16 => half,
                SUBGROUPS => subgroups,
                _ => true,
            });
            let opened = Opened { device, info, lost };
            kernels::use_cores(match opened.is_card() {
                true => Cores::Card(opened.shared_memory()),
                false if opened.info.software && subgroups => Cores::Quads,
                false => Cores::Imitated,
            });
            Ok((opened, auto.then_some(reason)))
        }
    }
}

fn open_cpu() -> Opened {
    Opened::new(Device::flex(), cpu())
}

fn cpu() -> DeviceInfo {
    let threads = adapter::threads();
    DeviceInfo {
        id: CPU.into(),
        name: format!("CPU ({threads} {})", if threads == 1 { "thread" } else { "threads" }),
        api: "CPU".into(),
        software: false,
        features: if kernels::relaxed_simd() { vec![RELAXED_SIMD.into()] } else { Vec::new() },
        limits: BTreeMap::new(),
    }
}

/// An opened GPU.
#[derive(Clone)]
struct Gpu {
    device: Device,
    setup: WgpuSetup,
    /// Whether it computes in 16 bits.
    half: bool,
    /// Whether threads can hand each other numbers.
    subgroups: bool,
    lost: Arc<AtomicBool>,
}

static OPENED: Mutex<Option<Gpu>> = Mutex::new(None);
/// What reads from the GPU now, to be told when it is lost.
static WAITING: Mutex<Option<Waker>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for what a device is to give. A GPU that is lost gives nothing any more, and no error either.
///
/// # Errors
/// The GPU was lost meanwhile.
pub async fn unless_lost<T>(reading: impl Future<Output = T>) -> Result<T> {
    let mut reading = pin!(reading);
    let poll = |context: &mut Context<'_>| {
        if let Poll::Ready(read) = reading.as_mut().poll(context) {
            return Poll::Ready(Ok(read));
        }
        *locked(&WAITING) = Some(context.waker().clone());
        match locked(&OPENED).as_ref() {
            Some(gpu) if gpu.lost.load(Ordering::Relaxed) => Poll::Ready(Err(Error::DeviceLost)),
            _ => Poll::Pending,
        }
    };
    poll_fn(poll).await
}

/// Whether freed memory serves tensors of the same size alone: see `adapter::pools`.
pub const POOLS_BY_SIZE: bool = adapter::POOLS_BY_SIZE;
/// Bytes that such pools may keep for sizes that come later, or not again.
const SPARE: u64 = 64 << 20;
/// What a step may leave unused when it turns to tensors of other sizes: so many bytes, or of a step that is to hold little
/// this part of what it uses.
pub const TURN_SPARE: u64 = 4 << 20;
const TURN_PART: u64 = 16;
/// The sizes that were worked with last, in one word.
static SIZES: AtomicU64 = AtomicU64::new(0);

/// To be told before the model works on so many rows of that length. Where pools go by size, each length of a run's rows,
/// and each token of an answer, would leave them memory that no other takes: much of it is given back.
pub fn works_on(rows: usize, length: usize) {
    let sizes = (rows as u64) << 32 | length as u64;
    if POOLS_BY_SIZE && SIZES.swap(sizes, Ordering::Relaxed) != sizes {
        give_back(|_| SPARE);
    }
}

/// To be told where a step turns to tensors of other sizes: where pools go by size, what the earlier ones had would stay
/// beside them. All that is unused is let go, to be made anew when it is needed again: a step that is not to hold `little`
/// asks only where the earlier ones had much.
pub fn turns(little: bool) {
    if POOLS_BY_SIZE {
        give_back(|used| if little { used / TURN_PART } else { TURN_SPARE });
    }
}

/// Lets go what no tensor is in, if that is more than `most` allows beside the bytes that are used.
fn give_back(most: impl Fn(u64) -> u64) {
    let there = |gpu: &&Gpu| !gpu.lost.load(Ordering::Relaxed);
    let Some(gpu) = locked(&OPENED).as_ref().filter(there).map(|gpu| gpu.device.clone()) else { return };
    let Some(usage) = gpu.memory_pool_usage() else { return };
    if usage.bytes_reserved.saturating_sub(usage.bytes_in_use) > most(usage.bytes_in_use) {
        gpu.memory_cleanup();
        adapter::buffers_freed();
    }
}

/// Opens the GPU once; a second run takes the same one, until it is lost.
async fn open_gpu() -> Result<Gpu> {
    let before = locked(&OPENED).clone();
    adapter::pools();
    let opened = match before {
        Some(gpu) if !gpu.lost.load(Ordering::Relaxed) => return Ok(gpu),
        Some(gpu) => open_again(&gpu.setup).await,
        None => Device::wgpu_options().init_with_setup_async().await.map_err(|e| e.to_string()),
    };
    let (device, setup) = opened.map_err(|e| {
        Error::device(
            format!("The GPU could not be opened: {e}"),
            "Choose the CPU device, or update the graphics driver.",
        )
    })?;
    let lost = Arc::new(AtomicBool::new(false));
    let flag = lost.clone();
    setup.device.set_device_lost_callback(move |_, _| {
        flag.store(true, Ordering::Relaxed);
        let waiting = locked(&WAITING).take();
        waiting.into_iter().for_each(Waker::wake);
    });
    let half = setup.device.features().contains(wgpu::Features::SHADER_F16);
    let subgroups = adapter::subgroups(&setup);
    let gpu = Gpu { device, setup, half, subgroups, lost };
    *locked(&OPENED) = Some(gpu.clone());
    Ok(gpu)
}

/// Burn opens a GPU once only: after it was lost, another device with the same features and limits is made here and handed
/// over.
async fn open_again(before: &WgpuSetup) -> std::result::Result<(Device, WgpuSetup), String> {
    let options =
        wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    let instance = before.instance.clone();
    let adapter = instance.request_adapter(&options).await.map_err(|e| e.to_string())?;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: before.device.features(),
        required_limits: before.device.limits(),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| e.to_string())?;
    let setup = WgpuSetup { instance, backend: adapter.get_info().backend, adapter, device, queue };
    let device = Device::wgpu_options().setup(setup.clone()).init().map_err(|e| e.to_string())?;
    Ok((device, setup))
}

#[cfg(target_family = "wasm")]
mod adapter {
    //! The browser's own word, asked directly: wgpu hands on neither vendor nor architecture.

    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, memory::PersistentMemory};
    use js_sys::{Array, Function, Promise, Reflect, global};
    use wasm_bindgen::{JsCast, JsValue};
    use wasm_bindgen_futures::JsFuture;

    use super::*;

    pub const PLATFORM: &str = "browser";
    pub const ADVICE: &str = "WebGPU is in Chrome and Edge 113 and later, Safari 26 and Firefox 141 (Windows) and later; \
        on Linux it may have to be turned on in the browser's flags.";

    /// The tab computes on one thread.
    pub fn threads() -> usize {
        1
    }

    fn get(object: &JsValue, key: &str) -> Option<JsValue> {
        Reflect::get(object, &key.into()).ok().filter(|v| !v.is_null() && !v.is_undefined())
    }

    fn text(object: &JsValue, key: &str) -> String {
        get(object, key).and_then(|v| v.as_string()).unwrap_or_default()
    }

    pub async fn find() -> std::result::Result<DeviceInfo, String> {
        let gpu = get(&global(), "navigator")
            .and_then(|navigator| get(&navigator, "gpu"))
            .ok_or("this browser has no WebGPU")?;
        let request: Function =
            get(&gpu, "requestAdapter").and_then(|f| f.dyn_into().ok()).ok_or("this browser has no WebGPU")?;
        let promise: Promise =
            request.call0(&gpu).ok().and_then(|p| p.dyn_into().ok()).ok_or("the browser refused to look for a GPU")?;
        let adapter = JsFuture::from(promise)
            .await
            .ok()
            .filter(|a| !a.is_null())
            .ok_or("the browser has WebGPU, but offers no GPU for it")?;
        let info = get(&adapter, "info").unwrap_or(JsValue::UNDEFINED);
        let (vendor, architecture) = (text(&info, "vendor"), text(&info, "architecture"));
        let fallback = get(&info, "isFallbackAdapter").or_else(|| get(&adapter, "isFallbackAdapter"));
        let software = fallback.and_then(|v| v.as_bool()).unwrap_or(false)
            || ["swiftshader", "llvmpipe", "warp"].contains(&architecture.as_str());
        let described = text(&info, "description");
        let name = [described, format!("{vendor} {architecture}").trim().to_string(), "WebGPU adapter".into()]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        let features = get(&adapter, "features")
            .map(|set| Array::from(&set).iter().filter_map(|f| f.as_string()).collect())
            .unwrap_or_default();
        let limits = get(&adapter, "limits")
            .map(|limits| {
                LIMITS.iter().filter_map(|key| Some((key.to_string(), get(&limits, key)?.as_f64()? as u64))).collect()
            })
            .unwrap_or_default();
        Ok(DeviceInfo { id: GPU.into(), name, api: "WebGPU".into(), software, features, limits })
    }

    /// As [`pools`] makes them.
    pub const POOLS_BY_SIZE: bool = true;

    /// Before the GPU is opened. In a browser no buffer of Burn's pools is cut into parts, and a small tensor may get a large
    /// one that a step misses then: ten times the bytes of its tensors were held. By size, what a step frees is what the
    /// next one takes.
    pub fn pools() {
        let mut config = CubeClRuntimeConfig::default();
        config.memory.persistent_memory = PersistentMemory::Enforced;
        // False where it is set already, as for a second GPU.
        CubeClRuntimeConfig::try_set(config);
    }

    /// Tells www/app/wgpu.js, which destroys what wgpu only lets go; nothing may be recorded that is not submitted, as after
    /// a clean-up.
    pub fn buffers_freed() {
        let freed: Option<Function> = get(&global(), "paddockBuffersFreed").and_then(|f| f.dyn_into().ok());
        // A page without that script waits for the browser to collect its garbage.
        let _ = freed.map(|freed| freed.call0(&JsValue::UNDEFINED));
    }

    /// What www/app/wgpu.js says: wgpu knows nothing of them.
    pub fn subgroups(_: &WgpuSetup) -> bool {
        get(&global(), "paddockSubgroups").and_then(|there| there.as_bool()).unwrap_or(false)
    }

    const LIMITS: [&str; 7] = [
        "maxBufferSize",
        "maxStorageBufferBindingSize",
        "maxComputeInvocationsPerWorkgroup",
        "maxComputeWorkgroupSizeX",
        "maxComputeWorkgroupStorageSize",
        "maxComputeWorkgroupsPerDimension",
        "maxStorageBuffersPerShaderStage",
    ];
}

#[cfg(not(target_family = "wasm"))]
mod adapter {
    use super::*;

    pub const PLATFORM: &str = "native";
    pub const ADVICE: &str = "Install the graphics driver (Vulkan, Metal or DirectX 12), or use --device cpu.";

    pub fn threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    pub const POOLS_BY_SIZE: bool = false;

    /// Burn's own cut large buffers into parts.
    pub fn pools() {}

    pub fn buffers_freed() {}

    pub fn subgroups(setup: &WgpuSetup) -> bool {
        setup.device.features().contains(wgpu::Features::SUBGROUP)
    }

    pub async fn find() -> std::result::Result<DeviceInfo, String> {
        let instance = wgpu::Instance::default();
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter =
            instance.request_adapter(&options).await.map_err(|e| format!("no graphics adapter was found: {e}"))?;
        let info = adapter.get_info();
        let name = info.name.to_lowercase();
        let software = info.device_type == wgpu::DeviceType::Cpu
            || ["llvmpipe", "swiftshader", "basic render"].iter().any(|word| name.contains(word));
        let limits = adapter.limits();
        let features = adapter.features();
        let named = [
            (wgpu::Features::SHADER_F16, SHADER_F16),
            (wgpu::Features::SUBGROUP, SUBGROUPS),
            (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        ];
        Ok(DeviceInfo {
            id: GPU.into(),
            name: info.name,
            api: match info.backend {
                wgpu::Backend::Vulkan => "Vulkan".into(),
                wgpu::Backend::Metal => "Metal".into(),
                wgpu::Backend::Dx12 => "DirectX 12".into(),
                wgpu::Backend::Gl => "OpenGL".into(),
                other => format!("{other:?}"),
            },
            software,
            features: named.iter().filter(|(f, _)| features.contains(*f)).map(|(_, name)| name.to_string()).collect(),
            limits: BTreeMap::from([
                ("maxBufferSize".into(), limits.max_buffer_size),
                ("maxStorageBufferBindingSize".into(), limits.max_storage_buffer_binding_size),
                ("maxComputeInvocationsPerWorkgroup".into(), limits.max_compute_invocations_per_workgroup.into()),
                ("maxComputeWorkgroupStorageSize".into(), limits.max_compute_workgroup_storage_size.into()),
                ("maxComputeWorkgroupsPerDimension".into(), limits.max_compute_workgroups_per_dimension.into()),
            ]),
        })
    }
}
