//! Tests that no name pays for the silence of another: second calls, and zones.

use super::policy::finish;
use crate::engine::*;

const HEDGE: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

fn engine(max_calls: usize, hedge: Hedge) -> Engine<usize> {
    let limits = Limits {
        execution: Execution::Blocking,
        max_calls,
        reserved_for_known: 0,
        max_queued: 100,
        thread_keep_alive: 10 * SECOND,
        timeout: Some(10 * SECOND),
        patience: SECOND,
        hedge,
        schedule: Schedule { least: SECOND, usual: 5 * SECOND },
    };
    Engine::new(limits, Instant::now())
}

/// Asks for a name. The waiter is `number`.
fn ask(engine: &mut Engine<usize>, now: Instant, name: &str, number: usize) -> Rouse {
    match engine.ask(now, &Name::parse(name).unwrap(), number, false) {
        Asked::Waits { rouse, .. } => rouse,
        Asked::Refused { why, .. } => panic!("{why:?}"),
    }
}

/// Makes every roused worker arrive, and returns them with the names that they call for.
fn arrive(engine: &mut Engine<usize>, mut rouse: Rouse, now: Instant) -> Vec<(WorkerId, String)> {
    let mut calls = Vec::new();
    while let Some(RouseWorker::Start(id) | RouseWorker::Wake(id)) = rouse.worker {
        match engine.take(id, now) {
            Next::Call { name, rouse: next } => {
                calls.push((id, name.to_string()));
                rouse = next;
            }
            Next::Again => {}
            Next::Sleep { .. } | Next::Leave { .. } => panic!("nothing to call"),
        }
    }
    calls
}

/// Lets the timekeeper come, and returns the calls that begin.
fn tick(engine: &mut Engine<usize>, now: Instant) -> Vec<(WorkerId, String)> {
    let Tick::Sleep { rouse, .. } = engine.tick(now) else { panic!("left") };
    arrive(engine, rouse, now)
}

fn begin(engine: &mut Engine<usize>, now: Instant, name: &str, number: usize) -> Vec<(WorkerId, String)> {
    let rouse = ask(engine, now, name, number);
    arrive(engine, rouse, now)
}

/// Lets a worker come for its next call after `finish`.
fn next(engine: &mut Engine<usize>, id: WorkerId, now: Instant) -> Option<String> {
    loop {
        match engine.take(id, now) {
            Next::Call { name, .. } => return Some(name.to_string()),
            Next::Again => {}
            Next::Sleep { .. } | Next::Leave { .. } => return None,
        }
    }
}

fn names(calls: &[(WorkerId, String)]) -> Vec<&str> {
    calls.iter().map(|(_, name)| name.as_str()).collect()
}

#[test]
fn a_slow_call_gets_a_second_one_and_the_first_answer_counts() {
    let mut engine = engine(8, Hedge::after(HEDGE));
    let start = Instant::now();
    let first = begin(&mut engine, start, "a.test", 1);
    let Tick::Sleep { until, .. } = engine.tick(start) else { panic!("left") };
    assert_eq!(until, Some(start + HEDGE), "the timekeeper comes to hedge");
    assert!(tick(&mut engine, start + HEDGE - Duration::from_nanos(1)).is_empty());
    let second = tick(&mut engine, start + HEDGE);
    assert_eq!(names(&second), ["a.test"]);
    assert!(tick(&mut engine, start + 5 * SECOND).is_empty(), "there is no third");

    let (now, id) = (start + 5 * SECOND, second[0].0);
    assert!(engine.is_cacheable(id));
    let finished = engine.finish(id, now, Ok(()));
    assert_eq!((finished.waiter, finished.hedged), (Some(1), true));
    let stats = engine.stats(now);
    assert_eq!((stats.hedged, stats.hedges_won, stats.running), (1, 1, 1));
    assert!(!engine.is_cacheable(first[0].0), "its answer would be older");
    // The first call is known to be slow: the next caller does not wait for it.
    _ = ask(&mut engine, now, "a.test", 2);
    assert_eq!(next(&mut engine, id, now).as_deref(), Some("a.test"));
    assert_eq!(finish(&mut engine, id, now, Ok(())), [2]);
}

#[test]
fn a_failure_of_one_call_waits_for_the_other() {
    for first_fails in [true, false] {
        let mut engine = engine(8, Hedge::after(HEDGE));
        let start = Instant::now();
        let first = begin(&mut engine, start, "a.test", 1)[0].0;
        let second = tick(&mut engine, start + HEDGE)[0].0;
        let (fails, answers) = if first_fails { (first, second) } else { (second, first) };
        let now = start + SECOND;
        assert_eq!(finish(&mut engine, fails, now, Err(ErrorKind::Temporary)), []);
        assert_eq!(finish(&mut engine, answers, now, Ok(())), [1]);
        assert_eq!(engine.stats(now).hedges_won, 0, "the other call had ended");
    }
}

#[test]
fn nobody_else_is_hedged_for() {
    let mut engine = engine(8, Hedge::after(HEDGE));
    let start = Instant::now();
    let Asked::Waits { ticket, rouse } = engine.ask(start, &Name::parse("a.test").unwrap(), 1, false) else {
        panic!("refused")
    };
    arrive(&mut engine, rouse, start);
    assert_eq!(engine.leave(ticket, start).waiter, Some(1));
    assert!(tick(&mut engine, start + HEDGE).is_empty());
    // A caller who joins the slow call is hedged for at once.
    assert_eq!(names(&begin(&mut engine, start + SECOND, "a.test", 2)), ["a.test"]);
    assert_eq!(engine.stats(start + SECOND).hedged, 1);
}

#[test]
fn second_calls_take_only_places_that_nobody_waits_for() {
    let mut engine = engine(3, Hedge::after(HEDGE));
    let start = Instant::now();
    let slow = begin(&mut engine, start, "a.test", 1)[0].0;
    let others = ["b.example", "c.example"].map(|name| begin(&mut engine, start + HEDGE / 2, name, 2)[0].0);
    let now = start + HEDGE;
    _ = ask(&mut engine, now, "d.example", 3);
    assert!(tick(&mut engine, now).is_empty());
    let [other, _] = others;
    assert_eq!(finish(&mut engine, other, now, Ok(())), [2]);
    assert_eq!(next(&mut engine, other, now).as_deref(), Some("d.example"), "it has no call yet");
    assert_eq!(finish(&mut engine, other, now, Ok(())), [3]);
    assert_eq!(next(&mut engine, other, now).as_deref(), Some("a.test"));
    assert_eq!(finish(&mut engine, slow, now, Ok(())), [1]);
}

/// Asks for `count` names of as many zones, and lets all calls hang. Returns the number of second calls.
fn hedges_in_an_outage(engine: &mut Engine<usize>, count: usize) -> u64 {
    let start = Instant::now();
    for number in 0..count {
        begin(engine, start, &format!("{number}.example"), number);
    }
    for step in 0..100 {
        tick(engine, start + step * HEDGE / 2);
    }
    engine.stats(start).hedged
}

#[test]
fn an_outage_is_not_doubled() {
    assert_eq!(hedges_in_an_outage(&mut engine(400, Hedge::after(HEDGE)), 60), 10, "as many as were saved up");
    assert_eq!(hedges_in_an_outage(&mut engine(64, Hedge::after(HEDGE)), 40), 8, "an eighth of the places");
    assert_eq!(hedges_in_an_outage(&mut engine(400, Hedge::off()), 60), 0);
}

#[test]
fn the_latest_call_to_be_slow_is_hedged_first() {
    let mut engine = engine(400, Hedge::after(HEDGE));
    assert_eq!(hedges_in_an_outage(&mut engine, 60), 10);
    let now = Instant::now() + 20 * SECOND;
    // Twenty answers earn one more.
    for number in 0..20 {
        let id = begin(&mut engine, now, "good.example", number)[0].0;
        finish(&mut engine, id, now, Ok(()));
        assert_eq!(next(&mut engine, id, now), if number < 19 { None } else { Some("49.example".to_owned()) });
    }
}

/// Begins calls for names of one zone. Returns those that begin.
fn fill(engine: &mut Engine<usize>, now: Instant, zone: &str, count: usize) -> Vec<(WorkerId, String)> {
    (0..count).flat_map(|number| begin(engine, now, &format!("{number}.{zone}"), number)).collect()
}

#[test]
fn a_silent_zone_has_half_of_the_places() {
    let mut engine = engine(8, Hedge::off());
    let start = Instant::now();
    assert_eq!(fill(&mut engine, start, "silent.test", 8).len(), 4);
    assert_eq!(fill(&mut engine, start, "SILENT.test.", 8).len(), 0, "case and a trailing dot make no other zone");
    assert_eq!(engine.stats(start).queued, 12);
    // The other half is for the others.
    let others = fill(&mut engine, start, "good.test", 4);
    assert_eq!(others.len(), 4);
    for (id, _) in &others {
        finish(&mut engine, *id, start, Ok(()));
        assert_eq!(next(&mut engine, *id, start), None, "these places are not for the silent zone");
    }
    // So are those of a zone that answers.
    assert_eq!(begin(&mut engine, start, "one.example", 1).len(), 1);
}

#[test]
fn a_zone_that_answers_may_have_all_places_until_its_calls_last_for_long() {
    let mut engine = engine(8, Hedge::off());
    let start = Instant::now();
    let first = begin(&mut engine, start, "a.busy.test", 1)[0].0;
    let others = fill(&mut engine, start, "busy.test", 3);
    finish(&mut engine, first, start, Ok(()));
    assert_eq!(next(&mut engine, first, start), None);
    let more = (3..20).flat_map(|number| begin(&mut engine, start, &format!("{number}.busy.test"), number));
    assert_eq!(more.count() + others.len(), 8);

    // All eight have run for more than a second.
    let now = start + SECOND + Duration::from_nanos(1);
    let (id, name) = &others[0];
    assert_eq!(name, "0.busy.test");
    finish(&mut engine, *id, now, Ok(()));
    assert_eq!(next(&mut engine, *id, now), None, "seven are half of the places and more");
    assert_eq!(begin(&mut engine, now, "one.example", 1).len(), 1);
}

#[test]
fn parked_names_are_called_for_as_their_zone_has_places() {
    let mut engine = engine(4, Hedge::off());
    let start = Instant::now();
    let calls = fill(&mut engine, start, "silent.test", 5);
    assert_eq!(names(&calls), ["0.silent.test", "1.silent.test"]);
    let now = start + 5 * SECOND;
    for (number, (id, _)) in calls.iter().enumerate() {
        assert_eq!(finish(&mut engine, *id, now, Err(ErrorKind::Temporary)), [number]);
        assert_eq!(next(&mut engine, *id, now), Some(format!("{}.silent.test", number + 2)), "in their order");
    }
    // An answer opens the zone.
    assert_eq!(finish(&mut engine, calls[0].0, now, Ok(())), [2]);
    assert_eq!(next(&mut engine, calls[0].0, now).as_deref(), Some("4.silent.test"));
    assert_eq!(fill(&mut engine, now, "silent.test", 8).len(), 2);
}

#[test]
fn names_that_are_queued_make_way_when_their_zone_falls_silent() {
    let mut engine = engine(4, Hedge::off());
    let start = Instant::now();
    // Every place is taken, so all that comes now is queued.
    let zones = ["a.test", "b.test", "c.test", "d.test"];
    let calls: Vec<_> = zones.iter().flat_map(|zone| fill(&mut engine, start, zone, 1)).collect();
    assert_eq!(calls.len(), 4);
    assert_eq!(fill(&mut engine, start, "silent.test", 50).len(), 0);
    assert_eq!(begin(&mut engine, start, "one.example", 99).len(), 0);
    let mut called = Vec::new();
    for (id, _) in &calls {
        finish(&mut engine, *id, start, Ok(()));
        called.extend(next(&mut engine, *id, start));
    }
    assert_eq!(called, ["0.silent.test", "1.silent.test", "one.example"], "forty-eight names are passed by");
}

#[test]
fn an_input_passes_by_a_batch_of_names() {
    let mut engine = engine(4, Hedge::off());
    let start = Instant::now();
    let zones = ["a.test", "b.test", "c.test", "d.test"];
    let calls: Vec<_> = zones.iter().flat_map(|zone| fill(&mut engine, start, zone, 1)).collect();
    fill(&mut engine, start, "silent.test", 50);
    begin(&mut engine, start, "one.example", 99);
    let mut called = Vec::new();
    for (id, _) in &calls[..3] {
        finish(&mut engine, *id, start, Ok(()));
        loop {
            let before = engine.flights.zones.parked();
            let next = engine.take(*id, start);
            // A worker with a call looks twice: for itself, and for the next one.
            assert!(engine.flights.zones.parked() - before <= 2 * BATCH);
            match next {
                Next::Again => {}
                Next::Call { name, .. } => break called.push(name.to_string()),
                Next::Sleep { .. } | Next::Leave { .. } => panic!("nothing to call"),
            }
        }
    }
    assert_eq!(called, ["0.silent.test", "1.silent.test", "one.example"]);
    assert_eq!(engine.flights.zones.parked(), 48);
}

#[test]
fn names_of_a_silent_zone_are_refused_for_themselves() {
    let mut engine = engine(4, Hedge::off());
    let start = Instant::now();
    assert_eq!(fill(&mut engine, start, "silent.test", 102).len(), 2);
    let name = Name::parse("102.silent.test").unwrap();
    let refused = engine.ask(start, &name, 0, false);
    assert!(matches!(refused, Asked::Refused { why: ErrorKind::Overloaded, .. }));
    assert!(engine.refresh(start, &name).is_none());
    assert_eq!(begin(&mut engine, start, "one.example", 1).len(), 1);
}

#[test]
fn known_names_of_a_silent_zone_keep_their_places() {
    let mut engine = engine(4, Hedge::off());
    let start = Instant::now();
    let id = begin(&mut engine, start, "known.silent.test", 1)[0].0;
    finish(&mut engine, id, start, Ok(()));
    assert_eq!(next(&mut engine, id, start), None);
    let now = start + 2 * SECOND;
    assert_eq!(fill(&mut engine, now, "silent.test", 8).len(), 2);
    assert_eq!(begin(&mut engine, now, "known.silent.test", 2).len(), 1);
}
