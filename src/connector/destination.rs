//! Interface to a destination: the service that holds the members of cohorts. `apply` uses nothing else of it.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use tokio::sync::SemaphorePermit;

use super::rate_limit::RateLimiter;
use crate::config::TriggerTarget;
use crate::foreign::without_users;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, Identifier, IdentifierKind, Timestamp};

/// A delivery method of one workspace that holds the members of cohorts. It sends each request once: retries, bisection
/// and records are the caller's.
pub trait Destination: Send + Sync {
    /// The endpoint that receives the members.
    fn endpoint(&self) -> DeliveryEndpoint;

    /// The rate limiter of [`Destination::change`] and [`Destination::name_cohort`]. The caller requests admission;
    /// the destination reports the end of each request to it.
    fn rate_limiter(&self) -> &RateLimiter;

    /// Whether a repeated change costs nothing. Braze bills each attribute that it receives.
    fn is_resend_free(&self) -> bool;

    /// Waits for a request slot of the workspace. Waiters are served in order, so cohorts take turns.
    fn request_slot(&self) -> BoxFuture<'_, Option<SemaphorePermit<'_>>>;

    /// Creates the cohort, or renames it.
    fn name_cohort<'a>(
        &'a self,
        cohort: &'a CohortId,
        name: &'a str,
        created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome>;

    /// Adds or removes members. [`RowError::member`] is an index into `members`.
    fn change<'a>(
        &'a self,
        cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome>;
}

/// A service that sends messages to single users.
pub trait TriggerEndpoint: Send + Sync {
    /// The rate limiter of [`TriggerEndpoint::trigger`].
    fn trigger_limiter(&self) -> &RateLimiter;

    /// Triggers a campaign or a Canvas for these users, once. Also returns Braze's notice, if the response has one: a
    /// paused Canvas is triggered without effect.
    fn trigger<'a>(
        &'a self,
        target: TriggerTarget,
        id: &'a str,
        recipients: &'a [Recipient<'a>],
    ) -> BoxFuture<'a, (RequestOutcome, Option<String>)>;
}

/// A service that knows which users have a profile.
pub trait ProfileLookup: Send + Sync {
    /// The users among these without a profile, or why that is unknown. All have identifiers of one kind, and they are
    /// at most [`LOOKUP_MAX`]. Device ids are not supported.
    fn unknown_users<'a>(
        &'a self,
        kind: IdentifierKind,
        users: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, Result<Vec<Identifier<'a>>, String>>;
}

/// One workspace, as a run over a cohort uses it.
pub trait Workspace: Send + Sync {
    /// The destination for a delivery method. `None` without the keys that it needs.
    fn destination<'a>(&'a self, delivery: &'a DeliveryMethod) -> Option<Box<dyn Destination + 'a>>;

    /// The service that sends messages to single users.
    fn triggers(&self) -> &dyn TriggerEndpoint;

    /// The service that knows which users have a profile. `None` without the key that it needs.
    fn profiles(&self) -> Option<&dyn ProfileLookup>;
}

/// Users in one request to [`ProfileLookup`].
pub const LOOKUP_MAX: usize = 50;

/// Recipients in one trigger request.
pub const RECIPIENTS_MAX: usize = 50;

/// A recipient of a trigger, with the properties of the message.
pub type Recipient<'a> = (Identifier<'a>, &'a BTreeMap<String, String>);

/// An endpoint of a workspace. Each has its own key permissions and its own rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryEndpoint {
    /// The partner's cohort import.
    CohortImport,
    /// Attributes of users.
    UserAttributes,
    /// Campaigns and Canvases.
    Triggers,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Done.
    Accepted,
    /// Done, with errors in the response.
    AcceptedWithErrors {
        /// Errors about single members.
        rows: Vec<RowError>,
        /// An error that names no member.
        other: Option<String>,
        /// Whether the response confirms the members without an error.
        others_accepted: bool,
    },
    /// 400: not done, because of something in the request.
    BadRequest(String),
    /// 413: not done, too large.
    TooLarge,
    /// 401 or 403: not done; other requests with these keys will fail too.
    Unauthorized(String),
    /// 423: not done, another write is in progress.
    Locked,
    /// 429: not done. The reset of the limit, if the response names it.
    RateLimited(Option<Timestamp>),
    /// 408 or 5xx: possibly done.
    Unavailable(u16),
    /// A 2xx without the vendor's body: a proxy, a portal or a wrong endpoint responded. Possibly done.
    Foreign(u16, &'static str),
    /// Any other status: not done, and a retry is useless.
    Unexpected(u16, String),
    /// No response: possibly done.
    NoAnswer(String),
    /// Not reached: not done.
    NotReached(String),
}

impl RequestOutcome {
    /// Whether the request may have been done, or may still be done.
    #[must_use]
    pub fn may_be_handled_later(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Unavailable(_) | Self::Foreign(..))
    }

    /// The same outcome without the identifiers of a request in its messages: they go to logs and reports.
    #[must_use]
    pub fn without_users(mut self, users: &[Identifier<'_>]) -> Self {
        let mask = |message: &mut String| {
            *message = without_users(message, users.iter().map(|user| user.value));
        };
        match &mut self {
            Self::AcceptedWithErrors { rows, other, .. } => {
                rows.iter_mut().map(|row| &mut row.message).chain(other).for_each(mask);
            }
            Self::BadRequest(text) | Self::Unauthorized(text) | Self::Unexpected(_, text) => mask(text),
            Self::Accepted
            | Self::TooLarge
            | Self::Locked
            | Self::RateLimited(_)
            | Self::Unavailable(_)
            | Self::Foreign(..)
            | Self::NoAnswer(_)
            | Self::NotReached(_) => {}
        }
        self
    }

    /// Why another attempt may succeed, as a clause about `vendor`. `None` if no attempt follows.
    #[must_use]
    pub fn retry_cause(&self, vendor: &str) -> Option<String> {
        match self {
            Self::Locked => Some(format!("{vendor} keeps the cohort locked (423)")),
            Self::RateLimited(_) => Some(format!("{vendor} limits the rate (429)")),
            Self::Unavailable(status) => Some(format!("{vendor} responds with status {status}")),
            Self::NoAnswer(why) | Self::NotReached(why) => Some(format!("{vendor} does not answer: {why}")),
            _ => None,
        }
    }

    /// The code of the outcome in the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedWithErrors { .. } => "accepted_with_errors",
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge => "too_large",
            Self::Unauthorized(_) => "unauthorized",
            Self::Locked => "locked",
            Self::RateLimited(_) => "rate_limited",
            Self::Unavailable(_) => "unavailable",
            Self::Foreign(..) => "foreign",
            Self::Unexpected(..) => "unexpected",
            Self::NoAnswer(_) => "no_answer",
            Self::NotReached(_) => "not_reached",
        }
    }
}

/// An error about one member of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// Its index among the members of the request.
    pub member: usize,
    /// The vendor's message.
    pub message: String,
    /// Whether a retry may succeed.
    pub is_transient: bool,
}
