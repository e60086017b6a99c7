//! How the members of a cohort reach Braze.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::IdentifierKind;

/// How the members of a cohort reach Braze.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeliveryMethod {
    /// By the partner's cohort import.
    #[default]
    CohortImport,
    /// As an element of this array attribute of their profiles: the cohort's id.
    Array(Box<str>),
    /// As this attribute of their profiles, which is true.
    Boolean(Box<str>),
}

impl DeliveryMethod {
    /// The attribute, if it is one.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        match self {
            Self::CohortImport => None,
            Self::Array(name) | Self::Boolean(name) => Some(name),
        }
    }

    /// Whether somebody who is known so can be reached. Attributes are written to profiles of people who are
    /// named by external id or alias (Braze, "User attributes object"): a device is nobody's name there.
    #[must_use]
    pub fn reaches(&self, kind: IdentifierKind) -> bool {
        self.attribute().is_none() || kind != IdentifierKind::DeviceId
    }

    /// The way as files have it: `cohort_import`, `array:NAME` or `boolean:NAME`.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::CohortImport => "cohort_import".to_owned(),
            Self::Array(name) => format!("array:{name}"),
            Self::Boolean(name) => format!("boolean:{name}"),
        }
    }
}

impl fmt::Display for DeliveryMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CohortImport => f.write_str("cohort import"),
            Self::Array(name) => write!(f, "array attribute `{name}`"),
            Self::Boolean(name) => write!(f, "boolean attribute `{name}`"),
        }
    }
}

impl From<DeliveryMethod> for String {
    fn from(delivery: DeliveryMethod) -> Self {
        delivery.code()
    }
}

impl TryFrom<String> for DeliveryMethod {
    type Error = String;

    fn try_from(code: String) -> Result<Self, String> {
        match code.split_once(':') {
            None if code == "cohort_import" => Ok(Self::CohortImport),
            Some(("array", name)) if !name.is_empty() => Ok(Self::Array(name.into())),
            Some(("boolean", name)) if !name.is_empty() => Ok(Self::Boolean(name.into())),
            _ => Err(format!("`{code}` is no way of delivery")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_read_as_it_was_written() {
        for delivery in [
            DeliveryMethod::CohortImport,
            DeliveryMethod::Array("a".into()),
            DeliveryMethod::Boolean("b".into()),
        ] {
            assert_eq!(DeliveryMethod::try_from(delivery.code()), Ok(delivery.clone()));
            assert_eq!(delivery.reaches(IdentifierKind::DeviceId), delivery == DeliveryMethod::CohortImport);
            assert!(delivery.reaches(IdentifierKind::Alias));
        }
        for bad in ["", "array", "array:", "cohort", "set:a"] {
            assert!(DeliveryMethod::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
