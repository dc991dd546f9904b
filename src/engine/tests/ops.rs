//! What may happen to an engine, and how often it does.

#[cfg(test)]
use proptest::prelude::*;

use crate::error::ErrorKind;

/// Names that are asked for.
pub(super) const NAMES: u8 = 10;

#[derive(Clone, Copy, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(super) enum Op {
    Ask {
        #[cfg_attr(fuzzing, arbitrary(with = fuzzed::name))]
        name: u8,
    },
    Leave {
        who: u8,
    },
    Refresh {
        #[cfg_attr(fuzzing, arbitrary(with = fuzzed::name))]
        name: u8,
    },
    /// Of one name, or of all.
    Flush {
        #[cfg_attr(fuzzing, arbitrary(with = fuzzed::name_or_none))]
        name: Option<u8>,
    },
    /// A roused worker arrives, or one that sleeps wakes by itself.
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
        #[cfg_attr(fuzzing, arbitrary(with = fuzzed::result))]
        result: Result<(), ErrorKind>,
    },
    /// A worker that finished has told its waiters and comes for more.
    Take {
        which: u8,
    },
    /// Or leaves.
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
        10 => prop::option::of(0..NAMES).prop_map(|name| Op::Flush { name }),
        120 => any::<u8>().prop_map(|which| Op::Worker { which }),
        10 => Just(Op::RefuseWorker),
        60 => Just(Op::Timekeeper),
        10 => Just(Op::RefuseTimekeeper),
        10 => any::<Option<u16>>().prop_map(|millis| Op::Alarm { millis }),
        60 => (any::<u8>(), result).prop_map(|(which, result)| Op::Finish { which, result }),
        60 => any::<u8>().prop_map(|which| Op::Take { which }),
        5 => any::<u8>().prop_map(|which| Op::Retire { which }),
        30 => (0..200u16).prop_map(|millis| Op::Pass { millis }),
        30 => (4_000..11_000u16).prop_map(|millis| Op::Pass { millis }),
        2 => Just(Op::Close),
        2 => Just(Op::AbortQueued),
        1 => Just(Op::GiveUp),
    ]
}

#[cfg(fuzzing)]
pub(in crate::engine) use fuzzed::names;

#[cfg(fuzzing)]
mod fuzzed {
    use std::collections::BTreeSet;

    use arbitrary::{Result, Unstructured};

    use super::*;

    pub(crate) fn names(bytes: &mut Unstructured<'_>) -> Result<BTreeSet<u8>> {
        let bits: u16 = bytes.arbitrary()?;
        Ok((0..NAMES).filter(|name| bits >> name & 1 == 1).collect())
    }

    pub(super) fn name(bytes: &mut Unstructured<'_>) -> Result<u8> {
        bytes.int_in_range(0..=NAMES - 1)
    }

    pub(super) fn name_or_none(bytes: &mut Unstructured<'_>) -> Result<Option<u8>> {
        Ok(bytes.int_in_range(0..=NAMES)?.checked_sub(1))
    }

    pub(super) fn result(bytes: &mut Unstructured<'_>) -> Result<std::result::Result<(), ErrorKind>> {
        bytes.choose(&RESULTS).copied()
    }
}
