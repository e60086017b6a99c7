//! Generator of events like `users.messages.email.Open`: random ids, a fifth of the optional fields null, a few
//! dozen campaigns, time zones and browsers. The same number of events gives the same bytes everywhere.

use crate::avro::{Writer, long, text};

/// Fields of a record with their types; `?` marks nullable fields.
pub(crate) const FIELDS: [(&str, &str); 17] = [
    ("id", "string"),
    ("user_id", "string"),
    ("external_user_id", "string?"),
    ("device_id", "string?"),
    ("time", "int"),
    ("timezone", "string?"),
    ("campaign_id", "string?"),
    ("campaign_name", "string?"),
    ("message_variation_id", "string?"),
    ("canvas_id", "string?"),
    ("canvas_name", "string?"),
    ("canvas_step_id", "string?"),
    ("dispatch_id", "string?"),
    ("email_address", "string?"),
    ("user_agent", "string?"),
    ("ip_pool", "string?"),
    ("machine_open", "boolean?"),
];
const BLOCK_LEN: usize = 65_536;

/// A value of an event.
enum Value {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
}

/// An Avro file with this number of events.
pub(crate) fn file(events: u64, codec: &'static str) -> Vec<u8> {
    let fields: Vec<String> = FIELDS
        .iter()
        .map(|(name, of)| match of.strip_suffix('?') {
            Some(of) => format!(r#"{{"name":"{name}","type":["null","{of}"],"default":null}}"#),
            None => format!(r#"{{"name":"{name}","type":"{of}"}}"#),
        })
        .collect();
    let schema = format!(
        r#"{{"type":"record","name":"Open","namespace":"com.appboy.users.messages.email","fields":[{}]}}"#,
        fields.join(",")
    );
    let (mut writer, mut data, mut records) = (Writer::new(&schema, codec), Vec::new(), 0);
    let mut random = Random(1);
    for number in 0..events {
        for ((_, of), value) in FIELDS.iter().zip(event(&mut random, number)) {
            if of.ends_with('?') {
                long(&mut data, i64::from(!matches!(value, Value::Null)));
            }
            match value {
                Value::Null => {}
                Value::Text(value) => text(&mut data, &value),
                Value::Int(value) => long(&mut data, value),
                Value::Bool(value) => data.push(u8::from(value)),
            }
        }
        records += 1;
        if data.len() >= BLOCK_LEN || number + 1 == events {
            writer.block(records, &data);
            data.clear();
            records = 0;
        }
    }
    writer.bytes
}

/// The same events as HTTP bodies of `body_len` events each.
pub(crate) fn bodies(events: u64, body_len: u64) -> Vec<Vec<u8>> {
    let mut random = Random(1);
    let all: Vec<String> = (0..events).map(|number| http(&event(&mut random, number))).collect();
    let bodies = all.chunks(body_len.try_into().unwrap());
    bodies.map(|events| format!("{{\"events\":[{}]}}", events.join(",")).into_bytes()).collect()
}

fn http(event: &[Value]) -> String {
    let json = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => serde_json::to_string(text).unwrap(),
        Value::Int(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
    };
    let object = |is_in: &dyn Fn(&str) -> bool| {
        let members = FIELDS
            .iter()
            .zip(event)
            .filter(|((name, _), value)| is_in(name) && !matches!(value, Value::Null));
        members.map(|((name, _), value)| format!("\"{name}\":{}", json(value))).collect::<Vec<_>>().join(",")
    };
    let is_top = |name: &str| matches!(name, "id" | "time");
    let is_user = |name: &str| matches!(name, "user_id" | "external_user_id" | "device_id" | "timezone");
    format!(
        r#"{{"event_type":"users.messages.email.Open",{},"user":{{{}}},"properties":{{{}}}}}"#,
        object(&is_top),
        object(&is_user),
        object(&|name| !is_top(name) && !is_user(name))
    )
}

fn event(random: &mut Random, number: u64) -> Vec<Value> {
    const ZONES: [&str; 6] =
        ["America/New_York", "Europe/London", "Europe/Berlin", "Asia/Tokyo", "America/Sao_Paulo", "UTC"];
    const EXTRAS: [&str; 5] = ["", " \"VIP\"", " – été", " / A\\B", " ✓"];
    let campaign = random.share(70).then(|| random.below(40));
    let canvas = campaign.is_none().then(|| random.below(15));
    let some = |is_there: bool, value: String| if is_there { Value::Text(value) } else { Value::Null };
    let of = |which: Option<u64>, text: &dyn Fn(u64) -> String| {
        which.map_or(Value::Null, |n| Value::Text(text(n)))
    };
    let fixed = |kind: u64, n: u64| Random(kind << 32 | n).uuid();
    let [external, device, email] =
        [random.uuid(), random.uuid(), format!("user{}@example{}.com", random.below(10_000_000), number % 7)];
    vec![
        Value::Text(random.uuid()),
        Value::Text(random.hex(24)),
        some(random.share(95), external),
        some(random.share(30), device),
        Value::Int(1_760_000_000 + (number * 3 / 10).cast_signed()),
        some(random.share(90), ZONES[random.below(6) as usize].to_owned()),
        of(campaign, &|n| fixed(1, n)),
        of(campaign, &|n| format!("2026 Q{} Newsletter {n}{}", n % 4 + 1, EXTRAS[n as usize % 5])),
        of(campaign, &|n| fixed(2, n)),
        of(canvas, &|n| fixed(3, n)),
        of(canvas, &|n| format!("Onboarding flow v{n}")),
        of(canvas, &|n| fixed(4, n)),
        Value::Text(random.hex(32)),
        Value::Text(email),
        some(random.share(80), agent(random.below(25))),
        some(random.share(50), "main-pool".to_owned()),
        if random.share(80) { Value::Bool(random.share(40)) } else { Value::Null },
    ]
}

fn agent(n: u64) -> String {
    format!(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.{n} (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.{n}",
        100 + n
    )
}

/// Pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ n >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn share(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn hex(&mut self, len: usize) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())[..len].to_owned()
    }

    fn uuid(&mut self) -> String {
        let hex = self.hex(32);
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }
}
