//! Handshakes that go on forever, a letter at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::Result;
use crate::load::report::Report;

/// Those who begin one.
pub(super) const CLIENTS: usize = 2_000;
/// How long they are watched; longer than a node waits for a handshake.
pub(super) const LASTS: Duration = Duration::from_secs(40);
/// Pause between two letters.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct HalfOpen {
    tasks: JoinSet<()>,
    ended: Arc<AtomicU64>,
}

pub(super) fn start(gateway: SocketAddr) -> HalfOpen {
    let ended = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let ended = Arc::clone(&ended);
        tasks.spawn(async move {
            let _: Result = dribble(gateway).await;
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    HalfOpen { tasks, ended }
}

/// Ends when the node ends it.
async fn dribble(gateway: SocketAddr) -> Result {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 7), 0).into())?;
    let mut stream = socket.connect(gateway).await?;
    stream.write_all(b"GET /?sendID=").await?;
    let mut answer = [0; 64];
    loop {
        match tokio::time::timeout(PAUSE, stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return Ok(()),
            Ok(Ok(_)) => {}
            Err(_) => stream.write_all(b"x").await?,
        }
    }
}

impl HalfOpen {
    pub(super) async fn end(mut self, report: &mut Report) -> Result {
        let ended = self.ended.load(Ordering::Relaxed);
        self.tasks.shutdown().await;
        report.number("ended by the node", ended as f64, "");
        if ended < CLIENTS as u64 {
            report.fault(format!("{} of them are still open", CLIENTS as u64 - ended));
        }
        Ok(())
    }
}
