//! Reader for Avro object container files (Avro 1.11, "Object Container Files"), block by block.
//!
//! A file is read by its own schema, including logical types. Nested values are returned as JSON, or by their path
//! ([`AvroSchema::select`]). The reader checks the encoding, not the meaning of records.
//!
//! `apache-avro` takes 7 times the CPU time for the same file (`cargo run --release -p syncline-readers -- 1000000`,
//! medians of five).
//!
//! # Expected flow
//! [`AvroHeader::read`] reads the header. [`AvroBlocks::new`] reads the blocks behind it, or behind a later
//! [`AvroBlocks::position`]. [`AvroBlocks::advance`] fills an [`AvroBlock`], and [`AvroBlock::records`] iterates over its
//! rows.
//!
//! # Guarantees
//! For arbitrary bytes: no panic, no allocation beyond [`AvroLimits`], and work in proportion to the bytes. An error has
//! its position in the file, and [`AvroError::is_truncated`] reports whether more bytes could complete the file.

mod block;
mod bytes;
mod codec;
mod error;
mod header;
mod logical;
mod nested;
mod record;
mod schema;

pub use block::{AvroBlock, AvroBlocks};
pub use codec::AvroCodec;
pub use error::{AvroError, AvroProblem};
pub use header::{AvroHeader, MARK_LEN};
pub use record::{AvroRow, Records};
pub use schema::AvroSchema;

/// Limits of what is read, so that no file exhausts the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvroLimits {
    /// Bytes of the header, including the schema.
    pub header_len_max: usize,
    /// Bytes of one block, packed and unpacked.
    pub block_len_max: usize,
    /// Bytes of the JSON of nested values in one record.
    pub nested_len_max: usize,
}

impl Default for AvroLimits {
    fn default() -> Self {
        Self { header_len_max: 1 << 20, block_len_max: 64 << 20, nested_len_max: 16 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{AvroRecord as _, AvroValue};
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/avro/", $name)).as_slice()
        };
    }

    const OPEN: [&[u8]; 4] = [
        fixture!("open.null.avro"),
        fixture!("open.deflate.avro"),
        fixture!("open.snappy.avro"),
        fixture!("open.zstandard.avro"),
    ];
    const KINDS: [&[u8]; 4] = [
        fixture!("kinds.null.avro"),
        fixture!("kinds.deflate.avro"),
        fixture!("kinds.snappy.avro"),
        fixture!("kinds.zstandard.avro"),
    ];

    /// Small ones, so that hostile files meet them.
    const LIMITS: AvroLimits = AvroLimits { header_len_max: 4096, block_len_max: 8192, nested_len_max: 4096 };

    fn value(datum: AvroValue<'_>) -> Value {
        match datum {
            AvroValue::Null => Value::Null,
            AvroValue::Bool(value) => json!(value),
            AvroValue::Int(value) => json!(value),
            AvroValue::Float(value) => json!(f64::from(value)),
            AvroValue::Double(value) => json!(value),
            AvroValue::Decimal(text) => serde_json::from_slice(text).unwrap(),
            AvroValue::Moment(_, text) => json!(String::from_utf8_lossy(text)),
            AvroValue::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
            AvroValue::Json(json) => serde_json::from_slice(json).unwrap(),
        }
    }

    /// All records, what stopped the reading if anything did, and where it could go on.
    fn read(file: &[u8], limits: &AvroLimits) -> (Vec<Value>, Option<AvroError>, u64) {
        let mut rest = file;
        let header = match AvroHeader::read(&mut rest, limits) {
            Ok(header) => header,
            Err(error) => return (Vec::new(), Some(error), 0),
        };
        assert_eq!(header.len(), (file.len() - rest.len()) as u64);
        read_blocks(rest, &header, header.len(), limits)
    }

    fn read_blocks(
        rest: &[u8],
        header: &AvroHeader,
        offset: u64,
        limits: &AvroLimits,
    ) -> (Vec<Value>, Option<AvroError>, u64) {
        let (mut blocks, mut block) = (AvroBlocks::new(rest, header, offset, limits), AvroBlock::default());
        let (mut values, mut stopped) = (Vec::new(), None);
        loop {
            match blocks.advance(&mut block) {
                Ok(true) => {}
                Ok(false) => return (values, stopped, blocks.position()),
                Err(error) if error.is_of_one_block() => {
                    stopped = Some(error);
                    continue;
                }
                Err(error) => return (values, Some(error), blocks.position()),
            }
            let mut records = block.records(&header.schema);
            loop {
                match records.advance() {
                    Ok(Some(row)) => {
                        let fields = header.schema.fields().into_iter().enumerate();
                        values
                            .push(fields.map(|(at, name)| (name.to_owned(), value(row.datum(at)))).collect());
                    }
                    Ok(None) => break,
                    Err(error) => {
                        assert!(error.is_of_one_block());
                        stopped = Some(error);
                    }
                }
            }
        }
    }

    fn judged(json: &str) -> Vec<Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_codec_agrees_with_fastavro() {
        let open = judged(include_str!("../../../tests/avro/open.json"));
        let mut kinds = judged(include_str!("../../../tests/avro/kinds.json"));
        // Inside JSON a float stands as its own shortest decimal, for fastavro as that of a double.
        let narrow = |value: &mut Value| {
            for value in value["map"].as_object_mut().unwrap().values_mut() {
                *value = json!(value.as_f64().unwrap());
            }
        };
        kinds.iter_mut().for_each(narrow);
        for (files, expected) in [(OPEN, open), (KINDS, kinds)] {
            for file in files {
                let (values, stopped, end) = read(file, &AvroLimits::default());
                assert!(stopped.is_none(), "{stopped:?}");
                assert_eq!(end, file.len() as u64);
                assert_eq!(values.len(), expected.len());
                for (found, expected) in values.iter().zip(&expected) {
                    assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_truncated_and_can_be_read_on() {
        for file in OPEN {
            let (all, _, _) = read(file, &AvroLimits::default());
            let mut rest = file;
            let header = AvroHeader::read(&mut rest, &AvroLimits::default()).unwrap();
            let mut ends = std::collections::BTreeSet::new();
            for cut in 0..file.len() {
                let (mut values, stopped, position) = read(&file[..cut], &AvroLimits::default());
                if cut as u64 == position {
                    // A file that ends between two blocks looks complete.
                    assert!(stopped.is_none_or(|error| cut == 0 && error.is_truncated()));
                } else {
                    let stopped = stopped.unwrap();
                    assert!(stopped.is_truncated() && stopped.offset <= cut as u64, "{cut}: {stopped}");
                }
                if position > 0 {
                    ends.insert(position);
                    let from = usize::try_from(position).unwrap();
                    values.extend(read_blocks(&file[from..], &header, position, &AvroLimits::default()).0);
                    assert_eq!(values, all, "{cut}");
                }
            }
            assert!(ends.len() > 5);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn flipped_bits_never_panic(
            which in 0usize..8, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4)
        ) {
            let mut file = if which < 4 { OPEN[which] } else { KINDS[which - 4] }.to_vec();
            for (at, bit) in flips {
                let at = at.index(file.len());
                file[at] ^= 1 << bit;
            }
            let (values, _, _) = read(&file, &LIMITS);
            prop_assert!(values.len() <= 4096);
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300), front in 0usize..4, codec in 0usize..4
        ) {
            // From the start, from behind the magic, from behind a good header.
            let header = usize::try_from(AvroHeader::read(&mut &KINDS[codec][..], &LIMITS).unwrap().len()).unwrap();
            let file = [&KINDS[codec][..[0, 4, header, header][front]], &bytes].concat();
            read(&file, &LIMITS);
        }

        #[test]
        fn random_records_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 1u8..9) {
            let header = AvroHeader::read(&mut &KINDS[0][..], &LIMITS).unwrap();
            let mut frame = vec![count << 1];
            frame.extend(u8::try_from(bytes.len()).ok().filter(|len| *len < 64).map(|len| len << 1));
            if bytes.len() >= 64 {
                frame.extend(in_two_bytes(bytes.len()));
            }
            frame.extend(&bytes);
            frame.extend(header.sync);
            let (_, stopped, end) = read_blocks(&frame, &header, 0, &LIMITS);
            prop_assert!(stopped.is_none_or(|error| error.is_of_one_block()));
            prop_assert_eq!(end, frame.len() as u64);
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "seven bits each")]
    fn in_two_bytes(len: usize) -> [u8; 2] {
        let len = len << 1;
        assert!(len < 1 << 14);
        [(len & 0x7f) as u8 | 0x80, (len >> 7) as u8]
    }

    /// A file of one block; `count` and `len` are what it claims.
    fn file(schema: &str, codec: &str, count: &[u8], packed: &[u8]) -> Vec<u8> {
        let text = |text: &str| [&in_two_bytes(text.len()), text.as_bytes()].concat();
        let parts = ["avro.schema", schema, "avro.codec", codec].map(text).concat();
        let len = in_two_bytes(packed.len());
        [b"Obj\x01\x04", &parts[..], b"\0", &[7; 16], count, &len, packed, &[7; 16]].concat()
    }

    const ONE_TEXT: &str = r#"{"type":"record","name":"a.B","fields":[{"name":"id","type":"string"}]}"#;

    fn check(file: &[u8], expected: &str) {
        let (_, stopped, _) = read(file, &LIMITS);
        assert_eq!(stopped.map(|error| error.to_string()).unwrap_or_default(), expected);
    }

    #[test]
    fn a_block_that_unpacks_beyond_the_limit_is_an_error() {
        use std::io::Write as _;
        let zeros = vec![0; 1 << 20];
        let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(&zeros).unwrap();
        let too_large = "unpacked block of 8193 bytes; the limit is 8192";
        let at = |file: &[u8]| AvroHeader::read(&mut &file[..], &LIMITS).unwrap().len();
        for (codec, packed) in
            [("deflate", deflate.finish().unwrap()), ("zstandard", zstd::encode_all(&zeros[..], 3).unwrap())]
        {
            let file = file(ONE_TEXT, codec, &[2], &packed);
            let (_, stopped, _) = read(&file, &LIMITS);
            let stopped = stopped.unwrap();
            assert!(stopped.is_of_one_block() && stopped.offset == at(&file));
            // A frame may state a size of its own that exceeds the limit.
            let text = stopped.problem.to_string();
            assert!(text == too_large || text == "a block cannot be decompressed as zstandard", "{text}");
        }
        let lie = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 20]].concat();
        let file = file(ONE_TEXT, "snappy", &[2], &lie);
        check(
            &file,
            &format!("at byte {}: unpacked block of 4294967295 bytes; the limit is 8192", at(&file)),
        );
    }

    #[test]
    fn claimed_sizes_are_checked_before_allocation() {
        let at = |file: &[u8]| AvroHeader::read(&mut &file[..], &LIMITS).unwrap().len();
        let many = file(ONE_TEXT, "null", &[0xfe, 0xff, 0xff, 0xff, 0x0f], b"\x02a");
        check(
            &many,
            &format!("at byte {}: record 0 of the block, at its byte 0: more records than bytes", at(&many)),
        );
        let beyond = file(ONE_TEXT, "null", &[2], b"\x7ea");
        let prefix = format!("at byte {}: record 0 of the block, at its byte 0", at(&beyond));
        check(&beyond, &format!("{prefix}: a length beyond the end of the block"));
        let more = file(ONE_TEXT, "null", &[2], b"\x02a\x02b");
        check(
            &more,
            &format!("at byte {}: record 1 of the block, at its byte 2: more bytes than records", at(&more)),
        );
    }

    /// Nested records with empty innermost records.
    #[test]
    fn a_schema_that_expands_empty_records_is_stopped() {
        let mut inner = r#"{"type":"record","name":"L0","fields":[]}"#.to_owned();
        for level in 1..40 {
            inner = format!(
                r#"{{"type":"record","name":"L{level}","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":"L{}"}}]}}"#,
                level - 1
            );
        }
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{inner}}}]}}"#);
        let file = file(&schema, "null", &[2], b"\0");
        let at = AvroHeader::read(&mut &file[..], &LIMITS).unwrap().len();
        check(&file, &format!("at byte {at}: record 0 of the block, at its byte 0: too much in one record"));
    }

    #[test]
    fn a_list_that_contains_itself_ends() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"next","type":["null","R"]}]}"#;
        let file = file(schema, "null", &[2], &[2; 500]);
        let at = AvroHeader::read(&mut &file[..], &LIMITS).unwrap().len();
        let (_, stopped, _) = read(&file, &LIMITS);
        let stopped = stopped.unwrap().to_string();
        assert!(
            stopped.starts_with(&format!("at byte {at}: record 0")) && stopped.ends_with("nested too deep")
        );
    }

    #[test]
    fn files_that_are_none() {
        check(b"", "at byte 0: the file is incomplete");
        check(b"Obj", "at byte 0: the file is incomplete");
        check(b"PAR1 and more", "at byte 0: not an Avro file");
        check(b"x", "at byte 0: not an Avro file");
        let unknown = file(ONE_TEXT, "xz", &[2], b"");
        assert!(read(&unknown, &LIMITS).1.unwrap().to_string().ends_with("unknown codec `xz`"));
        let no_record = file("\"string\"", "null", &[2], b"");
        assert!(
            read(&no_record, &LIMITS).1.unwrap().to_string().ends_with("unusable schema: it is not a record")
        );
        let huge = file(&format!("{ONE_TEXT}{}", " ".repeat(5000)), "null", &[2], b"");
        assert!(read(&huge, &LIMITS).1.unwrap().to_string().contains("header of 5"));
    }

    #[test]
    fn the_block_after_a_damaged_one_is_read() {
        let mut file = OPEN[2].to_vec();
        let header = AvroHeader::read(&mut file.as_slice(), &LIMITS).unwrap();
        file[usize::try_from(header.len()).unwrap() + 40] ^= 1;
        let (values, stopped, end) = read(&file, &LIMITS);
        let stopped = stopped.unwrap();
        assert!(stopped.is_of_one_block() && stopped.offset == header.len(), "{stopped}");
        assert!(values.len() > 30 && values.len() < 40 && end == file.len() as u64);
    }
}
