//! Braze as the workspace of a run: its destinations, its triggers and its profiles.

use super::attributes::UserAttributes;
use super::client::BrazeClient;
use super::cohort_import::CohortImport;
use crate::connector::destination::{Destination, ProfileLookup, TriggerEndpoint, Workspace};
use crate::model::DeliveryMethod;

impl Workspace for BrazeClient {
    fn destination<'a>(&'a self, delivery: &'a DeliveryMethod) -> Option<Box<dyn Destination + 'a>> {
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

    fn triggers(&self) -> &dyn TriggerEndpoint {
        self
    }

    fn profiles(&self) -> Option<&dyn ProfileLookup> {
        self.rest().map(|rest| rest as &dyn ProfileLookup)
    }
}
