//! Long stretches of numbers in memory with large pages.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Values that a product streams through: on Linux the system is asked for pages of 2 MiB, with which
/// the processor looks up fewer addresses and fetches ahead further. Products of a decoder's shape run
/// a tenth to a third faster so.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Memory,
    len: usize,
}

#[derive(Debug)]
enum Memory {
    Mapped(MmapMut),
    Plain(Vec<f32>),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

const LARGE_PAGE: usize = 2 << 20;
/// What is worth a large page: matrices of small models in bfloat16 are somewhat smaller than one.
const MOST_OF_A_PAGE: usize = LARGE_PAGE / 4 * 3;

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let bytes = len * size_of::<f32>();
        let mapped = (bytes >= MOST_OF_A_PAGE).then(|| map(bytes)).flatten();
        let memory = match mapped {
            Some(map) => Memory::Mapped(map),
            None => Memory::Plain(vec![0.0; len]),
        };
        Self { memory, len }
    }

    /// All there is room for, what lies beyond the last value too: zeros, or what was there before.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn room(&self) -> &[f32] {
        match &self.memory {
            Memory::Mapped(map) => bytemuck::cast_slice(map),
            Memory::Plain(values) => values,
        }
    }

    /// Makes room for `len` values, which are zeros or what was there before.
    pub fn fit(&mut self, len: usize) {
        let room = match &self.memory {
            Memory::Mapped(map) => map.len() / size_of::<f32>(),
            Memory::Plain(values) => values.len(),
        };
        if len > room {
            *self = Self::zeros(len);
        }
        self.len = len;
    }
}

fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(bytes.next_multiple_of(LARGE_PAGE)).ok()?;
    #[cfg(target_os = "linux")]
    // A system without large pages gives small ones.
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.memory {
            Memory::Mapped(map) => &bytemuck::cast_slice(map)[..self.len],
            Memory::Plain(values) => &values[..self.len],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.memory {
            Memory::Mapped(map) => &mut bytemuck::cast_slice_mut(map)[..self.len],
            Memory::Plain(values) => &mut values[..self.len],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_with_zeros_and_keeps_what_fits() {
        let mut buffer = Buffer::default();
        for len in [0, 10, 1 << 20, 5, 3 << 20, 1 << 20] {
            buffer.fit(len);
            assert_eq!(buffer.len(), len);
        }
        let mut buffer = Buffer::zeros(1 << 20);
        assert!(buffer.iter().all(|&x| x == 0.0));
        buffer[1000] = 1.0;
        buffer.fit(1001);
        assert_eq!(buffer[1000], 1.0);
    }
}
