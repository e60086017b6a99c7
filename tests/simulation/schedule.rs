//! Scheduler: simulated processes take turns, and only one of them runs at a time.
//!
//! A process is a thread, because the program waits in blocking calls, between any two of which another process must be
//! able to run. The threads hand over one turn, so they never run in parallel, and the dice decide who is next. Each
//! process has its own time. A process may be ahead of the others by [`AHEAD_MAX`] at most, as clocks of real machines
//! advance together.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dice::Dice;

/// How far a process may be ahead of the others.
const AHEAD_MAX: Duration = Duration::from_millis(200);

/// A participant: a simulated process, or the environment.
pub(super) type Party = u64;

/// The environment: it edits sources, starts processes and judges. It takes turns like a process.
pub(super) const ENVIRONMENT: Party = 0;

#[derive(Debug)]
struct PartyState {
    /// Its time.
    time: Duration,
}

#[derive(Debug)]
struct ScheduleState {
    parties: BTreeMap<Party, PartyState>,
    running: Party,
    dice: Dice,
}

/// The turns of all participants.
#[derive(Debug)]
pub(super) struct Schedule {
    state: Mutex<ScheduleState>,
    turn: Condvar,
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        let parties = BTreeMap::from([(ENVIRONMENT, PartyState { time: Duration::ZERO })]);
        let state = ScheduleState { parties, running: ENVIRONMENT, dice: Dice::new(seed) };
        Self { state: Mutex::new(state), turn: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, ScheduleState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a participant, which waits for its first turn in [`Schedule::wait_for_turn`].
    pub(super) fn add(&self, party: Party, time: Duration) {
        self.lock().parties.insert(party, PartyState { time });
    }

    /// Waits for a turn. Returns the time of the participant, which others may have advanced.
    pub(super) fn wait_for_turn(&self, party: Party) -> Duration {
        let mut state = self.lock();
        while state.running != party {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.parties[&party].time
    }

    /// Lets others run until they have reached `time`, which becomes the time of this participant.
    pub(super) fn advance(&self, party: Party, time: Duration) -> Duration {
        let mut state = self.lock();
        if let Some(own) = state.parties.get_mut(&party) {
            own.time = own.time.max(time);
        }
        if state.choose() {
            self.turn.notify_all();
        }
        drop(state);
        self.wait_for_turn(party)
    }

    /// Removes a participant, which has the turn, and lets another one run.
    pub(super) fn leave(&self, party: Party) {
        let mut state = self.lock();
        state.parties.remove(&party);
        state.choose();
        self.turn.notify_all();
    }

    /// Whether other participants than the environment exist.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().parties.len() > 1
    }
}

impl ScheduleState {
    /// Gives the turn to one of the participants that may run. Returns whether it changes.
    fn choose(&mut self) -> bool {
        let Some(first) = self.parties.values().map(|party| party.time).min() else { return false };
        let ready: Vec<Party> = self
            .parties
            .iter()
            .filter(|(_, party)| party.time <= first + AHEAD_MAX)
            .map(|(party, _)| *party)
            .collect();
        let before = std::mem::replace(&mut self.running, *self.dice.pick(&ready));
        before != self.running
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn turns_follow_the_seed_and_times_stay_together() {
        let run = |seed| {
            let schedule = Arc::new(Schedule::new(seed));
            let steps = Arc::new(Mutex::new(Vec::new()));
            for party in [1, 2] {
                schedule.add(party, Duration::ZERO);
                let (schedule, steps) = (Arc::clone(&schedule), Arc::clone(&steps));
                std::thread::spawn(move || {
                    schedule.wait_for_turn(party);
                    for step in 1..=20 {
                        let time = schedule.advance(party, Duration::from_millis(100 * step));
                        steps.lock().unwrap().push((party, time));
                    }
                    schedule.leave(party);
                });
            }
            while schedule.is_busy() {
                schedule.advance(ENVIRONMENT, Duration::from_secs(1000));
            }
            steps.lock().unwrap().clone()
        };
        let taken = run(1);
        assert_eq!(taken.len(), 40);
        assert_eq!(taken, run(1));
        assert_ne!(taken, run(2));
        let mut times = BTreeMap::from([(1, Duration::ZERO), (2, Duration::ZERO)]);
        for (party, time) in taken {
            times.insert(party, time);
            assert!(times[&1].abs_diff(times[&2]) <= AHEAD_MAX + Duration::from_millis(100));
        }
    }
}
