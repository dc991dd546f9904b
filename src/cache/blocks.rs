use std::sync::OnceLock;

/// A block of items, once it is allocated. No other thread waits for that: only one allocates.
type Block<T> = OnceLock<Box<[T]>>;

/// An array that grows without moving its items, so that other threads can read it at any time.
///
/// The length of a block is about the square root of the limit. So neither a block nor the list of blocks is long.
pub(super) struct Blocks<T> {
    blocks: OnceLock<Box<[Block<T>]>>,
    /// Maximum number of items.
    limit: usize,
    /// The length of a block is this power of 2.
    bits: u32,
}

impl<T> Blocks<T> {
    /// Returns an array of at most `limit` items. Allocates nothing.
    pub(super) fn new(limit: usize) -> Self {
        Self { blocks: OnceLock::new(), limit, bits: (usize::BITS - limit.leading_zeros()) / 2 }
    }

    /// Returns the item at `at`, if it is in a block that has been allocated.
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let block = self.blocks.get()?.get(at as usize >> self.bits)?.get()?;
        // A block's length is a power of 2.
        block.get(at as usize & (block.len() - 1))
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let block = self.blocks.get_mut()?.get_mut(at as usize >> self.bits)?.get_mut()?;
        block.get_mut(at as usize % (1 << self.bits))
    }

    /// Allocates the block of the item at `at`, unless it is there. Only for one thread at a time.
    pub(super) fn allocate(&self, at: u32, new: impl Fn() -> T) {
        let length = 1 << self.bits;
        let blocks = self.blocks.get_or_init(|| (0..self.limit.div_ceil(length)).map(|_| OnceLock::new()).collect());
        if let Some(block) = blocks.get(at as usize >> self.bits) {
            block.get_or_init(|| (0..length).map(|_| new()).collect());
        }
    }
}
