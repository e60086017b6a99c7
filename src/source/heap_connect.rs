//! Source kind: a table of Heap Connect's dumps.

use super::DesiredError;
use super::dump_replay::{DumpReplay, DumpsRead};
use super::reader::{ReadAccess, SourceCheck, SourceFingerprint, SourceInputs, SourceReader, SourceRows};
use crate::config::{DumpFolder, DumpTableSource};
use crate::connector::file::AvroValues;
use crate::connector::heap_connect::{DumpError, Dumps};
use crate::connector::rows::RowSink;

impl SourceReader for DumpTableSource {
    fn fingerprint(&self, inputs: SourceInputs<'_>) -> Result<Option<SourceFingerprint>, DesiredError> {
        // Rows expire without a new dump.
        if self.within.is_some() {
            return Ok(None);
        }
        Ok(Some(fingerprint(&Dumps::find(&self.folder, inputs.access.files())?)))
    }

    fn read(
        &self,
        inputs: SourceInputs<'_>,
        columns: &[Box<str>],
        sink: &mut impl RowSink,
    ) -> Result<SourceRows, DesiredError> {
        let dumps = Dumps::find(&self.folder, inputs.access.files())?;
        let replay = DumpReplay::new(&dumps, &self.table)?;
        let read = DumpsRead { within: self.within, values: AvroValues::Typed };
        let summary = replay.run(inputs, columns, read, sink)?;
        Ok(SourceRows { summary, fingerprint: self.within.is_none().then(|| fingerprint(&dumps)) })
    }

    fn check(&self, access: ReadAccess<'_>, _: &[Box<str>]) -> Result<Option<SourceCheck>, DesiredError> {
        Ok(Some(check_dumps(&self.folder, access)?))
    }
}

/// The numbers and hashes of all dumps.
fn fingerprint(dumps: &Dumps) -> SourceFingerprint {
    let text = dumps.all().iter().map(|dump| format!("{} {:x} ", dump.id, dump.mark)).collect();
    SourceFingerprint::Version(text)
}

/// Checks that the newest manifest of Heap Connect's dumps can be read.
///
/// # Errors
/// [`DumpError`] when it cannot.
pub fn check_dumps(folder: &DumpFolder, access: ReadAccess<'_>) -> Result<SourceCheck, DumpError> {
    let dumps = Dumps::find(folder, access.files())?;
    let (dump, tables) = match dumps.all().last() {
        Some(newest) => (newest.id, dumps.manifest(newest)?.tables.len()),
        None => (0, 0),
    };
    let plural = if tables == 1 { "" } else { "s" };
    let summary = format!("the newest is dump {dump}, with {tables} table{plural}");
    Ok(SourceCheck { subject: "dumps", summary })
}
