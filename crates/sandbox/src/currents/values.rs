//! Field values in the style of Braze's, consistent for one user, message and device.

use serde_json::{Map, Value as Json, json};

use super::event_types::{EventField, FieldType};
use crate::rng::Rng;

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FieldValue {
    Text(String),
    Int(i64),
    /// Few digits over HTTP, 32 bits in Avro.
    Float(f64),
    Boolean(bool),
    Texts(Vec<Option<String>>),
    Object(Map<String, Json>),
}

const ZONES: [&str; 8] = [
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "Europe/Berlin",
    "Europe/London",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Australia/Sydney",
];
/// Platform, version, model, browser, user agent.
const DEVICES: [[&str; 5]; 5] = [
    [
        "ios",
        "19.2",
        "iPhone17,1",
        "Safari",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 19_2 like Mac OS X) AppleWebKit/605.1.15",
    ],
    ["android", "16", "Pixel 10", "Chrome", "Mozilla/5.0 (Linux; Android 16; Pixel 10) AppleWebKit/537.36"],
    [
        "web",
        "15.5",
        "Macintosh",
        "Firefox",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 15.5; rv:147.0) Gecko/20100101",
    ],
    [
        "kindle",
        "8.3",
        "KFTUWI",
        "Silk",
        "Mozilla/5.0 (Linux; Android 11; KFTUWI) AppleWebKit/537.36 Silk/120.4",
    ],
    ["roku", "14.5", "Roku Ultra", "", "Roku/DVP-14.5"],
];
const CAMPAIGNS: [&str; 8] = [
    "Spring sale",
    "Welcome, day 1",
    "Cart reminder",
    "Win-back \u{2013} 90 days",
    "Price drop",
    "Newsletter 2026/09",
    "Geburtstagsgru\u{df}",
    "\u{30bb}\u{30fc}\u{30eb}",
];
const STEPS: [&str; 5] = ["Entry", "Wait 2 days", "Email 1", "Push 1", "Audience split"];
const CURRENCIES: [&str; 4] = ["USD", "EUR", "GBP", "JPY"];
const EVENTS: [&str; 5] = ["cart_viewed", "article_read", "trial_started", "invite_sent", "search"];

/// Data that the fields of an event share.
#[derive(Clone, Debug)]
pub(super) struct EventContext {
    pub(super) seed: u64,
    pub(super) id: String,
    pub(super) time: u64,
    /// Number of the user, and whether the user has no external id.
    pub(super) user: u64,
    pub(super) anonymous: bool,
    /// Number of the campaign or Canvas.
    pub(super) message: u64,
    /// Whether custom properties are very large.
    pub(super) large: bool,
}

/// Hexadecimal digits that identify item `n` of a kind.
pub(super) fn hex(seed: u64, kind: &str, n: u64, digits: usize) -> String {
    let kind = kind.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut rng = Rng::of(kind, n);
    let mut text = String::with_capacity(digits + 16);
    while text.len() < digits {
        text.push_str(&format!("{:016x}", rng.draw()));
    }
    text.truncate(digits);
    text
}

/// An id in the form of a UUID.
pub(super) fn uuid(seed: u64, kind: &str, n: u64) -> String {
    let digits = hex(seed, kind, n, 32);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

impl EventContext {
    /// External id of the user.
    pub(super) fn external_id(&self) -> String {
        format!("member-{:05}", self.user)
    }

    fn email(&self) -> String {
        format!("member-{:05}@example.com", self.user)
    }

    fn phone(&self) -> String {
        format!("+1415{:07}", self.user % 10_000_000)
    }

    fn device(&self) -> &'static [&'static str; 5] {
        &DEVICES[pick(self.user, DEVICES.len())]
    }

    fn of_user(&self, kind: &str, digits: usize) -> String {
        hex(self.seed, kind, self.user, digits)
    }

    /// The value of a field of this event. `rng` provides the values that have no fixed rule.
    pub(super) fn value(&self, field: &EventField, rng: &mut Rng) -> FieldValue {
        match field.field_type {
            FieldType::Int | FieldType::Long => FieldValue::Int(self.number(field.name, rng)),
            FieldType::Float => FieldValue::Float(float(field.name, rng)),
            FieldType::Boolean => FieldValue::Boolean(rng.chance(0.3)),
            FieldType::Texts => {
                FieldValue::Texts(vec![Some("ip_range".to_owned()), Some("click_velocity".to_owned())])
            }
            FieldType::TextsOrNull => {
                FieldValue::Texts(vec![Some("https://media.example.com/1.jpg".to_owned()), None])
            }
            FieldType::Json => FieldValue::Text(json_text(field.name, rng)),
            FieldType::Object => FieldValue::Object(self.properties(rng)),
            FieldType::Text => FieldValue::Text(self.text(field.name, rng)),
        }
    }

    fn number(&self, name: &str, rng: &mut Rng) -> i64 {
        let number = match name {
            "time" => self.time,
            "time_ms" => self.time * 1000 + rng.below(1000),
            "push_token_created_at" | "push_token_updated_at" => self.time - rng.below(86_400 * 30),
            "http_status_code" => [500, 502, 503, 404][rng.index(4)],
            "ios_push_token_apns_gateway" => 1 + rng.below(2),
            "random_bucket_number" | "prev_random_bucket_number" => rng.below(10_000),
            _ => rng.below(5_000),
        };
        i64::try_from(number).unwrap_or(i64::MAX)
    }

    fn text(&self, name: &str, rng: &mut Rng) -> String {
        let message = pick(self.message, CAMPAIGNS.len());
        let [platform, os_version, model, browser, agent] = self.device();
        let fixed = match name {
            "timezone" => ZONES[pick(self.user, ZONES.len())],
            "platform" => platform,
            "os_version" => os_version,
            "device_model" => model,
            "browser" => browser,
            "user_agent" => agent,
            "campaign_name" => CAMPAIGNS[message],
            "canvas_name" => ["Onboarding", "Lapsing members", "After purchase"][message % 3],
            "canvas_step_name" => STEPS[rng.index(STEPS.len())],
            "message_variation_name" | "canvas_variation_name" => ["Variant 1", "Variant 2"][message % 2],
            "currency" => CURRENCIES[rng.index(CURRENCIES.len())],
            "name" => EVENTS[rng.index(EVENTS.len())],
            "machine_open" => "true",
            "gender" => ["f", "m", "n", "o"][rng.index(4)],
            "country" => ["US", "DE", "JP", "BR"][rng.index(4)],
            "language" => ["en", "de", "ja", "pt"][rng.index(4)],
            "carrier" => "Orange",
            "resolution" => "1179x2556",
            "dob" => "1988-02-29",
            "first_name" => "Ada",
            "last_name" => "Lovelace-\u{d6}zt\u{fc}rk",
            "home_city" => "S\u{e3}o Paulo",
            "subscription_status" => ["Subscribed", "Unsubscribed", "Opted In"][rng.index(3)],
            "channel" => ["email", "sms", "push"][rng.index(3)],
            "esp" => ["sendgrid", "sparkpost", "amazon ses"][rng.index(3)],
            "mailbox_provider" | "recipient_domain" | "from_domain" => "example.com",
            "error" | "bounce_reason" | "deferral_reason" | "abort_log" | "retry_log" => {
                "550 5.1.1 \"user unknown\"; not tried again"
            }
            "ip_pool" => "default",
            "url" | "short_url" | "endpoint_url" => {
                "https://shop.example.com/p/42?utm_source=braze&utm_medium=email"
            }
            "message_body" | "input" | "output" | "quick_reply_text" => "Yes, please.\nThank you \u{1f600}",
            _ => return self.id_or_default(name, rng),
        };
        fixed.to_owned()
    }

    /// Ids, and a default for all other fields.
    fn id_or_default(&self, name: &str, rng: &mut Rng) -> String {
        let message = self.message;
        match name {
            "id" => self.id.clone(),
            "user_id" => self.of_user("user", 24),
            "external_user_id" => self.external_id(),
            "orphaned_by_id" => hex(self.seed, "user", self.user + 1, 24),
            "device_id" | "push_token_device_id" => uuid(self.seed, "device", self.user),
            "ad_id" => uuid(self.seed, "ad", self.user),
            "push_token" => self.of_user("token", 64),
            "email_address" => self.email(),
            "channel_identifier" if self.user.is_multiple_of(2) => self.email(),
            "sending_ip" => format!("192.0.2.{}", rng.below(256)),
            "product_id" => format!("sku-{:04}", rng.below(10_000)),
            "app_id" => uuid(self.seed, "app", self.user % 3),
            "app_group_id" => hex(self.seed, "app_group", 0, 24),
            "campaign_id" | "message_variation_id" | "canvas_id" | "canvas_variation_id" => {
                uuid(self.seed, name, message)
            }
            "canvas_step_id" | "canvas_step_message_variation_id" => {
                uuid(self.seed, name, message * 8 + rng.below(5))
            }
            _ if name.contains("phone_number") || name == "channel_identifier" => self.phone(),
            _ if name.ends_with("_id") || name.ends_with("_token") => hex(rng.draw(), name, 0, 24),
            _ => format!("{} {}", name.replace('_', " "), rng.below(20)),
        }
    }

    fn properties(&self, rng: &mut Rng) -> Map<String, Json> {
        let mut all = Map::new();
        all.insert("cart_value".to_owned(), json!(hundredths(rng, 0, 100_000)));
        all.insert("items".to_owned(), json!(["shoes", "socks, wool"]));
        all.insert("vip".to_owned(), json!(rng.chance(0.5)));
        all.insert("shipping".to_owned(), json!({ "city": "Graz", "express": false, "days": [1, 3] }));
        all.insert("seen_at".to_owned(), json!("2026-03-01T08:30:00.000Z"));
        if rng.chance(0.1) {
            all.insert("coupon".to_owned(), Json::Null);
        }
        if self.large {
            all.insert("blob".to_owned(), json!("x".repeat(890_000)));
        }
        all
    }
}

fn pick(n: u64, len: usize) -> usize {
    usize::try_from(n % len as u64).unwrap_or(0)
}

/// A number from `low` on in hundredths, with `count` possible values.
fn hundredths(rng: &mut Rng, low: i32, count: u32) -> f64 {
    let drawn = i32::try_from(rng.below(u64::from(count))).unwrap_or(0);
    f64::from(low + drawn) / 100.0
}

/// A number with so few digits that 32 bits preserve it.
fn float(name: &str, rng: &mut Rng) -> f64 {
    match name {
        "latitude" => hundredths(rng, -9_000, 18_000),
        "longitude" => hundredths(rng, -18_000, 36_000),
        "duration" => hundredths(rng, 0, 360_000),
        _ => hundredths(rng, 0, 50_000),
    }
}

fn json_text(name: &str, rng: &mut Rng) -> String {
    let value = match name {
        "conversion_behavior" => json!({ "type": "Made Purchase", "window": 259_200 }),
        "tool_arguments" => json!({ "query": "order 7", "limit": rng.below(10) }),
        "flow_response_json" => json!({ "size": "M", "agreed": true }),
        "custom_attributes" => json!({ "plan": "pro", "seats": rng.below(50), "tags": ["a", "b"] }),
        _ => json!({ "ab_test": "B", "rank": rng.below(3) }),
    };
    value.to_string()
}
