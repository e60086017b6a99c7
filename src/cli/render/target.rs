//! What a run is for: environment, Braze instances, state, config and git revision. Plans and reports begin with it, so
//! that a plan of the wrong environment is noticed before it is applied.

use serde_json::{Value, json};

use crate::cli::global_args::Global;
use crate::cli::output::dim;
use crate::cli::resources::location;
use crate::cli::revision::revision;
use crate::config::Config;
use crate::foreign::{self, escaped};
use crate::state::Location;

/// Digits of the config's digest that are shown.
const DIGEST_SHOWN: usize = 12;

/// The target of a run.
pub(in crate::cli) struct RunTarget {
    /// The config file.
    file: String,
    /// The entry of `environments:`; `None` without `--env`.
    environment: Option<String>,
    /// Name and endpoint of each Braze connection.
    instances: Vec<(String, String)>,
    state: String,
    digest: String,
    revision: Option<String>,
}

impl RunTarget {
    pub(in crate::cli) fn new(global: &Global, config: &Config) -> Self {
        let instances = config.braze.iter();
        Self {
            file: global.config.to_string_lossy().into_owned(),
            environment: global.env.clone(),
            instances: instances
                .map(|(name, braze)| (name.to_string(), braze.endpoint.as_str().to_owned()))
                .collect(),
            state: location(config).to_string(),
            digest: config.digest.chars().take(DIGEST_SHOWN).collect(),
            revision: revision(&config.folder),
        }
    }

    /// The environment, or the config file of a run without one.
    pub(super) fn name(&self) -> &str {
        self.environment.as_deref().unwrap_or(&self.file)
    }

    /// The target with the state of a process that read its config before.
    pub(in crate::cli) fn in_state(self, state: &Location) -> Self {
        Self { state: state.to_string(), ..self }
    }

    /// Each part with its label.
    pub(in crate::cli) fn parts(&self) -> Vec<(&'static str, String)> {
        let instances: Vec<String> = match self.instances.as_slice() {
            [(_, endpoint)] => vec![endpoint.clone()],
            several => several.iter().map(|(name, endpoint)| format!("{name} ({endpoint})")).collect(),
        };
        let mut parts = Vec::new();
        parts.extend(self.environment.clone().map(|name| ("environment", name)));
        parts.extend((!instances.is_empty()).then(|| ("Braze", instances.join(", "))));
        parts.push(("state", self.state.clone()));
        parts.push(("config", self.digest.clone()));
        parts.extend(self.revision.clone().map(|revision| ("revision", revision)));
        parts
    }

    /// The target in one line.
    pub(super) fn line(&self) -> String {
        let parts = self.parts().into_iter().map(|(label, part)| format!("{label} {}", escaped(&part)));
        dim(&format!("Target: {}", parts.collect::<Vec<_>>().join("; ")))
    }

    /// The target as JSON.
    pub(super) fn to_json(&self) -> Value {
        let instances = self.instances.iter();
        let instances: Vec<Value> =
            instances.map(|(name, endpoint)| json!({ "connection": name, "endpoint": endpoint })).collect();
        json!({
            "environment": self.environment,
            "braze": instances,
            "state": self.state,
            "config_digest": self.digest,
            "revision": self.revision,
        })
    }

    /// A comment in HTML by which a later plan of the same target finds the comment to replace.
    pub(super) fn marker(&self) -> String {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || "._/".contains(*c)).collect()
        };
        let environment = self.environment.as_deref().map(|name| format!(" {}", plain(name)));
        format!("<!-- syncline plan {}{} -->", plain(&self.file), environment.unwrap_or_default())
    }

    /// The name in Markdown.
    pub(super) fn heading(&self) -> String {
        foreign::markdown(self.name())
    }
}
