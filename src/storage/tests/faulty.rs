//! A disk in memory that fails as disks do: it tears writes, has no space, loses what was not synced, in any order of pages.

use crate::storage::disk::{Disk, Sync};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Small, so that short tests see pages lost between kept ones.
const PAGE_BYTES: usize = 64;

#[derive(Clone, Default)]
struct Content {
    /// As a running system reads it.
    seen: Vec<u8>,
    /// As it is after a loss of power, before chance has its way with the rest.
    synced: Vec<u8>,
}

/// What the next operations do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Writes keep this many bytes and fail; segments cannot be made.
    Full { kept: usize },
    /// Syncs fail, and what was not synced may be lost without another word.
    Sync,
    /// Syncs on another thread bring it down.
    Panic,
}

#[derive(Default)]
struct Inner {
    segments: BTreeMap<u64, Content>,
    active: Option<u64>,
    fault: Fault,
    random: u64,
}

/// Clones share the disk.
#[derive(Clone, Default)]
pub struct Faulty(Arc<Mutex<Inner>>);

impl Faulty {
    pub fn set_fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The process ends: the system keeps what it was given.
    pub fn after_kill(&self) -> Self {
        let inner = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(Inner { segments: inner.segments.clone(), ..Inner::default() })))
    }

    /// The power goes: what was not synced is kept or lost page by page, as `seed` has it.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let inner = self.0.lock().unwrap();
        let mut after = Inner { segments: inner.segments.clone(), random: seed | 1, ..Inner::default() };
        let mut random = after.random;
        for content in after.segments.values_mut() {
            lose(content, &mut random);
        }
        Self(Arc::new(Mutex::new(after)))
    }

    pub fn change(&self, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.lock().unwrap().segments.get_mut(&segment).unwrap().seen);
    }
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *random >> 33
}

fn lose(content: &mut Content, random: &mut u64) {
    let length = content.synced.len();
    let end = length + next(random) as usize % (content.seen.len().saturating_sub(length) + 1);
    let mut kept = vec![0; end];
    for start in (0..end).step_by(PAGE_BYTES) {
        let page = start..(start + PAGE_BYTES).min(end);
        let source = if next(random).is_multiple_of(2) { &content.seen } else { &content.synced };
        for at in page {
            kept[at] = source.get(at).or(content.synced.get(at)).copied().unwrap_or(0);
        }
    }
    *content = Content { seen: kept.clone(), synced: kept };
}

impl Inner {
    fn active(&mut self) -> io::Result<&mut Content> {
        let active = self.active.ok_or_else(|| io::Error::other("no segment"))?;
        Ok(self.segments.get_mut(&active).unwrap())
    }

    fn sync(&mut self, segment: u64) -> io::Result<()> {
        let is_failing = self.fault == Fault::Sync;
        let mut random = self.random.wrapping_add(77);
        let Some(content) = self.segments.get_mut(&segment) else { return Ok(()) };
        if is_failing {
            // The system drops what it could not write, and the next sync says that all is well.
            lose(content, &mut random);
            self.random = random;
            return Err(io::Error::from_raw_os_error(5));
        }
        content.synced = content.seen.clone();
        Ok(())
    }
}

impl Disk for Faulty {
    fn segments(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().unwrap().segments.keys().copied().collect())
    }

    fn read(&mut self, segment: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let inner = self.0.lock().unwrap();
        let seen = &inner.segments.get(&segment).ok_or(io::ErrorKind::NotFound)?.seen;
        Ok(seen[..seen.len().min(bytes_max)].to_vec())
    }

    fn create(&mut self, segment: u64, header: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if let Fault::Full { kept } = inner.fault {
            let seen = header[..kept.min(header.len() - 1)].to_vec();
            inner.segments.insert(segment, Content { seen, synced: Vec::new() });
            return Err(io::Error::from_raw_os_error(28));
        }
        inner.segments.insert(segment, Content { seen: header.to_vec(), synced: header.to_vec() });
        inner.active = Some(segment);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let fault = inner.fault;
        let seen = &mut inner.active()?.seen;
        let (kept, result) = match fault {
            Fault::Full { kept } => (kept.min(bytes.len()), Err(io::Error::from_raw_os_error(28))),
            _ => (bytes.len(), Ok(())),
        };
        seen.resize(seen.len().max(offset as usize + kept), 0);
        seen[offset as usize..offset as usize + kept].copy_from_slice(&bytes[..kept]);
        result
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.lock().unwrap().active()?.seen.truncate(length as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        let active = inner.active.unwrap();
        inner.sync(active)
    }

    fn sync_later(&mut self) -> io::Result<Sync> {
        let active = self.0.lock().unwrap().active.unwrap();
        let shared = self.clone();
        Ok(Box::new(move || {
            let mut inner = shared.0.lock().unwrap();
            let fault = inner.fault;
            let result = inner.sync(active);
            drop(inner);
            assert_ne!(fault, Fault::Panic, "the disk is gone");
            result
        }))
    }

    fn sync_old(&mut self, segment: u64) -> io::Result<()> {
        self.0.lock().unwrap().sync(segment)
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        self.0.lock().unwrap().segments.remove(&segment);
        Ok(())
    }

    fn set_aside(&mut self, segment: u64) -> io::Result<()> {
        self.remove(segment)
    }
}
