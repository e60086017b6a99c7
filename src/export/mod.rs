//! One pass of an export.
