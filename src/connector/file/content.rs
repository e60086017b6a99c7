//! Detects a file's format from its first bytes, decompresses gzip and zstd, and describes unsupported formats with a
//! remedy.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use super::FileError;
use super::open::{BUFFER_LEN, FileBytes, FileInput};
use crate::config::FileFormat;

/// Bytes that are inspected.
const FRONT_LEN: usize = 8 << 10;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    Gzip,
    Zstd,
    Parquet,
    Avro,
    /// A JSON object, or a list of JSON values.
    Json,
    /// Text with lines that end with a carriage return alone.
    CrText,
    Text,
    Empty,
    Foreign(UnsupportedContent),
}

/// Unsupported content: its description and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnsupportedContent {
    what: &'static str,
    remedy: &'static str,
}

const PACKED: &str = "unpack it, or compress it with gzip or zstd instead";
const EXPORT: &str = "export it as CSV (UTF-8), NDJSON, Parquet or Avro";
const UNZIP: &str = "unpack it, and name the file in it";
const UTF8: &str = "save it as UTF-8, for example with `iconv -t UTF-8`";
const PAGE: &str = "does the address or the export need a login? Fetch the file itself";

const fn foreign(what: &'static str, remedy: &'static str) -> ContentKind {
    ContentKind::Foreign(UnsupportedContent { what, remedy })
}

/// Signatures at the first byte.
const SIGNATURES: [(&[u8], ContentKind); 24] = [
    (b"\x1f\x8b", ContentKind::Gzip),
    (b"\x28\xb5\x2f\xfd", ContentKind::Zstd),
    (b"PAR1", ContentKind::Parquet),
    (b"PARE", foreign("Parquet with an encrypted footer", EXPORT)),
    (b"Obj\x01", ContentKind::Avro),
    (b"BZh", foreign("compressed with bzip2", PACKED)),
    (b"\xfd7zXZ\0", foreign("compressed with xz", PACKED)),
    (b"\x5d\0\0", foreign("compressed with lzma", PACKED)),
    (b"\x04\x22\x4d\x18", foreign("compressed with lz4", PACKED)),
    (b"\xff\x06\0\0sNaPpY", foreign("compressed with snappy", PACKED)),
    (b"\x1f\x9d", foreign("compressed with compress (.Z)", PACKED)),
    (b"\x89LZO", foreign("compressed with lzop", PACKED)),
    (b"7z\xbc\xaf\x27\x1c", foreign("a 7z archive", UNZIP)),
    (b"Rar!", foreign("a RAR archive", UNZIP)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", foreign("an Excel workbook (xls)", EXPORT)),
    (b"%PDF", foreign("a PDF document", EXPORT)),
    (b"ORC", foreign("an ORC file", EXPORT)),
    (b"ARROW1", foreign("an Arrow (Feather) file", EXPORT)),
    (b"SQLite format 3\0", foreign("an SQLite database", EXPORT)),
    (b"SEQ\x06", foreign("a Hadoop sequence file", EXPORT)),
    (b"\xff\xfe\0\0", foreign("UTF-32 and not UTF-8", UTF8)),
    (b"\0\0\xfe\xff", foreign("UTF-32 and not UTF-8", UTF8)),
    (b"\xff\xfe", foreign("UTF-16 and not UTF-8", UTF8)),
    (b"\xfe\xff", foreign("UTF-16 and not UTF-8", UTF8)),
];

impl ContentKind {
    /// The kind of content that begins with `front`.
    pub(super) fn of(front: &[u8]) -> Self {
        if front.is_empty() {
            return Self::Empty;
        }
        match SIGNATURES.iter().find(|(signature, _)| front.starts_with(signature)) {
            Some((b"ORC", _)) if !is_binary(front) => {}
            Some((b"BZh", _)) if front.get(4..10) != Some(b"1AY&SY") => {}
            Some((_, kind)) => return *kind,
            None => {}
        }
        if let Some(archive) = archive(front) {
            return archive;
        }
        if let Some(utf16) = utf16(front) {
            return utf16;
        }
        if is_binary(front) {
            return foreign(
                "binary data of an unknown kind, perhaps compressed with brotli or encrypted",
                "unpack or decrypt it, or compress it with gzip or zstd instead",
            );
        }
        text(front)
    }

    /// The format that the content shows.
    fn format(self) -> Option<FileFormat> {
        match self {
            Self::Parquet => Some(FileFormat::Parquet),
            Self::Avro => Some(FileFormat::Avro),
            Self::Json => Some(FileFormat::Ndjson),
            _ => None,
        }
    }

    /// The description, to follow "is".
    fn words(self) -> &'static str {
        match self {
            Self::Gzip => "compressed with gzip",
            Self::Zstd => "compressed with zstd",
            Self::Parquet => "Parquet",
            Self::Avro => "Avro",
            Self::Json => "JSON",
            Self::CrText | Self::Text => "text",
            Self::Empty => "empty",
            Self::Foreign(UnsupportedContent { what, .. }) => what,
        }
    }
}

/// Decompressed content and its kind.
pub(super) struct DetectedContent {
    pub(super) kind: ContentKind,
    pub(super) input: FileInput,
}

impl DetectedContent {
    /// Inspects a file's first bytes and decompresses it if necessary.
    pub(super) fn of(handle: FileBytes, path: &Path) -> Result<Self, FileError> {
        let mut plain = FileInput { reader: handle.reader(), packed: false };
        let (kind, reader) = detect_format(&mut plain, path)?;
        let unpacked: Box<dyn Read> = match kind {
            ContentKind::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_LEN, reader)))
            }
            ContentKind::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(reader);
                Box::new(decoder.map_err(|source| FileError::Unpack { path: path.to_owned(), source })?)
            }
            ContentKind::Empty if is_packed(path) => {
                // The decompressors accept an empty file.
                let what = "it is empty, without compressed data".to_owned();
                return Err(FileError::Truncated { path: path.to_owned(), what });
            }
            kind => return Ok(Self { kind, input: FileInput { reader, packed: false } }),
        };
        let mut packed = FileInput { reader: unpacked, packed: true };
        let (kind, reader) = detect_format(&mut packed, path)?;
        match kind {
            ContentKind::Gzip | ContentKind::Zstd => {
                Err(foreign_error(path, "compressed twice", "compress it once"))
            }
            ContentKind::Parquet => {
                Err(foreign_error(path, "Parquet that was compressed as a whole", "unpack it"))
            }
            kind => Ok(Self { kind, input: FileInput { reader, packed: true } }),
        }
    }

    /// The format to read: from the config, else from the content, else from the name.
    pub(super) fn format(&self, declared: Option<FileFormat>, path: &Path) -> Result<FileFormat, FileError> {
        if let ContentKind::Foreign(UnsupportedContent { what, remedy }) = self.kind {
            let by_name = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("br"));
            let what = if by_name { "compressed with brotli" } else { what };
            return Err(foreign_error(path, what, remedy));
        }
        let format = declared.or(self.kind.format()).or_else(|| FileFormat::from_name(path));
        let format = format.ok_or_else(|| FileError::UnknownFormat { path: path.to_owned() })?;
        let is_text = matches!(format, FileFormat::Csv | FileFormat::Tsv | FileFormat::Ndjson);
        match (self.kind, format) {
            (kind, format) if kind.format().is_some_and(|own| own != format) => {
                Err(self.other_than(format, path, "correct or delete `format:`"))
            }
            (ContentKind::Text | ContentKind::CrText | ContentKind::Empty, _) if !is_text => {
                Err(self.other_than(format, path, "correct `path:` or `format:`, or export it again"))
            }
            (ContentKind::CrText, FileFormat::Csv | FileFormat::Tsv) => Err(foreign_error(
                path,
                "text with lines that end with a carriage return alone (old Mac line ends)",
                "save it with line feeds, for example with `tr '\\r' '\\n'`",
            )),
            _ => Ok(format),
        }
    }

    fn other_than(&self, format: FileFormat, path: &Path, remedy: &str) -> FileError {
        foreign_error(path, &format!("{} and not {}", self.kind.words(), name(format)), remedy)
    }
}

fn name(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Csv => "CSV",
        FileFormat::Tsv => "TSV",
        FileFormat::Ndjson => "NDJSON",
        FileFormat::Parquet => "Parquet",
        FileFormat::Avro => "Avro",
    }
}

pub(super) fn foreign_error(path: &Path, what: &str, remedy: &str) -> FileError {
    FileError::Foreign { path: path.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() }
}

/// Whether the name has the ending of a compressed file.
fn is_packed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|suffix| suffix.eq_ignore_ascii_case("gz") || suffix.eq_ignore_ascii_case("zst"))
}

/// The kind of an input, and a reader of all its bytes.
fn detect_format(input: &mut FileInput, path: &Path) -> Result<(ContentKind, Box<dyn Read>), FileError> {
    let (mut front, mut len) = (vec![0; FRONT_LEN], 0);
    while len < FRONT_LEN {
        match input.read(&mut front[len..], path)? {
            0 => break,
            read => len += read,
        }
    }
    front.truncate(len);
    let rest = std::mem::replace(&mut input.reader, Box::new(io::empty()));
    Ok((ContentKind::of(&front), Box::new(Cursor::new(front).chain(rest))))
}

fn archive(front: &[u8]) -> Option<ContentKind> {
    if front.get(257..262) == Some(b"ustar") {
        return Some(foreign("a tar archive", UNZIP));
    }
    if !front.starts_with(b"PK\x03\x04") && !front.starts_with(b"PK\x05\x06") {
        return None;
    }
    let has = |name: &[u8]| front.windows(name.len()).any(|window| window == name);
    Some(if has(b"[Content_Types].xml") || has(b"xl/") {
        foreign("an Excel workbook (xlsx)", EXPORT)
    } else if has(b"opendocument.spreadsheet") {
        foreign("an OpenDocument spreadsheet (ods)", EXPORT)
    } else {
        foreign("a ZIP archive", UNZIP)
    })
}

/// UTF-16 without a byte order mark: every second byte of line breaks and Latin letters is zero.
fn utf16(front: &[u8]) -> Option<ContentKind> {
    let zeros = |first: usize| front.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd, pairs) = (zeros(0), zeros(1), front.len() / 2);
    let (few, many) = (even.min(odd), even.max(odd));
    (pairs > 1 && many * 8 >= pairs && few * 8 <= many).then_some(foreign("UTF-16 and not UTF-8", UTF8))
}

/// Whether too many bytes do not occur in text. Exports of Hive have control characters between fields.
fn is_binary(front: &[u8]) -> bool {
    let is_control = |byte: &&u8| matches!(byte, 0 | 3..=8 | 11 | 14..=26 | 127);
    let controls = front.iter().filter(is_control).count();
    let zeros = front.iter().filter(|byte| **byte == 0).count();
    // The inspected bytes may end within a character.
    let is_utf8 = match std::str::from_utf8(front) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    zeros * 8 >= front.len() || (!is_utf8 && controls * 25 >= front.len())
}

fn text(front: &[u8]) -> ContentKind {
    let front = front.strip_prefix(UTF8_MARK).unwrap_or(front);
    let begin = front.trim_ascii_start();
    let after = |len: usize| begin.get(len..).unwrap_or_default().trim_ascii_start().first();
    let is_json = match begin.first() {
        Some(b'{') => matches!(after(1), Some(b'"' | b'}')),
        Some(b'[') => matches!(after(1), Some(b'{' | b']')),
        _ => false,
    };
    if is_json {
        return ContentKind::Json;
    }
    let lower = begin.iter().take(16).map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    if lower.starts_with(b"<!doctype html") || lower.starts_with(b"<html") {
        return foreign("a web page (HTML)", PAGE);
    }
    if lower.starts_with(b"<?xml") {
        return foreign("XML", EXPORT);
    }
    let lone = |at: usize| front.get(at + 1).is_some_and(|next| *next != b'\n');
    let is_cr = !front.contains(&b'\n') && memchr::memchr_iter(b'\r', front).any(lone);
    if is_cr { ContentKind::CrText } else { ContentKind::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(front: &[u8], words: &str) {
        assert_eq!(ContentKind::of(front).words(), words, "{}", String::from_utf8_lossy(front));
    }

    #[test]
    fn content_is_known_by_its_first_bytes() {
        check(b"id,name\nu1,J\xc3\xb6rg\n", "text");
        check(b"id\nJ\xf6rg\n", "text");
        check(b"ORC,id\nu1,2\n", "text");
        check(b"i\x01n\n1\x012\n", "text");
        check(b"BZhang,id\nu1,2\n", "text");
        check(b"PAR1\x15\x04", "Parquet");
        check(b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0[Content_Types].xml", "an Excel workbook (xlsx)");
        check(b"PK\x03\x04\x14\0\x06\0people.csv", "a ZIP archive");
        check(b"BZh91AY&SY\x11", "compressed with bzip2");
        check(b"\xfd7zXZ\0\0", "compressed with xz");
        check(b"i\x00d\x00\n\x00u\x001\x00\n\x00", "UTF-16 and not UTF-8");
        check(b"\x00i\x00d\x00\n\x00u\x001\x00\n", "UTF-16 and not UTF-8");
        check(b"\xef\xbb\xbf [ {\"id\":1}]", "JSON");
        check(b"{\n  \"id\": 1}", "JSON");
        check(b"{id},name\n", "text");
        check(b"<!DOCTYPE html><title>Sign in</title>", "a web page (HTML)");
        check(b"", "empty");
        let noise: Vec<u8> = (0u32..4096).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        check(&noise, "binary data of an unknown kind, perhaps compressed with brotli or encrypted");
        assert_eq!(ContentKind::of(b"id\ru1\ru2\r"), ContentKind::CrText);
        assert_eq!(ContentKind::of(b"id\r\nu1\r\n"), ContentKind::Text);
        assert_eq!(ContentKind::of(b"id\r"), ContentKind::Text);
    }
}
