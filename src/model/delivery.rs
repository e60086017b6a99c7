//! The delivery method of a cohort: cohort import or profile attribute.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::IdentifierKind;

/// How the members of a cohort reach Braze.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeliveryMethod {
    /// Through the partner's cohort import.
    #[default]
    CohortImport,
    /// As an element of this array attribute: the cohort's id.
    Array(Box<str>),
    /// As this boolean attribute with the value `true`.
    Boolean(Box<str>),
}

impl DeliveryMethod {
    /// The attribute, unless it is a cohort import.
    #[must_use]
    pub fn attribute(&self) -> Option<&str> {
        match self {
            Self::CohortImport => None,
            Self::Array(name) | Self::Boolean(name) => Some(name),
        }
    }

    /// Whether users with an identifier of this kind can be reached. Attributes require an external id or an alias
    /// (Braze, "User attributes object").
    #[must_use]
    pub fn reaches(&self, kind: IdentifierKind) -> bool {
        self.attribute().is_none() || kind != IdentifierKind::DeviceId
    }

    /// The form in files: `cohort_import`, `array:NAME` or `boolean:NAME`.
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
            _ => Err(format!("`{code}` is not a delivery method")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_method_is_read_as_written() {
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
