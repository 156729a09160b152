//! Answers in pieces, as server-sent events.

use std::{convert::Infallible, sync::Arc};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
// The one channel among the dependencies whose end is a stream, which is what axum wants of a body.
use cubecl::future::channel::{Sender, unbounded};
use serde_json::Value;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use super::{
    handle::Piece,
    refusal::Refusal,
    routes::next,
    ticket::Ticket,
    wire::{Tokens, Wire},
};

/// OpenAI's last word.
const DONE: &str = "[DONE]";

/// Sends the pieces of `count` answers on as they come. A client that has gone lets go of `pieces`, and so the engine of
/// its answers.
pub fn respond(
    wire: Wire,
    pieces: UnboundedReceiver<Piece>,
    count: usize,
    deadline: Instant,
    ticket: Arc<Ticket>,
) -> Response {
    let (events, stream) = unbounded();
    tokio::spawn(forward(wire, pieces, count, deadline, ticket, Events(events)));
    Sse::new(stream).keep_alive(KeepAlive::new()).into_response()
}

struct Events(Sender<Result<Event, Infallible>>);

impl Events {
    /// An end that is gone is found out by [`Self::closed`].
    fn send(&self, data: &str) {
        let _ = self.0.try_send(Ok(Event::default().data(data)));
    }

    fn json(&self, value: &Value) {
        self.send(&value.to_string());
    }

    /// Once nobody reads any more.
    async fn closed(&self) {
        self.0.closed().await;
    }
}

async fn forward(
    wire: Wire,
    mut pieces: UnboundedReceiver<Piece>,
    count: usize,
    deadline: Instant,
    ticket: Arc<Ticket>,
    events: Events,
) {
    (0..count).filter_map(|index| wire.first(index)).for_each(|first| events.json(&first));
    let mut tokens = Tokens::default();
    let mut left = count;
    while left > 0 {
        let piece = tokio::select! {
            () = events.closed() => return ticket.gone(),
            piece = next(&mut pieces, deadline) => piece,
        };
        match piece {
            Ok(Piece::Begun) => {}
            Ok(Piece::Text { index, text }) => events.json(&wire.text(index, &text)),
            Ok(Piece::Done { index, prediction }) => {
                tokens.add(&prediction);
                events.json(&wire.last(index, prediction.finish_reason));
                left -= 1;
            }
            Ok(Piece::Failed(refusal)) | Err(refusal) => return broken(&refusal, &ticket, &events),
        }
    }
    if let Some(usage) = wire.usage(tokens) {
        events.json(&usage);
    }
    events.send(DONE);
    ticket.answered(count, tokens);
}

/// The status has gone out already: an event says what happened, and no last word comes.
fn broken(refusal: &Refusal, ticket: &Ticket, events: &Events) {
    events.json(&refusal.json());
    ticket.refused(refusal);
}
