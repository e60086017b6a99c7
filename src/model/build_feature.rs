//! Parts of the program that a build may lack: the Cargo features.

/// A Cargo feature. A released binary has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildFeature {
    /// Buckets: S3, Google Cloud Storage, Azure Blob Storage.
    Cloud,
    /// Spans for OpenTelemetry collectors.
    Otlp,
    /// Databases and Parquet files.
    Warehouse,
}

impl BuildFeature {
    /// Its name in `Cargo.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Otlp => "otlp",
            Self::Warehouse => "warehouse",
        }
    }

    /// Whether this program has it.
    #[must_use]
    pub fn is_present(self) -> bool {
        match self {
            Self::Cloud => cfg!(feature = "cloud"),
            Self::Otlp => cfg!(feature = "otlp"),
            Self::Warehouse => cfg!(feature = "warehouse"),
        }
    }

    /// How to install a program that has it.
    #[must_use]
    pub fn remedy() -> &'static str {
        "install the full build: `cargo install --locked --path . --features full`, or a released binary"
    }

    /// The error of `what` in a build without the feature.
    #[must_use]
    pub fn missing(self, what: &str) -> String {
        let (name, remedy) = (self.name(), Self::remedy());
        format!("{what} needs the feature `{name}`, which this build does not have; {remedy}")
    }
}
