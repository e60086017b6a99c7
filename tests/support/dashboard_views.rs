//! Example views for the dashboard: all in sync, many alerts, empty, large, standby, and hostile names.

use std::collections::BTreeMap;
use std::time::Duration;

use syncline::dashboard::*;
use syncline::model::{CohortId, ConnectionName, RunId, Timestamp};
use syncline::state::Holder;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn now() -> Timestamp {
    "2026-11-24T19:16:11Z".parse().unwrap()
}

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

fn connection(name: &str) -> ConnectionName {
    ConnectionName::new(name).unwrap()
}

/// Sizes over a month, rising and falling.
fn sizes(members: u64, points: u64) -> Vec<SizePoint> {
    let size = |point: u64| {
        let away = points - 1 - point;
        let fewer = members / 3 * away / points + members / 12 * (point * 7_919 % 997) / 997;
        let at = before(away as i64 * 30 * DAY / points as i64 + 3 * MINUTE);
        SizePoint { at, members: if away == 0 { members } else { members - fewer } }
    };
    (0..points).map(size).collect()
}

fn cohort(id: &str, name: &str, members: u64) -> CohortView {
    CohortView {
        id: CohortId::new(id).unwrap(),
        name: name.to_owned(),
        connection: connection("braze"),
        declared_at: "cohorts/growth.yaml:14".to_owned(),
        source: SourceView::Files { pattern: format!("/data/exports/{id}-*.csv.gz") },
        members: Some(members),
        sizes: sizes(members, 30),
        state: CohortStateView::InSync,
        last_success: Some(before(3 * MINUTE)),
        next_run: Some(before(-12 * MINUTE)),
        plan: Some(plan_view(before(3 * MINUTE), 0, 0, members, 0)),
        rejects: BTreeMap::new(),
        rejects_file: None,
        in_doubt: 0,
        uncertain_until: None,
        rejected: 0,
        runs: vec![
            past_run(3 * MINUTE, id, 143, 88, "applied"),
            past_run(26 * HOUR, id, 0, 0, "blocked"),
            past_run(2 * DAY, id, 12, 0, "applied"),
        ],
    }
}

fn segment(id: u64, name: &str) -> SourceView {
    SourceView::HeapSegment { connection: connection("heap"), segment: id, name: Some(name.to_owned()) }
}

fn inbox() -> InboxView {
    InboxView {
        connection: connection("heap"),
        url: "https://syncline.example.com/heap/heap".to_owned(),
        bytes: 0,
        waiting_since: None,
        last_delivery: Some(before(41)),
        invalid: 0,
        missing: Vec::new(),
        gaps: Vec::new(),
        undeclared: Vec::new(),
    }
}

fn plan_view(at: Timestamp, adds: u64, removes: u64, unchanged: u64, requests: u64) -> PlanView {
    PlanView { at, changes: PlannedView { adds, removes, ..PlannedView::default() }, unchanged, requests }
}

fn past_run(seconds: i64, cohort: &str, added: u64, removed: u64, result: &str) -> HistoryView {
    HistoryView {
        at: before(seconds),
        run: RunId::new(before(seconds), seconds as u64),
        cohort: Some(CohortId::new(cohort).unwrap()),
        planned: (result != "failed").then_some(PlannedView {
            adds: added,
            removes: removed,
            ..PlannedView::default()
        }),
        added,
        removed,
        result: result.to_owned(),
        error: None,
    }
}

/// A server just started with a config without cohorts.
pub(crate) fn empty() -> DashboardView {
    DashboardView {
        now: now(),
        version: "0.1.0".to_owned(),
        started: before(8),
        role: RoleView::Leader { since: before(8) },
        config: ConfigView {
            target: [
                ("environment", "production"),
                ("Braze", "https://rest.fra-02.braze.eu"),
                ("state", "s3://acme-audiences/syncline/production"),
                ("config", "9f2c8a17d0b3"),
                ("revision", "5e1f0c2a9b7d"),
            ]
            .map(|(label, value)| (label, value.to_owned()))
            .to_vec(),
            loaded: before(8),
            invalid: None,
        },
        cohorts: Vec::new(),
        orphaned: Vec::new(),
        inboxes: Vec::new(),
        exports: Vec::new(),
        segments: Vec::new(),
        rejected_requests: Vec::new(),
        history: Vec::new(),
        query: PageQuery::default(),
    }
}

/// A server with everything in sync.
pub(crate) fn all_in_sync() -> DashboardView {
    let mut free = cohort("free_customers", "Free customers", 48_211);
    free.source = segment(1_338_065, "Free plan, active in the last 30 days");
    let mut carts = cohort("abandoned_checkout", "Abandoned checkout", 5_200);
    carts.plan = Some(plan_view(before(3 * MINUTE), 143, 88, 5_057, 2));
    carts.rejects = BTreeMap::from([("no_identifier".to_owned(), 2), ("placeholder".to_owned(), 3)]);
    carts.rejects_file =
        Some(".syncline/rejects/20261124t191311000z-269edb/abandoned_checkout.ndjson".to_owned());
    let mut new = cohort("spring_promotion", "Spring promotion", 3_400);
    new.sizes = vec![SizePoint { at: before(2 * DAY), members: 3_400 }];
    DashboardView {
        started: before(6 * DAY),
        role: RoleView::Leader { since: before(6 * DAY) },
        config: ConfigView { loaded: before(2 * DAY), ..empty().config },
        cohorts: vec![carts, free, new],
        inboxes: vec![inbox()],
        history: vec![
            past_run(3 * MINUTE, "abandoned_checkout", 143, 88, "applied"),
            past_run(3 * MINUTE, "free_customers", 0, 0, "in_sync"),
            past_run(18 * MINUTE, "abandoned_checkout", 12, 0, "applied"),
            past_run(2 * DAY, "spring_promotion", 3_400, 0, "applied"),
        ],
        ..empty()
    }
}

/// A server with many alerts.
pub(crate) fn with_alerts() -> DashboardView {
    let mut view = all_in_sync();
    view.cohorts[0].last_success = Some(before(5 * HOUR));
    view.cohorts[1].last_success = Some(before(26 * MINUTE));
    view.config.invalid =
        Some(InvalidConfigView { since: before(4 * MINUTE), problems: 2, text: PROBLEMS.to_owned() });
    let command = "syncline reconcile abandoned_checkout --max-removes abandoned_checkout=3228".to_owned();
    view.cohorts[0].state = CohortStateView::Blocked {
        since: before(5 * HOUR),
        blocks: vec![BlockedView {
            code: "removed_share",
            side: "removals",
            reason:
                "3,228 of 5,200 members would leave (62.1%); `guard.max_removed` allows 30%, that is 1,560"
                    .to_owned(),
            remedies: vec![
                RemedyView { text: "if this is right, for one run".to_owned(), command: Some(command) },
                RemedyView {
                    text: "if it is right every time: raise `guard.max_removed` (cohorts/growth.yaml:21)"
                        .to_owned(),
                    command: None,
                },
            ],
        }],
        approve_command: Some(format!(
            "syncline approve abandoned_checkout --plan sha256:{}",
            "d8d37183".repeat(8)
        )),
        adds_continue: true,
        removes_continue: false,
    };
    view.cohorts[0].plan = Some(plan_view(before(3 * MINUTE), 0, 3_228, 1_972, 4));
    view.cohorts[1].in_doubt = 1_000;
    view.cohorts[1].state = CohortStateView::Failing {
        since: before(11 * MINUTE),
        reason: "Braze answers 503 (Service Unavailable), eight times in a row".to_owned(),
        next: NextStep::Retry { at: Some(before(-4 * MINUTE)) },
        remedies: Vec::new(),
    };
    view.cohorts[2].state = CohortStateView::Stale { after: Duration::from_secs(24 * 3600) };
    view.cohorts[2].last_success = Some(before(2 * DAY));
    view.cohorts.extend(others());
    view.orphaned = vec![OrphanedView {
        id: CohortId::new("summer_promotion").unwrap(),
        name: Some("Summer promotion".to_owned()),
        members: Some(12_040),
    }];
    view.inboxes = vec![
        inbox_with_alerts(),
        InboxView { connection: connection("heap_eu"), last_delivery: None, ..inbox() },
    ];
    view.rejected_requests = rejected_requests();
    view.exports = exports();
    view.segments = segments();
    let mut failed = past_run(7 * MINUTE, "free_customers", 0, 0, "failed");
    failed.error = Some("Braze answers 503 (Service Unavailable), eight times in a row".to_owned());
    view.history.insert(0, failed);
    view.history.insert(1, past_run(6 * MINUTE, "abandoned_checkout", 0, 0, "blocked"));
    view
}

fn others() -> Vec<CohortView> {
    let mut waiting = cohort("trial_in_trouble", "Trial in trouble", 0);
    waiting.source = SourceView::HeapSegment { connection: connection("heap_eu"), segment: 7, name: None };
    (waiting.members, waiting.plan, waiting.last_success) = (None, None, None);
    waiting.sizes.clear();
    let reason =
        "so far Heap has delivered segments 99 \"Internal testers\" and 1338065 \"Free plan\"".to_owned();
    waiting.state = CohortStateView::WaitingForHeap { reason: Some(reason) };
    let mut keys = cohort("vip", "VIP – Ümläute & <Größe> العربية", 812);
    keys.connection = connection("braze_eu");
    keys.last_success = Some(before(2 * HOUR));
    keys.state = CohortStateView::Failing {
        since: before(2 * HOUR),
        reason: "Braze refuses the partner API key (401)".to_owned(),
        next: NextStep::NeedsOperator { at: None },
        remedies: vec![RemedyView {
            text: "put a valid key where `connections.braze_eu.partner_api_key` looks for it".to_owned(),
            command: None,
        }],
    };
    let mut updating = cohort(
        "newsletter",
        "Newsletter readers with an unusually long name, kept for tests of the page",
        1_204_377,
    );
    updating.sizes = sizes(1_204_377, 3000);
    updating.state = CohortStateView::Updating { since: before(9) };
    updating.plan = Some(plan_view(before(9), 20_118, 1_702, 1_184_259, 23));
    let mut new = cohort("winback", "Win back", 0);
    (new.members, new.plan, new.last_success, new.next_run) = (None, None, None, Some(before(0)));
    new.sizes.clear();
    new.state = CohortStateView::New;
    let mut nameless = cohort("vip_names", "VIP", 420);
    nameless.state = CohortStateView::Blocked {
        since: before(MINUTE),
        blocks: vec![BlockedView {
            code: "name_taken",
            side: "name",
            reason: "cohort `vip` has the name \"VIP\" already, and Braze's segment filter shows names only"
                .to_owned(),
            remedies: vec![RemedyView {
                text: "give `vip_names` another name (cohorts/vip.yaml:3)".to_owned(),
                command: None,
            }],
        }],
        approve_command: None,
        adds_continue: true,
        removes_continue: true,
    };
    vec![waiting, keys, updating, new, nameless, cohort("loyal", "Loyal customers", 20_000)]
}

fn inbox_with_alerts() -> InboxView {
    let pages = |segment, name: &str, missing, pages, at| MissingPagesView {
        segment,
        name: name.to_owned(),
        missing,
        pages,
        at,
    };
    InboxView {
        bytes: 3_504_112,
        waiting_since: Some(before(2 * MINUTE)),
        invalid: 3,
        missing: vec![pages(1_338_065, "Free plan, active in the last 30 days", 1, 49, before(6 * MINUTE))],
        gaps: vec![pages(1_400_000, "Churn risk", 2, 14, before(DAY))],
        undeclared: vec![UndeclaredSegmentView {
            segment: 99,
            name: "Internal testers".to_owned(),
            last_delivery: before(3 * HOUR),
        }],
        ..inbox()
    }
}

fn rejected_requests() -> Vec<RejectedRequestsView> {
    let rejected = |endpoint: Option<&str>, status, reason, number, accepted_since| RejectedRequestsView {
        endpoint: endpoint.map(str::to_owned),
        status,
        reason,
        likely_cause: Some("the secret differs from the secret of the webhook in Heap"),
        number,
        last: before(9 * MINUTE),
        accepted_since,
    };
    vec![
        rejected(None, 404, "not found", 1_204, false),
        rejected(Some("heap"), 400, "Heap-Hash is missing", 2, true),
        rejected(Some("heap_eu"), 403, "Invalid signature", 17, false),
    ]
}

fn exports() -> Vec<ExportView> {
    let export = |id: &str, lag, failure| ExportView {
        id: id.to_owned(),
        source: "Currents files in s3://acme-currents/prod".to_owned(),
        url: None,
        lag,
        events: 18_204_551,
        last_success: Some(before(2 * MINUTE)),
        failure,
    };
    let failure = ExportFailureView {
        reason: "the bucket refuses the key".to_owned(),
        next: NextStep::NeedsOperator { at: None },
    };
    vec![
        export("engagement", Some(Duration::ZERO), None),
        export("purchases", Some(Duration::from_secs(7 * 3600)), Some(failure)),
    ]
}

fn segments() -> Vec<SegmentCheckView> {
    let check = |id: &str, name: &str, verdict, findings: &[&str]| SegmentCheckView {
        id: id.to_owned(),
        name: name.to_owned(),
        verdict,
        findings: findings.iter().map(|finding| (*finding).to_owned()).collect(),
        checked: before(40 * MINUTE),
    };
    vec![
        check("win_back", "Win back", SegmentVerdictView::InSync, &[]),
        check(
            "promo",
            "Promotion",
            SegmentVerdictView::Drifted,
            &["campaign “Spring” targets another segment"],
        ),
        check(
            "trial",
            "Trial",
            SegmentVerdictView::Unknown,
            &["Braze does not expose the filters of a segment"],
        ),
    ]
}

/// A server with this number of cohorts, all with a long history.
pub(crate) fn with_cohorts(number: u64) -> DashboardView {
    let cohort_view = |n: u64| {
        let mut cohort = cohort(&format!("cohort_{n:03}"), &format!("Audience number {n}"), 800 + n * n * 37);
        cohort.sizes = sizes(800 + n * n * 37, 2000);
        cohort.rejects = BTreeMap::from([("no_identifier".to_owned(), n), ("too_long".to_owned(), 1)]);
        cohort.last_success = Some(before(n as i64 * 7 * MINUTE));
        match n % 50 {
            7 => cohort.state = with_alerts().cohorts[0].state.clone(),
            23 => cohort.state = with_alerts().cohorts[4].state.clone(),
            _ => {}
        }
        cohort
    };
    let mut view = DashboardView { cohorts: (0..number).map(cohort_view).collect(), ..all_in_sync() };
    view.history =
        (0..50).map(|n| past_run(n * 20, &format!("cohort_{n:03}"), n as u64, 0, "applied")).collect();
    view
}

/// A server with six cohorts, some of them with problems.
pub(crate) fn six() -> DashboardView {
    let mut view = with_alerts();
    view.cohorts.truncate(6);
    view.config.invalid = None;
    view
}

/// A standby.
pub(crate) fn standby() -> DashboardView {
    let holder = Holder { host: "syncline-0".to_owned(), process: 7, since: before(3 * DAY), renewal: None };
    let mut view = all_in_sync();
    let recorded_at = Some(before(20));
    view.role = RoleView::Standby { since: before(2 * HOUR), holder: Some(holder), recorded_at };
    view.cohorts[1].next_run = None;
    view
}

/// A hostile name.
pub(crate) const HOSTILE: &str = "</title></style></pre>--><script>alert(1)</script><img src=x onerror=alert(1)>\" ' \
    \u{202e}javascript:alert(1)#AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A server with hostile names everywhere.
pub(crate) fn hostile() -> DashboardView {
    let bad = || HOSTILE.to_owned();
    let mut view = with_alerts();
    view.config.invalid = Some(InvalidConfigView { since: before(MINUTE), problems: 1, text: bad() });
    view.version = bad();
    view.config.target.iter_mut().for_each(|(_, value)| *value = bad());
    view.query.text = bad();
    let holder = Holder { host: bad(), process: 7, since: before(DAY), renewal: None };
    view.role = RoleView::Standby { since: before(HOUR), holder: Some(holder), recorded_at: None };
    for cohort in &mut view.cohorts {
        (cohort.name, cohort.declared_at) = (bad(), bad());
        cohort.rejects.insert(bad(), 1);
        cohort.rejects_file = Some(bad());
        let remedies = vec![RemedyView { text: bad(), command: Some(bad()) }];
        match &mut cohort.source {
            SourceView::Query { .. } => {}
            SourceView::Files { pattern } => *pattern = bad(),
            SourceView::HeapSegment { name, .. } => *name = Some(bad()),
        }
        match &mut cohort.state {
            CohortStateView::Failing { reason, remedies: own, .. } => (*reason, *own) = (bad(), remedies),
            CohortStateView::WaitingForHeap { reason } => *reason = Some(bad()),
            CohortStateView::Blocked { blocks, approve_command, .. } => {
                (*blocks, *approve_command) = (
                    vec![BlockedView { code: "protected", side: "removals", reason: bad(), remedies }],
                    Some(bad()),
                );
            }
            _ => {}
        }
    }
    for rejected in &mut view.rejected_requests {
        rejected.endpoint = Some(bad());
    }
    for past_run in view.history.iter_mut().chain(view.cohorts.iter_mut().flat_map(|cohort| &mut cohort.runs))
    {
        (past_run.result, past_run.error) = (bad(), Some(bad()));
    }
    for inbox in &mut view.inboxes {
        inbox.gaps.iter_mut().chain(&mut inbox.missing).for_each(|pages| pages.name = bad());
        inbox.undeclared.iter_mut().for_each(|segment| segment.name = bad());
    }
    for export in &mut view.exports {
        (export.id, export.source) = (bad(), bad());
        export.failure =
            Some(ExportFailureView { reason: bad(), next: NextStep::NeedsOperator { at: None } });
    }
    for segment in &mut view.segments {
        (segment.name, segment.findings) = (bad(), vec![bad()]);
    }
    view.orphaned.iter_mut().for_each(|cohort| cohort.name = Some(bad()));
    view
}

const PROBLEMS: &str = "\
error[unknown-key]: unknown key `guards`
  --> cohorts/growth.yaml:21:5
   |
21 |     guards:
   |     ^^^^^^ not a key of a cohort
   |
   = help: did you mean `guard`?

error[unknown-connection]: unknown connection `braz`
  --> cohorts/growth.yaml:33:9
   |
33 |     to: braz
   |         ^^^^
   |
   = help: did you mean `braze`?
";
