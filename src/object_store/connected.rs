//! The client of a store, for objects and for listings.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::list::PaginatedListStore;

/// The client of a store, for objects and for listings.
pub(super) struct ConnectedStore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) lists: Arc<dyn PaginatedListStore>,
    pub(super) is_azure: bool,
}
