//! Requests to the webhook endpoints since the start of the process: responses by status, and rejected requests by
//! reason. It contains nothing of a request, because any client can send one.

use std::collections::BTreeMap;

use super::reply::RequestError;
use crate::model::Timestamp;

/// The number of responses by endpoint and status.
pub type ReplyCounts = BTreeMap<(String, u16), u64>;

/// Requests that an endpoint rejected for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRequests {
    /// The name of the endpoint. Empty: no endpoint has the path of the request.
    pub endpoint: String,
    /// The reason.
    pub error: RequestError,
    /// Their number.
    pub number: u64,
    /// When the last of them arrived.
    pub last: Timestamp,
    /// Whether the endpoint has accepted a delivery since then.
    pub accepted_since: bool,
}

/// The counts. Their number is bounded: endpoints of the config, statuses and reasons.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    replies: ReplyCounts,
    /// By endpoint and reason.
    rejected: BTreeMap<(String, &'static str), RejectedRequests>,
}

impl RequestLog {
    /// Adds a request with its result.
    pub(super) fn add(
        &mut self,
        endpoint: &str,
        result: Result<(), RequestError>,
        status: u16,
        at: Timestamp,
    ) {
        *self.replies.entry((endpoint.to_owned(), status)).or_default() += 1;
        match result {
            Ok(()) => {
                let of_endpoint = self.rejected.values_mut().filter(|rejected| rejected.endpoint == endpoint);
                of_endpoint.for_each(|rejected| rejected.accepted_since = true);
            }
            Err(error) => {
                let key = (endpoint.to_owned(), error.parts().1);
                let first = || RejectedRequests {
                    endpoint: endpoint.to_owned(),
                    error,
                    number: 0,
                    last: at,
                    accepted_since: false,
                };
                let rejected = self.rejected.entry(key).or_insert_with(first);
                rejected.number += 1;
                (rejected.last, rejected.accepted_since) = (at, false);
            }
        }
    }

    pub(super) fn replies(&self) -> ReplyCounts {
        self.replies.clone()
    }

    /// The rejected requests, those of each endpoint together.
    pub(super) fn rejected(&self) -> Vec<RejectedRequests> {
        self.rejected.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_delivery_ends_the_rejections_of_its_endpoint_only() {
        let (mut log, at) = (RequestLog::default(), |second| Timestamp::from_second(second).unwrap());
        log.add("heap", Err(RequestError::WrongSignature), 403, at(1));
        log.add("other", Err(RequestError::WrongSignature), 403, at(2));
        log.add("heap", Err(RequestError::WrongSignature), 403, at(3));
        log.add("heap", Ok(()), 200, at(4));
        let found: Vec<_> = log
            .rejected()
            .into_iter()
            .map(|one| (one.endpoint, one.number, one.last, one.accepted_since))
            .collect();
        assert_eq!(found, [("heap".to_owned(), 2, at(3), true), ("other".to_owned(), 1, at(2), false)]);
        log.add("heap", Err(RequestError::WrongSignature), 403, at(5));
        assert!(!log.rejected()[0].accepted_since);
        assert_eq!(log.replies()[&("heap".to_owned(), 403)], 3);
    }
}
