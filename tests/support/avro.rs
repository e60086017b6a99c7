//! Minimal Avro reader for tests of Currents files. It shares no code with the program.

use std::io::Read as _;

use serde_json::{Map, Value};

/// All records of a file, and the name of its schema.
pub(crate) fn read(file: &[u8]) -> (String, Vec<Map<String, Value>>) {
    assert_eq!(&file[..4], b"Obj\x01");
    let mut at = &file[4..];
    let mut meta = Map::new();
    for _ in 0..long(&mut at) {
        let key = text(&mut at);
        meta.insert(key, text(&mut at).into());
    }
    assert_eq!(long(&mut at), 0);
    let schema: Value = serde_json::from_str(meta["avro.schema"].as_str().unwrap()).unwrap();
    let sync = take(&mut at, 16).to_vec();
    let mut rows = Vec::new();
    while !at.is_empty() {
        let count = long(&mut at);
        let packed = {
            let len = long(&mut at) as usize;
            take(&mut at, len)
        };
        let block = unpack(packed, meta["avro.codec"].as_str().unwrap());
        let mut block = &block[..];
        for _ in 0..count {
            let fields = schema["fields"].as_array().unwrap().iter();
            rows.push(
                fields
                    .map(|f| (f["name"].as_str().unwrap().to_owned(), value(&f["type"], &mut block)))
                    .collect(),
            );
        }
        assert!(block.is_empty(), "a block has only its rows");
        assert_eq!(take(&mut at, 16), sync);
    }
    (schema["name"].as_str().unwrap().to_owned(), rows)
}

fn unpack(packed: &[u8], codec: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        "null" => out.extend_from_slice(packed),
        "deflate" => drop(flate2::read::DeflateDecoder::new(packed).read_to_end(&mut out).unwrap()),
        "zstandard" => drop(zstd::Decoder::new(packed).unwrap().read_to_end(&mut out).unwrap()),
        "snappy" => {
            let (block, sum) = packed.split_at(packed.len() - 4);
            out = snap::raw::Decoder::new().decompress_vec(block).unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(&out);
            assert_eq!(crc.sum().to_be_bytes(), sum);
        }
        other => panic!("{other}"),
    }
    out
}

fn value(kind: &Value, at: &mut &[u8]) -> Value {
    match kind {
        Value::Array(union) => {
            let branch = long(at) as usize;
            value(&union[branch], at)
        }
        Value::Object(array) => {
            let mut all = Vec::new();
            loop {
                match long(at) {
                    0 => return Value::Array(all),
                    n => all.extend((0..n).map(|_| value(&array["items"], at))),
                }
            }
        }
        _ => match kind.as_str().unwrap() {
            "null" => Value::Null,
            "string" => text(at).into(),
            "int" | "long" => long(at).into(),
            "boolean" => (take(at, 1)[0] == 1).into(),
            "float" => {
                let number = f32::from_le_bytes(take(at, 4).try_into().unwrap());
                // The shortest decimal form, not the exact 64-bit value.
                number.to_string().parse::<f64>().unwrap().into()
            }
            other => panic!("{other}"),
        },
    }
}

fn take<'a>(at: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = at.split_at(len);
    *at = rest;
    taken
}

fn text(at: &mut &[u8]) -> String {
    let len = long(at) as usize;
    String::from_utf8(take(at, len).to_vec()).unwrap()
}

fn long(at: &mut &[u8]) -> i64 {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let byte = take(at, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (number >> 1) as i64 ^ -((number & 1) as i64);
        }
    }
}
