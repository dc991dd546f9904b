//! Tests what becomes of calls and threads when a worker, the driver or the timekeeper is lost.

#[cfg(feature = "async-backend")]
use super::policy::answer;
use super::policy::{ask, engine, engine_of, finish, tick};
use crate::engine::*;

#[test]
fn a_worker_that_is_lost_in_its_call_leaves_no_call_behind() {
    for execution in [Execution::Blocking, Execution::Async] {
        let mut engine = engine_of(execution, 1, 0);
        let now = Instant::now();
        let (_, rouse) = ask(&mut engine, now, 0);
        let Some(RouseWorker::Start(id)) = rouse.worker else { panic!("nobody comes") };
        assert!(matches!(engine.take(id, now), Next::Call { .. }));
        // A guard ends the call, as it would for a panic. What ends after that is the worker.
        assert_eq!(finish(&mut engine, id, now, Err(ErrorKind::Panicked)), [0]);
        engine.forget(id);
        assert_eq!((engine.stats(now).running, engine.give_up(now).abandoned), (0, Vec::new()));
        let (_, rouse) = ask(&mut engine, now, 1);
        assert!(matches!(rouse.worker, Some(RouseWorker::Start(_))), "its place is free");
    }
}

#[test]
fn a_timekeeper_that_is_lost_is_started_again() {
    let mut engine = engine(1);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    assert_eq!(rouse.timekeeper, Some(RouseTimekeeper::Start));
    _ = tick(&mut engine, now);
    engine.timekeeper_lost();
    assert_eq!(engine.rouse(now).timekeeper, Some(RouseTimekeeper::Start));
}

#[cfg(feature = "async-backend")]
#[test]
fn the_workers_of_a_driver_that_is_lost_are_made_up_for() {
    let mut engine = engine_of(Execution::Async, 4, 0);
    let now = Instant::now();
    let (_, rouse) = ask(&mut engine, now, 0);
    answer(&mut engine, rouse, now);
    assert!(!engine.has_no_worker());
    assert_eq!(engine.driver_lost(now).worker, None, "there is nothing to do");
    assert!(engine.has_no_worker());
    let (_, rouse) = ask(&mut engine, now, 1);
    assert!(matches!(rouse.worker, Some(RouseWorker::Start(_))), "nobody sleeps any more");
}
