//! Which of the resolver's threads there are, from before each starts until it has been joined.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::engine::WorkerId;
use crate::ffi;
use crate::foreign::{Panic, caught};
use crate::sync::thread::{self, JoinHandle, Thread, ThreadId};
use crate::sync::{self, Condvar, Mutex, MutexGuard};

/// One who waits for the end, and whom a thread may be waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CloserId(pub(super) u64);

/// One of the crate's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Worker(WorkerId),
    Timekeeper(u64),
    #[cfg_attr(not(feature = "async-backend"), expect(dead_code, reason = "there is no driver"))]
    Driver(u64),
    Errand(u64),
    /// One that wakes someone who waits for the end, and which it is.
    Closer(CloserId, u64),
}

/// What a thread is for.
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

/// Which threads are left, beside the timekeeper and the one that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    Gone,
    /// Some have ended, and are to be joined before this is asked again.
    ToBeJoined,
    /// So many, all of which wake the one who asks.
    Wake(usize),
    Left,
}

/// Every thread that was started and has not been joined.
///
/// Its lock is taken after that of the state, never before, and held while a thread is started: so that whoever knows of a
/// thread has its handle. A thread says that it has ended after all destructors of its thread-locals, and is joined only then:
/// what is left of it is the system's.
pub(super) struct Roster {
    members: Mutex<Members>,
    /// A thread is about to end, or has, or was joined.
    changed: Condvar,
    /// Of the process whose threads they are.
    generation: u64,
}

#[derive(Default)]
struct Members {
    alive: HashMap<Key, Member>,
    /// Those that have ended, to be joined.
    ended: Vec<(Key, JoinHandle<()>)>,
    /// And the timekeepers that have.
    ended_timekeepers: Vec<JoinHandle<()>>,
    /// Those that are being joined, but by [`join_timekeeper`](Roster::join_timekeeper).
    joining: Vec<Key>,
    /// How many timekeepers are being joined: the last one may not have ended when the next begins.
    joining_timekeepers: usize,
    /// To be unparked when one has ended.
    timekeeper: Option<Thread>,
    last: u64,
}

struct Member {
    handle: JoinHandle<()>,
    /// There once it has begun.
    id: Option<ThreadId>,
    /// It runs no foreign code any more but destructors of thread-locals.
    is_ending: bool,
}

impl Members {
    /// Threads other than the timekeeper and the one that asks.
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

    /// Starts a thread for `run`.
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
        // `spawn` panics on some of what it cannot do, an absurd stack size for one.
        let handle = match caught(|| builder.spawn(body)) {
            Ok(started) => started?,
            Err(Panic(message)) => return Err(io::Error::other(message.unwrap_or_default())),
        };
        members.alive.insert(key, Member { handle, id: None, is_ending: false });
        Ok(())
    }

    /// Said by a thread when it begins.
    fn begin(self: &Arc<Self>, key: Key) {
        let roster = Arc::clone(self);
        thread::at_end(move || roster.end(key));
        self.change(key, |member| member.id = Some(thread::current().id()));
    }

    /// Said by a thread when it has ended.
    fn end(&self, key: Key) {
        // A thread of the parent's from which a backend has forked.
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

    /// The timekeeper begins, or leaves.
    pub(super) fn set_timekeeper(&self, timekeeper: Option<Thread>) {
        self.lock().timekeeper = timekeeper;
    }

    /// Joins those that kept the time before this one.
    pub(super) fn join_former_timekeepers(&self) {
        let mut members = self.lock();
        let handles = std::mem::take(&mut members.ended_timekeepers);
        self.join_timekeepers(members, handles);
    }

    pub(super) fn unpark_timekeeper(&self) {
        let timekeeper = self.lock().timekeeper.clone();
        timekeeper.iter().for_each(Thread::unpark);
    }

    /// How many threads of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.lock().alive.keys().filter(|key| key.kind() == kind).count()
    }

    /// How many threads have not been joined, beside the timekeeper and this one. Waits for those that wake `closer`, but no
    /// longer than `patience`: it has been woken by them, and they are about to end.
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

    /// Joins the threads that have ended, and has `tell` hear of each before anybody takes it for joined.
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
        // It has to look again, unless this is it.
        timekeeper.iter().filter(|thread| thread.id() != thread::current().id()).for_each(Thread::unpark);
    }

    /// Which threads are left beside the timekeeper and this one. Waits for those that are about to end, but not beyond `until`.
    pub(super) fn others(&self, closer: Option<CloserId>, until: Option<Instant>) -> Others {
        let mut members = self.lock();
        loop {
            if !members.ended.is_empty() {
                return Others::ToBeJoined;
            }
            if members.joining.is_empty() && members.others().next().is_none() {
                return Others::Gone;
            }
            // What wakes those who wait for the end has no more to do than that.
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

    /// Waits for the timekeeper to end, which has been told to leave and runs nothing foreign.
    pub(super) fn join_timekeeper(&self) {
        let current = thread::current().id();
        let is_it = |key: &Key, member: &mut Member| key.kind() == Kind::Timekeeper && member.id != Some(current);
        let mut members = self.lock();
        let mut handles = std::mem::take(&mut members.ended_timekeepers);
        handles.extend(members.alive.extract_if(is_it).map(|(_, member)| member.handle));
        self.join_timekeepers(members, handles);
        let mut members = self.lock();
        // Another may be joining it.
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
