//! What may happen to an engine, and how often it does.

use proptest::prelude::*;

use crate::error::ErrorKind;

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

pub(super) fn op() -> impl Strategy<Value = Op> {
    let result = prop_oneof![
        3 => Just(Ok(())),
        1 => Just(Err(ErrorKind::NotFound)),
        2 => Just(Err(ErrorKind::Temporary)),
    ];
    prop_oneof![
        120 => (0..10u8).prop_map(|name| Op::Ask { name }),
        30 => any::<u8>().prop_map(|who| Op::Leave { who }),
        20 => (0..10u8).prop_map(|name| Op::Refresh { name }),
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
