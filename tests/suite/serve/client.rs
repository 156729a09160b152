//! `paddock serve` in a folder, and a client that can do what no proper one does.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::cli::fixture::Folder;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// Once the models answer.
    pub fn start(folder: &Folder, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = folder.command(["serve", "--port", "0", "--device", "cpu", "--log_format", "json"]);
        command.args(args).env_remove("PADDOCK_API_KEY").envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (stdout, read) = (child.stdout.take().unwrap(), lines.clone());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
                read.lock().unwrap().push(line);
            }
        });
        let mut server = Self { child, address: String::new(), lines };
        let ready = server.line("ready");
        server.address = ready["url"].as_str().unwrap().trim_start_matches("http://").to_owned();
        server
    }

    /// The lines of a kind that there are.
    pub fn lines(&self, kind: &str) -> Vec<Value> {
        self.lines.lock().unwrap().iter().filter(|line| line["event"] == kind).cloned().collect()
    }

    /// The first line of a kind, when it comes.
    pub fn line(&self, kind: &str) -> Value {
        let what = format!("a line `{kind}`");
        until(&what, || {
            let failed = self.lines("error");
            assert!(failed.is_empty() || kind == "error", "{failed:?}");
            self.lines(kind).first().cloned()
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        exchange(&self.address, self.request(method, path, headers, body).as_bytes())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path, &[], &body.to_string())
    }

    /// Headers may stand for the usual ones.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        let length = body.len().to_string();
        let usual = [
            ("Host", self.address.as_str()),
            ("Content-Type", "application/json"),
            ("Content-Length", &length),
            ("Connection", "close"),
        ];
        let given = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in usual.iter().filter(|(name, _)| !given(name)).chain(headers) {
            text += &format!("{name}: {value}\r\n");
        }
        format!("{text}\r\n{body}")
    }

    pub fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    /// A number of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let reply = self.get("/metrics");
        let line = reply.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{}", reply.body)).parse().unwrap()
    }

    /// Ctrl-C; its exit status, and the last line.
    #[cfg(unix)]
    pub fn interrupt(mut self) -> (Option<i32>, Value) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let code = self.child.wait().unwrap().code();
        (code, self.line("result"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `find` gives once it gives something.
pub fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes, whatever they are, and reads until the server ends.
pub fn exchange(address: &str, bytes: &[u8]) -> Reply {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A server that has refused a body need not wait for the rest of it.
    let _ = stream.read_to_end(&mut answer);
    Reply::read(&answer)
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Reply {
    pub fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = &bytes[end + 4..];
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { without_chunks(body) } else { body.to_vec() };
        Self { status, head, body: String::from_utf8(body).unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The answer, where all is well.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Status and code of a refusal, whose message is there.
    pub fn refusal(&self) -> (u16, Value) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{error}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
        (self.status, error["code"].clone())
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What a stream sent, without its last word.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), Some("text/event-stream"));
        let data = self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let data: Vec<&str> = data.collect();
        assert_eq!(data.last(), Some(&"[DONE]"), "{self:?}");
        data[..data.len() - 1].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn without_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|error| panic!("{error} in {size}"));
        if size == 0 {
            break;
        }
        whole.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

/// A chat of one turn.
pub fn chat(text: &str, more: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text of a chat's or a prompt's pieces.
pub fn joined(events: &[Value]) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0));
    choices.filter_map(|choice| choice["delta"]["content"].as_str().or(choice["text"].as_str())).collect()
}
