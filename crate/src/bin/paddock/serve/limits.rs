//! Connections: only so many at once, and none that does not get on.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// Takes a connection when there is a place for it; until then the system keeps it waiting.
pub struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Bounded {
    /// A connection may take `patience` for a request's head, and for taking in a piece of an answer.
    pub fn new(listener: TcpListener, places: Arc<Semaphore>, patience: Duration) -> Self {
        Self { listener, places, patience }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // Nobody closes the semaphore.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = <TcpListener as Listener>::accept(&mut self.listener).await;
        // Pieces of an answer are sent as they come; where that cannot be, they come later.
        let _ = stream.set_nodelay(true);
        (Connection::new(stream, place, self.patience), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Requests of a connection that are being answered, and how many were.
#[derive(Debug, Default)]
pub struct Turns {
    active: AtomicUsize,
    ended: AtomicU64,
}

/// A request that is being answered.
pub struct Turn(Arc<Turns>);

impl Turn {
    pub fn new(turns: Arc<Turns>) -> Self {
        turns.active.fetch_add(1, Ordering::AcqRel);
        Self(turns)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that ends where its client takes too long. hyper has a timer of its own for heads, which axum does not set.
pub struct Connection {
    stream: TcpStream,
    turns: Arc<Turns>,
    patience: Duration,
    /// Requests that were over when the wait for the next head began.
    seen: u64,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>, patience: Duration) -> Self {
        Self { stream, turns: Arc::default(), patience, seen: 0, reading: None, writing: None, _place: place }
    }

    /// Whether the next head is not there in time. A client that sends a byte now and then is late as well.
    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.turns.active.load(Ordering::Acquire) > 0 {
            // A body has a limit of its own, and an answer takes what it takes.
            self.reading = None;
            return false;
        }
        let ended = self.turns.ended.load(Ordering::Acquire);
        if std::mem::replace(&mut self.seen, ended) != ended {
            self.reading = None;
        }
        expired(&mut self.reading, self.patience, cx)
    }
}

/// Whether a timer that begins now, if it has not yet, has run out.
fn expired(timer: &mut Option<Pin<Box<Sleep>>>, patience: Duration, cx: &mut Context<'_>) -> bool {
    timer.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx).is_ready()
}

/// What a write came to; an error where it has waited too long.
fn written<T>(
    timer: &mut Option<Pin<Box<Sleep>>>,
    patience: Duration,
    cx: &mut Context<'_>,
    result: Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    if result.is_ready() {
        *timer = None;
        return result;
    }
    if expired(timer, patience, cx) { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.late(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        written(&mut this.writing, this.patience, cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        written(&mut this.writing, this.patience, cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        written(&mut this.writing, this.patience, cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(cx);
        written(&mut this.writing, this.patience, cx, result)
    }
}

/// What a request knows of its connection.
#[derive(Debug, Clone)]
pub struct Peer(pub Arc<Turns>);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(stream.io().turns.clone())
    }
}
