//! How long a connection may stay with nothing happening on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::HANDSHAKE_DEADLINE;

/// How long a connection is read on after its last answer, and how much, while its client still
/// sends what that answer refused: closed earlier, the connection would be reset and the answer lost.
const LEAVE_DEADLINE: Duration = Duration::from_secs(30);
const LEAVE_BYTES: usize = 16 * 1024 * 1024;
/// How long the head of a request may still come once the node stops.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// The head of a request comes, or is awaited on a new connection.
const HEAD: u8 = 0;
/// A request is answered; it has its own deadlines.
const BUSY: u8 = 1;
/// Everything is answered, nothing is asked.
const BETWEEN: u8 = 2;
/// The last answer is given.
const LEAVING: u8 = 3;

/// Connections that a port has room for.
#[derive(Clone)]
pub(super) struct Room {
    pub(super) free: Arc<Semaphore>,
    pub(super) most: usize,
}

impl Room {
    /// Whether connections that do nothing should make room.
    fn is_short(&self) -> bool {
        self.free.available_permits() < self.most / 4
    }
}

/// What one connection is doing, and since when.
pub(super) struct Watch {
    start: Instant,
    phase: AtomicU8,
    /// Milliseconds from `start` to the beginning of the phase, or to the last byte written in it.
    since: AtomicU64,
    /// Some of a head has come.
    begun: AtomicBool,
    unread: AtomicBool,
    idle: Duration,
    room: Room,
    stop: CancellationToken,
}

impl Watch {
    /// A new connection that may stay idle so long between requests, while there is room, and stays
    /// no longer than it must once `stop` is cancelled.
    pub(super) fn new(idle: Duration, room: Room, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            phase: AtomicU8::new(HEAD),
            since: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            idle,
            room,
            stop,
        })
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        let passed = self.start.elapsed().as_millis();
        self.since.store(u64::try_from(passed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    /// A request is there.
    pub(super) fn busy(&self) {
        self.phase.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer has been handed over.
    pub(super) fn answered(&self) {
        if self.phase() == BUSY {
            self.enter(BETWEEN);
        }
    }

    /// A request was answered of which more is to come than is worth reading.
    pub(super) fn leaves_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    fn read(&self) {
        if self.phase() == BETWEEN {
            self.enter(HEAD);
        }
        self.begun.store(true, Ordering::Relaxed);
    }

    fn wrote(&self) {
        if self.phase() != BUSY {
            self.touch();
        }
    }

    /// Whether the client may still be sending although everything is said.
    fn leave(&self) -> bool {
        let phase = self.phase();
        let of_head = phase == HEAD && self.begun.load(Ordering::Relaxed);
        if of_head || phase != LEAVING && self.unread.load(Ordering::Relaxed) {
            self.enter(LEAVING);
        }
        self.phase() == LEAVING && !self.stop.is_cancelled()
    }

    /// Returns once the connection has done nothing for too long, or does nothing that the node
    /// would not stop for.
    pub(super) async fn over(&self) {
        if self.stop.run_until_cancelled(self.over_by_itself()).await.is_some() {
            return;
        }
        if self.phase() == HEAD {
            tokio::time::sleep(STOP_DEADLINE).await;
        }
        while ![HEAD, LEAVING].contains(&self.phase()) {
            let next = tokio::time::timeout(STOP_DEADLINE, self.over_by_itself());
            if next.await.is_ok() {
                return;
            }
        }
    }

    async fn over_by_itself(&self) {
        loop {
            let now = Instant::now();
            let since = self.start + Duration::from_millis(self.since.load(Ordering::Relaxed));
            let short = self.idle.min(HANDSHAKE_DEADLINE);
            // The phase changes meanwhile, and so does the room.
            let look_again = now + short.max(Duration::from_secs(1));
            let end = match self.phase() {
                BUSY => look_again,
                HEAD => since + HANDSHAKE_DEADLINE,
                LEAVING => since + LEAVE_DEADLINE,
                _ if self.room.is_short() => since + short,
                _ => since + self.idle,
            };
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end.min(look_again)).await;
        }
    }
}

/// The bytes of a connection, watched.
pub(super) struct Watched<I> {
    io: I,
    watch: Arc<Watch>,
    shut: bool,
    discarded: usize,
}

impl<I> Watched<I> {
    pub(super) fn new(io: I, watch: Arc<Watch>) -> Self {
        Self { io, watch, shut: false, discarded: 0 }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.watch.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.watch.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        self.watch.wrote();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Says that nothing more comes; then reads on while the client still sends.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.shut = true;
        }
        while self.watch.leave() && self.discarded < LEAVE_BYTES {
            let mut space = [0; 8 * 1024];
            let mut discarded = ReadBuf::new(&mut space);
            // A reset is an end too.
            let came = ready!(Pin::new(&mut self.io).poll_read(context, &mut discarded));
            if came.is_err() || discarded.filled().is_empty() {
                break;
            }
            self.discarded += discarded.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
