//! The physical limit: one growing file, one `write` and one `fdatasync` a group.
//!
//! Fairness: it checks no version, has no CRC, no index and no ids; its record is the payload
//! behind 12 bytes of length and stream. Nothing that keeps what it is given can do less.
//! Many clients are tokio tasks before a writer's thread; as "raw file threads" they are threads
//! of which one, in turn, writes for all that wait.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::Contender;
use super::leader::Leader;
use crate::Outcome;
use crate::load::{Append, Client, Seen};

/// Length, then stream.
const HEADER: usize = 12;
/// Read at once by a scan.
const WINDOW: usize = 1 << 20;

/// An open file.
pub struct RawFile {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    on_tokio: bool,
}

impl RawFile {
    /// Opens the file in `dir`, making it if need be; `on_tokio` chooses tasks or threads for many
    /// clients.
    pub fn open(dir: &Path, on_tokio: bool) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("raw.log");
        let file = File::options().create(true).append(true).open(&path)?;
        // The file's own entry must not be made durable by the first group.
        file.sync_all()?;
        Ok(Self {
            path,
            file,
            buffer: Vec::new(),
            on_tokio,
        })
    }

    /// Serves each client on its thread.
    fn on_threads(&self, clients: &[Client]) -> Outcome<()> {
        let leader = Leader::new(|group: &[u8]| {
            (&self.file).write_all(group)?;
            self.file.sync_data()
        });
        super::on_threads(clients, |client| {
            let mut record = Vec::new();
            for append in client.appends() {
                record.clear();
                encode(&append, &mut record);
                leader.append(&record)?;
            }
            Ok(())
        })
    }
}

fn encode(append: &Append<'_>, out: &mut Vec<u8>) {
    #[allow(clippy::cast_possible_truncation, reason = "payloads are below POOL")]
    out.extend_from_slice(&(append.payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&(append.stream as u64).to_le_bytes());
    out.extend_from_slice(append.payload);
}

type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// A simple group commit: everything that waits becomes one write and one sync.
fn write_groups(mut file: &File, queue: &mpsc::Receiver<Waiting>) -> std::io::Result<()> {
    let mut group = Vec::new();
    let mut replies = Vec::new();
    while let Ok(first) = queue.recv() {
        for (record, reply) in std::iter::once(first).chain(queue.try_iter()) {
            group.extend_from_slice(&record);
            replies.push(reply);
        }
        file.write_all(&group)?;
        file.sync_data()?;
        group.clear();
        for reply in replies.drain(..) {
            // A client that is gone wants no answer.
            let _ = reply.send(());
        }
    }
    Ok(())
}

impl Contender for RawFile {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        if let [client] = &clients[..] {
            for append in client.appends() {
                self.buffer.clear();
                encode(&append, &mut self.buffer);
                self.file.write_all(&self.buffer)?;
                self.file.sync_data()?;
            }
            return Ok(());
        }
        if !self.on_tokio {
            return self.on_threads(&clients);
        }
        let runtime = Runtime::new()?;
        let (sender, queue) = mpsc::channel::<Waiting>();
        let file = &self.file;
        thread::scope(|scope| {
            let writer = scope.spawn(move || write_groups(file, &queue));
            let tasks: Vec<_> = clients
                .into_iter()
                .map(|client| {
                    let sender = sender.clone();
                    runtime.spawn(async move {
                        for append in client.appends() {
                            let mut record = Vec::with_capacity(HEADER + append.payload.len());
                            encode(&append, &mut record);
                            let (reply, done) = oneshot::channel();
                            sender.send((record, reply))?;
                            done.await?;
                        }
                        Outcome::Ok(())
                    })
                })
                .collect();
            drop(sender);
            let served = runtime.block_on(super::all(tasks));
            let written = writer.join().map_err(|_| "the writer's thread panicked")?;
            served.and(Ok(written?))
        })
    }

    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()> {
        self.buffer.clear();
        for append in batch {
            encode(append, &mut self.buffer);
        }
        self.file.write_all(&self.buffer)?;
        Ok(self.file.sync_data()?)
    }

    fn drain(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn scan(&mut self) -> Outcome<Seen> {
        let mut file = File::open(&self.path)?;
        let mut seen = Seen::default();
        let mut window = vec![0; WINDOW];
        let mut filled = 0;
        loop {
            let read = file.read(&mut window[filled..])?;
            if read == 0 {
                let whole = filled == 0;
                return whole
                    .then_some(seen)
                    .ok_or_else(|| "a torn record ends the file".into());
            }
            filled += read;
            let mut at = 0;
            while let Some(length) = window[at..filled].first_chunk::<4>() {
                let end = at + HEADER + u32::from_le_bytes(*length) as usize;
                if end > filled {
                    break;
                }
                seen.note(&window[at + HEADER..end]);
                at = end;
            }
            window.copy_within(at..filled, 0);
            filled -= at;
        }
    }

    fn load(&mut self, _stream: usize) -> Outcome<Seen> {
        Err("a raw file finds no stream".into())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(())
    }
}
