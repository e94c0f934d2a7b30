//! Listing folders before they are asked for, on threads that never need the interpreter.
//!
//! A tree is walked depth first, so what was found last is listed first. Nothing is listed that would not be asked for;
//! when too much waits to be fetched, the threads pause.

use std::collections::{HashMap, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::digests::Known;
use super::listing::{list, Listing};
use super::literals::LeftOut;

/// So many entries may wait to be fetched (some MB), and so many folders to be listed.
const ENTRIES: usize = 12_000;
const FOLDERS: usize = 10_000;

/// What there is of a folder that is asked for.
pub enum Taken {
    Listed(Listing),
    Soon,
    Unknown,
}

enum Stage {
    Wanted,
    InWork,
    Listed(Listing),
}

#[derive(Default)]
struct Plan {
    stages: HashMap<Vec<u8>, Stage>,
    /// Paths that were wanted, the next one last; those that have got another stage meanwhile are passed over.
    wanted: VecDeque<Vec<u8>>,
    /// How many entries wait to be fetched.
    entries: usize,
    /// How many threads there are, have nothing to do, and how many callers wait for a listing.
    threads: usize,
    idle: usize,
    waiting: usize,
    ended: bool,
}

struct Shared {
    plan: Mutex<Plan>,
    /// There is something to do, or no more room to wait for.
    todo: Condvar,
    /// A folder is no longer in work.
    done: Condvar,
    leave_out: Arc<LeftOut>,
    known: Arc<Known>,
}

/// Threads that list ahead; they end soon after this is dropped.
pub struct Ahead {
    shared: Arc<Shared>,
    threads: usize,
}

impl Ahead {
    pub fn new(threads: usize, leave_out: Arc<LeftOut>, known: Arc<Known>) -> Self {
        let shared = Shared {
            plan: Mutex::default(),
            todo: Condvar::new(),
            done: Condvar::new(),
            leave_out,
            known,
        };
        Ahead {
            shared: Arc::new(shared),
            threads,
        }
    }

    /// These folders, in this order, will be asked for next.
    pub fn want<'a>(&self, folders: impl DoubleEndedIterator<Item = &'a [u8]>) {
        let mut folders = folders.rev().peekable();
        if folders.peek().is_none() {
            return;
        }
        let mut plan = self.shared.plan();
        for folder in folders {
            plan.stages.insert(folder.to_vec(), Stage::Wanted);
            plan.wanted.push_back(folder.to_vec());
        }
        while plan.wanted.len() > FOLDERS {
            let Some(farthest) = plan.wanted.pop_front() else {
                break;
            };
            plan.forget(&farthest);
        }
        let start = self.threads - plan.threads;
        plan.threads = self.threads;
        let idle = plan.idle > 0;
        drop(plan);
        if idle {
            self.shared.todo.notify_all();
        }
        for _ in 0..start {
            let shared = self.shared.clone();
            // Without the thread, folders are listed when they are asked for.
            let _ = thread::Builder::new()
                .name("list-ahead".into())
                .spawn(move || shared.work());
        }
    }

    /// Fetch a folder's listing, if it is there; a folder that nobody works on yet is no longer wanted.
    pub fn take(&self, folder: &[u8]) -> Taken {
        self.shared.take(&mut self.shared.plan(), folder)
    }

    /// Wait for the listing of a folder that somebody works on.
    pub fn wait(&self, folder: &[u8]) -> Option<Listing> {
        let mut plan = self.shared.plan();
        loop {
            match self.shared.take(&mut plan, folder) {
                Taken::Listed(listing) => return Some(listing),
                Taken::Unknown => return None,
                Taken::Soon => {
                    plan.waiting += 1;
                    plan = self
                        .shared
                        .done
                        .wait(plan)
                        .unwrap_or_else(PoisonError::into_inner);
                    plan.waiting -= 1;
                }
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.plan().ended = true;
        self.shared.todo.notify_all();
    }
}

impl Plan {
    fn forget(&mut self, folder: &[u8]) {
        if matches!(self.stages.get(folder), Some(Stage::Wanted)) {
            self.stages.remove(folder);
        }
    }

    /// The next folder to list, which is in work from now on.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.entries >= ENTRIES {
            return None;
        }
        while let Some(folder) = self.wanted.pop_back() {
            if let Some(stage @ Stage::Wanted) = self.stages.get_mut(&folder) {
                *stage = Stage::InWork;
                return Some(folder);
            }
        }
        None
    }
}

impl Shared {
    fn take(&self, plan: &mut Plan, folder: &[u8]) -> Taken {
        match plan.stages.get(folder) {
            None => return Taken::Unknown,
            Some(Stage::InWork) => return Taken::Soon,
            Some(_) => {}
        }
        let Some(Stage::Listed(listing)) = plan.stages.remove(folder) else {
            return Taken::Unknown;
        };
        let full = plan.entries >= ENTRIES;
        plan.entries -= listing.found.len();
        if full && plan.idle > 0 {
            self.todo.notify_all();
        }
        Taken::Listed(listing)
    }

    fn work(&self) {
        let mut plan = self.plan();
        while !plan.ended {
            let Some(folder) = plan.next() else {
                plan.idle += 1;
                plan = self.todo.wait(plan).unwrap_or_else(PoisonError::into_inner);
                plan.idle -= 1;
                continue;
            };
            drop(plan);
            let listed = catch_unwind(AssertUnwindSafe(|| {
                list(&folder, &self.leave_out, &self.known)
            }));
            plan = self.plan();
            match listed {
                Ok(listing) => {
                    plan.entries += listing.found.len();
                    plan.stages.insert(folder, Stage::Listed(listing));
                }
                Err(_) => {
                    plan.stages.remove(&folder); // whoever asks for it meets the same
                }
            }
            if plan.waiting > 0 {
                self.done.notify_all();
            }
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
