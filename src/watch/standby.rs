//! What a process does that does not lead: it looks whether the state is free, and follows the config, so that
//! it leads by the config of then and not by that of its start.
//!
//! # Caveats
//! A store far away may take long to say anything. It is asked on another thread: signals are heard meanwhile,
//! and the service manager hears that all is well.

use std::sync::Arc;
use std::time::Duration;

use super::service::{Service, Signal, SignalListener};
use super::status::WatchStatus;
use super::{WatchEnvironment, settings, sources};
use crate::config::Config;
use crate::state::{Holder, Location, StateError, StateWriter};

/// How often a process that stands by looks whether a state in a folder is free.
const LOOK: Duration = Duration::from_millis(500);
/// In a bucket each look is some requests: so many are made in the time that a lease lasts, within these bounds.
const LOOKS_IN_A_LEASE: u32 = 6;
const LOOK_LONGEST: Duration = Duration::from_secs(5);
/// How often the service manager is told that all is well while the store is asked.
const BEAT: Duration = Duration::from_millis(500);

/// The config in use, whoever leads.
pub(super) struct StandbyEnd {
    pub(super) config: Arc<Config>,
    /// What its text was when it was read; 0: that is not known.
    pub(super) content: u128,
    /// The config that this process started with.
    pub(super) first: Arc<Config>,
}

impl StandbyEnd {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { first: Arc::clone(&config), config, content: 0 }
    }

    /// Reads the config again if its text is another. One that cannot be used changes nothing, loudly.
    fn reread(&mut self, at: &dyn WatchEnvironment, board: &WatchStatus) {
        let content = sources::content(&self.config);
        if std::mem::replace(&mut self.content, content) == content {
            return;
        }
        let read = at.config();
        board.metrics.config_read(read.is_ok());
        match read {
            Ok(new) => {
                board.configured(&new);
                board.lock().needs_restart = settings::needs_restart(&self.first, &new);
                // Should it be made of other files, it is read once more the next time: rather that than not
                // to see what has changed in between.
                self.config = Arc::new(new);
            }
            Err(problems) => {
                tracing::error!("the config cannot be used, and the last good one stays in use");
                problems.lines().for_each(|problem| tracing::error!("{problem}"));
                board.lock().config_error = Some((at.clock().now(), problems));
            }
        }
    }
}

/// Where the state is, and whom to tell of what.
pub(super) struct Standby<'a> {
    pub(super) at: &'a dyn WatchEnvironment,
    pub(super) board: &'a WatchStatus,
    pub(super) service: &'a Service,
    pub(super) location: &'a Location,
}

impl Standby<'_> {
    /// Waits until the state is free, and takes it. None: told to stop before that.
    ///
    /// # Errors
    /// When the state cannot be used. A store that was there once is waited for.
    pub(super) async fn wait(
        &self,
        followed: &mut StandbyEnd,
        signals: &mut SignalListener,
    ) -> Result<Option<StateWriter>, StateError> {
        let (mut leader, mut was_there) = (None::<Holder>, followed.content != 0);
        loop {
            let Some(opened) = self.open(signals).await else { return Ok(None) };
            tokio::task::block_in_place(|| followed.reread(self.at, self.board));
            match opened {
                Ok(state) => return Ok(Some(state)),
                Err(StateError::Held(other)) => {
                    was_there = true;
                    if leader.as_ref().is_none_or(|known| !known.is_same_process(&other)) {
                        tracing::info!("the state is held by {other}; this process stands by");
                        self.service.ready(&format!("standing by; the state is held by {other}"));
                    }
                    leader = Some(other.clone());
                    self.board.standing_by(other);
                }
                Err(error) if was_there && error.is_transient() => {
                    tracing::warn!("the state cannot be reached, and is waited for: {error}");
                }
                Err(error) => return Err(error),
            }
            if self.pause(signals).await == Signal::Stop {
                return Ok(None);
            }
        }
    }

    /// Tries to take the state. None: told to stop meanwhile.
    async fn open(&self, signals: &mut SignalListener) -> Option<Result<StateWriter, StateError>> {
        let (location, at) = (self.location.clone(), self.at);
        let (holder, clock, random) = (at.holder(), at.clock(), at.random());
        let open = move || StateWriter::open(&location, &holder, clock, random);
        let mut opening = tokio::task::spawn_blocking(open);
        loop {
            self.beat();
            tokio::select! {
                opened = &mut opening => return match opened {
                    Ok(opened) => Some(opened),
                    Err(stopped) => match stopped.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => None, // the runtime ends
                    },
                },
                // Should it get the state after all, it lets go of it at once.
                Signal::Stop = signals.next() => return None,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    /// Waits until it is time to look again.
    async fn pause(&self, signals: &mut SignalListener) -> Signal {
        let look = tokio::time::sleep(match self.location {
            Location::Folder(_) => LOOK,
            Location::Bucket(address) => (address.lease / LOOKS_IN_A_LEASE).clamp(LOOK, LOOK_LONGEST),
        });
        tokio::pin!(look);
        loop {
            self.beat();
            tokio::select! {
                signal = signals.next() => return signal,
                () = &mut look => return Signal::Reread,
                () = tokio::time::sleep(BEAT) => {}
            }
        }
    }

    fn beat(&self) {
        self.board.beat();
        self.service.beat();
    }
}
