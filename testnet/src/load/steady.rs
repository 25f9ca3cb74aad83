//! Pairs who chat at a fixed rate beside whatever else goes on, watched window by window.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::chat::connect;
use super::drive::{Outcome, Pace, Shared, Sizes, Work, drive};
use super::openim::{Client, Login};
use super::peer::To;
use super::report::Report;
use super::stage::Stage;
use super::target::Target;
use super::text::Texts;
use super::windows::Window;
use super::{pacer, run};
use crate::Result;
use crate::organisations::elsewhere;

/// Pairs at work.
pub(crate) struct Steady {
    shared: Arc<Shared>,
    tasks: JoinSet<Outcome>,
    pacer: std::thread::JoinHandle<()>,
    echoes: bool,
}

impl Steady {
    /// Connects the users, each even one with the odd one after it, and lets the even ones send
    /// `rate` messages a second in all.
    pub(crate) async fn start(stage: &Stage<'_>, users: &[Login], rate: u32) -> Result<Self> {
        let clients = connect(stage.target, users, stage.options.wire()).await?;
        let mut roles = Vec::with_capacity(clients.len());
        for (number, client) in clients.into_iter().enumerate() {
            let other = users.get(number ^ 1).context("no partner")?;
            roles.push((client, other.user_id.clone()));
        }
        Self::begin(stage, roles, rate)
    }

    /// The same between two nodes: the writers are at the target, the readers at another node with a
    /// domain.
    pub(crate) async fn across(
        stage: &Stage<'_>,
        writers: &[Login],
        (there, readers, domain): (&Target, &[Login], &str),
        rate: u32,
    ) -> Result<Self> {
        let wire = stage.options.wire();
        let at_writers = connect(stage.target, writers, wire).await?;
        let at_readers = connect(there, readers, wire).await?;
        let mut roles = Vec::with_capacity(writers.len() * 2);
        for ((writer, reader), to) in at_writers.into_iter().zip(at_readers).zip(readers) {
            let to = elsewhere(&to.user_id, domain);
            roles.push((writer, to.clone()));
            roles.push((reader, to));
        }
        Self::begin(stage, roles, rate)
    }

    /// Each even one writes to the user with it.
    fn begin(stage: &Stage<'_>, roles: Vec<(Client, String)>, rate: u32) -> Result<Self> {
        let Stage { target, options, .. } = stage;
        let shared = Shared::with_windows()?;
        let texts = Texts::new(2);
        let (mut tasks, mut arrivals) = (JoinSet::new(), Vec::new());
        for (number, (client, other)) in (0_u32..).zip(roles) {
            let pace = if number % 2 == 0 {
                let (tell, told) = mpsc::unbounded_channel();
                arrivals.push(tell);
                Pace::Arrivals(told)
            } else {
                Pace::Silent
            };
            let work = Work {
                number,
                to: To::User(other),
                reaches: 1,
                pace,
                sizes: Sizes::Fixed(options.content),
                texts: texts.fork(number.into()),
            };
            tasks.spawn(drive(client, work, Arc::clone(&shared)));
        }
        let pacer = pacer::start(rate, arrivals, Arc::clone(&shared));
        Ok(Self { shared, tasks, pacer, echoes: target.echoes })
    }

    /// Latencies from send to delivered since the last call.
    pub(crate) fn turn(&self) -> Window {
        self.shared.windows.as_ref().map(super::windows::Windows::turn).unwrap_or_default()
    }

    /// Latencies since the last call of this.
    pub(crate) fn end_of_phase(&self) -> Window {
        let windows = self.shared.windows.as_ref();
        windows.map(super::windows::Windows::end_of_phase).unwrap_or_default()
    }

    /// Messages acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it; what was lost, doubled or out of order is a fault.
    pub(crate) async fn end(mut self, report: &mut Report) -> Result {
        self.shared.sent_all.store(true, Ordering::Relaxed);
        pacer::join(Some(self.pacer))?;
        let complete = run::drain(&self.shared, self.echoes).await;
        self.shared.end.cancel();
        let mut outcomes = Vec::with_capacity(self.tasks.len());
        while let Some(outcome) = self.tasks.join_next().await {
            outcomes.push(outcome?);
        }
        run::check(&self.shared, &outcomes, complete, self.echoes, report);
        Ok(())
    }
}
