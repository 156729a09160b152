//! `paddock serve`: OpenAI's API over one base and the plugins that share it.
//!
//! Three threads: the engine's (`worker`), the server's (one tokio runtime) and this one, which prints and counts.

mod door;
mod handle;
mod keys;
mod limits;
mod metrics;
mod models;
mod openai;
mod refusal;
mod routes;
mod stream;
mod ticket;
mod wire;
mod worker;

use std::{
    collections::BTreeMap,
    env, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use paddock::{
    event::{Envelope, Failure},
    platform,
};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    driver,
    files::{Result, failure},
    output::Output,
    plugins::Store,
};
use door::Door;
use handle::Handle;
use limits::{Bounded, Peer};
use metrics::Metrics;
use routes::Limits;
use ticket::Record;

/// Where clients find the key that they have to show.
const KEY: &str = "PADDOCK_API_KEY";
/// Lines that wait to be printed; more are not.
const MOST_LINES: usize = 4096;
/// How long answers under way may go on once the server is to end, and how long what is left of them then has.
const GRACE: Duration = Duration::from_secs(5);
const LAST: Duration = Duration::from_secs(1);
/// How often the end is looked for, and how often the counts of plugins are written.
const LOOK: Duration = Duration::from_millis(50);
const COUNT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The base: a Hugging Face folder, a GGUF file, a repository of the hub (org/name) or `starter`; read from the first
    /// adapter when absent
    #[arg(long = "model_name_or_path", value_name = "DIR|GGUF|ORG/NAME|starter")]
    pub model_name_or_path: Option<PathBuf>,
    /// An adapter, which answers where a request names no model: a PEFT folder (what `train` wrote), or a zip of one
    #[arg(long = "adapter", value_name = "DIR|ZIP")]
    pub adapter: Option<PathBuf>,
    /// A further adapter and what requests call it; by itself the id of a plugin of the plugin folder; can be repeated
    #[arg(long = "plugin", value_name = "[ID=]DIR|ZIP|ID")]
    pub plugin: Vec<String>,
    /// The plugin folder: all in it that were trained on the base are served. Where it is not given only those that
    /// --plugin names are, from paddock/plugins in the user's data folder
    #[arg(long = "plugins_dir", value_name = "DIR")]
    pub plugins_dir: Option<PathBuf>,
    /// The address to listen at; any other than this machine's own lets others in: set PADDOCK_API_KEY to a key that clients
    /// then have to show
    #[arg(long = "host", value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// 0 takes a free one
    #[arg(long = "port", value_name = "N", default_value_t = 8000)]
    pub port: u16,
    /// Requests that may wait; those beyond are refused (429)
    #[arg(long = "max_queue", value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_queue: u32,
    /// Connections at once; further ones wait
    #[arg(long = "max_connections", value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_connections: u32,
    /// Larger requests are refused (413)
    #[arg(long = "max_body_bytes", value_name = "N", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub max_body_bytes: u32,
    /// Seconds in which a request's head, then its body, must have come
    #[arg(long = "read_timeout", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub read_timeout: u32,
    /// Seconds in which an answer must be whole, its wait in the queue included
    #[arg(long = "request_timeout", value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub request_timeout: u32,
    /// Tokens of a chat's answer, where the request does not say
    #[arg(long = "max_new_tokens", value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub max_new_tokens: u32,
    /// Origins of pages that may ask, such as https://page.example, or `*` for all; none but the server's own by default
    #[arg(long = "allowed_origins", value_name = "A,B", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// `auto`, `cpu` or `gpu`
    #[arg(long = "device", value_name = "NAME")]
    pub device: Option<String>,
    /// Texts to classify are cut to this many tokens; as in training when absent
    #[arg(long = "max_seq_length", value_name = "N")]
    pub max_seq_length: Option<usize>,
    /// How the base is held: `auto`, `none`, or quantised to `q4_0`, `q4_1` or `q8_0`
    #[arg(long = "quantization", value_name = "NAME")]
    pub quantization: Option<String>,
    /// `auto` (16-bit products on a GPU that has them), `no` or `fp16`
    #[arg(long = "mixed_precision", value_name = "NAME")]
    pub mixed_precision: Option<String>,
}

/// What every request shares.
pub struct App {
    engine: Handle,
    metrics: Arc<Metrics>,
    door: Door,
    limits: Limits,
    /// Of connections.
    places: Arc<Semaphore>,
    lines: SyncSender<Line>,
    /// Seconds since 1970.
    started: u64,
}

/// What is to be printed.
pub enum Line {
    /// Of the engine, while it loads.
    Event(Box<Envelope>),
    Warning(String),
    /// These models answer now.
    Ready(Vec<String>),
    Request(Box<Record>),
    /// The engine's thread has ended.
    Failed(Failure),
}

pub fn run(args: &ServeArgs, output: &mut Output) -> Result<()> {
    let key = key()?;
    let served = models::gather(args, output)?;
    let (listener, address) = listen(args)?;
    let local = address.ip().is_loopback();
    if !local && key.is_none() {
        output.warning(format!(
            "anybody who reaches {address} can use these models, as no {KEY} is set; what is sent is not encrypted"
        ))?;
    }
    driver::stop_on_interrupt_or_end()?;
    let url = format!("http://{address}");
    output.served("listening", &json!({"url": url}), &format!("listening on {url}; the models are being loaded"))?;

    let stored = served.plugins.iter().filter_map(|plugin| Some((plugin.id.clone(), plugin.stored.clone()?)));
    let mut counting = Counting::new(Store::at(args.plugins_dir.as_deref())?, stored.collect());
    let (lines, shown) = sync_channel(MOST_LINES);
    let engine = worker::start(served, args.max_queue as usize, lines.clone())?;
    let metrics = Arc::new(Metrics::default());
    let app = App {
        engine,
        metrics: metrics.clone(),
        door: Door::new(local, &args.allowed_origins, key.as_deref()),
        limits: limits(args),
        places: Arc::new(Semaphore::new(args.max_connections as usize)),
        lines,
        started: platform::unix_time(),
    };
    let server = thread::Builder::new().name("server".into()).spawn(move || serve(listener, Arc::new(app)));
    let server = server.map_err(|error| failure(format!("cannot start a thread: {error}"), "Close other programs."))?;
    let broken = show(&shown, &url, output, || counting.write(&metrics))?;
    counting.write(&metrics).or_else(|failure| output.warning(failure.message))?;
    if let Some(failure) = broken {
        return Err(failure);
    }
    match server.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(failure(format!("cannot serve: {error}"), "Start it again.")),
        Err(_) => return Err(failure("internal error", "This is a fault in paddock: please report it.")),
    }
    let requests = metrics.requests();
    output.result(json!({"requests": requests}), &format!("stopped after {requests} requests"))
}

/// Prints what there is to print until the server and the engine have ended. Gives back why the engine did, where it was to
/// go on.
fn show(
    lines: &Receiver<Line>,
    url: &str,
    output: &mut Output,
    mut count: impl FnMut() -> Result<()>,
) -> Result<Option<Failure>> {
    let (mut ready, mut broken, mut counts) = (false, None, true);
    let mut counted = Instant::now();
    loop {
        match lines.recv_timeout(COUNT) {
            Ok(Line::Event(envelope)) => output.event(&envelope)?,
            Ok(Line::Warning(message)) => output.warning(message)?,
            Ok(Line::Ready(models)) => {
                ready = true;
                let text = format!("ready: {} on {url}", models.join(", "));
                output.served("ready", &json!({"url": url, "models": models}), &text)?;
            }
            Ok(Line::Request(record)) => output.served("request", &record.fields(), &record.text())?,
            // Before anything could be asked there is nothing to stay for.
            Ok(Line::Failed(failure)) if !ready => return Err(failure),
            Ok(Line::Failed(failure)) => {
                output.warning(format!("{}: all requests are refused from now on", failure.message))?;
                broken = Some(failure);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(broken),
        }
        if counts && counted.elapsed() >= COUNT {
            counted = Instant::now();
            if let Err(failure) = count() {
                output.warning(format!("the use of plugins is not counted: {}", failure.message))?;
                counts = false;
            }
        }
    }
}

/// The server's thread: until the end is asked for, and what is under way has ended.
fn serve(listener: TcpListener, app: Arc<App>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = app.engine.clone();
    let ended = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let bounded = Bounded::new(listener, app.places.clone(), app.limits.read_timeout);
        let service = routes::router(app).into_make_service_with_connect_info::<Peer>();
        let server = axum::serve(bounded, service).with_graceful_shutdown(interrupted());
        let closing = async {
            interrupted().await;
            engine.finish();
            tokio::time::sleep(GRACE).await;
            engine.abort();
            tokio::time::sleep(LAST).await;
        };
        tokio::select! {
            result = server.into_future() => result,
            () = closing => Ok(()),
        }
    });
    engine.finish();
    engine.abort();
    ended
}

async fn interrupted() {
    while !driver::interrupted() {
        tokio::time::sleep(LOOK).await;
    }
}

fn listen(args: &ServeArgs) -> Result<(TcpListener, SocketAddr)> {
    let cannot = |error: io::Error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "Another program listens there: choose another --port, or 0 for a free one.",
            io::ErrorKind::PermissionDenied => "Choose a --port above 1023.",
            io::ErrorKind::AddrNotAvailable => "Name an address of this machine: --host 127.0.0.1.",
            _ => "Check --host and --port.",
        };
        failure(format!("cannot listen on {} port {}: {error}", args.host, args.port), advice)
    };
    let host = args.host.trim_start_matches('[').trim_end_matches(']');
    let listener = TcpListener::bind((host, args.port)).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    Ok((listener, address))
}

/// What clients have to show; none where the variable is absent or empty.
fn key() -> Result<Option<String>> {
    let Some(key) = env::var_os(KEY).filter(|key| !key.is_empty()) else { return Ok(None) };
    let shown = |c: char| c.is_ascii_graphic();
    match key.into_string() {
        Ok(key) if key.chars().all(shown) => Ok(Some(key)),
        // It travels in a header.
        _ => Err(failure(format!("{KEY} holds more than printable ASCII characters"), "Choose another key.")),
    }
}

fn limits(args: &ServeArgs) -> Limits {
    Limits {
        max_body_bytes: args.max_body_bytes as usize,
        max_connections: args.max_connections as usize,
        max_new_tokens: args.max_new_tokens as usize,
        read_timeout: Duration::from_secs(args.read_timeout.into()),
        request_timeout: Duration::from_secs(args.request_timeout.into()),
    }
}

/// Brings the use of stored plugins into their folder's counts.
struct Counting {
    store: Store,
    /// Id in the plugin folder by what requests call it.
    stored: BTreeMap<String, String>,
    written: BTreeMap<String, u64>,
}

impl Counting {
    fn new(store: Store, stored: BTreeMap<String, String>) -> Self {
        Self { store, stored, written: BTreeMap::new() }
    }

    fn write(&mut self, metrics: &Metrics) -> Result<()> {
        let uses = metrics.uses();
        let mut more: BTreeMap<String, u64> = BTreeMap::new();
        for (model, id) in &self.stored {
            let now = uses.get(model).copied().unwrap_or_default();
            let new = now.saturating_sub(self.written.get(model).copied().unwrap_or_default());
            if new > 0 {
                *more.entry(id.clone()).or_default() += new;
            }
        }
        if more.is_empty() {
            return Ok(());
        }
        self.store.count(more)?;
        self.written = uses;
        Ok(())
    }
}
