//! Interface to a destination: the service that holds the members of cohorts. `apply` uses nothing else of it.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::rate_limit::RateLimiter;
pub use super::request_failure::RequestFailure;
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

    /// The request slots of the workspace. Waiters are served in order, so cohorts take turns. `None`: no limit.
    fn slots(&self) -> Option<&Semaphore> {
        None
    }

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
    /// 423: not done, another write is in progress.
    Locked,
    /// A 2xx without the vendor's body: a proxy, a portal or a wrong endpoint responded. Possibly done.
    Foreign(u16, &'static str),
    /// Failed, for a reason that every vendor may have.
    Failed(RequestFailure),
}

impl RequestOutcome {
    /// Whether the request may have been done, or may still be done.
    #[must_use]
    pub fn may_be_handled_later(&self) -> bool {
        match self {
            Self::Foreign(..) => true,
            Self::Failed(failure) => failure.may_be_done(),
            Self::Accepted | Self::AcceptedWithErrors { .. } | Self::Locked => false,
        }
    }

    /// The same outcome without the identifiers of a request in its messages: they go to logs and reports.
    #[must_use]
    pub fn without_users(self, users: &[Identifier<'_>]) -> Self {
        let values = || users.iter().map(|user| user.value);
        match self {
            Self::AcceptedWithErrors { mut rows, mut other, others_accepted } => {
                for message in rows.iter_mut().map(|row| &mut row.message).chain(&mut other) {
                    *message = without_users(message, values());
                }
                Self::AcceptedWithErrors { rows, other, others_accepted }
            }
            Self::Failed(failure) => Self::Failed(failure.without_users(values())),
            Self::Accepted | Self::Locked | Self::Foreign(..) => self,
        }
    }

    /// Why another attempt may succeed, as a clause about `vendor`. `None` if no attempt follows.
    #[must_use]
    pub fn retry_cause(&self, vendor: &str) -> Option<String> {
        match self {
            Self::Locked => Some(format!("{vendor} keeps the cohort locked (423)")),
            Self::Failed(failure) => failure.retry_cause(vendor),
            Self::Accepted | Self::AcceptedWithErrors { .. } | Self::Foreign(..) => None,
        }
    }

    /// Whether the response, or the missing connection, proves that nothing was done.
    #[must_use]
    pub fn is_not_done(&self) -> bool {
        let is_done = matches!(self, Self::Accepted | Self::AcceptedWithErrors { .. });
        !is_done && !self.may_be_handled_later()
    }

    /// The code of the outcome in the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedWithErrors { .. } => "accepted_with_errors",
            Self::Locked => "locked",
            Self::Foreign(..) => "foreign",
            Self::Failed(failure) => failure.code(),
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
