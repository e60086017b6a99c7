//! Writer of Avro object container files, for tests and benchmarks. It shares no code with the reader under
//! test.

/// An Avro file under construction.
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    codec: &'static str,
}

const SYNC: [u8; 16] = *b"0123456789abcdef";

impl Writer {
    /// Starts a file; `codec` is `null`, `snappy`, `deflate` or `zstandard`.
    pub(crate) fn new(schema: &str, codec: &'static str) -> Self {
        let mut bytes = b"Obj\x01".to_vec();
        long(&mut bytes, 2);
        for part in ["avro.schema", schema, "avro.codec", codec] {
            text(&mut bytes, part);
        }
        bytes.push(0);
        bytes.extend(SYNC);
        Self { bytes, codec }
    }

    /// Appends a block with this number of records.
    pub(crate) fn block(&mut self, records: i64, data: &[u8]) {
        let packed = match self.codec {
            "null" => data.to_vec(),
            "snappy" => {
                let mut packed = snap::raw::Encoder::new().compress_vec(data).unwrap();
                let mut checksum = flate2::Crc::new();
                checksum.update(data);
                packed.extend(checksum.sum().to_be_bytes());
                packed
            }
            "deflate" => {
                use std::io::Write as _;
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            "zstandard" => zstd::encode_all(data, 1).unwrap(),
            other => panic!("{other}"),
        };
        long(&mut self.bytes, records);
        long(&mut self.bytes, packed.len().try_into().unwrap());
        self.bytes.extend(packed);
        self.bytes.extend(SYNC);
    }
}

/// Avro `long`: zigzag.
pub(crate) fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Avro `string`: length and bytes.
pub(crate) fn text(out: &mut Vec<u8>, value: &str) {
    long(out, value.len().try_into().unwrap());
    out.extend_from_slice(value.as_bytes());
}
