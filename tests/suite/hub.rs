//! Models from the hub, against a server of the hub's layout that breaks connections, lies and refuses.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::fixture::{Folder, Run, bytes};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";

/// How the server behaves towards the weights.
#[derive(Clone, Default)]
struct Manners {
    /// Cuts so many answers in the middle.
    cuts: usize,
    /// Says another length than the body has.
    content_length: Option<i64>,
    /// Says another size than the file has.
    linked_size: Option<i64>,
    ignores_ranges: bool,
    /// Sends other bytes than the SHA-256 is of.
    damages: bool,
    /// Answers everything with this status and X-Error-Code.
    refuses: Option<(u16, &'static str)>,
    /// Fails so many requests with 503 first.
    busy: usize,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    manners: Manners,
    /// `path range authorization`
    seen: Vec<String>,
}

struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Hub {
    fn new(folder: &Folder, manners: Manners) -> Self {
        let names = ["config.json", WEIGHTS, "tokenizer.json"];
        let files = names.map(|name| (name.to_owned(), bytes(&folder.path("model").join(name))));
        Self::of(files.into(), manners)
    }

    fn of(files: HashMap<String, Vec<u8>>, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { files, manners, seen: Vec::new() }));
        let (shared, port) = (state.clone(), listener.local_addr().unwrap().port());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A broken connection is what some tests are about.
                thread::spawn(move || drop(answer(stream, &shared, port)));
            }
        });
        Self { address, state }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    fn export(&self, folder: &Folder, model: &str, output: &str) -> Run {
        run(folder, &format!("http://{}", self.address), model, output, &[])
    }
}

fn run(folder: &Folder, endpoint: &str, model: &str, output: &str, variables: &[(&str, &str)]) -> Run {
    let args = ["export", "--format", "merged", "--device", "cpu", "--log-format", "json", "--output_dir", output];
    let mut command = folder.command([&args[..], &["--model_name_or_path", model]].concat());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", folder.path("hf")).envs(variables.iter().copied());
    Run::from(command.output().unwrap())
}

fn answer(stream: TcpStream, state: &Mutex<State>, port: u16) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut state = state.lock().unwrap();
    state.seen.push(format!("{path} {} {}", header("range"), header("authorization")).trim().to_owned());
    if let Some((status, code)) = state.manners.refuses {
        return write(stream, status, &[("X-Error-Code", code.into())], b"", None);
    }
    if state.manners.busy > 0 {
        state.manners.busy -= 1;
        return write(stream, 503, &[], b"", None);
    }
    if path == "/api/models/org/tiny/revision/main" {
        let siblings: Vec<_> = state.files.keys().map(|name| json!({"rfilename": name})).collect();
        let body = json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return write(stream, 200, &[], body.as_bytes(), None);
    }
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let Some(content) = state.files.get(&name).cloned() else { return write(stream, 404, &[], b"", None) };
    let sha256: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let size = content.len() as i64;
    if path == format!("/org/tiny/resolve/{COMMIT}/{name}") {
        if name == WEIGHTS {
            let linked = (size + state.manners.linked_size.unwrap_or(0)).to_string();
            let to = format!("http://localhost:{port}/cdn/{name}");
            let tag = format!("\"{sha256}\"");
            let more =
                [("X-Linked-Etag", tag), ("X-Linked-Size", linked), ("Location", to), ("ETag", "W/\"x\"".into())];
            return write(stream, 302, &more, b"", None);
        }
        let to = format!("/kept/{name}");
        return write(stream, 307, &[("Location", to), ("ETag", "W/\"of-the-redirect\"".into())], b"", None);
    }
    if path == format!("/kept/{name}") {
        return write(stream, 200, &[("ETag", format!("\"{}\"", &sha256[..40]))], &content, None);
    }
    assert_eq!(path, format!("/cdn/{WEIGHTS}"));
    let manners = state.manners.clone();
    let start: usize = header("range").trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
    let start = if manners.ignores_ranges { 0 } else { start };
    if start > content.len() || (start == content.len() && start > 0) {
        return write(stream, 416, &[], b"", None);
    }
    let mut body = content[start..].to_vec();
    if manners.damages {
        body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let length = body.len() as i64 + manners.content_length.unwrap_or(0);
    if manners.cuts > 0 {
        state.manners.cuts -= 1;
        body.truncate(body.len() / 2);
    }
    drop(state);
    let range = format!("bytes {start}-{}/{size}", size - 1);
    let status = if start > 0 { 206 } else { 200 };
    write(stream, status, &[("Content-Range", range), ("ETag", "\"cdn\"".into())], &body, Some(length))
}

fn write(
    mut stream: TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
    length: Option<i64>,
) -> std::io::Result<()> {
    let length = length.unwrap_or(body.len() as i64);
    let mut head = format!("HTTP/1.1 {status} Any\r\nContent-Length: {length}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)
}

fn same_model(folder: &Folder, output: &str) {
    let weights = |place: &str| bytes(&folder.path(place).join(WEIGHTS));
    let read = |bytes: &[u8]| -> Vec<(String, Vec<u8>)> {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut all: Vec<_> = file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
        all.sort();
        all
    };
    assert!(read(&weights(output)) == read(&weights("model")), "the model that was fetched is another");
}

#[test]
fn a_model_is_fetched_once_through_broken_connections() {
    let folder = Folder::new();
    // Each resumption asks twice: which content it is, then for the rest of it.
    let hub = Hub::new(&folder, Manners { cuts: 5, busy: 1, ..Manners::default() });
    let endpoint = format!("http://{}", hub.address);
    let run1 = run(&folder, &endpoint, "org/tiny", "out", &[("HF_TOKEN", "hf_secret")]);
    run1.result();
    same_model(&folder, "out");
    assert!(run1.events("download").iter().any(|line| line["file"] == WEIGHTS && line["total"].as_u64().is_some()));
    let seen = hub.seen();
    let size = bytes(&folder.path("model").join(WEIGHTS)).len();
    let resumed: Vec<_> = seen.iter().filter(|line| line.contains("/cdn/") && line.contains("bytes=")).collect();
    for (cut, start) in [size / 2, size - size / 4 - 1, size - size / 8 - 1].iter().enumerate() {
        let near = |line: &&&String| {
            let from: usize = line.split("bytes=").nth(1).unwrap().trim_end_matches('-').parse().unwrap();
            from.abs_diff(*start) <= 2
        };
        assert!(resumed.iter().any(|line| near(&line)), "cut {cut} goes on near {start}: {resumed:?}");
    }
    // The token goes to the hub and nowhere else.
    assert!(seen.iter().all(|line| line.contains("/cdn/") != line.contains("Bearer hf_secret")), "{seen:?}");

    // As huggingface_hub lays it out.
    let place = folder.path("hf/hub/models--org--tiny");
    assert_eq!(std::fs::read_to_string(place.join("refs/main")).unwrap(), COMMIT);
    let snapshot = place.join("snapshots").join(COMMIT);
    #[cfg(unix)]
    assert!(std::fs::read_link(snapshot.join(WEIGHTS)).unwrap().starts_with("../../blobs"));
    assert_eq!(bytes(&snapshot.join(WEIGHTS)), bytes(&folder.path("model").join(WEIGHTS)));
    let blobs: Vec<_> = folder.names("hf/hub/models--org--tiny/blobs");
    assert!(blobs.len() == 3 && blobs.iter().all(|name| !name.ends_with(".incomplete")), "{blobs:?}");

    // Never twice: only the revision is asked for; and nothing at all where there is no connection.
    hub.export(&folder, "org/tiny", "again").result();
    assert_eq!(hub.seen(), ["/api/models/org/tiny/revision/main"]);
    let offline = run(&folder, &endpoint, "org/tiny@main", "offline", &[("HF_HUB_OFFLINE", "1")]);
    offline.result();
    assert!(offline.events("warning")[0]["message"].as_str().unwrap().contains("HF_HUB_OFFLINE"));
    run(&folder, "http://127.0.0.1:9", "org/tiny", "unplugged", &[]).result();
    same_model(&folder, "unplugged");
    assert_eq!(hub.seen(), [""; 0]);
}

#[test]
fn a_server_that_cannot_resume_is_served_from_the_start() {
    let folder = Folder::new();
    let hub = Hub::new(&folder, Manners { cuts: 2, ignores_ranges: true, ..Manners::default() });
    hub.export(&folder, "org/tiny", "out").result();
    same_model(&folder, "out");
}

#[test]
fn a_length_that_is_too_long_by_the_header_alone_does_no_harm() {
    let folder = Folder::new();
    let hub = Hub::new(&folder, Manners { content_length: Some(1000), ..Manners::default() });
    hub.export(&folder, "org/tiny", "out").result();
    same_model(&folder, "out");
}

#[test]
fn lies_and_damage_end_with_a_clear_error_and_leave_nothing_behind() {
    for manners in [
        Manners { linked_size: Some(1000), ..Manners::default() },
        Manners { linked_size: Some(-1000), ..Manners::default() },
        Manners { damages: true, ..Manners::default() },
    ] {
        let folder = Folder::new();
        let hub = Hub::new(&folder, manners);
        let error = hub.export(&folder, "org/tiny", "out").error();
        assert!(error.contains(WEIGHTS) && error.contains("damaged"), "{error}");
        assert!(!folder.path("hf/hub/models--org--tiny/refs/main").exists());
        let blobs = folder.names("hf/hub/models--org--tiny/blobs");
        assert!(blobs.len() == 2 && blobs.iter().all(|name| name.len() == 40), "{blobs:?}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let folder = Folder::new();
    for (refuses, model, words) in [
        ((401, ""), "org/tiny", ["org/tiny", "HF_TOKEN"]),
        ((403, "GatedRepo"), "org/tiny", ["gated", "HF_TOKEN"]),
        ((404, ""), "org/tiny", ["no model org/tiny", "name"]),
        ((404, "RevisionNotFound"), "org/tiny@v9", ["no revision v9", "branch"]),
        ((503, ""), "org/tiny", ["503", "start again"]),
    ] {
        let hub = Hub::new(&folder, Manners { refuses: Some(refuses), ..Manners::default() });
        let error = hub.export(&folder, model, "out").error();
        assert!(words.iter().all(|word| error.contains(word)), "{refuses:?}: {error}");
    }
    let error = run(&folder, "http://127.0.0.1:9", "org/tiny", "out", &[]).error();
    assert!(error.contains("org/tiny") && error.contains("127.0.0.1:9") && error.contains("connection"), "{error}");
    let error = run(&folder, "http://127.0.0.1:9", "no such name", "out", &[]).error();
    assert!(error.contains("no such folder") && error.contains("org/name"), "{error}");
}

#[test]
fn shards_are_fetched_and_none_leads_elsewhere() {
    let folder = Folder::new();
    let index = |name: &str| json!({"weight_map": {"a": name, "b": "model-2.safetensors"}}).to_string().into_bytes();
    let files = |name: &str| {
        let config = bytes(&folder.path("model/config.json"));
        HashMap::from([
            ("config.json".to_owned(), config),
            ("model.safetensors.index.json".to_owned(), index(name)),
            ("model-1.safetensors".to_owned(), vec![1; 100]),
            ("model-2.safetensors".to_owned(), vec![2; 100]),
        ])
    };
    // Whether such a folder then opens is another matter.
    let hub = Hub::of(files("model-1.safetensors"), Manners::default());
    hub.export(&folder, "org/tiny", "out");
    let snapshot = folder.path("hf/hub/models--org--tiny/snapshots").join(COMMIT);
    assert_eq!(bytes(&snapshot.join("model-1.safetensors")), [1; 100]);
    assert_eq!(bytes(&snapshot.join("model-2.safetensors")), [2; 100]);

    std::fs::remove_dir_all(folder.path("hf")).unwrap();
    let hub = Hub::of(files("../../model-1.safetensors"), Manners::default());
    let error = hub.export(&folder, "org/tiny", "out").error();
    assert!(error.contains("index.json"), "{error}");

    let hub =
        Hub::of(HashMap::from([("README.md".to_owned(), vec![]), ("a.gguf".to_owned(), vec![])]), Manners::default());
    let error = hub.export(&folder, "org/tiny", "out").error();
    assert!(error.contains("gguf") && error.contains("safetensors"), "{error}");
}
