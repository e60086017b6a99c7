//! Faults: their kinds, and how often each one happens in a world.

use std::collections::BTreeMap;

use super::dice::Dice;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FaultKind {
    /// A process ends at a step of the state or while it waits. Written files stay.
    ProcessCrash,
    /// The machine ends: files that were not synced are lost or incomplete.
    MachineCrash,
    /// A write fails: the disk is full.
    DiskFull,
    /// A read or a write fails with an I/O error.
    DiskError,
    /// A process stops for up to ten minutes, at any step.
    Pause,
    /// The wall clock of a process is wrong by up to a day.
    ClockJump,
    /// The server refuses the connection.
    Refused,
    /// A write to a bucket is lost, or done without a response, or done up to a minute later.
    LostPut,
    LostPutResponse,
    LatePut,
    /// A request is lost on its way.
    LostRequest,
    /// A request is done, and its response is lost.
    LostResponse,
    /// A response takes up to a minute.
    SlowResponse,
    /// A request is done up to 14 minutes later, whether its process still runs or not.
    LateRequest,
    /// A request arrives twice.
    DuplicateRequest,
    /// Responses with an error status, without an effect.
    ServerError,
    RateLimited,
    Locked,
    /// A request is done, and the response is an error.
    DoneWithError,
    /// Something else responds with 200: a proxy or a portal.
    ForeignResponse,
    /// The source has far fewer members.
    SourceShrinks,
    /// The file of a source is missing.
    SourceVanishes,
    /// The file of a source ends in the middle of a row.
    SourceCut,
    /// Another process works on the same state at the same time.
    SecondProcess,
    /// A bit of a file flips.
    BitFlip,
    /// A part of the state is restored from an older copy.
    OlderCopy,
}

/// All kinds that a step or a request can meet.
const AT_STEPS: [FaultKind; 20] = [
    FaultKind::ProcessCrash,
    FaultKind::MachineCrash,
    FaultKind::DiskFull,
    FaultKind::DiskError,
    FaultKind::Pause,
    FaultKind::ClockJump,
    FaultKind::Refused,
    FaultKind::LostPut,
    FaultKind::LostPutResponse,
    FaultKind::LatePut,
    FaultKind::LostRequest,
    FaultKind::LostResponse,
    FaultKind::SlowResponse,
    FaultKind::LateRequest,
    FaultKind::DuplicateRequest,
    FaultKind::ServerError,
    FaultKind::RateLimited,
    FaultKind::Locked,
    FaultKind::DoneWithError,
    FaultKind::ForeignResponse,
];

/// How often faults happen: once in so many steps. A kind that is not listed never happens.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    once_in: BTreeMap<FaultKind, u64>,
    /// How many faults of each kind have happened.
    pub(super) counts: BTreeMap<FaultKind, u64>,
}

impl Weather {
    /// A random choice of kinds, because some faults hide others.
    pub(super) fn random(dice: &mut Dice) -> Self {
        let mut weather = Self::default();
        for kind in AT_STEPS {
            if !dice.once_in(3) {
                let once_in = match kind {
                    FaultKind::ProcessCrash | FaultKind::MachineCrash => *dice.pick(&[60, 200, 600]),
                    FaultKind::DiskFull | FaultKind::DiskError | FaultKind::Pause => {
                        *dice.pick(&[40, 150, 600])
                    }
                    FaultKind::LostPut | FaultKind::LostPutResponse | FaultKind::LatePut => {
                        *dice.pick(&[20, 80, 300])
                    }
                    FaultKind::ClockJump => *dice.pick(&[300, 1000]),
                    _ => *dice.pick(&[6, 15, 40]),
                };
                weather.once_in.insert(kind, once_in);
            }
        }
        weather
    }

    /// Ends all faults.
    pub(super) fn calm(&mut self) {
        self.once_in.clear();
    }

    /// Whether a fault happens now.
    pub(super) fn strikes(&mut self, kind: FaultKind, dice: &mut Dice) -> bool {
        let strikes = self.once_in.get(&kind).is_some_and(|once_in| dice.once_in(*once_in));
        if strikes {
            self.count(kind);
        }
        strikes
    }

    pub(super) fn count(&mut self, kind: FaultKind) {
        *self.counts.entry(kind).or_default() += 1;
    }
}
