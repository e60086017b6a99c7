//! A ZIP archive of texts, stored as they are (PKWARE, APPNOTE.TXT 4.3.6: local headers, central directory,
//! its end). Enough for an export; what reads one takes any.

/// The version that is needed to read it, and the flag for names in UTF-8.
const VERSION: u16 = 20;
const UTF8: u16 = 1 << 11;
/// 1 January 1980, the first day that the format knows.
const DATE: u16 = (1 << 5) | 1;

pub(super) fn archive(files: &[(String, String)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, text) in files {
        let offset = short32(out.len());
        let about = about(name, text);
        out.extend(0x0403_4b50_u32.to_le_bytes());
        out.extend(&about);
        out.extend(name.as_bytes());
        out.extend(text.as_bytes());
        directory.extend(0x0201_4b50_u32.to_le_bytes());
        directory.extend(VERSION.to_le_bytes());
        directory.extend(&about);
        // Comment, disk, and attributes within and without: none.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (short32(out.len()), short16(files.len()));
    out.extend(&directory);
    out.extend(0x0605_4b50_u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(short32(directory.len()).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// What a local header and the directory say alike of a file.
fn about(name: &str, text: &str) -> Vec<u8> {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, text.as_bytes());
    let mut about = Vec::new();
    // Version, flags, stored, time, date.
    for value in [VERSION, UTF8, 0, 0, DATE] {
        about.extend(value.to_le_bytes());
    }
    about.extend(u32::try_from(crc).unwrap_or_default().to_le_bytes());
    about.extend(short32(text.len()).to_le_bytes());
    about.extend(short32(text.len()).to_le_bytes());
    about.extend(short16(name.len()).to_le_bytes());
    about.extend([0; 2]);
    about
}

fn short32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn short16(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}
