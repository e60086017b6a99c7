//! The network between a process and the vendors, with its faults.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::{HeaderMap, Request};
use syncline_sandbox::SimulatedResponse;

use super::clock;
use super::faults::FaultKind;
use super::world::Process;
use crate::connector::simulated_network::{SimulatedFailure, SimulatedNetwork, SimulatedReply};

/// The network of one process.
pub(super) struct ProcessNetwork(pub(super) Arc<Process>);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    Fault(FaultKind),
}

const FATES: [FaultKind; 11] = [
    FaultKind::Refused,
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

impl SimulatedNetwork for ProcessNetwork {
    fn exchange(&self, request: reqwest::Request) -> BoxFuture<'_, Result<SimulatedReply, SimulatedFailure>> {
        async move {
            let timeout = request.timeout().copied().unwrap_or(Duration::from_secs(60));
            let sent = clock::elapsed();
            let answer = tokio::time::timeout(timeout, self.answer(request, sent)).await;
            answer.unwrap_or(Err(SimulatedFailure::NoAnswer))
        }
        .boxed()
    }
}

impl ProcessNetwork {
    async fn answer(
        &self,
        request: reqwest::Request,
        sent: Duration,
    ) -> Result<SimulatedReply, SimulatedFailure> {
        let Self(process) = self;
        let request = copied(&request);
        let (path, body) = (request.uri().path().to_owned(), request.body().clone());
        let (fate, wait) = self.fate(&path);
        if fate == Fate::Fault(FaultKind::Refused) {
            return match process.step() {
                true => Err(SimulatedFailure::NotReached),
                false => Self::no_response().await,
            };
        }
        // From here on the request is on its way, even if the process ends.
        process.world.lock().judge.sent(process.id, sent, (&path, &body));
        tokio::time::sleep(wait).await;
        if !process.step() {
            self.outlive(request);
            return Self::no_response().await;
        }
        let response = self.meet(fate, request).await?;
        tokio::time::sleep(wait / 2).await;
        if !process.step() {
            return Self::no_response().await;
        }
        process.world.lock().judge.answered((&path, &body), response.status);
        Ok((response.status, response.headers, response.body))
    }

    /// What happens to the next request, and how long it is on its way.
    fn fate(&self, path: &str) -> (Fate, Duration) {
        let Self(process) = self;
        let mut world = process.world.lock();
        let strikes = FATES.into_iter().find(|kind| process.is_exposed() && world.strikes(*kind));
        // A network that triggers a campaign twice is beyond what a client can prevent.
        let strikes =
            strikes.filter(|kind| *kind != FaultKind::DuplicateRequest || !path.ends_with("/trigger/send"));
        let fate = strikes.map_or(Fate::Answered, Fate::Fault);
        let wait = Duration::from_millis(world.dice.between(1, 80));
        world.note(process.id, || format!("request to {path}: {fate:?}"));
        (fate, wait)
    }

    /// A process that has ended gets no response.
    async fn no_response<T>() -> T {
        std::future::pending().await
    }

    /// The process has ended while its request was on its way: it is lost, or arrives later.
    fn outlive(&self, request: Request<Vec<u8>>) {
        let Self(process) = self;
        let mut world = process.world.lock();
        if world.dice.once_in(2) {
            world.weather.count(FaultKind::LateRequest);
            let late = Duration::from_millis(world.dice.below(14 * 60_000));
            drop(world);
            process.world.arrive_later(request, process.id, clock::elapsed() + late);
        }
    }

    async fn meet(
        &self,
        fate: Fate,
        request: Request<Vec<u8>>,
    ) -> Result<SimulatedResponse, SimulatedFailure> {
        let Self(process) = self;
        let (world, now) = (&process.world, clock::elapsed());
        let lost = SimulatedFailure::NoAnswer;
        let arrive = |request| world.arrive(request, process.id, now);
        let Fate::Fault(fault) = fate else { return Ok(arrive(request)) };
        match fault {
            FaultKind::LostRequest => Err(lost),
            FaultKind::LostResponse => {
                arrive(request);
                Err(lost)
            }
            FaultKind::SlowResponse => {
                let response = arrive(request);
                let wait = Duration::from_millis(world.lock().dice.below(60_000));
                tokio::time::sleep(wait).await;
                Ok(response)
            }
            FaultKind::LateRequest => {
                let late = Duration::from_millis(world.lock().dice.below(14 * 60_000));
                world.arrive_later(request, process.id, now + late);
                Err(lost)
            }
            FaultKind::DuplicateRequest => {
                let again = Duration::from_millis(world.lock().dice.below(1_000));
                world.arrive_later(request.clone(), process.id, now + again);
                let response = arrive(request);
                tokio::time::sleep(again).await;
                Ok(response)
            }
            FaultKind::DoneWithError => {
                arrive(request);
                Ok(plain(503, "upstream error"))
            }
            FaultKind::ForeignResponse => {
                if world.lock().dice.once_in(2) {
                    arrive(request);
                }
                Ok(plain(200, "<html>sign in</html>"))
            }
            FaultKind::RateLimited => Ok(plain(429, r#"{"message":"rate limited"}"#)),
            FaultKind::Locked => Ok(plain(423, r#"{"message":"locked"}"#)),
            _ => {
                let status = *world.lock().dice.pick(&[500, 502, 503, 504]);
                Ok(plain(status, r#"{"message":"error"}"#))
            }
        }
    }
}

fn plain(status: u16, body: &str) -> SimulatedResponse {
    SimulatedResponse { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
}

/// The request with all its bytes.
fn copied(request: &reqwest::Request) -> Request<Vec<u8>> {
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default().to_vec();
    let path = match request.url().query() {
        Some(query) => format!("{}?{query}", request.url().path()),
        None => request.url().path().to_owned(),
    };
    let mut copy = Request::builder().method(request.method().clone()).uri(path).body(body).unwrap();
    *copy.headers_mut() = request.headers().clone();
    copy
}
