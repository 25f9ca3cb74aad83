//! Clients who write messages as fast as they may, in a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::load::openim::{Client, Flooder, Login, Told};
use crate::load::report::Report;
use crate::load::stage::Stage;

/// Time between two looks at how much is due.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Flood {
    stop: CancellationToken,
    told: Arc<Told>,
    thread: JoinHandle<Result>,
}

impl Flood {
    /// Lets users write to each other, `rate` messages a second in all as far as the node takes them.
    pub(super) fn start(stage: &Stage<'_>, users: Vec<Login>, rate: f64) -> Result<Self> {
        let (gateway, wire) = (stage.target.gateway, stage.options.wire());
        let content = stage.options.content;
        let (stop, told) = (CancellationToken::new(), Arc::new(Told::default()));
        let (stopped, tell) = (stop.clone(), Arc::clone(&told));
        // Well-behaved clients, measured in another thread, must not wait for these.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            // Elsewhere the clients' processors are not the node's.
            rustix::process::nice(10)?;
            runtime.block_on(async {
                let connecting =
                    users.iter().map(|login| Client::connect(gateway, login, wire, None));
                let clients = try_join_all(connecting).await?;
                let began = Instant::now();
                let due = |written: u64| began.elapsed().as_secs_f64() * rate > written as f64;
                let floods = clients.into_iter().enumerate().map(|(at, client)| {
                    let to = users.get(at ^ 1).map(|other| other.user_id.clone());
                    let (tell, due, stopped) = (Arc::clone(&tell), &due, stopped.clone());
                    async move {
                        let to = to.context("no partner")?;
                        let mut flooder = Flooder::new(client, to, content);
                        let work = flooder.work(&tell, PAUSE, due);
                        if let Some(Err(_)) = stopped.run_until_cancelled(work).await {
                            tell.ended.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok::<(), anyhow::Error>(())
                    }
                });
                try_join_all(floods).await?;
                Ok(())
            })
        });
        Ok(Self { stop, told, thread })
    }

    /// Ends it after `seconds`.
    pub(super) fn end(self, seconds: f64, report: &mut Report) -> Result {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        report.number("written by those who flood", read(&self.told.written) / seconds, "/s");
        report.number("of that acknowledged", read(&self.told.acknowledged) / seconds, "/s");
        report.number("of that refused", read(&self.told.refused) / seconds, "/s");
        report.number("connections ended by the node", read(&self.told.ended), "");
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow::anyhow!("the flood failed"))?
    }
}
