//! The engine against a model of the shell, in virtual time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const MAX_THREADS: usize = 3;
const IDLE: Duration = Duration::from_secs(10);

/// A waiter that must not be dropped in the engine.
#[derive(Debug)]
struct Token {
    id: u32,
    engine_runs: Rc<Cell<bool>>,
}

impl Drop for Token {
    fn drop(&mut self) {
        assert!(!self.engine_runs.get(), "waiter {} was dropped inside the engine", self.id);
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Ask {
        name: u8,
    },
    Leave {
        who: u8,
    },
    /// A roused worker arrives, or one that sleeps wakes by itself.
    Worker {
        which: u8,
    },
    /// The system refuses the worker that is being started.
    RefuseWorker,
    Timekeeper,
    RefuseTimekeeper,
    CallTimekeeper,
    Finish {
        which: u8,
    },
    /// A worker that finished has told its waiters and comes for more.
    Take {
        which: u8,
    },
    Pass {
        millis: u16,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..8u8).prop_map(|name| Op::Ask { name }),
        3 => any::<u8>().prop_map(|who| Op::Leave { who }),
        6 => any::<u8>().prop_map(|which| Op::Worker { which }),
        1 => Just(Op::RefuseWorker),
        3 => Just(Op::Timekeeper),
        1 => Just(Op::RefuseTimekeeper),
        1 => Just(Op::CallTimekeeper),
        4 => any::<u8>().prop_map(|which| Op::Finish { which }),
        4 => any::<u8>().prop_map(|which| Op::Take { which }),
        2 => (0..200u16).prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::Pass { millis: 11_000 }),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Doing {
    Starting,
    Waking,
    Sleeping { until: Option<Instant> },
    Calling { flight: FlightId, name: u8 },
    Replying,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keeper {
    Absent,
    Starting,
    Waking,
    Asleep { until: Option<Instant> },
}

/// The shell, with everything that happens between two of its steps left to the test.
struct Model {
    engine: Engine<Token>,
    engine_runs: Rc<Cell<bool>>,
    now: Instant,
    /// How far back the next times lie that the engine is given.
    lag: Duration,
    waiting: BTreeMap<u32, (u8, Ticket)>,
    workers: BTreeMap<u64, (WorkerId, Doing)>,
    keeper: Keeper,
    last_token: u32,
    last_worker: u64,
}

impl Model {
    fn new(thread_idle: Duration) -> Self {
        Self {
            engine: Engine::new(Limits { max_threads: MAX_THREADS, thread_idle }),
            engine_runs: Rc::default(),
            now: Instant::now() + Duration::from_secs(100),
            lag: Duration::ZERO,
            waiting: BTreeMap::new(),
            workers: BTreeMap::new(),
            keeper: Keeper::Absent,
            last_token: 0,
            last_worker: 0,
        }
    }

    /// Runs one input; what it returns is dropped by the caller.
    fn input<T>(&mut self, f: impl FnOnce(&mut Engine<Token>, Instant) -> T) -> T {
        self.engine_runs.set(true);
        let out = f(&mut self.engine, self.now - self.lag);
        self.engine_runs.set(false);
        out
    }

    fn pick(&self, which: u8, of: impl Fn(&Doing) -> bool) -> Option<u64> {
        let able: Vec<u64> = self.workers.iter().filter(|(_, (_, doing))| of(doing)).map(|(&key, _)| key).collect();
        (!able.is_empty()).then(|| able[usize::from(which) % able.len()])
    }

    fn rouse(&mut self, rouse: Rouse) {
        match rouse.timekeeper {
            Some(RouseTimekeeper::Start) => {
                assert_eq!(self.keeper, Keeper::Absent);
                self.keeper = Keeper::Starting;
            }
            Some(RouseTimekeeper::Wake) => {
                assert!(matches!(self.keeper, Keeper::Asleep { .. }), "{:?}", self.keeper);
                self.keeper = Keeper::Waking;
            }
            None => {}
        }
        let on_the_way = |doing: &Doing| matches!(doing, Doing::Starting | Doing::Waking);
        match rouse.worker {
            Some(RouseWorker::Start(id)) => {
                assert_eq!(self.pick(0, on_the_way), None, "two on the way");
                let sleeping = |doing: &Doing| matches!(doing, Doing::Sleeping { .. });
                assert_eq!(self.pick(0, sleeping), None, "started beside an idle one");
                self.last_worker += 1;
                self.workers.insert(self.last_worker, (id, Doing::Starting));
                assert!(self.workers.len() <= MAX_THREADS);
            }
            Some(RouseWorker::Wake(id)) => {
                assert_eq!(self.pick(0, on_the_way), None, "two on the way");
                let (_, doing) = self.workers.values_mut().find(|(worker, _)| *worker == id).expect("a live worker");
                assert!(matches!(doing, Doing::Sleeping { .. }), "woken while {doing:?}");
                *doing = Doing::Waking;
            }
            None => {}
        }
    }

    /// A waiter is out of the engine, with the answer for `name` if that is known.
    fn end(&mut self, token: &Token, name: Option<u8>) {
        let (asked, _) = self.waiting.remove(&token.id).expect("ended once, and only if it waits");
        assert!(name.is_none_or(|name| name == asked), "asked {asked}, got {name:?}");
    }

    fn calling(&self) -> impl Iterator<Item = u8> {
        self.workers.values().filter_map(|(_, doing)| match doing {
            Doing::Calling { name, .. } => Some(*name),
            _ => None,
        })
    }

    fn turn(&mut self, key: u64, woke: bool) {
        let (id, _) = self.workers[&key];
        let mut oldest = None;
        let (doing, rouse) =
            self.input(|engine, now| match if woke { engine.woke(id, now) } else { engine.take(id, now) } {
                Next::Call { flight, name, oldest: waiter, rouse } => {
                    oldest = waiter.map(|token| token.id);
                    let name = name.as_str().to_ascii_lowercase().as_bytes()[0] - b'a';
                    (Some(Doing::Calling { flight, name }), rouse)
                }
                Next::Sleep { until } => (Some(Doing::Sleeping { until }), Rouse::default()),
                Next::Leave { rouse } => (None, rouse),
            });
        match doing {
            Some(Doing::Calling { flight, name }) => {
                assert!(self.calling().all(|other| other != name), "two flights for {name}");
                let longest = self.waiting.iter().find(|(_, (asked, _))| *asked == name).map(|(&id, _)| id);
                assert!(longest.is_some(), "a call for nobody");
                assert_eq!(oldest, longest, "the call runs for the one that waits longest");
                self.workers.insert(key, (id, Doing::Calling { flight, name }));
            }
            Some(doing) => _ = self.workers.insert(key, (id, doing)),
            None => _ = self.workers.remove(&key),
        }
        self.rouse(rouse);
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Ask { name } => {
                self.last_token += 1;
                let id = self.last_token;
                let token = Token { id, engine_runs: Rc::clone(&self.engine_runs) };
                // Of either case, which is one name.
                let letter = if id % 2 == 0 { b'a' + name } else { b'A' + name };
                let text = Name::parse(&char::from(letter).to_string()).unwrap();
                let asked = self.input(|engine, now| engine.ask(now, text, token));
                self.waiting.insert(id, (name, asked.ticket));
                self.rouse(asked.rouse);
            }
            Op::Leave { who } => {
                let all: Vec<u32> = self.waiting.keys().copied().collect();
                if all.is_empty() {
                    return;
                }
                let id = all[usize::from(who) % all.len()];
                let (_, ticket) = self.waiting[&id];
                let token = self.input(|engine, _| engine.leave(ticket)).expect("it was waiting");
                assert_eq!(token.id, id);
                self.end(&token, None);
                assert!(self.input(|engine, _| engine.leave(ticket)).is_none(), "left twice");
            }
            Op::Worker { which } => {
                let able = |doing: &Doing| matches!(doing, Doing::Starting | Doing::Waking | Doing::Sleeping { .. });
                if let Some(key) = self.pick(which, able) {
                    let woke = self.workers[&key].1 != Doing::Starting;
                    self.turn(key, woke);
                }
            }
            Op::RefuseWorker => {
                // The shell starts the timekeeper first, and a worker only if that went well.
                if self.keeper != Keeper::Starting {
                    if let Some(key) = self.pick(0, |doing| *doing == Doing::Starting) {
                        self.workers.remove(&key);
                        let refused = self.input(Engine::worker_refused);
                        let alone = self.workers.is_empty();
                        self.stranded(refused);
                        assert!(!alone || self.waiting.is_empty(), "nobody was left for them");
                    }
                }
            }
            Op::Timekeeper => {
                if self.keeper != Keeper::Absent {
                    match self.input(Engine::tick) {
                        Tick::Sleep { until, rouse } => {
                            self.keeper = Keeper::Asleep { until };
                            self.rouse(rouse);
                        }
                        Tick::Leave => {
                            self.keeper = Keeper::Absent;
                            assert!(self.workers.is_empty(), "the timekeeper left workers behind");
                        }
                    }
                }
            }
            Op::RefuseTimekeeper => {
                if self.keeper == Keeper::Starting {
                    self.keeper = Keeper::Absent;
                    let untried = self.pick(0, |doing| *doing == Doing::Starting);
                    let id = untried.and_then(|key| self.workers.remove(&key)).map(|(id, _)| id);
                    let refused = self.input(|engine, _| engine.timekeeper_refused(id));
                    self.stranded(refused);
                }
            }
            Op::CallTimekeeper => {
                let rouse = self.input(|engine, _| engine.call_timekeeper());
                self.rouse(rouse);
                assert_ne!(self.keeper, Keeper::Absent);
            }
            Op::Finish { which } => {
                if let Some(key) = self.pick(which, |doing| matches!(doing, Doing::Calling { .. })) {
                    let (id, Doing::Calling { flight, name }) = self.workers[&key].clone() else { unreachable!() };
                    self.workers.insert(key, (id, Doing::Replying));
                    let finished = self.input(|engine, now| engine.finish(flight, now));
                    for token in &finished.waiters {
                        self.end(token, Some(name));
                    }
                    assert!(self.waiting.values().all(|&(asked, _)| asked != name), "someone was left out");
                }
            }
            Op::Take { which } => {
                if let Some(key) = self.pick(which, |doing| *doing == Doing::Replying) {
                    self.turn(key, false);
                }
            }
            Op::Pass { millis } => {
                self.now += Duration::from_millis(millis.into());
                self.lag = Duration::from_millis(u64::from(millis % 7));
            }
        }
        self.check();
    }

    fn stranded(&mut self, refused: Refused<Token>) {
        for token in &refused.stranded {
            self.end(token, None);
        }
        self.rouse(refused.rouse);
    }

    /// Someone is sure to come for whoever is queued.
    fn check(&self) {
        let calling: BTreeSet<u8> = self.calling().collect();
        assert!(calling.len() <= MAX_THREADS);
        if self.waiting.values().all(|(name, _)| calling.contains(name)) {
            return;
        }
        let busy = |doing: &Doing| matches!(doing, Doing::Calling { .. });
        let coming = |doing: &Doing| matches!(doing, Doing::Starting | Doing::Waking | Doing::Replying);
        let keeper_comes = match self.keeper {
            Keeper::Absent => false,
            Keeper::Starting | Keeper::Waking => true,
            Keeper::Asleep { until } => until.is_some(),
        };
        let workers: Vec<&Doing> = self.workers.values().map(|(_, doing)| doing).collect();
        assert!(
            keeper_comes
                || workers.iter().any(|doing| coming(doing))
                || (workers.len() == MAX_THREADS && workers.iter().all(|doing| busy(doing))),
            "nobody comes for the queue: {workers:?}, timekeeper {:?}",
            self.keeper,
        );
        assert!(self.keeper != Keeper::Absent, "waiting without a timekeeper");
    }

    /// Lets everything happen that will happen by itself, in the time it takes.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let moving = |doing: &Doing| !matches!(doing, Doing::Sleeping { .. });
            if let Some(key) = self.pick(0, moving) {
                match self.workers[&key].1 {
                    Doing::Starting => self.turn(key, false),
                    Doing::Calling { .. } => self.step(Op::Finish { which: 0 }),
                    Doing::Replying => self.turn(key, false),
                    Doing::Waking | Doing::Sleeping { .. } => self.turn(key, true),
                }
                continue;
            }
            if matches!(self.keeper, Keeper::Starting | Keeper::Waking) {
                self.step(Op::Timekeeper);
                continue;
            }
            assert!(self.waiting.is_empty() || self.keeper != Keeper::Absent);
            // Everyone sleeps: on to the first alarm.
            let alarms = self.workers.iter().filter_map(|(&key, (_, doing))| match doing {
                Doing::Sleeping { until } => until.map(|until| (until, Some(key))),
                _ => None,
            });
            let keeper_alarm = match self.keeper {
                Keeper::Asleep { until: Some(until) } => Some((until, None)),
                _ => None,
            };
            match alarms.chain(keeper_alarm).min() {
                Some((at, who)) => {
                    (self.now, self.lag) = (self.now.max(at), Duration::ZERO);
                    match who {
                        Some(key) => self.turn(key, true),
                        None => self.step(Op::Timekeeper),
                    }
                }
                None => break,
            }
        }
        assert!(self.waiting.is_empty(), "stranded: {:?}", self.waiting);
        assert!(self.workers.is_empty(), "threads stayed: {:?}", self.workers);
        assert_eq!(self.keeper, Keeper::Absent, "the timekeeper stayed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_waiter_ends_once_and_nothing_is_stranded(
        ops in prop::collection::vec(op(), 0..150),
        idle in prop_oneof![Just(IDLE), Just(Duration::ZERO)],
    ) {
        let mut model = Model::new(idle);
        for op in ops {
            model.step(op);
        }
        model.settle();
    }
}

fn name(number: usize) -> Name {
    Name::parse(&format!("n{number}")).unwrap()
}

fn engine(max_threads: usize) -> Engine<usize> {
    Engine::new(Limits { max_threads, thread_idle: IDLE })
}

/// Has every worker that is roused arrive and hang in its call; gives how many came.
fn hang_all(engine: &mut Engine<usize>, mut rouse: Rouse, now: Instant) -> usize {
    for came in 0.. {
        let id = match rouse.worker {
            Some(RouseWorker::Start(id) | RouseWorker::Wake(id)) => id,
            None => return came,
        };
        let Next::Call { rouse: next, .. } = engine.take(id, now) else { panic!("nothing to call") };
        rouse = next;
    }
    unreachable!()
}

#[test]
fn sixty_four_threads_come_at_once_and_more_only_for_a_queue_that_stands() {
    let mut engine = engine(512);
    let start = Instant::now();
    let first = engine.ask(start, name(0), 0).rouse;
    for number in 1..200 {
        let asked = engine.ask(start, name(number), number);
        assert_eq!(asked.rouse, Rouse::default(), "one on the way is enough");
    }
    assert_eq!(hang_all(&mut engine, first, start), 64);

    let Tick::Sleep { until, rouse } = engine.tick(start) else { panic!("left") };
    assert_eq!((until, rouse), (Some(start + Duration::from_millis(20)), Rouse::default()));
    let late = start + Duration::from_millis(20);
    let Tick::Sleep { rouse, .. } = engine.tick(late) else { panic!("left") };
    assert_eq!(hang_all(&mut engine, rouse, late), 136, "all have waited long enough by now");
}

#[test]
fn the_bound_on_threads_holds_and_the_queue_moves_on_when_one_is_free() {
    let mut engine = engine(2);
    let now = Instant::now();
    let first = engine.ask(now, name(0), 0).rouse;
    for number in 1..5 {
        _ = engine.ask(now, name(number), number);
    }
    let Some(RouseWorker::Start(worker)) = first.worker else { panic!("not started") };
    let Next::Call { flight, rouse, .. } = engine.take(worker, now) else { panic!("no call") };
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    let much_later = now + Duration::from_secs(3600);
    let Tick::Sleep { until: None, rouse } = engine.tick(much_later) else { panic!("something is due") };
    assert_eq!(rouse, Rouse::default());

    assert_eq!(engine.finish(flight, much_later).waiters, [0]);
    assert!(matches!(engine.take(worker, much_later), Next::Call { oldest: Some(2), .. }));
}

#[test]
fn the_most_recently_idle_is_woken_first() {
    let mut engine = engine(8);
    let now = Instant::now();
    let mut idle = Vec::new();
    let mut rouse = engine.ask(now, name(0), 0).rouse;
    _ = engine.ask(now, name(1), 1);
    let mut calls = Vec::new();
    while let Some(RouseWorker::Start(id)) = rouse.worker {
        let Next::Call { flight, rouse: next, .. } = engine.take(id, now) else { panic!("no call") };
        calls.push((id, flight));
        rouse = next;
    }
    for (id, flight) in calls {
        _ = engine.finish(flight, now);
        assert!(matches!(engine.take(id, now), Next::Sleep { .. }));
        idle.push(id);
    }
    assert_eq!(engine.ask(now, name(2), 2).rouse.worker, idle.last().map(|&id| RouseWorker::Wake(id)));
}

#[test]
fn a_refusal_with_others_alive_is_tried_again_at_a_tick() {
    let mut engine = engine(8);
    let now = Instant::now();
    let rouse = engine.ask(now, name(0), 0).rouse;
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    let rouse = engine.ask(now, name(1), 1).rouse;
    assert!(matches!(rouse.worker, Some(RouseWorker::Start(_))));

    let refused = engine.worker_refused(now);
    assert!(refused.stranded.is_empty(), "the one alive may still come for it");
    assert_eq!(refused.rouse.worker, None, "not at once");
    let Tick::Sleep { until: Some(retry), .. } = engine.tick(now) else { panic!("no retry") };
    let Tick::Sleep { rouse, .. } = engine.tick(retry) else { panic!("left") };
    assert_eq!(hang_all(&mut engine, rouse, retry), 1);
}
