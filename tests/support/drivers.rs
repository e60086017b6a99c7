//! ADBC drivers for tests: SQLite's from PyPI, DuckDB's from npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use adbc_core::options::{AdbcVersion, OptionDatabase};
use adbc_core::{Connection as _, Database as _, Driver as _, LOAD_FLAG_DEFAULT, Statement as _};
use adbc_driver_manager::ManagedDriver;

use super::{root, skip_test};

/// A driver, and its option for the database file.
pub(crate) struct Driver {
    pub(crate) file: PathBuf,
    entrypoint: Option<&'static str>,
    pub(crate) option: &'static str,
}

impl Driver {
    /// `None` if it is not installed; with `CI` set that is a failure.
    pub(crate) fn sqlite() -> Option<Self> {
        let script = "import adbc_driver_sqlite; print(adbc_driver_sqlite._driver_path())";
        let found = Command::new("python3").args(["-c", script]).output().ok();
        let path = found.filter(|found| found.status.success()).map(|found| found.stdout);
        let Some(path) = path.and_then(|path| String::from_utf8(path).ok()) else {
            return skip_test("SQLite's driver is needed: pip install adbc-driver-sqlite");
        };
        Some(Self { file: path.trim().into(), entrypoint: None, option: "uri" })
    }

    /// The same.
    pub(crate) fn duckdb() -> Option<Self> {
        let file = root().join("target/drivers/node_modules/@duckdb/node-bindings-linux-x64/libduckdb.so");
        if !file.exists() {
            return skip_test(
                "DuckDB's library is needed: npm install --prefix target/drivers @duckdb/node-bindings-linux-x64",
            );
        }
        Some(Self { file, entrypoint: Some("duckdb_adbc_init"), option: "path" })
    }

    /// Runs a statement on a file and closes it.
    pub(crate) fn sql(&self, file: &Path, text: &str) {
        let (entrypoint, version) = (self.entrypoint.map(str::as_bytes), AdbcVersion::V110);
        let name = self.file.to_str().unwrap();
        let driver = ManagedDriver::load_from_name(name, entrypoint, version, LOAD_FLAG_DEFAULT, None);
        let option = (OptionDatabase::from(self.option), file.to_str().unwrap().into());
        let database = driver.unwrap().new_database_with_opts([option]).unwrap();
        let mut connection = database.new_connection().unwrap();
        let mut statement = connection.new_statement().unwrap();
        statement.set_sql_query(text).unwrap();
        statement.execute_update().unwrap();
    }

    /// A connection to a file, as config text, with more settings.
    pub(crate) fn connection(&self, file: &str, more: &str) -> String {
        let (driver, option) = (self.file.display(), self.option);
        let entrypoint = self.entrypoint.map(|name| format!("entrypoint: {name}, ")).unwrap_or_default();
        format!(
            "  warehouse: {{ kind: adbc, driver: {driver}, {entrypoint}options: {{ {option}: {file} }}{more} }}\n"
        )
    }
}
