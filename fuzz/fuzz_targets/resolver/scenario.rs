//! Scenarios, and how they are read from bytes.

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use gaiter::CacheConfig;

use crate::blocking::{LINGERS, Woken};

#[derive(Debug)]
pub struct Scenario {
    pub is_async: bool,
    pub emits_events: bool,
    pub calls: usize,
    pub queue: usize,
    pub keeps: Keeps,
    /// In units of 30 ms, 0 for no limit. Without a limit nothing blocks, since callers behind it might wait for ever.
    pub timeout: u32,
    /// Whether threads leave almost as soon as they have no work.
    pub idles_briefly: bool,
    pub ending: Option<(u8, Ending)>,
    pub ops: Vec<Op>,
}

/// How the resolver is closed before the end, after a number of operations. The others follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Close,
    AbortQueued,
    ShutDownAtOnce,
    /// Begins a shutdown, and drops it.
    BeginShutdown,
    /// Begins a shutdown within this many milliseconds, which is awaited later.
    ShutDownWithin(u8, Woken),
    /// Drops every handle after the last operation, while lookups go on.
    DropEveryHandle,
}

/// How the cache treats answers.
#[derive(Clone, Copy, Debug)]
pub enum Keeps {
    Nothing,
    Answers,
    /// Gives expired answers at once, and refreshes them in the background.
    Stale,
    /// Gives expired answers if a lookup takes any time at all.
    Old,
}

#[derive(Debug)]
pub enum Op {
    /// Makes a lookup. Polls it at once if there is a waker.
    Ask {
        name: Asked,
        caller: u8,
        way: Way,
        waker: Option<Woken>,
    },
    Poll {
        who: u8,
        waker: Woken,
    },
    Drop {
        who: u8,
        place: Place,
    },
    Await {
        who: u8,
    },
    OpenGate,
    /// Ends all blocking of foreign code.
    Release,
    /// Does nothing before the resolver is closed.
    Shut(Shut),
    Flush(Option<Asked>),
    Clone,
    DropClone,
    LookAtStats,
}

/// An operation on shutdowns, with bounds in milliseconds.
#[derive(Debug)]
pub enum Shut {
    /// Makes a shutdown. Polls it at once if there is a waker.
    Begin {
        within: u8,
        waker: Option<Woken>,
    },
    Poll {
        who: u8,
        waker: Woken,
    },
    Await {
        who: u8,
    },
    Drop {
        who: u8,
    },
    Wait {
        within: u8,
    },
    /// Shuts down on two threads at once.
    Race {
        within: u8,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub what: What,
    which: u8,
    upper: bool,
    pub lingers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Ok,
    Error,
    Panic,
    Hang,
    Literal,
    Invalid,
}

/// How a caller puts its span and its subscriber around a lookup.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// The future carries both.
    Around,
    /// They are current when the lookup is made, and others when it is polled.
    WhereItIsMade,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Here,
    WithItsSubscriber,
    OnAnotherThread,
    InsideItsSubscriber,
}

impl Asked {
    pub fn text(self) -> String {
        let number = self.which;
        let text = match self.what {
            What::Ok => format!("ok-{number}"),
            What::Error => format!("error-{number}"),
            What::Panic => format!("panic-{number}"),
            What::Hang => format!("hang-{number}"),
            What::Literal => return format!("192.0.2.{number}"),
            What::Invalid => return "in\0valid".into(),
        };
        // The backend goes by the prefix, whose case therefore stays.
        let text = if self.upper { text.replace('-', "-X") } else { text.replace('-', "-x") };
        if self.lingers { format!("{text}-{LINGERS}") } else { text }
    }
}

impl Keeps {
    pub fn cache(self) -> CacheConfig {
        let expired = CacheConfig::new().ttl(Duration::ZERO);
        match self {
            Self::Nothing => CacheConfig::disabled(),
            Self::Answers => CacheConfig::new(),
            Self::Stale => expired,
            Self::Old => expired.stale_while_revalidate(Duration::ZERO).stale_answer_timeout(Duration::ZERO),
        }
    }
}

/// Picks one value by a single byte, so that an input of a few dozen bytes has room for many operations. The important values are
/// listed more than once.
fn pick<T: Copy>(bytes: &mut Unstructured<'_>, from: &[T]) -> Result<T> {
    Ok(from[usize::from(u8::arbitrary(bytes)?) % from.len()])
}

impl<'a> Arbitrary<'a> for Scenario {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        let [flags, calls, queue, timeout, after, within] = <[u8; 6]>::arbitrary(bytes)?;
        let keeps = pick(bytes, &[Keeps::Nothing, Keeps::Answers, Keeps::Stale, Keeps::Old])?;
        let waker = woken(bytes)?;
        let ending = [
            None,
            Some(Ending::Close),
            Some(Ending::AbortQueued),
            Some(Ending::ShutDownAtOnce),
            Some(Ending::BeginShutdown),
            Some(Ending::ShutDownWithin(within, waker)),
            Some(Ending::ShutDownWithin(within, waker)),
            Some(Ending::DropEveryHandle),
        ];
        let ending = pick(bytes, &ending)?.map(|ending| (after % 32, ending));
        let mut ops = Vec::new();
        while !bytes.is_empty() && ops.len() < 64 {
            ops.push(op(bytes)?);
        }
        Ok(Self {
            is_async: flags & 1 != 0,
            emits_events: flags & 2 != 0,
            calls: usize::from(calls % 3) + 1,
            queue: usize::from(queue % 4),
            keeps,
            timeout: u32::from(timeout % 4),
            idles_briefly: flags & 4 != 0,
            ending,
            ops,
        })
    }
}

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match u8::arbitrary(bytes)? % 24 {
        0..=7 => {
            let [caller, flags] = <[u8; 2]>::arbitrary(bytes)?;
            let way = if flags & 1 == 0 { Way::Around } else { Way::WhereItIsMade };
            let waker = if flags & 2 == 0 { None } else { Some(woken(bytes)?) };
            Op::Ask { name: asked(bytes)?, caller, way, waker }
        }
        8..=10 => Op::Poll { who: u8::arbitrary(bytes)?, waker: woken(bytes)? },
        11 | 12 => {
            let places = [Place::Here, Place::WithItsSubscriber, Place::OnAnotherThread, Place::InsideItsSubscriber];
            Op::Drop { who: u8::arbitrary(bytes)?, place: pick(bytes, &places)? }
        }
        13 | 14 => Op::Await { who: u8::arbitrary(bytes)? },
        15 => Op::OpenGate,
        16 => Op::Release,
        17 => Op::Flush(None),
        18 => Op::Flush(Some(asked(bytes)?)),
        19 => Op::Clone,
        20 => Op::DropClone,
        21 => Op::LookAtStats,
        _ => Op::Shut(shut(bytes)?),
    })
}

fn shut(bytes: &mut Unstructured<'_>) -> Result<Shut> {
    let [what, number] = <[u8; 2]>::arbitrary(bytes)?;
    Ok(match what % 9 {
        0 => Shut::Begin { within: number, waker: None },
        1 | 2 => Shut::Begin { within: number, waker: Some(woken(bytes)?) },
        3 | 4 => Shut::Poll { who: number, waker: woken(bytes)? },
        5 => Shut::Await { who: number },
        6 => Shut::Drop { who: number },
        7 => Shut::Wait { within: number },
        _ => Shut::Race { within: number },
    })
}

fn woken(bytes: &mut Unstructured<'_>) -> Result<Woken> {
    use Woken::{Blocking, Curious, Dawdling, Lingering, Noop, Panicking};
    pick(bytes, &[Noop, Panicking, Curious, Blocking, Blocking, Dawdling, Lingering, Lingering])
}

fn asked(bytes: &mut Unstructured<'_>) -> Result<Asked> {
    use What::{Error, Hang, Invalid, Literal, Ok as Answer, Panic};
    let what = pick(bytes, &[Answer, Answer, Hang, Hang, Hang, Error, Panic, Literal, Invalid])?;
    let flags = u8::arbitrary(bytes)?;
    Ok(Asked { what, which: (flags & 3) % 3, upper: flags & 4 != 0, lingers: flags & 24 == 24 })
}
