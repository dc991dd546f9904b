//! The roster of the resolver's threads. A thread is listed from before it starts until it has been joined.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::engine::WorkerId;
use crate::ffi;
use crate::foreign::{Panic, caught};
use crate::sync::thread::{self, JoinHandle, Thread, ThreadId};
use crate::sync::{self, Condvar, Instant, Mutex, MutexGuard};

/// Identity of a closer: somebody who waits for shutdown, and whom a thread may be waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CloserId(pub(super) u64);

/// Identity of one of the crate's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Worker(WorkerId),
    Timekeeper(u64),
    #[cfg_attr(not(feature = "async-backend"), expect(dead_code, reason = "there is no driver"))]
    Driver(u64),
    Errand(u64),
    /// A thread that wakes a closer.
    Closer(CloserId, u64),
}

/// The purpose of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Worker,
    Timekeeper,
    Driver,
    Errand,
    Closer,
}

impl Key {
    fn kind(self) -> Kind {
        match self {
            Self::Worker(_) => Kind::Worker,
            Self::Timekeeper(_) => Kind::Timekeeper,
            Self::Driver(_) => Kind::Driver,
            Self::Errand(_) => Kind::Errand,
            Self::Closer(..) => Kind::Closer,
        }
    }
}

/// Which threads are left, except timekeepers and the current thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Gone,
    /// Some have ended, and must be joined before the next look.
    ToBeJoined,
    /// This many are left, and all of them wake the closer that looks.
    Wake(usize),
    Left,
}

/// Every thread that was started and has not been joined.
///
/// The lock is taken after that of the state, never before. It is held while a thread is started, so that everyone who knows
/// of a thread has its handle. A thread reports its end after all destructors of its thread-locals, and is joined only then:
/// what is left of it is the system's.
pub(super) struct Roster {
    members: Mutex<Members>,
    /// Notified when a thread is about to end, has ended, or was joined.
    changed: Condvar,
    /// Generation of the process that these threads belong to.
    generation: u64,
}

#[derive(Default)]
struct Members {
    alive: HashMap<Key, Member>,
    /// Threads that have ended and must be joined, except timekeepers.
    ended: Vec<(Key, JoinHandle<()>)>,
    /// Timekeepers that have ended and must be joined.
    ended_timekeepers: Vec<JoinHandle<()>>,
    /// Threads being joined by [`join_ended`](Roster::join_ended).
    joining: Vec<Key>,
    /// Number of timekeepers being joined. The last one may not have ended when the next begins.
    joining_timekeepers: usize,
    /// The current timekeeper, unparked when a thread has ended.
    timekeeper: Option<Thread>,
    last: u64,
}

struct Member {
    handle: JoinHandle<()>,
    /// Set once the thread has begun.
    id: Option<ThreadId>,
    /// Whether destructors of thread-locals are the only foreign code that the thread has left to run.
    is_ending: bool,
}

impl Members {
    /// Returns the threads other than timekeepers and the current thread.
    fn others(&self) -> impl Iterator<Item = (&Key, &Member)> {
        let current = thread::current().id();
        let is_other =
            move |(key, member): &(&Key, &Member)| key.kind() != Kind::Timekeeper && member.id != Some(current);
        self.alive.iter().filter(is_other)
    }
}

impl Roster {
    pub(super) fn new(generation: u64) -> Self {
        Self { members: Mutex::default(), changed: Condvar::new(), generation }
    }

    /// Starts a thread that runs `run`.
    pub(super) fn start(
        self: &Arc<Self>,
        key: impl FnOnce(u64) -> Key,
        builder: thread::Builder,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mut members = self.lock();
        members.last += 1;
        let key = key(members.last);
        let roster = Arc::clone(self);
        let body = move || {
            roster.begin(key);
            _ = caught(run);
            roster.change(key, |member| member.is_ending = true);
            roster.changed.notify_all();
        };
        // `spawn` panics on some impossible requests, such as an absurd stack size.
        let handle = match caught(|| builder.spawn(body)) {
            Ok(started) => started?,
            Err(Panic(message)) => return Err(io::Error::other(message.unwrap_or_default())),
        };
        members.alive.insert(key, Member { handle, id: None, is_ending: false });
        Ok(())
    }

    /// Records that the current thread has begun. At its end it calls [`end`](Self::end).
    fn begin(self: &Arc<Self>, key: Key) {
        let roster = Arc::clone(self);
        thread::at_end(move || roster.end(key));
        self.change(key, |member| member.id = Some(thread::current().id()));
    }

    /// Records that the current thread has ended.
    fn end(&self, key: Key) {
        // A child that a backend forked on this thread: the roster is the parent's.
        if self.generation != ffi::generation() {
            return;
        }
        let mut members = self.lock();
        match members.alive.remove(&key) {
            Some(member) if key.kind() == Kind::Timekeeper => members.ended_timekeepers.push(member.handle),
            Some(member) => members.ended.push((key, member.handle)),
            // It is being joined.
            None => {}
        }
        let timekeeper = members.timekeeper.clone();
        drop(members);
        self.changed.notify_all();
        timekeeper.iter().for_each(Thread::unpark);
    }

    /// Sets the current timekeeper, or removes the one that leaves.
    pub(super) fn set_timekeeper(&self, timekeeper: Option<Thread>) {
        self.lock().timekeeper = timekeeper;
    }

    /// Joins former timekeepers that have ended.
    pub(super) fn join_former_timekeepers(&self) {
        let mut members = self.lock();
        let handles = std::mem::take(&mut members.ended_timekeepers);
        self.join_timekeepers(members, handles);
    }

    pub(super) fn unpark_timekeeper(&self) {
        let timekeeper = self.lock().timekeeper.clone();
        timekeeper.iter().for_each(Thread::unpark);
    }

    /// Returns the number of threads of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.lock().alive.keys().filter(|key| key.kind() == kind).count()
    }

    /// Returns the number of threads that have not been joined, except timekeepers and the current thread.
    ///
    /// Waits up to `patience` for the threads that wake `closer`: they have woken it, and are about to end.
    pub(super) fn count_others(&self, closer: Option<CloserId>, patience: Duration) -> usize {
        let is_its = |key: &Key| matches!(key, Key::Closer(id, _) if Some(*id) == closer);
        let mut members = self.lock();
        let until = sync::now().checked_add(patience);
        loop {
            let left = until.unwrap_or(sync::now()).saturating_duration_since(sync::now());
            if left.is_zero() || !members.others().any(|(key, _)| is_its(key)) {
                let ended = members.ended.iter().map(|(key, _)| key).chain(&members.joining);
                return members.others().count() + ended.filter(|key| !is_its(key)).count();
            }
            members = self.changed.wait_timeout(members, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Joins the threads that have ended. Calls `tell` for each before anybody sees it as joined.
    pub(super) fn join_ended(&self, mut tell: impl FnMut(Key)) {
        let mut members = self.lock();
        if members.ended.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut members.ended);
        members.joining.extend(ended.iter().map(|(key, _)| key));
        for (key, handle) in ended {
            drop(members);
            _ = caught(|| _ = handle.join());
            tell(key);
            members = self.lock();
            members.joining.retain(|joining| *joining != key);
        }
        let timekeeper = members.timekeeper.clone();
        drop(members);
        self.changed.notify_all();
        // The timekeeper must look again, unless this is its thread.
        timekeeper.iter().filter(|thread| thread.id() != thread::current().id()).for_each(Thread::unpark);
    }

    /// Returns which threads are left, except timekeepers and the current thread. Waits for threads that are about to end,
    /// until `until` at the latest.
    pub(super) fn others(&self, closer: Option<CloserId>, until: Option<Instant>) -> Others {
        let mut members = self.lock();
        loop {
            if !members.ended.is_empty() {
                return Others::ToBeJoined;
            }
            if members.joining.is_empty() && members.others().next().is_none() {
                return Others::Gone;
            }
            // A thread that wakes a closer does nothing else.
            let is_ending = |(key, member): (&Key, &Member)| member.is_ending || key.kind() == Kind::Closer;
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(sync::now()));
            if !members.others().all(is_ending) || left.is_zero() {
                let is_its = |(key, _): (&Key, &Member)| matches!(key, Key::Closer(id, _) if Some(*id) == closer);
                let are_its = members.joining.is_empty() && members.others().all(is_its);
                return if are_its { Others::Wake(members.others().count()) } else { Others::Left };
            }
            members = self.changed.wait_timeout(members, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the timekeeper to end. It must have been told to leave, and runs nothing foreign.
    pub(super) fn join_timekeeper(&self) {
        let current = thread::current().id();
        let is_it = |key: &Key, member: &mut Member| key.kind() == Kind::Timekeeper && member.id != Some(current);
        let mut members = self.lock();
        let mut handles = std::mem::take(&mut members.ended_timekeepers);
        handles.extend(members.alive.extract_if(is_it).map(|(_, member)| member.handle));
        self.join_timekeepers(members, handles);
        let mut members = self.lock();
        // Another thread may be joining it.
        while members.joining_timekeepers > 0 {
            members = self.changed.wait(members).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn join_timekeepers(&self, mut members: MutexGuard<'_, Members>, handles: Vec<JoinHandle<()>>) {
        let count = handles.len();
        members.joining_timekeepers += count;
        drop(members);
        handles.into_iter().for_each(|handle| _ = caught(|| _ = handle.join()));
        self.lock().joining_timekeepers -= count;
        self.changed.notify_all();
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.lock().alive.get_mut(&key) {
            change(member);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
