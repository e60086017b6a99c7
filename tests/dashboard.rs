//! The dashboard's page: as HTML, and in a real browser.
//!
//! `SYNCLINE_SCREENSHOTS=folder cargo test dashboard` saves screenshots for review. With `SYNCLINE_AXE=axe.min.js`, a file
//! of the npm package `axe-core`, its rules apply as well.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use syncline::dashboard::{CohortStateView, DashboardView, HEADERS, NextStep, PageQuery, cohort_page, page};

use crate::support::browser::Browser;
use crate::support::{dashboard_views, until};

fn all() -> [(&'static str, DashboardView); 7] {
    [
        ("well", dashboard_views::all_in_sync()),
        ("troubled", dashboard_views::with_alerts()),
        ("empty", dashboard_views::empty()),
        ("six", dashboard_views::six()),
        ("many", dashboard_views::with_cohorts(200)),
        ("standing-by", dashboard_views::standby()),
        ("hostile", dashboard_views::hostile()),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digit = |place: usize| match place <= three.len() {
            true => DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char,
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn bytes_of(base64: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = base64.bytes().filter(|b| *b != b'=').map(digit).collect();
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0u32, |bits, six| bits << 6 | u32::from(*six)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[test]
fn the_content_security_policy_allows_exactly_this_style() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    assert_eq!(bytes_of("YW55IGNhcm5hbCBwbGVhcw=="), b"any carnal pleas");
    let page = page(&dashboard_views::all_in_sync());
    let hash = format!("'sha256-{}'", base64(&Sha256::digest(between(&page, "<style>", "</style>"))));
    let policy = HEADERS.iter().find(|(name, _)| *name == "content-security-policy").unwrap().1;
    assert!(policy.contains(&format!("style-src {hash};")), "the style is {hash}");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.matches("<style>").count(), 1);
    for inline in ["<script", " style=", " on", "javascript:", "http://", "https://"] {
        let tags: Vec<&str> = page.split('<').skip(1).filter(|tag| !tag.starts_with("link")).collect();
        let found = tags.iter().find(|tag| tag.split('>').next().unwrap().contains(inline));
        assert!(found.is_none(), "{inline}: {found:?}");
    }
}

#[test]
fn foreign_names_cannot_inject_html() {
    let hostile = dashboard_views::HOSTILE;
    let written = page(&dashboard_views::hostile());
    assert!(written.matches("&lt;script&gt;").count() > 30);
    for raw in ["<script", "<img", "-->", "\" '", hostile] {
        assert!(!written.contains(raw), "{raw}");
    }
    // Inside the style element, an escaped end tag does not end it.
    assert_eq!(
        (written.matches("</style>").count(), written.matches("</title>").count()),
        (1, 1 + plots(&written))
    );
}

/// SVG charts have titles as well.
fn plots(page: &str) -> usize {
    page.matches("<svg ").count()
}

#[test]
fn alerts_that_need_an_operator_come_first() {
    let written = page(&dashboard_views::with_alerts());
    assert_eq!(between(&written, "<title>", "</title>"), "9 alerts need attention – syncline");
    let order = [
        "9 alerts need attention",
        "The new config is invalid and not in use",
        "did you mean `guard`?",
        "Needs attention",
        "removals blocked: 3,228 of 5,200 members would leave (62.1%)",
        "no successful run for 2 days; the limit is 24 hours",
        "Braze refuses the partner API key (401)",
        "17 deliveries were rejected, and none is accepted since: Invalid signature",
        "No action needed",
        "waiting for Heap’s first sync",
        "syncline approve abandoned_checkout --plan sha256:d8d37183",
        "needs a decision",
        "✓</span>in sync",
        "Orphaned",
        "Pages that never arrived",
        "Rejected deliveries",
        "unknown path",
        "the bucket refuses the key",
        "? unknown",
    ];
    let mut rest = &*written;
    for words in order {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("not there, or too early: {words}")).1;
    }
}

#[test]
fn a_blocked_cohort_shows_its_code_and_what_continues() {
    let shown = |adds, removes| {
        let mut view = dashboard_views::with_alerts();
        let CohortStateView::Blocked { adds_continue, removes_continue, .. } = &mut view.cohorts[0].state
        else {
            panic!("it is blocked");
        };
        (*adds_continue, *removes_continue) = (adds, removes);
        view.cohorts.truncate(1);
        let written = page(&view);
        assert!(written.contains("<code>removed_share</code>"));
        between(&written, "Blocked for ", "</p>").rsplit("; ").next().unwrap().to_owned()
    };
    assert_eq!(shown(true, false), "additions continue.");
    assert_eq!(shown(false, true), "removals continue.");
    assert_eq!(shown(true, true), "members are added and removed as before.");
    assert_eq!(shown(false, false), "no member is added or removed.");
}

#[test]
fn the_headline_shows_the_overall_status() {
    let headline = |view: &DashboardView| between(&page(view), "<title>", " – syncline").to_owned();
    let mut view = dashboard_views::all_in_sync();
    assert_eq!(headline(&dashboard_views::empty()), "No cohorts yet");
    assert_eq!(headline(&view), "Everything is in sync");
    assert_eq!(headline(&dashboard_views::standby()), "Standby");
    view.cohorts[0].state = CohortStateView::Updating { since: view.now };
    assert_eq!(headline(&view), "No alerts");
    view.cohorts[0].state = CohortStateView::WaitingForHeap { reason: None };
    assert_eq!(headline(&view), "Nothing needs attention");
    let failing = |next| CohortStateView::Failing {
        since: view.now,
        reason: "it broke".to_owned(),
        next,
        remedies: Vec::new(),
    };
    let (retried, needs_operator) =
        (failing(NextStep::Retry { at: None }), failing(NextStep::NeedsOperator { at: None }));
    view.cohorts[0].state = retried;
    assert_eq!(headline(&view), "Nothing needs attention");
    view.cohorts[0].state = needs_operator;
    assert_eq!(headline(&view), "1 alert needs attention");
}

#[test]
fn a_page_with_two_hundred_cohorts_is_a_small_and_fast_table() {
    let view = dashboard_views::with_cohorts(200);
    let began = Instant::now();
    let written = page(&view);
    let time = began.elapsed();
    assert!(written.len() < 300_000, "{} bytes", written.len());
    // Hundreds of times the usual duration, for busy machines.
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert_eq!(listed(&written).len(), 200);
    assert!(!written.contains("<article class=\"cohort\"") && !written.contains("<svg "));
}

#[test]
fn the_header_stays_readable_when_everything_fails() {
    let mut view = dashboard_views::with_cohorts(100);
    for cohort in &mut view.cohorts {
        let (reason, next) = ("Braze answers 503".to_owned(), NextStep::Retry { at: None });
        cohort.state = CohortStateView::Failing { since: view.now, reason, next, remedies: Vec::new() };
    }
    let written = page(&view);
    assert!(written.contains("all failing.") && written.contains("and 88 more; see below"));
}

/// The ids of the cohorts on a page, in their order.
fn listed(page: &str) -> Vec<&str> {
    let cohorts = page.split_once("<h2 id=\"cohorts\">").unwrap().1.split_once("</section>").unwrap().0;
    cohorts.split("href=\"cohorts/").skip(1).map(|rest| rest.split(['"', '?']).next().unwrap()).collect()
}

fn with_query(view: &DashboardView, query: &str) -> String {
    page(&DashboardView { query: PageQuery::parse(Some(query)), ..view.clone() })
}

#[test]
fn cohorts_are_filtered_and_sorted_by_the_address() {
    let view = dashboard_views::with_cohorts(200);
    let ids =
        |query: &str| listed(&with_query(&view, query)).iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(ids("")[..2], ["cohort_007", "cohort_023"], "those that need attention first");
    assert_eq!(ids("sort=config")[..2], ["cohort_000", "cohort_001"]);
    assert_eq!(ids("sort=members")[..2], ["cohort_199", "cohort_198"]);
    assert_eq!(ids("sort=last-success")[0], "cohort_199");
    assert_eq!(ids("sort=name")[..3], ["cohort_000", "cohort_001", "cohort_010"], "by name, not by id");
    assert_eq!(ids("q=NUMBER+19&sort=config")[..3], ["cohort_019", "cohort_190", "cohort_191"]);
    assert_eq!(ids("q=cohort_042"), ["cohort_042"]);
    assert_eq!(ids("state=needs-approval").len(), 4);
    assert_eq!(ids("state=needs-a-fix&sort=config")[0], "cohort_023");
    assert_eq!(ids("state=needs-attention").len(), 8);
    assert_eq!(ids("state=in-sync&q=no+such+name"), Vec::<String>::new());
    let few = with_query(&view, "state=needs-attention");
    assert_eq!(few.matches("<article class=\"cohort\"").count(), 8, "few cohorts are cards");
    assert!(few.contains("8 of 200 cohorts") && few.contains("needs approval (4)</option>"));
}

#[test]
fn every_link_and_the_form_keep_the_choices() {
    let view = dashboard_views::with_cohorts(200);
    let written = with_query(&view, "q=number&state=in-sync&sort=members&refresh=60");
    assert!(written.contains("<meta http-equiv=\"refresh\" content=\"60\">"));
    for kept in [
        "<input type=\"hidden\" name=\"refresh\" value=\"60\">",
        "name=\"q\" value=\"number\">",
        "<option value=\"in-sync\" selected=\"\">",
        "<option value=\"members\" selected=\"\">",
        "href=\"?q=number&amp;state=in-sync&amp;sort=members\">Stop refreshing",
        "href=\"./?refresh=60#cohorts\">Show all",
        "href=\"cohorts/cohort_199?q=number&amp;state=in-sync&amp;sort=members&amp;refresh=60\"",
    ] {
        assert!(written.contains(kept), "{kept}");
    }
    let view = DashboardView { query: PageQuery::parse(Some("q=number&refresh=60")), ..view };
    let of_cohort = cohort_page(&view, "cohort_199").unwrap();
    assert!(of_cohort.contains("href=\"../?q=number&amp;refresh=60#cohorts\">All cohorts"));
    assert!(!page(&dashboard_views::all_in_sync()).contains("<form"), "a short list has no form");
}

#[test]
fn a_cohort_page_shows_problem_size_rejects_and_runs() {
    let view = dashboard_views::with_alerts();
    assert!(cohort_page(&view, "no_such_cohort").is_none());
    let written = cohort_page(&view, "abandoned_checkout").unwrap();
    assert_eq!(between(&written, "<title>", "</title>"), "Abandoned checkout: needs approval – syncline");
    let order = [
        "All cohorts",
        "<h1 id=\"summary\"><bdi>Abandoned checkout</bdi>",
        "next run",
        "Removals blocked",
        "syncline approve abandoned_checkout --plan sha256:d8d37183",
        "0 to add, 3,228 to remove, 1,972 unchanged; 4 requests, made",
        "Size over time",
        "<svg ",
        "minimum ",
        "Rejected rows of the last plan",
        "no_identifier",
        "placeholder",
        ".syncline/rejects/",
        "Last plans and runs",
        "24 Nov 2026, 19:13 UTC",
        "+143 −88",
        "23 Nov 2026, 17:16 UTC",
        "blocked",
    ];
    let mut rest = &*written;
    for words in order {
        rest = rest.split_once(words).unwrap_or_else(|| panic!("not there, or too early: {words}")).1;
    }
    let hostile = cohort_page(&dashboard_views::hostile(), "abandoned_checkout").unwrap();
    assert!(hostile.matches("&lt;script&gt;").count() > 10);
    assert!(!hostile.contains("<script") && !hostile.contains("<img"));
}

#[test]
fn rejected_deliveries_are_an_alert_until_one_is_accepted() {
    let alert = |change: fn(&mut DashboardView)| {
        let mut view = dashboard_views::with_alerts();
        change(&mut view);
        page(&view).contains("17 deliveries were rejected")
    };
    assert!(alert(|_| {}));
    assert!(!alert(|view| view.rejected_requests[2].accepted_since = true));
    assert!(!alert(|view| view.rejected_requests[2].endpoint = None), "anyone can request any path");
    assert!(!alert(|view| {
        let at = view.rejected_requests[2].last.as_second() - 24 * 3600;
        view.rejected_requests[2].last = syncline::model::Timestamp::from_second(at).unwrap();
    }));
}

#[test]
fn the_page_reloads_only_on_request() {
    let refresh_of = |query| PageQuery::parse(query).refresh_seconds;
    assert_eq!(refresh_of(None), None);
    for (query, seconds) in [
        ("", None),
        ("refresh=", None),
        ("refresh=-1", None),
        ("refresh=1;url=https://evil.example", None),
        ("x=1&refresh=60", Some(60)),
        ("refresh=0", Some(5)),
        ("refresh=99999", Some(3600)),
    ] {
        assert_eq!(refresh_of(Some(query)), seconds, "{query}");
    }
    let mut view = dashboard_views::all_in_sync();
    assert!(!page(&view).contains("http-equiv"));
    view.query.refresh_seconds = Some(60);
    assert!(page(&view).contains("<meta http-equiv=\"refresh\" content=\"60\">"));
}

/// Responds to every request with the page of its path, until the test ends: `/<view>/` and `/<view>/cohorts/<id>`.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let headers: String = HEADERS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    std::thread::spawn(move || {
        let views = all();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let _ = match respond(&views, &request) {
                Some(page) => write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{page}",
                    page.len()
                ),
                None => {
                    write!(stream, "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                }
            };
        }
    });
    format!("http://{address}")
}

fn respond(views: &[(&str, DashboardView)], request: &str) -> Option<String> {
    let target = request.strip_prefix("GET /")?.split(' ').next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (name, path) = path.split_once('/')?;
    let (_, view) = views.iter().find(|(known, _)| *known == name)?;
    let view = DashboardView { query: PageQuery::parse(Some(query)), ..view.clone() };
    match path.strip_prefix("cohorts/") {
        Some(id) => cohort_page(&view, id),
        None => path.is_empty().then(|| page(&view)),
    }
}

/// Contrast ratio of each text to its background (WCAG 2): lists all below 4.5.
const CONTRAST: &str = "
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgb = color => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data; };
const light = c => { const [r, g, b] = [c[0], c[1], c[2]].map(v => v / 255)
  .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c[3] === 255) return c; } return [255, 255, 255]; };
const bad = [];
for (const e of document.body.querySelectorAll('*')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  if (e.closest('svg')) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push(e.tagName + ' ' + e.className + ' ' + ratio.toFixed(2));
}
return [...new Set(bad)];";

/// Lists skipped heading levels, duplicate ids, dead links and images without a name.
const STRUCTURE: &str = "
const bad = [];
let level = 0;
for (const h of document.querySelectorAll('h1,h2,h3,h4')) {
  if (+h.tagName[1] > level + 1) bad.push('skips to ' + h.outerHTML);
  level = +h.tagName[1];
}
const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
ids.filter((id, at) => ids.indexOf(id) !== at).forEach(id => bad.push('twice: ' + id));
document.querySelectorAll('a[href^=\"#\"]').forEach(a => {
  if (!document.getElementById(a.hash.slice(1))) bad.push('is a broken link: ' + a.hash); });
document.querySelectorAll('[aria-labelledby]').forEach(e => e.getAttribute('aria-labelledby').split(' ').forEach(id => {
  if (!document.getElementById(id)) bad.push('no label: ' + id); }));
for (const tag of ['main', 'h1', 'header', 'footer', 'nav'])
  if (document.querySelectorAll(tag).length !== 1) bad.push('not one ' + tag);
return bad;";

#[test]
fn a_browser_renders_every_page_without_errors() {
    let Some(browser) = Browser::start() else { return };
    let server = serve();
    let main = all().map(|(name, _)| (name.to_owned(), format!("{name}/")));
    let of_cohorts = ["six", "hostile"]
        .map(|name| (format!("{name}-cohort"), format!("{name}/cohorts/abandoned_checkout")));
    let filtered = ("filtered".to_owned(), "many/?state=needs-attention&sort=members".to_owned());
    for (name, path) in main.into_iter().chain(of_cohorts).chain([filtered]) {
        browser.open(&format!("{server}/{path}"));
        assert!(browser.run("return document.title").as_str().unwrap().ends_with(" – syncline"));
        assert_eq!(browser.run(STRUCTURE), serde_json::json!([]), "{name}");
        let mut papers = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            papers.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
            assert_eq!(browser.run(CONTRAST), serde_json::json!([]), "{name}, {scheme}");
            assert_eq!(
                axe_violations(&browser).unwrap_or_default(),
                Vec::<String>::new(),
                "{name}, {scheme}"
            );
            for width in [1280, 390, 360] {
                browser.resize(width, 800);
                let across = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
                assert!(across <= u64::from(width), "{name}: {across} wide, in a window of {width}");
                save_screenshot(&browser, &format!("{name}-{scheme}-{width}"), width);
            }
        }
        assert_ne!(papers[0], papers[1], "{name}: light and dark look the same");
        assert_eq!(browser.console(), Vec::<String>::new(), "{name}");
    }
    // Check that defects and console messages are found at all.
    browser.run("document.querySelector('main').append(new Image())");
    assert!(axe_violations(&browser).is_none_or(|found| found.concat().contains("image-alt")));
    browser.run("const s = document.createElement('script'); s.textContent = '1'; document.head.append(s);");
    assert!(browser.console().concat().contains("Content Security Policy"));
}

/// The form works without a script, and a reload keeps what it has chosen.
#[test]
fn the_choices_of_the_form_survive_a_reload() {
    let Some(browser) = Browser::start() else { return };
    browser.open(&format!("{}/many/?refresh=3600", serve()));
    browser.run(
        "document.getElementById('choice-text').value = 'number 1';
         document.getElementById('choice-state').value = 'needs-attention';
         document.getElementById('choice-order').value = 'members';
         document.querySelector('form button').click();",
    );
    let search = || browser.run("return location.search").as_str().unwrap().to_owned();
    until("the form is sent", || search().contains("state=needs-attention"));
    for _ in 0..2 {
        let shown = browser.run(
            "return [...document.querySelectorAll('h3 a')].map(a => a.textContent)
                .concat(['text', 'state', 'order'].map(id => document.getElementById('choice-' + id).value))
                .concat([document.querySelector('meta[http-equiv=refresh]').content])",
        );
        let names = [173, 157, 123, 107].map(|n| format!("Audience number {n}"));
        let chosen = ["number 1", "needs-attention", "members", "3600"].map(str::to_owned);
        assert_eq!(shown, serde_json::json!([&names[..], &chosen[..]].concat()));
        browser.open(browser.run("return location.href").as_str().unwrap());
    }
}

/// The violations that axe-core finds, if SYNCLINE_AXE is the path of its `axe.min.js`.
fn axe_violations(browser: &Browser) -> Option<Vec<String>> {
    #[allow(clippy::disallowed_methods, reason = "a switch for changed pages")]
    let axe = std::fs::read_to_string(std::env::var("SYNCLINE_AXE").ok()?).unwrap();
    let run = "return axe.run().then(found => found.violations.map(v => v.id + ': ' + v.nodes[0].html))";
    let found = browser.run(&format!("{axe};\n{run}"));
    Some(found.as_array().unwrap().iter().map(ToString::to_string).collect())
}

/// Saves a screenshot if SYNCLINE_SCREENSHOTS is set.
fn save_screenshot(browser: &Browser, name: &str, width: u32) {
    #[allow(clippy::disallowed_methods, reason = "a switch for changed pages")]
    let Ok(folder) = std::env::var("SYNCLINE_SCREENSHOTS") else { return };
    let height = browser.run("return document.documentElement.scrollHeight").as_u64().unwrap();
    browser.resize(width, u32::try_from(height.min(6000)).unwrap());
    let path = std::path::Path::new(&folder).join(format!("{name}.png"));
    std::fs::File::create(path).unwrap().write_all(&bytes_of(&browser.screenshot())).unwrap();
    browser.resize(width, 800);
}
