use std::ops::Bound::Unbounded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::committer::{Committer, Job};
use crate::engine::{Batch, Direction, Engine, Follower, StandIns};
use crate::history::State;
use crate::message_log::Tails;
use crate::record::Meta;
use crate::room::{Purpose, Reserve, Room};
use crate::waiting::{Place, Queued, Waiting};
use crate::{StoreError, Tx, View, fault, schema};

/// How a store works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Random bytes, kept at the first start; the identity of all version logs follows from them.
    pub salt: [u8; 16],
    /// Milliseconds for which a repeated clientMsgID is recognised.
    pub dedupe_window_ms: i64,
    /// Messages of one conversation among which it is recognised.
    pub dedupe_messages: usize,
    /// Bytes of disk below which the store only takes what [makes room](Store::transact_to_make_room).
    pub reserve_bytes: u64,
    /// Runs transactions on the thread of the caller, one after the other, instead of one of its
    /// own: for simulations in paused time.
    pub inline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            salt: [0; 16],
            dedupe_window_ms: 30 * 60 * 1_000,
            dedupe_messages: 4_096,
            reserve_bytes: 32 << 20,
            inline: false,
        }
    }
}

impl Options {
    /// Bytes of disk below which a store refuses all changes.
    #[must_use]
    pub fn least_bytes(&self) -> u64 {
        Reserve::of(self.reserve_bytes).floor()
    }
}

pub(crate) struct Shared {
    pub(crate) engine: StandIns,
    pub(crate) salt: [u8; 16],
    /// The newest durable state.
    pub(crate) durable: RwLock<Arc<State>>,
    reserve: Reserve,
    /// Commits made durable, each with one sync.
    pub(crate) commits: AtomicU64,
}

/// Without a bound: whoever adds to the queue waits for the answer, so it never holds more than
/// there are callers; and with one, callers who wait for room would lose their order.
type Jobs = mpsc::UnboundedSender<Queued>;

/// The data of one node. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    /// `None` once the store is closed.
    jobs: Arc<RwLock<Option<Jobs>>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// The committer, where it has no thread of its own.
    inline: Option<Arc<Mutex<Committer>>>,
}

impl Store {
    /// Opens the data in `engine` and starts the committer.
    pub fn open(engine: Box<dyn Engine>, options: Options) -> Result<Self, StoreError> {
        let mut shared = Shared {
            engine: StandIns::over(engine),
            salt: options.salt,
            reserve: Reserve::of(options.reserve_bytes),
            durable: RwLock::default(),
            commits: AtomicU64::new(0),
        };
        let (salt, skipped) = prepare(&shared, &options)?;
        shared.salt = salt;
        shared.durable = RwLock::new(Arc::new(State::of(&shared.engine)));
        let shared = Arc::new(shared);
        let (sender, jobs) = mpsc::unbounded_channel();
        let committer = Committer {
            shared: Arc::clone(&shared),
            jobs: Waiting::new(jobs),
            tails: Tails::new(options.dedupe_window_ms, options.dedupe_messages, skipped),
            answers_first: fault::is_on("acknowledge-before-sync"),
        };
        let jobs = Arc::new(RwLock::new(Some(sender)));
        if options.inline {
            let inline = Some(Arc::new(Mutex::new(committer)));
            return Ok(Self { shared, jobs, thread: Arc::default(), inline });
        }
        let thread = thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run())
            .map_err(|error| StoreError::Engine(error.to_string()))?;
        Ok(Self { shared, jobs, thread: Arc::new(Mutex::new(Some(thread))), inline: None })
    }

    /// A consistent picture of what is durable now.
    pub fn view(&self) -> View<'_> {
        self.shared.view()
    }

    /// As [`view`](Self::view), but a damaged message is an error and not one that says so.
    pub fn strict_view(&self) -> View<'_> {
        View { engine: self.shared.engine.inner(), ..self.shared.view() }
    }

    /// How many values were found damaged since the store was opened.
    pub fn damaged(&self) -> usize {
        self.shared.engine.damaged()
    }

    /// Reads what was stored long ago, to find what the disk has damaged; it blocks for as long as that
    /// takes. `go_on` hears of every part how many bytes it had, and may end it.
    pub fn read_all(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<(), StoreError> {
        if self.shared.engine.read_all(go_on)? {
            return Ok(());
        }
        // Something is damaged: a pass over everything tells what, if it is still needed.
        for pair in self.shared.engine.scan((Unbounded, Unbounded), Direction::Ascending) {
            match pair {
                Ok(_) | Err(StoreError::DamagedValue { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// About how many pairs there are, for those who want to know how far they are; 0: nobody knows.
    pub fn count(&self) -> Result<u64, StoreError> {
        Ok(self.shared.engine.count()?.unwrap_or_default())
    }

    /// Reads along behind a batch of the journal, if there is one.
    pub(crate) fn follow(&self, after: u64) -> Option<Follower> {
        self.shared.engine.follow(after)
    }

    /// Who follows has every batch up to this one; with `u64::MAX` nobody follows.
    pub(crate) fn followed(&self, batch: u64) {
        self.shared.engine.followed(batch);
    }

    /// Commits since the store was opened; each took one sync, however many transactions it holds.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Refuses when writing `bytes` beside the store would touch the space it keeps in reserve.
    pub fn must_have_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.shared.room().must_suffice(Purpose::Change, bytes)
    }

    /// Whether there is so little space that only what makes room is accepted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.room().is_full()
    }

    /// Whether the engine was opened only to be read, and all changes are refused.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.shared.engine.only_reads()
    }

    /// Runs `transaction`; on `Ok` its changes are durable, on `Err` nothing of it remains.
    pub async fn transact<T, E, F>(&self, transaction: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        answer(self.queue(Place::Next, Purpose::Change, transaction)?).await
    }

    /// As [`transact`](Self::transact), for what is needed to have room again on a full disk: it may use
    /// most of what is kept in reserve. To be used for what deletes, and for what must be done before
    /// somebody can delete.
    pub async fn transact_to_make_room<T, E, F>(&self, transaction: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        answer(self.queue(Place::Next, Purpose::MakeRoom, transaction)?).await
    }

    /// As [`transact`](Self::transact), but behind its transactions: these wait for a few
    /// milliseconds of such work at most.
    ///
    /// It is queued at the call, not when the future is polled; what is queued so runs in order.
    pub fn transact_behind<T, E, F>(
        &self,
        transaction: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let queued = self.queue(Place::Behind, Purpose::Change, transaction);
        async move { answer(queued?).await }
    }

    /// As [`transact`](Self::transact), for threads outside the async runtime.
    pub fn transact_blocking<T, E, F>(&self, transaction: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let queued = self.queue(Place::Next, Purpose::Change, transaction)?;
        queued.blocking_recv().unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Queues a transaction, or runs it at once where the committer has no thread.
    fn queue<T, E, F>(
        &self,
        place: Place,
        purpose: Purpose,
        transaction: F,
    ) -> Result<Answer<T, E>, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job = Transaction { purpose, transaction: Some(transaction), result: None, done };
        let Some(jobs) = self.jobs() else { return Err(StoreError::Closed.into()) };
        if jobs.send((place, Box::new(job))).is_err() {
            return Err(StoreError::Closed.into());
        }
        drop(jobs);
        if let Some(committer) = &self.inline {
            committer.lock().run_waiting();
        }
        Ok(answer)
    }

    fn jobs(&self) -> Option<Jobs> {
        self.jobs.read().clone()
    }

    /// Stops accepting changes, from every clone, and waits until those under way are durable.
    ///
    /// It blocks the thread; views still work. The engine is closed with the last clone.
    pub fn close(self) {
        self.jobs.write().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the committer ended unexpectedly");
        }
    }
}

impl Shared {
    pub(crate) fn view(&self) -> View<'_> {
        let state = Arc::clone(&self.durable.read());
        View { engine: &self.engine, salt: self.salt, state }
    }

    /// What there is room for now.
    pub(crate) fn room(&self) -> Room {
        self.reserve.room(self.engine.available_bytes(), self.engine.only_reads())
    }
}

/// Creates or checks the meta record; returns the salt in force and [`Meta::skipped`].
fn prepare(shared: &Shared, options: &Options) -> Result<([u8; 16], i64), StoreError> {
    let found = schema::META.get(&shared.view(), 0)?;
    if let Some(meta) = found {
        if meta.schema > schema::VERSION {
            return Err(StoreError::NewerSchema { found: meta.schema, known: schema::VERSION });
        }
        let salt = meta.salt.as_slice().try_into().map_err(|_| StoreError::Damaged {
            table: schema::META.name(),
            reason: "the salt has a wrong length".into(),
        })?;
        return Ok((salt, meta.skipped));
    }
    if let Some(pair) = shared.engine.scan((Unbounded, Unbounded), Direction::Ascending).next() {
        pair?;
        return Err(StoreError::Damaged {
            table: schema::META.name(),
            reason: "there is data but no meta record".into(),
        });
    }
    let salt = options.salt.to_vec();
    let meta = Meta { schema: schema::VERSION, epoch: 1, salt, ..Meta::default() };
    let mut changes = Batch::new();
    let mut tails = Tails::new(0, 0, 0);
    let mut tx = Tx::new(&shared.engine, options.salt, &mut changes, &mut tails);
    schema::META.put(&mut tx, 0, &meta);
    tx.keep()?;
    shared.engine.apply(&changes)?;
    shared.engine.sync()?;
    Ok((options.salt, 0))
}

/// What a transaction came to.
type Answer<T, E> = oneshot::Receiver<Result<T, E>>;

async fn answer<T, E: From<StoreError>>(answer: Answer<T, E>) -> Result<T, E> {
    answer.await.unwrap_or_else(|_| Err(StoreError::Closed.into()))
}

struct Transaction<F, T, E> {
    purpose: Purpose,
    transaction: Option<F>,
    result: Option<Result<T, E>>,
    done: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Transaction<F, T, E>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(transaction) = self.transaction.take() else { return false };
        let result = transaction(tx);
        let kept = result.is_ok();
        self.result = Some(result);
        kept
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let result = match outcome {
            Ok(()) => self.result.unwrap_or_else(|| Err(StoreError::Closed.into())),
            Err(error) => Err(error.into()),
        };
        // A caller that no longer waits has nothing to be told.
        let _ = self.done.send(result);
    }
}
