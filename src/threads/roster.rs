use hashbrown::HashMap;

use crate::engine::WorkerId;
use crate::sync::thread::{self, JoinHandle, Thread};

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
    /// How many are joining others.
    joining: usize,
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

    /// The handles of those that have left, but for `except`, to be joined: which takes their last few instructions, and what
    /// the destructors of their thread-locals take. To be followed by [`joined`](Self::joined), unless there are none.
    pub(super) fn take_left(&mut self, except: Option<Key>) -> Vec<JoinHandle<()>> {
        let ready = |(&key, member): (&Key, &Member)| {
            (member.left && member.handle.is_some() && Some(key) != except).then_some(key)
        };
        let keys: Vec<Key> = self.members.iter().filter_map(ready).collect();
        let left: Vec<_> = keys.into_iter().filter_map(|key| self.members.remove(&key)?.handle).collect();
        self.joining += usize::from(!left.is_empty());
        left
    }

    /// What was taken to be joined has been.
    pub(super) fn joined(&mut self) {
        self.joining = self.joining.saturating_sub(1);
    }

    /// Threads that have not left, or not been joined.
    pub(super) fn len(&self) -> usize {
        self.members.len() + self.joining
    }

    /// Threads that have not left.
    pub(super) fn staying(&self) -> usize {
        self.members.values().filter(|member| !member.left).count()
    }

    /// Whether all have left, if not yet been joined.
    pub(super) fn have_all_left(&self) -> bool {
        self.joining == 0 && self.staying() == 0
    }
}
