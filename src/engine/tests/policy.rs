//! Tests which worker comes for which lookup, and when, case by case.

use std::collections::VecDeque;

use crate::engine::outcomes::GivenUp;
use crate::engine::*;

const IDLE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_millis(1800);

pub(super) fn name(number: usize) -> Name {
    Name::parse(&format!("n{number}")).unwrap()
}

pub(super) fn engine(max_lookups: usize) -> Engine<usize> {
    engine_with(max_lookups, 0)
}

fn engine_with(max_lookups: usize, reserved_for_known: usize) -> Engine<usize> {
    engine_of(Execution::Blocking, max_lookups, reserved_for_known)
}

pub(super) fn engine_of(execution: Execution, max_calls: usize, reserved_for_known: usize) -> Engine<usize> {
    Engine::new(
        Limits {
            execution,
            max_calls,
            reserved_for_known,
            max_queued: 1024,
            thread_keep_alive: IDLE,
            timeout: Some(TIMEOUT),
            patience: PATIENCE,
            hedge: Hedge::off(),
            schedule: Schedule { least: Duration::from_secs(1), usual: Duration::from_secs(5) },
        },
        Instant::now(),
    )
}

pub(super) fn ask(engine: &mut Engine<usize>, now: Instant, number: usize) -> (Ticket, Rouse) {
    match engine.ask(now, &name(number), number, false) {
        Asked::Waits { ticket, rouse } => (ticket, rouse),
        Asked::Refused { why, .. } => panic!("{why:?}"),
    }
}

pub(super) fn tick(engine: &mut Engine<usize>, now: Instant) -> (Vec<usize>, Rouse, Option<Instant>) {
    match engine.tick(now) {
        Tick::Sleep { expired, rouse, until, .. } => {
            (expired.into_iter().map(|expired| expired.waiter).collect(), rouse, until)
        }
        Tick::Leave => panic!("left"),
    }
}

/// Ends a worker's call, and tells its waiters. Returns those that were told.
pub(super) fn finish(
    engine: &mut Engine<usize>,
    id: WorkerId,
    now: Instant,
    result: Result<(), ErrorKind>,
) -> Vec<usize> {
    let finished = engine.finish(id, now, result);
    let mut told: Vec<usize> = finished.waiter.into_iter().collect();
    if let Some(landed) = finished.landed {
        told.extend(std::iter::from_fn(|| engine.tell(landed).waiter));
    }
    told
}

/// Makes the roused worker make one call and go to sleep.
pub(super) fn answer(engine: &mut Engine<usize>, rouse: Rouse, now: Instant) -> WorkerId {
    let Some(RouseWorker::Start(id) | RouseWorker::Wake(id)) = rouse.worker else { panic!("nobody comes") };
    assert!(matches!(engine.take(id, now), Next::Call { .. }));
    _ = finish(engine, id, now, Ok(()));
    assert!(matches!(engine.take(id, now), Next::Sleep { .. }));
    id
}

/// Makes every roused worker arrive and hang in its call. Returns how many came.
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
    let (_, first) = ask(&mut engine, start, 0);
    for number in 1..200 {
        assert_eq!(ask(&mut engine, start, number).1, Rouse::default(), "one on the way is enough");
    }
    assert_eq!(hang_all(&mut engine, first, start), 64);

    let (_, rouse, until) = tick(&mut engine, start);
    assert_eq!((until, rouse), (Some(start + Duration::from_millis(20)), Rouse::default()));
    let late = start + Duration::from_millis(20);
    let (_, rouse, _) = tick(&mut engine, late);
    assert_eq!(hang_all(&mut engine, rouse, late), 136, "nothing has come of any of them");
}

/// Asks for 1,000 names at once. Returns the workers that come. Each has begun a call.
fn all_busy(engine: &mut Engine<usize>, now: Instant) -> VecDeque<WorkerId> {
    let (_, mut rouse) = ask(engine, now, 0);
    for number in 1..1000 {
        _ = ask(engine, now, number);
    }
    let mut busy = VecDeque::new();
    while let Some(RouseWorker::Start(id)) = rouse.worker {
        let Next::Call { rouse: next, .. } = engine.take(id, now) else { panic!("no call") };
        busy.push_back(id);
        rouse = next;
    }
    busy
}

#[test]
fn replies_that_hang_are_made_up_for_though_a_call_goes_on() {
    let mut engine = engine(512);
    let start = Instant::now();
    let mut busy = all_busy(&mut engine, start);
    let last = busy.pop_back().expect("someone came");
    // The others never come back, because a waker blocks them.
    busy.into_iter().for_each(|id| _ = finish(&mut engine, id, start, Ok(())));
    let mut came = 0;
    for step in 1..10 {
        let now = start + Duration::from_millis(10 * step);
        _ = finish(&mut engine, last, now, Ok(()));
        let Next::Call { rouse, .. } = engine.take(last, now) else { panic!("no call") };
        came += hang_all(&mut engine, rouse, now);
    }
    assert!(came > 0, "nobody came for those who wait behind replies that hang");
}

#[test]
fn no_thread_comes_for_a_long_queue_that_moves() {
    let mut engine = engine(512);
    let start = Instant::now();
    let mut busy = all_busy(&mut engine, start);
    assert_eq!(busy.len(), 64);
    // Each call takes 6.4 ms.
    for step in 1..500 {
        let now = start + Duration::from_micros(100 * step);
        let id = busy.pop_front().expect("all are busy");
        _ = finish(&mut engine, id, now, Ok(()));
        assert_eq!(tick(&mut engine, now).1.worker, None, "a thread while the next call is a moment away");
        let Next::Call { rouse, .. } = engine.take(id, now) else { panic!("no call") };
        assert_eq!(rouse.worker, None, "one more thread after {step} calls");
        busy.push_back(id);
    }

    // From now on half of them hang. Further threads make up for these, although the other half goes on.
    let mut more = 0;
    for step in 50..100 {
        let now = start + Duration::from_millis(step);
        busy.rotate_left(1);
        let id = busy.pop_front().expect("many are busy");
        _ = finish(&mut engine, id, now, Ok(()));
        let Next::Call { rouse, .. } = engine.take(id, now) else { panic!("no call") };
        more += hang_all(&mut engine, rouse, now);
    }
    assert!(more > 0, "nobody came for those who wait behind the ones that hang");
}

#[test]
fn the_bound_on_threads_holds_and_the_queue_moves_on_when_one_is_free() {
    let mut engine = engine(2);
    let now = Instant::now();
    let (_, first) = ask(&mut engine, now, 0);
    for number in 1..5 {
        _ = ask(&mut engine, now, number);
    }
    let Some(RouseWorker::Start(worker)) = first.worker else { panic!("not started") };
    let Next::Call { rouse, .. } = engine.take(worker, now) else { panic!("no call") };
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    let later = now + TIMEOUT / 2;
    assert_eq!(tick(&mut engine, later), (vec![], Rouse::default(), Some(now + TIMEOUT)));

    assert_eq!(finish(&mut engine, worker, later, Ok(())), [0]);
    assert!(matches!(engine.take(worker, later), Next::Call { name, .. } if name.as_str() == "n2"));
}

#[test]
fn the_most_recently_idle_is_woken_first() {
    let mut engine = engine(8);
    let now = Instant::now();
    let (_, mut rouse) = ask(&mut engine, now, 0);
    _ = ask(&mut engine, now, 1);
    let mut workers = Vec::new();
    while let Some(RouseWorker::Start(id)) = rouse.worker {
        let Next::Call { rouse: next, .. } = engine.take(id, now) else { panic!("no call") };
        workers.push(id);
        rouse = next;
    }
    for &id in &workers {
        _ = finish(&mut engine, id, now, Ok(()));
        assert!(matches!(engine.take(id, now), Next::Sleep { .. }));
    }
    assert_eq!(ask(&mut engine, now, 2).1.worker, workers.last().map(|&id| RouseWorker::Wake(id)));
}

#[test]
fn a_refusal_with_others_alive_is_tried_again_at_a_tick() {
    let mut engine = engine(8);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    let (_, rouse) = ask(&mut engine, now, 1);
    assert!(matches!(rouse.worker, Some(RouseWorker::Start(_))));

    engine.worker_refused(now);
    assert_eq!(engine.strand().waiters, [0; 0], "the one alive may still come for it");
    assert_eq!(engine.rouse(now).worker, None, "not at once");
    let (_, _, retry) = tick(&mut engine, now);
    let retry = retry.expect("a retry");
    assert!(retry < now + Duration::from_secs(1));
    let (_, rouse, _) = tick(&mut engine, retry);
    assert_eq!(hang_all(&mut engine, rouse, retry), 1);
}

#[test]
fn threads_are_kept_for_names_that_have_answered() {
    let mut engine = engine_with(8, 2);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    answer(&mut engine, rouse, now);

    let (_, rouse) = ask(&mut engine, now, 1);
    (2..20).for_each(|number| _ = ask(&mut engine, now, number));
    assert_eq!(hang_all(&mut engine, rouse, now), 6, "new names have all threads but two");
    let (_, rouse) = ask(&mut engine, now, 0);
    answer(&mut engine, rouse, now);
}

/// Asserts that the call that hangs takes one of the two places for new names when the timekeeper has come twice, from `now` on.
fn assert_demoted_after(engine: &mut Engine<usize>, now: Instant) {
    let (_, _, next) = tick(engine, now);
    let late = next.expect("a look at the call");
    _ = tick(engine, late);
    let (_, rouse) = ask(engine, late, 1);
    assert_eq!(hang_all(engine, rouse, late), 1);
    assert_eq!(ask(engine, late, 2).1.worker, None, "the third thread is kept");
}

#[test]
fn a_known_name_that_times_out_is_known_no_longer() {
    let mut engine = engine_with(3, 1);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    answer(&mut engine, rouse, start);

    // Its call hangs as that of a known name, and counts as that of a new one after the timeout.
    let (_, rouse) = ask(&mut engine, start, 0);
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    assert_demoted_after(&mut engine, start + TIMEOUT);
}

#[test]
fn nor_is_one_whose_callers_have_left_before_their_time() {
    let mut engine = engine_with(3, 1);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    answer(&mut engine, rouse, start);
    let (ticket, rouse) = ask(&mut engine, start, 0);
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    assert_eq!(engine.leave(ticket, start).waiter, Some(0));
    assert_demoted_after(&mut engine, start);
}

#[test]
fn a_name_that_answers_again_is_known_though_one_call_for_it_still_hangs() {
    let mut engine = engine_with(4, 1);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    let late = start + TIMEOUT + Duration::from_millis(1);
    let (_, rouse) = ask(&mut engine, late, 0);
    answer(&mut engine, rouse, late);

    // New names take all threads they may have, and this name gets the reserved one.
    let (_, rouse) = ask(&mut engine, late, 1);
    (2..9).for_each(|number| _ = ask(&mut engine, late, number));
    assert_eq!(hang_all(&mut engine, rouse, late), 2);
    let (_, rouse) = ask(&mut engine, late, 0);
    answer(&mut engine, rouse, late);
}

#[test]
fn the_queue_is_of_those_for_whom_no_thread_is_left() {
    let mut engine = engine_with(4, 1);
    engine.limits.max_queued = 0;
    let now = Instant::now();
    for number in 0..3 {
        _ = ask(&mut engine, now, number);
    }
    assert!(matches!(engine.ask(now, &name(3), 3, false), Asked::Refused { why: ErrorKind::Overloaded, .. }));
}

#[test]
fn a_call_that_is_stuck_gets_a_second_and_no_third() {
    let mut engine = engine(8);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    let Some(RouseWorker::Start(first)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    assert_eq!(ask(&mut engine, start + TIMEOUT, 0).1.worker, None, "not stuck yet");

    let late = start + TIMEOUT + Duration::from_millis(1);
    let (_, rouse) = ask(&mut engine, late, 0);
    assert_eq!(hang_all(&mut engine, rouse, late), 1, "a second call");
    let later = late + TIMEOUT + Duration::from_millis(1);
    assert_eq!(ask(&mut engine, later, 0).1.worker, None, "both are stuck");

    // A failure is not told while the other call may still answer.
    assert_eq!(finish(&mut engine, first, later, Err(ErrorKind::Temporary)), [0; 0]);
}

#[test]
fn the_first_of_two_calls_to_answer_answers_everyone() {
    let mut engine = engine(8);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    let Some(RouseWorker::Start(first)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    let late = start + TIMEOUT + Duration::from_millis(1);
    let (_, rouse) = ask(&mut engine, late, 0);
    let Some(RouseWorker::Start(second)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, late), 1);
    assert_eq!(finish(&mut engine, first, late, Ok(())), [0, 0]);
    assert_eq!(finish(&mut engine, second, late, Ok(())), [0; 0]);
    assert!(engine.flights.is_empty());
}

#[test]
fn one_who_can_make_do_waits_no_longer_than_that() {
    let mut engine = engine(8);
    let start = Instant::now();
    let Asked::Waits { rouse, .. } = engine.ask(start, &name(0), 7, true) else { panic!("refused") };
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    _ = ask(&mut engine, start, 0);
    let Tick::Sleep { expired, .. } = engine.tick(start + PATIENCE) else { panic!("left") };
    let [Expired { waiter: 7, relief: true, .. }] = &expired[..] else { panic!("{expired:?}") };
    let stats = engine.stats(start);
    assert_eq!((stats.answered, stats.timed_out), (1, 0));
    assert!(engine.is_slow(start + PATIENCE, &name(0)));
    assert!(!engine.is_slow(start + PATIENCE - Duration::from_nanos(1), &name(0)));
    // It is still slow while a second call is tried.
    let late = start + TIMEOUT + Duration::from_millis(1);
    let rouse = engine.refresh(late, &name(0)).expect("there is room");
    assert_eq!(hang_all(&mut engine, rouse, late), 1);
    assert!(engine.is_slow(late, &name(0)));
}

#[test]
fn what_was_asked_before_a_flush_is_for_those_who_asked() {
    for flushed in [Some(name(0)), None] {
        let mut engine = engine(8);
        let now = Instant::now();
        let (_, rouse) = ask(&mut engine, now, 0);
        let Some(RouseWorker::Start(first)) = rouse.worker else { panic!("not started") };
        assert_eq!(hang_all(&mut engine, rouse, now), 1);
        _ = match &flushed {
            Some(name) => engine.flush_name(name),
            None => engine.flush(),
        };

        let (_, rouse) = ask(&mut engine, now, 0);
        let Some(RouseWorker::Start(second)) = rouse.worker else { panic!("no call of its own") };
        assert_eq!(hang_all(&mut engine, rouse, now), 1);
        assert_eq!((engine.is_cacheable(first), engine.is_cacheable(second)), (false, true));
        assert_eq!(finish(&mut engine, first, now, Ok(())).len(), 1);
        let (_, joined) = ask(&mut engine, now, 0);
        assert_eq!(joined.worker, None, "the flight after the flush is there to be joined");
        assert_eq!(finish(&mut engine, second, now, Ok(())).len(), 2);
        assert!(engine.flights.is_empty());
    }
}

#[test]
fn deadlines_cost_no_more_than_those_who_wait() {
    let mut engine = engine(2);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    for _ in 0..10_000 {
        let (ticket, _) = ask(&mut engine, now, 0);
        assert_eq!(engine.leave(ticket, now).waiter, Some(0));
        assert_eq!(engine.flights.deadlines(), 1);
    }
}

/// A future is dropped when its last caller leaves, and so before it has run for longer than the timeout.
#[test]
fn a_known_name_whose_call_was_stopped_while_it_hung_is_known_no_longer() {
    for leaves in [true, false] {
        let mut engine = engine_of(Execution::Async, 2, 1);
        let mut then = Instant::now();
        let (_, rouse) = ask(&mut engine, then, 1);
        let id = answer(&mut engine, rouse, then);
        for (hangs, known) in [(Duration::from_millis(1), true), (TIMEOUT, false)] {
            let (ticket, _) = ask(&mut engine, then, 1);
            assert!(matches!(engine.woke(id, then), Next::Call { .. }));
            then += hangs;
            match leaves || known {
                true => assert_eq!(engine.leave(ticket, then).stopped, [id]),
                false => assert_eq!(tick(&mut engine, then).0, [1]),
            }
            assert!(engine.is_stopped(id));
            assert_eq!(engine.lane_of(engine.hashed(&name(1)).hash) == Lane::Known, known, "after {hangs:?}");
            assert!(matches!(engine.take(id, then), Next::Sleep { .. }));
        }
    }
}

#[test]
fn the_timekeeper_is_not_woken_for_when_it_comes_anyway() {
    let mut engine = engine(1);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    assert_eq!(rouse.timekeeper, Some(RouseTimekeeper::Start));
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    assert_eq!(tick(&mut engine, now).2, Some(now + TIMEOUT));
    assert_eq!(ask(&mut engine, now, 1).1, Rouse::default());
    assert_eq!(ask(&mut engine, now - Duration::from_nanos(1), 2).1, Rouse::default(), "that counts as now");
    let Asked::Waits { rouse, .. } = engine.ask(now, &name(3), 3, true) else { panic!("refused") };
    assert_eq!(rouse.timekeeper, Some(RouseTimekeeper::Wake));
}

#[test]
fn a_timekeeper_that_is_refused_costs_no_thread() {
    let mut engine = engine(1);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    let (_, rouse) = ask(&mut engine, now, 1);
    assert_eq!(rouse.worker, None);
    engine.timekeeper_refused(None);
    assert_eq!(engine.strand().waiters, [1]);
    assert_eq!(engine.stats(now).threads, 1);
}

#[test]
fn no_worker_comes_for_a_name_whose_last_waiter_was_cancelled() {
    let mut engine = engine(1);
    let now = Instant::now();
    let rouses: Vec<_> = (0..BATCH).map(|_| ask(&mut engine, now, 0).1).collect();
    let Some(RouseWorker::Start(worker)) = rouses[0].worker else { panic!("a worker for the first") };
    _ = engine.close();
    let Batch { waiters, more } = engine.abort_queued();
    assert_eq!((waiters.len(), more), (BATCH, true));
    assert!(matches!(engine.take(worker, now), Next::Leave { .. }), "a call for nobody");
}

#[test]
fn two_who_give_up_at_once_leave_no_waiter_behind() {
    let mut engine = engine_of(Execution::Async, 8, 0);
    let now = Instant::now();
    for number in 0..=BATCH {
        let (_, rouse) = ask(&mut engine, now, number);
        assert_eq!(hang_all(&mut engine, rouse, now), 1);
    }
    _ = engine.close();
    let GivenUp { stopped, .. } = engine.give_up(now);
    assert_eq!(stopped.len(), BATCH + 1);
    let mut told = engine.abort_running().waiters;
    stopped.into_iter().for_each(|worker| _ = engine.take(worker, now));
    _ = engine.give_up(now);
    told.extend(std::iter::repeat_with(|| engine.abort_running().waiters).take(BATCH).flatten());
    told.sort_unstable();
    assert_eq!(told, Vec::from_iter(0..=BATCH));
}

/// Tests a name without waiters that is queued for the only worker, which a hanging call for the same name holds.
#[test]
fn a_call_that_can_be_stopped_is_not_kept_for_a_refresh_that_waits_for_it() {
    for refreshed in [true, false] {
        let mut engine = engine_of(Execution::Async, 1, 0);
        let start = Instant::now();
        let (ticket, rouse) = ask(&mut engine, start, 0);
        let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("not started") };
        assert_eq!(hang_all(&mut engine, rouse, start), 1);
        // A second call is queued, and there is no worker for it.
        let late = start + TIMEOUT + Duration::from_millis(1);
        let left = if refreshed {
            assert!(engine.refresh(late, &name(0)).is_some());
            engine.leave(ticket, late).stopped
        } else {
            let Asked::Waits { .. } = engine.ask(late, &name(0), 1, true) else { panic!("refused") };
            let Tick::Sleep { stopped, .. } = engine.tick(late + PATIENCE) else { panic!("left") };
            stopped
        };
        assert_eq!(left, [], "its answer is wanted");
        let Tick::Sleep { stopped, .. } = engine.tick(late + 2 * TIMEOUT) else { panic!("left") };
        assert_eq!(stopped, [id]);
    }
}

/// After its call, a thread may still tell waiters, whose wakers take time.
#[test]
fn a_place_is_taken_only_while_a_call_runs() {
    let mut engine = engine(1);
    engine.limits.max_queued = 0;
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    assert_eq!(finish(&mut engine, id, now, Ok(())), [0]);
    _ = ask(&mut engine, now, 1);

    let mut engine = engine_of(Execution::Async, 1, 0);
    engine.limits.max_queued = 0;
    let (ticket, rouse) = ask(&mut engine, now, 0);
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    assert_eq!(engine.leave(ticket, now).stopped.len(), 1);
    _ = ask(&mut engine, now, 1);
}

/// The waker of the first waiter may block the thread that tells the others.
#[test]
fn those_who_are_to_be_told_keep_their_deadlines() {
    let mut engine = engine(1);
    let start = Instant::now();
    let (_, rouse) = ask(&mut engine, start, 0);
    let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, start), 1);
    for _ in 0..10 {
        assert!(matches!(engine.ask(start, &name(0), 7, false), Asked::Waits { .. }));
    }
    let landed = engine.finish(id, start, Ok(())).landed.expect("several wait");
    assert_eq!(engine.tell(landed).waiter, Some(0));
    // The first was told just now.
    let mut now = start + Duration::from_millis(20);
    assert_eq!(tick(&mut engine, now).0, [0; 0]);
    let mut told = Vec::new();
    now += Duration::from_millis(20);
    while told.len() < 10 {
        let (some, _, until) = tick(&mut engine, now);
        assert!(some.len() <= BATCH && (told.len() + some.len() == 10 || until.is_some_and(|until| until <= now)));
        told.extend(some);
    }
    assert_eq!(engine.tell(landed).waiter, None);
    assert_eq!(engine.flights.deadlines(), 0);
    assert_eq!(engine.stats(now).timed_out, 0, "they have a result");
}

#[test]
fn what_a_later_call_has_said_stands() {
    for (later, stands) in
        [(Err(ErrorKind::NotFound), true), (Err(ErrorKind::Denied), true), (Err(ErrorKind::Temporary), false)]
    {
        let mut engine = engine(8);
        let start = Instant::now();
        let (_, rouse) = ask(&mut engine, start, 0);
        let Some(RouseWorker::Start(first)) = rouse.worker else { panic!("not started") };
        assert_eq!(hang_all(&mut engine, rouse, start), 1);
        let late = start + TIMEOUT + Duration::from_millis(1);
        let (_, rouse) = ask(&mut engine, late, 0);
        let Some(RouseWorker::Start(second)) = rouse.worker else { panic!("not started") };
        assert_eq!(hang_all(&mut engine, rouse, late), 1);
        assert!(engine.is_cacheable(second));
        assert_eq!(finish(&mut engine, second, late, later).len(), if stands { 2 } else { 0 });
        assert_eq!(engine.is_cacheable(first), !stands);
    }
}

#[test]
fn a_flush_leaves_no_refresh_in_the_queue() {
    for all in [true, false] {
        let mut engine = engine(1);
        let now = Instant::now();
        let (_, rouse) = ask(&mut engine, now, 0);
        assert_eq!(hang_all(&mut engine, rouse, now), 1);
        for number in 1..=10 {
            assert!(engine.refresh(now, &name(number)).is_some());
        }
        _ = if all { engine.flush() } else { engine.flush_name(&name(1)) };
        // A refresh after the flush stays.
        assert!(engine.refresh(now, &name(99)).is_some());
        while engine.sweep().more {}
        assert_eq!(engine.stats(now).queued, if all { 1 } else { 10 });
    }
}

#[test]
fn the_place_of_a_thread_is_free_when_it_has_ended() {
    let mut engine = engine(1);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("not started") };
    assert_eq!(hang_all(&mut engine, rouse, now), 1);
    _ = finish(&mut engine, id, now, Err(ErrorKind::System));
    assert_eq!(engine.retire(id, now).worker, None);
    assert_eq!(ask(&mut engine, now, 1).1.worker, None, "it is still ending");
    assert_eq!(engine.stats(now).threads, 1);
    engine.forget(id);
    assert!(matches!(engine.rouse(now).worker, Some(RouseWorker::Start(_))));
}
