//! Tests when watched names are looked up, case by case.

use super::policy::{ask, engine_of, finish, tick};
use crate::engine::outcomes::Watching;
use crate::engine::*;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn engine(max_calls: usize) -> Engine<usize> {
    engine_of(Execution::Blocking, max_calls, 0)
}

fn watch(engine: &mut Engine<usize>, now: Instant, text: &str) -> WatchId {
    let Some(Watching { watch, .. }) = engine.add_watcher(now, Some(&name(text))) else { panic!("closed") };
    watch
}

/// What a backend does in virtual time.
struct Backend<F> {
    takes: Duration,
    /// Returns the result for a name and the number of its call.
    answer: F,
    /// When each call of each name began.
    calls: HashMap<String, Vec<Instant>>,
}

type HashMap<K, V> = hashbrown::HashMap<K, V>;

impl<F: Fn(&str, usize) -> Result<Duration, ErrorKind>> Backend<F> {
    fn new(takes: Duration, answer: F) -> Self {
        Self { takes, answer, calls: HashMap::new() }
    }

    /// Runs the engine's shell until `end`. Returns what watches were told that no call has said.
    fn run(&mut self, engine: &mut Engine<usize>, start: Instant, end: Instant) -> Vec<(Instant, ErrorKind)> {
        let (mut running, mut unheard): (Vec<(Instant, WorkerId, String)>, _) = (Vec::new(), Vec::new());
        let (mut now, mut idle) = (start, Vec::new());
        while now <= end {
            let (rouse, until) = match engine.tick(now) {
                Tick::Leave => return unheard,
                Tick::Sleep { unheard: more, rouse, idle: dismissed, until, .. } => {
                    unheard.extend(more.into_iter().map(|(_, why)| (now, why)));
                    idle.extend(dismissed);
                    (rouse, until)
                }
            };
            let mut come: Vec<(WorkerId, bool)> = idle.drain(..).map(|id| (id, true)).collect();
            let rouses = |come: &mut Vec<_>, rouse: Rouse| match rouse.worker {
                Some(RouseWorker::Start(id)) => come.push((id, false)),
                Some(RouseWorker::Wake(id)) => come.push((id, true)),
                None => {}
            };
            rouses(&mut come, rouse);
            running.sort_unstable_by_key(|(at, ..)| std::cmp::Reverse(*at));
            while running.last().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, id, text)) = running.pop() else { break };
                let result = (self.answer)(&text, self.calls[&text].len());
                _ = engine.news(id, now, result);
                _ = finish(engine, id, now, result.map(drop));
                come.push((id, false));
            }
            while let Some((id, slept)) = come.pop() {
                match if slept { engine.woke(id, now) } else { engine.take(id, now) } {
                    Next::Call { name, rouse } => {
                        self.calls.entry(name.to_string()).or_default().push(now);
                        running.push((now + self.takes, id, name.to_string()));
                        rouses(&mut come, rouse);
                    }
                    Next::Again => come.push((id, false)),
                    Next::Sleep { .. } => {}
                    Next::Leave { .. } => {
                        engine.forget(id);
                        let rouse = engine.rouse(now);
                        rouses(&mut come, rouse);
                    }
                }
            }
            let first = running.iter().map(|(at, ..)| *at).min();
            let next = first.into_iter().chain(until).chain(engine.next_tick()).min();
            now = next.unwrap_or(end + SECOND).max(now + Duration::from_micros(1));
        }
        unheard
    }

    fn calls(&self, text: &str) -> &[Instant] {
        self.calls.get(text).map_or(&[], Vec::as_slice)
    }

    /// Returns the times from the end of one call of a name to the begin of the next.
    fn pauses(&self, text: &str) -> Vec<Duration> {
        self.calls(text).windows(2).map(|pair| pair[1] - pair[0] - self.takes).collect()
    }
}

/// Returns whether `time` is `expected` and up to a tenth more, but for what the shell takes.
fn is_about(time: Duration, expected: Duration) -> bool {
    (expected..=expected + expected / 10 + Duration::from_millis(1)).contains(&time)
}

#[test]
fn ten_thousand_watches_of_a_thousand_names_cost_a_lookup_for_each_ttl() {
    let (mut engine, start, ttl) = (engine(512), Instant::now(), 5 * SECOND);
    for number in 0..10_000 {
        _ = watch(&mut engine, start, &format!("n{}", number % 1000));
    }
    let mut backend = Backend::new(Duration::from_millis(2), |_: &str, _| Ok(5 * SECOND));
    let unheard = backend.run(&mut engine, start, start + 120 * SECOND);
    assert_eq!(unheard, []);
    let calls = |number| backend.calls(&format!("n{number}")).len();
    let [most, total] = [(0..1000).map(calls).max().unwrap_or(0), (0..1000).map(calls).sum::<usize>()];
    let ttls = 120.0 / ttl.as_secs_f64();
    // The first lookup is not for a TTL that has ended.
    let rate = (total as f64 / 1000.0 - 1.0) / ttls;
    println!("{total} lookups of 1,000 names: {rate:.3} for each name and TTL, and at most {most} of a name");
    assert!((0.9..=1.0).contains(&rate) && most <= 25, "{rate}, {most}");
    let busiest = (0..1000).flat_map(|number| backend.calls(&format!("n{number}")).to_vec());
    let late = busiest.filter(|at| *at > start + 60 * SECOND).map(|at| (at - start).as_millis() / 100);
    let counts = late.fold(HashMap::<u128, usize>::new(), |mut counts, at| {
        *counts.entry(at).or_default() += 1;
        counts
    });
    assert!(counts.values().all(|&count| count < 200), "they are spread out");
}

#[test]
fn an_answer_that_lasts_for_no_time_is_asked_for_once_a_second() {
    let (mut engine, start) = (engine(4), Instant::now());
    _ = watch(&mut engine, start, "zero");
    let mut backend = Backend::new(Duration::ZERO, |_: &str, _| Ok(Duration::ZERO));
    _ = backend.run(&mut engine, start, start + 100 * SECOND);
    let pauses = backend.pauses("zero");
    assert!(pauses.len() >= 90 && pauses.iter().all(|pause| is_about(*pause, SECOND)), "{pauses:?}");
}

#[test]
fn failures_are_retried_after_twice_the_time_up_to_that_of_the_last_answer() {
    let (mut engine, start) = (engine(4), Instant::now());
    _ = watch(&mut engine, start, "never");
    _ = watch(&mut engine, start, "once");
    let mut backend = Backend::new(Duration::from_millis(1), |text: &str, call| match (text, call) {
        ("once", 1 | 7) => Ok(20 * SECOND),
        (_, call) if call % 2 == 0 => Err(ErrorKind::NotFound),
        _ => Err(ErrorKind::Temporary),
    });
    _ = backend.run(&mut engine, start, start + 150 * SECOND);
    let follows = |pauses: Vec<Duration>, expected: &[u32]| {
        let seconds = expected.iter().map(|seconds| *seconds * SECOND);
        assert!(pauses.iter().zip(seconds).all(|(pause, expected)| is_about(*pause, expected)), "{pauses:?}");
        assert!(pauses.len() >= expected.len(), "{pauses:?}");
    };
    follows(backend.pauses("never"), &[1, 2, 4, 5, 5, 5]);
    follows(backend.pauses("once"), &[20, 1, 2, 4, 8, 16, 20, 1, 2]);
}

#[test]
fn a_call_that_hangs_is_a_timeout_and_gets_one_other() {
    let (mut engine, start) = (engine(4), Instant::now());
    let id = watch(&mut engine, start, "silent");
    let mut backend = Backend::new(1000 * SECOND, |_: &str, _| Ok(SECOND));
    let unheard = backend.run(&mut engine, start, start + 60 * SECOND);
    assert!(unheard.iter().all(|(_, why)| *why == ErrorKind::Timeout), "{unheard:?}");
    // Each retry comes later, and waits for the timeout.
    let ats: Vec<u64> = unheard.iter().map(|(at, _)| (*at - start).as_secs()).collect();
    assert_eq!((ats.len(), ats[0]), (4, TIMEOUT.as_secs()), "{ats:?}");
    assert_eq!(backend.calls("silent").len(), 2);
    assert!(engine.remove_watcher(id).is_over);
}

#[test]
fn a_name_that_finds_no_room_is_overloaded_and_asks_again() {
    let (mut engine, start) = (engine_of(Execution::Blocking, 1, 0), Instant::now());
    for number in 0..2000 {
        _ = watch(&mut engine, start, &format!("n{number}"));
    }
    let mut backend = Backend::new(Duration::from_millis(1), |_: &str, _| Ok(60 * SECOND));
    let unheard = backend.run(&mut engine, start, start + 30 * SECOND);
    assert!(unheard.len() >= 2000 - 1024 - 1, "{}", unheard.len());
    assert!(unheard.iter().all(|(_, why)| *why == ErrorKind::Overloaded));
    assert!((0..2000).all(|number| backend.calls(&format!("n{number}")).len() == 1), "each in the end");
}

#[test]
fn a_caller_goes_before_lookups_of_watches() {
    let (mut engine, start) = (engine(1), Instant::now());
    for number in 0..5 {
        _ = watch(&mut engine, start, &format!("watched{number}"));
    }
    let (_, rouse, _) = tick(&mut engine, start);
    let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("nobody comes") };
    assert!(matches!(engine.take(id, start), Next::Call { name, .. } if name.as_str() == "watched0"));
    _ = ask(&mut engine, start, 7);
    _ = finish(&mut engine, id, start, Ok(()));
    assert!(matches!(engine.take(id, start), Next::Call { name, .. } if name.as_str() == "n7"));
}

#[test]
fn a_watch_that_waits_for_no_lookup_holds_no_worker_and_a_fixed_one_no_timekeeper() {
    let (mut engine, start) = (engine(4), Instant::now());
    let fixed = engine.add_watcher(start, None).expect("it is open");
    assert_eq!(fixed.timekeeper, None);
    let id = watch(&mut engine, start, "name");
    let mut backend = Backend::new(Duration::ZERO, |_: &str, _| Ok(3600 * SECOND));
    _ = backend.run(&mut engine, start, start + 60 * SECOND);
    let stats = engine.stats(start + 60 * SECOND);
    assert_eq!((backend.calls("name").len(), stats.threads), (1, 0));
    assert!(engine.has_timekeeper());
    assert!(engine.remove_watcher(id).is_over);
    assert!(matches!(engine.tick(start + 60 * SECOND), Tick::Leave));
}

/// An answer is out of date if that of a later call has come before it.
#[test]
fn a_watch_asks_again_at_once_if_a_failure_was_followed_by_an_answer_out_of_date() {
    for sharers in [1, 2] {
        let (mut engine, start) = (engine(8), Instant::now());
        let call = |engine: &mut Engine<usize>, rouse: Rouse, now: Instant| {
            let Some(RouseWorker::Start(id) | RouseWorker::Wake(id)) = rouse.worker else { panic!("nobody comes") };
            assert!(matches!(engine.take(id, now), Next::Call { .. }));
            id
        };
        let (_, rouse) = ask(&mut engine, start, 1);
        let slow = call(&mut engine, rouse, start);
        let now = start + TIMEOUT + Duration::from_nanos(1);
        let (_, rouse) = ask(&mut engine, now, 1);
        let second = call(&mut engine, rouse, now);
        assert_eq!(finish(&mut engine, second, now, Ok(())).len(), 2);

        let text = super::policy::name(1);
        let Some(Watching { watch, .. }) = engine.add_watcher(now, Some(&text)) else { panic!("closed") };
        let (_, rouse) = ask(&mut engine, now, 1);
        (1..sharers).for_each(|_| _ = ask(&mut engine, now, 1));
        let third = call(&mut engine, rouse, now);
        _ = tick(&mut engine, now);
        assert!(engine.watches.is_asking(watch));
        for (id, result, told) in [(third, Err(ErrorKind::Temporary), 0), (slow, Ok(()), sharers)] {
            assert!(engine.news(id, now, result.map(|()| SECOND)).is_none());
            assert_eq!(finish(&mut engine, id, now, result).len(), told);
        }
        assert_eq!((engine.watches.is_asking(watch), engine.watches.due_of(watch)), (false, Some(now)));
    }
}
