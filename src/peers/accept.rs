//! Connections of others to this node: greeted, then answered for as long as they last.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::consensus::{NodeId, Request};

use super::frame::{Frame, GREETING_BYTES_MAX, Kind, invalid};
use super::gossip::Gossip;
use super::hello::{Hello, LaneName, Reason, Refusal};
use super::join;
use super::link::{Ending, refuse, write};
use super::shared::{Held, Shared, certified, explain};

/// Takes connections. One that has not greeted holds one of few places, so whoever connects and says nothing keeps others waiting, for a while.
pub async fn run(shared: Rc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(shared.options.handshakes_max));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let shared = shared.clone();
                spawn_local(async move {
                    let handshake = Duration::from_millis(shared.options.handshake_ms);
                    if timeout(handshake, begin(&shared, stream, from)).await.is_err() {
                        tracing::debug!(%from, "a connection has not greeted in time");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Mostly the process has no descriptor left.
                tracing::warn!(%error, "a connection of another server could not be taken");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn begin(shared: &Rc<Shared>, stream: TcpStream, from: SocketAddr) {
    // Without its port, which is another each time.
    let who = from.ip().to_string();
    if let Err(error) = greet(shared, stream, &who).await {
        shared.note_refused(&who, &Refusal::new(Reason::Failed, explain(&error)));
    }
}

/// Greets, or says why not. What is greeted is served by a task of its own.
async fn greet(shared: &Rc<Shared>, stream: TcpStream, from: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = shared.acceptor.accept(stream).await?;
    let frame = Frame::read(&mut stream, GREETING_BYTES_MAX).await?;
    let certified = certified(stream.get_ref().1);
    let who = certified.map_or_else(|| from.to_owned(), |(_, node)| format!("node {node}"));
    let judged = match frame.kind {
        Kind::Hello => Hello::read(&frame.body).and_then(|hello| shared.greet(&hello, certified).map(|held| (hello, held))),
        Kind::Join => match join::admit(shared, &frame.body) {
            Ok(admitted) => return join::tell_admitted(&mut stream, admitted).await,
            Err(refusal) => Err(refusal),
        },
        _ => Err(Refusal::new(Reason::Malformed, "the first frame is no greeting")),
    };
    match judged {
        Ok((hello, held)) => {
            Frame::new(Kind::Hello, 0, shared.hello(hello.from, hello.lane)).write(&mut stream).await?;
            tokio::io::AsyncWriteExt::flush(&mut stream).await?;
            let task = spawn_local(serve(shared.clone(), stream, (hello.from, hello.lane), held));
            shared.note_incoming(hello.from, hello.lane, task.abort_handle());
        }
        Err(refusal) => {
            shared.note_refused(&who, &refusal);
            refuse(&mut stream, &refusal).await;
        }
    }
    Ok(())
}

async fn serve(shared: Rc<Shared>, stream: TlsStream<TcpStream>, (node, lane): (NodeId, LaneName), held: Held) {
    if let Err(error) = answer_all(&shared, stream, (node, lane)).await {
        tracing::debug!(node, %error, "a connection of another server has ended");
    }
    drop(held);
}

/// Answers what is asked until the connection ends. As many questions are answered at a time as may be under way; more are not read.
async fn answer_all(shared: &Rc<Shared>, stream: TlsStream<TcpStream>, (node, lane): (NodeId, LaneName)) -> io::Result<()> {
    let Some(inbox) = shared.inbox() else { return Ok(()) };
    let (mut reading, writing) = tokio::io::split(stream);
    let requests_max = shared.options.requests_max(lane);
    let (out, queue) = mpsc::channel(requests_max + 4);
    let _writer = Ending(spawn_local(write(writing, queue, None::<(Duration, fn() -> Vec<u8>)>)).abort_handle());
    let places = Arc::new(Semaphore::new(requests_max));
    let silence = Duration::from_millis(shared.options.silence_ms);
    let mut answering = JoinSet::new();
    loop {
        let frame = timeout(silence, Frame::read(&mut reading, shared.options.frame_bytes_max)).await??;
        while answering.try_join_next().is_some() {}
        match frame.kind {
            Kind::Request => {
                let request = Request::decode(&frame.body).map_err(|_| invalid("a question that cannot be read"))?;
                let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (inbox, out) = (inbox.clone(), out.clone());
                answering.spawn_local(async move {
                    let answer = match inbox.answer(request).await {
                        Ok(answer) => Frame::new(Kind::Answer, frame.number, answer.encode()),
                        Err(_) => Frame::new(Kind::Unanswered, frame.number, Vec::new()),
                    };
                    // Nobody waits for it where the connection has ended.
                    let _ = out.send(answer).await;
                    drop(place);
                });
            }
            Kind::Gossip => {
                if !frame.body.is_empty() {
                    let gossip = Gossip::read(&frame.body).ok_or_else(|| invalid("gossip that cannot be read"))?;
                    shared.hear_gossip(gossip);
                }
                out.send(Frame::new(Kind::Heard, 0, Vec::new())).await.map_err(io::Error::other)?;
            }
            Kind::Refused => {
                shared.note_refused_by(node, &Refusal::read(&frame.body));
                return Ok(());
            }
            _ => return Err(invalid("a side that asks says what only one that answers may say")),
        }
    }
}
