//! The operations on an engine in tests, and how often each happens.

#[cfg(test)]
use proptest::prelude::*;

use crate::error::ErrorKind;

/// Number of names that are asked for.
pub(super) const NAMES: u8 = 10;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Ask {
        name: u8,
    },
    Leave {
        who: u8,
    },
    Refresh {
        name: u8,
    },
    Watch {
        name: u8,
    },
    /// A watcher leaves, if there is one.
    Unwatch {
        name: u8,
    },
    /// Flushes one name, or all.
    Flush {
        name: Option<u8>,
    },
    /// A roused worker arrives, or a sleeping worker wakes by itself.
    Worker {
        which: u8,
    },
    /// The system refuses the worker that is being started.
    RefuseWorker,
    Timekeeper,
    RefuseTimekeeper,
    Alarm {
        millis: Option<u16>,
    },
    Finish {
        which: u8,
        result: Result<(), ErrorKind>,
    },
    /// A worker that has finished its call tells all its waiters, and comes for the next.
    Take {
        which: u8,
    },
    /// A waiter on a landed flight is told.
    Tell {
        which: u8,
    },
    /// The thread of a worker that has left ends.
    End {
        which: u8,
    },
    /// A worker leaves after its call.
    Retire {
        which: u8,
    },
    Pass {
        millis: u16,
    },
    Close,
    AbortQueued,
    GiveUp,
}

const RESULTS: [Result<(), ErrorKind>; 3] = [Ok(()), Err(ErrorKind::NotFound), Err(ErrorKind::Temporary)];

#[cfg(test)]
pub(super) fn op() -> impl Strategy<Value = Op> {
    let [ok, not_found, temporary] = RESULTS.map(Just);
    let result = prop_oneof![3 => ok, 1 => not_found, 2 => temporary];
    prop_oneof![
        120 => (0..NAMES).prop_map(|name| Op::Ask { name }),
        30 => any::<u8>().prop_map(|who| Op::Leave { who }),
        20 => (0..NAMES).prop_map(|name| Op::Refresh { name }),
        20 => (0..NAMES).prop_map(|name| Op::Watch { name }),
        10 => (0..NAMES).prop_map(|name| Op::Unwatch { name }),
        10 => prop::option::of(0..NAMES).prop_map(|name| Op::Flush { name }),
        120 => any::<u8>().prop_map(|which| Op::Worker { which }),
        10 => Just(Op::RefuseWorker),
        60 => Just(Op::Timekeeper),
        10 => Just(Op::RefuseTimekeeper),
        10 => any::<Option<u16>>().prop_map(|millis| Op::Alarm { millis }),
        60 => (any::<u8>(), result).prop_map(|(which, result)| Op::Finish { which, result }),
        60 => any::<u8>().prop_map(|which| Op::Take { which }),
        30 => any::<u8>().prop_map(|which| Op::Tell { which }),
        20 => any::<u8>().prop_map(|which| Op::End { which }),
        5 => any::<u8>().prop_map(|which| Op::Retire { which }),
        30 => (0..200u16).prop_map(|millis| Op::Pass { millis }),
        30 => (4_000..11_000u16).prop_map(|millis| Op::Pass { millis }),
        2 => Just(Op::Close),
        2 => Just(Op::AbortQueued),
        1 => Just(Op::GiveUp),
    ]
}

/// Each operation is as frequent as above, except for those that happen once.
#[cfg(fuzzing)]
impl<'a> arbitrary::Arbitrary<'a> for Op {
    fn arbitrary(bytes: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        let weight: u8 = bytes.arbitrary()?;
        let which = bytes.arbitrary()?;
        let name = which % NAMES;
        Ok(match weight {
            0..10 => Self::Watch { name },
            10..15 => Self::Unwatch { name },
            15..58 => Self::Ask { name },
            58..73 => Self::Leave { who: which },
            73..83 => Self::Refresh { name },
            83..88 => Self::Flush { name: (which % 4 != 0).then_some(name) },
            88..146 => Self::Worker { which },
            146..151 => Self::RefuseWorker,
            151..181 => Self::Timekeeper,
            181..186 => Self::RefuseTimekeeper,
            186..191 => Self::Alarm { millis: (which % 4 != 0).then_some(u16::from(which) * 100) },
            191..209 => Self::Finish { which, result: *bytes.choose(&RESULTS)? },
            209..220 => Self::Take { which },
            220..226 => Self::Tell { which },
            226..230 => Self::End { which },
            230..233 => Self::Retire { which },
            233..243 => Self::Pass { millis: which.into() },
            243..253 => Self::Pass { millis: 4_000 + 27 * u16::from(which) },
            253 => Self::Close,
            254 => Self::AbortQueued,
            255 => Self::GiveUp,
        })
    }
}
