//! Target of plan files: their text, signed correctly, so that inputs reach the parser.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use syncline::config::{Config, SourceAccess, load};
use syncline::model::{NoProgress, RunId};
use syncline::reconcile::{PlanInputs, resume};

use super::{CLOCK, file, state, write};

/// A config with one cohort.
const CONFIG: &[u8] = br"
version: 1
state: state
connections:
  braze: { kind: braze, instance: sandbox, partner: heap }
cohorts:
  - id: vip
    name: VIP
    to: braze
    source: { kind: file, path: vip.csv }
    match: [{ external_id: id }]
";

/// The text of a plan, after a byte with the manner of packing: signed and packed, packed bytes as they are, or a whole
/// file. `{config}` stands for the digest of the config.
pub(crate) fn plan_file(data: &[u8]) {
    let Some((manner, text)) = data.split_first() else { return };
    let config = config();
    state::create();
    let Ok(reader) = state::reader() else { return };
    let text = String::from_utf8_lossy(text).replace("{config}", &config.digest).into_bytes();
    let packed = match manner % 3 {
        0 => zstd::bulk::compress(&text, 1).expect("packed"),
        _ => data[1..].to_vec(),
    };
    let bytes = match manner % 3 {
        2 => packed,
        _ => signed(packed, text.len() as u64, &reader.signing_key("saved plan").unwrap_or_default()),
    };
    let path: PathBuf = file("saved.plan", &bytes);
    let (secrets, ceilings, run) = (SourceAccess::default(), BTreeMap::new(), RunId::named("fuzz"));
    let inputs = PlanInputs {
        config: &config,
        state: &reader,
        secrets: &secrets,
        ceilings: &ceilings,
        only: &[],
        retry_rejected: false,
        run: &run,
        clock: CLOCK,
        progress: &NoProgress,
    };
    match resume(&path, inputs) {
        Ok(plan) => assert_eq!(plan.config, config.digest),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn config() -> Config {
    let path = super::home().join("plan.yaml");
    if !path.exists() {
        write(&path, CONFIG);
    }
    load(&path, None, None).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A signed file, as `signing.rs` describes it.
fn signed(mut packed: Vec<u8>, unpacked: u64, key: &[u8; 32]) -> Vec<u8> {
    packed.extend_from_slice(&unpacked.to_le_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(&packed);
    packed.extend_from_slice(&mac.finalize().into_bytes());
    packed.extend_from_slice(b"syncplan");
    packed
}
