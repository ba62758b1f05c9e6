//! Writes small GGUF files, as right or as wrong as a test wants them.
#![allow(dead_code)]

pub const U8: u32 = 0;
pub const U32: u32 = 4;
pub const I32: u32 = 5;
pub const BOOL: u32 = 7;
pub const STRING: u32 = 8;
pub const ARRAY: u32 = 9;

/// A header: version, numbers of tensors and fields, then whatever follows.
pub fn header(tensors: u64, fields: u64, rest: &[u8]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend(tensors.to_le_bytes());
    out.extend(fields.to_le_bytes());
    out.extend(rest);
    out
}

pub fn string(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

pub fn field(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(key)[..], &kind.to_le_bytes(), value].concat()
}

pub fn tensor(name: &str, dims: &[u64], dtype: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(dtype.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

fn array(kind: u32, length: usize, items: Vec<u8>) -> Vec<u8> {
    let length = (length as u64).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &items].concat()
}

pub struct Tensor {
    pub name: String,
    /// Fastest dimension first, as in the file.
    pub dims: Vec<u64>,
    pub dtype: u32,
    pub data: Vec<u8>,
}

/// A file in parts.
#[derive(Default)]
pub struct Draft {
    pub fields: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
}

impl Draft {
    pub fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        self.remove(key);
        self.fields.push((key.into(), kind, value.into()));
    }

    pub fn remove(&mut self, key: &str) {
        self.fields.retain(|(k, ..)| k != key);
    }

    pub fn text(&mut self, key: &str, value: &str) {
        self.set(key, STRING, &string(value));
    }

    pub fn number(&mut self, key: &str, value: u32) {
        self.set(key, U32, &value.to_le_bytes());
    }

    pub fn texts(&mut self, key: &str, values: &[impl AsRef<str>]) {
        let items = values.iter().flat_map(|s| string(s.as_ref())).collect();
        self.set(key, ARRAY, &array(STRING, values.len(), items));
    }

    pub fn floats(&mut self, key: &str, values: &[f32]) {
        let items = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.set(key, ARRAY, &array(6, values.len(), items));
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        for (key, kind, value) in &self.fields {
            rest.extend(field(key, *kind, value));
        }
        let mut data = Vec::new();
        for t in &self.tensors {
            rest.extend(tensor(&t.name, &t.dims, t.dtype, data.len() as u64));
            data.extend(&t.data);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        let mut out = header(self.tensors.len() as u64, self.fields.len() as u64, &rest);
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}
