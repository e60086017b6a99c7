//! Choice of the destination for a delivery method.

use super::attributes::UserAttributes;
use super::client::BrazeClient;
use super::cohort_import::CohortImport;
use crate::connector::destination::Destination;
use crate::model::DeliveryMethod;

impl BrazeClient {
    /// The destination for a delivery method. `None` without the keys that it needs.
    #[must_use]
    pub fn destination<'a>(&'a self, delivery: &'a DeliveryMethod) -> Option<Box<dyn Destination + 'a>> {
        match delivery {
            DeliveryMethod::CohortImport => {
                let keys = self.keys.import.as_ref()?;
                Some(Box::new(CohortImport { client: self, keys }))
            }
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => {
                let key = self.keys.rest.as_ref()?;
                Some(Box::new(UserAttributes { client: self, key, delivery }))
            }
        }
    }
}
