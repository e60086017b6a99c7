//! In a build without the feature `warehouse`: no database can be reached.

use std::convert::Infallible;
use std::marker::PhantomData;

use super::database::{Database, DatabaseInfo, SqlTable};
use super::error::{SqlError, SqlErrorKind};
use crate::config::SqlSource;
use crate::connector::rows::RowSink;
use crate::model::{BuildFeature, Fields};

pub use self::{NoTempTableWriter as TempTableWriter, NoTempTables as TempTables};

fn missing<T>(database: Database<'_>) -> Result<T, SqlError> {
    let message = BuildFeature::Warehouse.missing("a database");
    Err(SqlError::new(database.name, SqlErrorKind::Local, message))
}

/// Fails: the feature is missing.
///
/// # Errors
/// Always.
pub fn inspect_database(database: Database<'_>) -> Result<DatabaseInfo, SqlError> {
    missing(database)
}

/// Fails: the feature is missing.
///
/// # Errors
/// Always.
pub fn tables(database: Database<'_>) -> Result<Vec<SqlTable>, SqlError> {
    missing(database)
}

/// Fails: the feature is missing.
///
/// # Errors
/// Always.
pub fn try_source(_: &SqlSource, database: Database<'_>, _: &[Box<str>]) -> Result<(), SqlError> {
    missing(database)
}

/// Fails: the feature is missing.
///
/// # Errors
/// Always.
pub fn read(
    _: &SqlSource,
    database: Database<'_>,
    _: &[Box<str>],
    _: &mut impl RowSink,
) -> Result<u64, SqlError> {
    missing(database)
}

/// Does not exist: the feature is missing.
pub struct NoTempTables<'a>(Infallible, PhantomData<&'a ()>);

impl<'a> NoTempTables<'a> {
    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn open(database: Database<'a>) -> Result<Self, SqlError> {
        missing(database)
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn table(&mut self, _: &str, _: &[Box<str>]) -> Result<NoTempTableWriter<'_, 'a>, SqlError> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn read(&mut self, _: &SqlSource, _: &[Box<str>], _: &mut impl RowSink) -> Result<u64, SqlError> {
        match self.0 {}
    }
}

/// Does not exist: the feature is missing.
pub struct NoTempTableWriter<'s, 'a>(Infallible, PhantomData<(&'s (), &'a ())>);

impl NoTempTableWriter<'_, '_> {
    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn put(&mut self, _: &impl Fields) -> Result<bool, SqlError> {
        match self.0 {}
    }

    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn finish(self) -> Result<(), SqlError> {
        match self.0 {}
    }
}

/// Mirror tables.
pub(super) mod pushdown {
    use super::missing;
    use crate::config::{PostgresConfig, SqlSource};
    use crate::connector::sql::database::Database;
    use crate::connector::sql::error::SqlError;
    use crate::connector::sql::pushdown::{
        Differences, MemberRules, MirrorTableName, MirrorUnusable, Rights,
    };
    use crate::model::{IdShapes, TableChecksum};

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn difference(
        _: &SqlSource,
        database: Database<'_>,
        _: &MemberRules<'_>,
        _: (&MirrorTableName, TableChecksum),
        _: &mut impl Differences,
    ) -> Result<Result<(u64, IdShapes), MirrorUnusable>, SqlError> {
        missing(database)
    }

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn unsupported(
        _: &SqlSource,
        database: Database<'_>,
        _: &[Box<str>],
    ) -> Result<Option<MirrorUnusable>, SqlError> {
        missing(database)
    }

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn rebuild<E: From<SqlError>>(
        database: Database<'_>,
        _: &MirrorTableName,
        _: &str,
        _: impl FnMut(&mut String) -> Result<bool, E>,
    ) -> Result<TableChecksum, E> {
        Ok(missing(database)?)
    }

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn update<E: From<SqlError>>(
        database: Database<'_>,
        _: (&MirrorTableName, TableChecksum),
        _: impl FnMut(&mut String) -> Result<Option<bool>, E>,
    ) -> Result<TableChecksum, E> {
        Ok(missing(database)?)
    }

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn drop_table(database: Database<'_>, _: &MirrorTableName) -> Result<(), SqlError> {
        missing(database)
    }

    /// Fails: the feature is missing.
    ///
    /// # Errors
    /// Always.
    pub fn rights(database: Database<'_>, _: &PostgresConfig, _: &str) -> Result<Option<Rights>, SqlError> {
        missing(database)
    }
}
