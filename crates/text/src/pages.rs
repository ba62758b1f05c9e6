//! Large arrays that are read all over: in huge pages where the system has them.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use bytemuck::Pod;
use memmap2::MmapMut;
use rayon::prelude::*;

/// Zeroed memory of a fixed length. Sorting a suffix array reads and writes it at random, where an address in
/// pages of 4 KiB is looked up longer than what stands there: huge pages take a third of the time off.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// None of no values, which cannot be mapped.
    map: Option<MmapMut>,
    /// The bytes of it that hold the values.
    within: Range<usize>,
    values: PhantomData<Vec<T>>,
}

impl<T: Pod + Send> Pages<T> {
    /// # Errors
    /// There is no memory of that size.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        let bytes = length.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let map = match bytes {
            0 => None,
            bytes => Some(MmapMut::map_anon(bytes)?),
        };
        #[cfg(target_os = "linux")]
        if let Some(map) = &map {
            // Where this is not to be had, it is slower.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self {
            map,
            within: 0..bytes,
            values: PhantomData,
        })
    }

    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn copied(values: &[T]) -> io::Result<Self> {
        let mut out = Self::zeroed(values.len())?;
        out.copy_from_slice(values);
        Ok(out)
    }

    /// Has the system lay out all of it now, on all threads, rather than page by page on the one that comes first.
    pub fn lay_out(&mut self) {
        // The smallest pages there are.
        let every = (4096 / size_of::<T>()).max(1);
        self.par_chunks_mut(512 * every).for_each(|part| {
            part.iter_mut()
                .step_by(every)
                .for_each(|slot| *slot = T::zeroed());
        });
    }

    /// Some of its bytes, where they are; none beyond its end. The memory of the others is not given back.
    pub fn into_bytes(self, within: Range<usize>) -> Pages<u8> {
        Pages {
            map: self.map,
            within,
            values: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes: &[u8] = self.map.as_deref().unwrap_or_default();
        let bytes = bytes.get(self.within.clone()).unwrap_or_default();
        bytemuck::try_cast_slice(bytes).unwrap_or_default()
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes: &mut [u8] = self.map.as_deref_mut().unwrap_or_default();
        let bytes = bytes.get_mut(self.within.clone()).unwrap_or_default();
        bytemuck::try_cast_slice_mut(bytes).unwrap_or_default()
    }
}
