use std::collections::HashMap;
use std::thread::{self, JoinHandle, Thread};

use crate::engine::WorkerId;

/// One of the crate's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Worker(WorkerId),
    Other(u64),
}

/// Every thread that was started and has not been joined.
#[derive(Default)]
pub(super) struct Roster {
    members: HashMap<Key, Member>,
    last: u64,
}

#[derive(Default)]
struct Member {
    /// For waking it; there once it has begun.
    thread: Option<Thread>,
    /// There once whoever started it has come to put it there, which may be after it has left.
    handle: Option<JoinHandle<()>>,
    /// It has announced that it is about to end.
    left: bool,
}

impl Roster {
    pub(super) fn new_key(&mut self) -> Key {
        self.last += 1;
        Key::Other(self.last)
    }

    /// A thread is about to be started.
    pub(super) fn enlist(&mut self, key: Key) {
        self.members.insert(key, Member::default());
    }

    /// It could not be.
    pub(super) fn strike(&mut self, key: Key) {
        self.members.remove(&key);
    }

    /// It has begun: said by the thread itself.
    pub(super) fn begin(&mut self, key: Key) {
        self.members.entry(key).or_default().thread = Some(thread::current());
    }

    pub(super) fn store(&mut self, key: Key, handle: JoinHandle<()>) {
        self.members.entry(key).or_default().handle = Some(handle);
    }

    pub(super) fn thread(&self, key: Key) -> Option<Thread> {
        self.members.get(&key)?.thread.clone()
    }

    /// It is about to end: said by the thread itself.
    pub(super) fn leave(&mut self, key: Key) {
        self.members.entry(key).or_default().left = true;
    }

    /// The handles of those that have left, but for `except`, to be joined: which takes no longer than their last few
    /// instructions.
    pub(super) fn take_left(&mut self, except: Option<Key>) -> Vec<JoinHandle<()>> {
        let ready = |(&key, member): (&Key, &Member)| {
            (member.left && member.handle.is_some() && Some(key) != except).then_some(key)
        };
        let keys: Vec<Key> = self.members.iter().filter_map(ready).collect();
        keys.into_iter().filter_map(|key| self.members.remove(&key)?.handle).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Joins threads that have left, on a thread that may itself be one of them.
pub(super) fn join(left: Vec<JoinHandle<()>>) {
    for thread in left.into_iter().filter(|left| left.thread().id() != thread::current().id()) {
        _ = thread.join();
    }
}
