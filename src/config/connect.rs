//! Heap Connect's dumps, as the config names them.

/// Where Heap Connect's dumps are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpPlace {
    /// The bucket's address, or a folder that is a copy of one.
    pub path: String,
    /// The store's address, if it is in a bucket and that is not the vendor's own.
    pub endpoint: Option<String>,
    /// The bucket's region, for S3.
    pub region: Option<String>,
}

impl DumpPlace {
    /// Whether it is in a bucket and not on this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.contains("://")
    }
}
