//! Ctrl-C and SIGTERM during a run.
//!
//! Until the first request may be sent, a signal ends the program at once: nothing was sent, and nothing is in doubt.
//! Later, the first signal waits until running requests are recorded. The second signal ends that wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::apply::Interrupt;
use crate::cli::error::CommandError;
use crate::cli::exit::{Exit, stop_at_once};
use crate::cli::logging::notify;

/// The answer to the first signal.
const STOPPING: &str = "stopping after the requests in flight; press Ctrl-C again to stop at once";
/// How long the program may take to end after the second signal. It releases the state in this time.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// How long the record of a stop may delay the end of the program.
const RECORDING: Duration = Duration::from_millis(100);

/// Records a stop before anything was sent.
type StopRecord = Box<dyn FnOnce() + Send>;

/// Listens for signals from its creation on.
pub(super) struct Stop {
    runtime: tokio::runtime::Runtime,
    interrupt: Interrupt,
    /// Whether nothing can have been sent yet.
    is_planning: Arc<AtomicBool>,
    record: Arc<Mutex<Option<StopRecord>>>,
    /// Wakes when a second signal arrives.
    second: Arc<Notify>,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, CommandError> {
        let runtime = super::runtime()?;
        let (switch, interrupt) = Interrupt::new();
        let (is_planning, second) = (Arc::new(AtomicBool::new(true)), Arc::new(Notify::new()));
        let record = Arc::default();
        let planning = (Arc::clone(&is_planning), Arc::clone(&record));
        runtime.spawn(listen(switch, planning, Arc::clone(&second)));
        Ok(Self { runtime, interrupt, is_planning, record, second })
    }

    /// Calls this for a stop before anything was sent. It has [`RECORDING`] to end.
    pub(super) fn record_early(&self, record: impl FnOnce() + Send + 'static) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(record));
    }

    /// Runs work that may send something. None: a second signal has ended it.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(Interrupt) -> T) -> Option<T> {
        self.is_planning.store(false, Ordering::SeqCst);
        self.runtime.block_on(async {
            tokio::select! {
                done = work(self.interrupt.clone()) => Some(done),
                () = self.second.notified() => None,
            }
        })
    }
}

/// Answers the signals of a server, which listens for the first one itself.
pub(super) async fn answer_for_server() {
    let mut signals = StopSignals::listen();
    signals.next().await;
    notify(STOPPING);
    signals.next().await;
    end_soon();
    std::future::pending::<()>().await;
}

async fn listen(
    switch: watch::Sender<bool>,
    (is_planning, record): (Arc<AtomicBool>, Arc<Mutex<Option<StopRecord>>>),
    second: Arc<Notify>,
) {
    let mut signals = StopSignals::listen();
    signals.next().await;
    if is_planning.load(Ordering::SeqCst) {
        notify("stopped, nothing sent");
        let record = record.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            record.into_iter().for_each(|record| record());
            drop(done);
        });
        // An error means that the record is written.
        let _: Result<(), _> = ended.recv_timeout(RECORDING);
        stop_at_once(Exit::Stopped);
    }
    notify(STOPPING);
    let _ = switch.send(true);
    signals.next().await;
    second.notify_one();
    end_soon();
    // The switch must stay: without it nothing could interrupt any more.
    switch.closed().await;
}

/// Ends the program soon, also when a thread waits for a disk, a source or the runtime.
fn end_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(LAST_STEPS);
        notify("stopped at once; requests in flight are in doubt, and the next run settles them");
        stop_at_once(Exit::Part)
    });
}

/// The signals to stop, from the creation on.
#[cfg(unix)]
struct StopSignals {
    /// SIGTERM and SIGINT. `None` if they cannot be received.
    streams: Option<[tokio::signal::unix::Signal; 2]>,
}

#[cfg(unix)]
impl StopSignals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let streams = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [Ok(terminate), Ok(interrupt)] = streams else { return Self { streams: None } };
        Self { streams: Some([terminate, interrupt]) }
    }

    async fn next(&mut self) {
        let Some([terminate, interrupt]) = &mut self.streams else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
