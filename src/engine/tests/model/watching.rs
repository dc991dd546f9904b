//! How the model watches names.

use super::*;
use crate::engine::outcomes::{Unwatched, Watching};

/// How long answers last, in turn.
const LASTS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(3), SCHEDULE.usual, Duration::from_secs(10)];

/// A watched name.
pub(super) struct Watched {
    id: WatchId,
    watchers: u32,
    state: State,
    /// When the timekeeper comes for it, at the earliest and at the latest.
    due: [Instant; 2],
    retry: Duration,
    most: Duration,
    /// Whether it has heard of an answer.
    pub(super) has_heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Asking,
    Lost,
}

impl Watched {
    fn fail(&mut self, now: Instant) {
        self.state = State::Idle;
        self.due = range(now, self.retry);
        self.retry = (self.retry * 2).min(self.most);
    }

    /// Notes that it asks at the next tick. Some inputs have no time, so it may be due since the `latest` one that had.
    fn ask_at_once(&mut self, latest: Instant, now: Instant, state: State) {
        (self.state, self.due) = (state, [latest, now]);
    }
}

/// Returns from when to when a time ends to which up to a tenth is added.
fn range(now: Instant, time: Duration) -> [Instant; 2] {
    [now + time, now + time + time / 10]
}

impl Model {
    pub(super) fn watch(&mut self, name: u8) {
        let watching = self.input(|engine, now| engine.add_watcher(now, Some(&shell::text(name))));
        assert_eq!(watching.is_none(), self.closed.is_some(), "watched after close");
        let Some(Watching { watch: id, timekeeper }) = watching else { return };
        let now = self.now();
        let new = || Watched {
            id,
            watchers: 0,
            state: State::Idle,
            due: [now, now],
            retry: SCHEDULE.least,
            most: SCHEDULE.usual,
            has_heard: false,
        };
        let watched = self.watched.entry(name).or_insert_with(new);
        watched.watchers += 1;
        assert_eq!(watched.id, id, "all watchers of a name have one schedule");
        self.rouse_timekeeper(timekeeper);
    }

    pub(super) fn unwatch(&mut self, name: u8) {
        let Some(watched) = self.watched.get_mut(&name) else { return };
        watched.watchers -= 1;
        let (id, is_last) = (watched.id, watched.watchers == 0);
        let Unwatched { is_over, timekeeper } = self.input(|engine, _| engine.remove_watcher(id));
        assert_eq!(is_over, is_last);
        if is_over {
            self.watched.remove(&name);
            assert!(!self.input(|engine, _| engine.remove_watcher(id)).is_over, "ended twice");
        }
        self.rouse_timekeeper(timekeeper);
    }

    pub(super) fn unwatch_all(&mut self) {
        while let Some(&name) = self.watched.keys().next() {
            self.unwatch(name);
        }
    }

    /// Returns how long the next answer lasts.
    pub(super) fn lasts(&self) -> Duration {
        LASTS[self.last as usize % LASTS.len()]
    }

    /// Checks whether a call that ends has news for watchers, and notes them.
    pub(super) fn hear(
        &mut self,
        flight: Flight,
        is_last_word: bool,
        result: Result<(), ErrorKind>,
        news: Option<News>,
    ) {
        let another = self.queued.contains_key(&flight) || self.calls(flight).len() > 1;
        let is_final = result != Err(ErrorKind::Temporary) || !another;
        let (now, lasts) = (self.now(), self.lasts().max(SCHEDULE.least));
        let watched = self.watched.get_mut(&flight.name).filter(|_| is_last_word && is_final);
        assert_eq!(news.map(|news| news.watch), watched.as_ref().map(|watched| watched.id), "news of {flight:?}");
        let (Some(news), Some(watched)) = (news, watched) else { return };
        match result {
            Ok(()) => {
                (watched.state, watched.due) = (State::Idle, range(now, lasts));
                (watched.most, watched.retry, watched.has_heard) = (lasts, SCHEDULE.least, true);
            }
            Err(_) => watched.fail(now),
        }
        self.count_news(news);
    }

    fn count_news(&mut self, news: News) {
        assert!(news.number > self.last_news, "news out of order");
        self.last_news = news.number;
    }

    /// Notes that the flight of a name is over, if it is. A watch that waits for it asks again.
    pub(super) fn lose(&mut self, flight: Flight, has_error: bool) {
        let (latest, now, is_over) =
            (self.engine.latest, self.now(), !self.is_sought(flight) && !self.is_waited_for(flight));
        let is_current = flight == self.flight(flight.name) && is_over;
        if let Some(watched) = self.watched.get_mut(&flight.name).filter(|_| is_current) {
            if watched.state == State::Asking {
                watched.ask_at_once(latest, now, if has_error { State::Lost } else { State::Idle });
            }
        }
    }

    /// Notes that the engine has told these watches of a flush, or of the end.
    pub(super) fn sweep_watches(&mut self, swept: Vec<News>, is_swept: impl Fn(u8) -> bool) {
        let (latest, now) = (self.engine.latest, self.now());
        let ids: BTreeSet<WatchId> = swept.iter().map(|news| news.watch).collect();
        swept.into_iter().for_each(|news| self.count_news(news));
        let theirs = self.watched.iter_mut().filter(|(name, _)| is_swept(**name));
        let expected: BTreeSet<WatchId> = theirs
            .map(|(_, watched)| {
                watched.ask_at_once(latest, now, State::Idle);
                watched.id
            })
            .collect();
        assert_eq!(ids, expected, "who hears of it");
        if self.closed.is_some() {
            self.watched.clear();
        }
    }

    /// Notes what the timekeeper did for watches that were due.
    pub(super) fn seek(&mut self, unheard: Vec<(News, ErrorKind)>) {
        let now = self.now();
        let mut failed: BTreeMap<WatchId, ErrorKind> = unheard.iter().map(|(news, why)| (news.watch, *why)).collect();
        assert_eq!(failed.len(), unheard.len(), "one failure each");
        unheard.into_iter().for_each(|(news, _)| self.count_news(news));
        let mut maybe_queued = Vec::new();
        for name in 0..NAMES {
            let flight = self.flight(name);
            let Some(watched) = self.watched.get_mut(&name).filter(|watched| watched.due[0] <= now) else { continue };
            // The engine alone knows the very moment.
            if self.engine.watches.due_of(watched.id).is_some_and(|due| due > now && watched.due.contains(&due)) {
                continue;
            }
            if let Some(why) = failed.remove(&watched.id) {
                let expected = match watched.state {
                    State::Idle => ErrorKind::Overloaded,
                    State::Asking => ErrorKind::Timeout,
                    State::Lost => ErrorKind::ThreadRefused,
                };
                assert_eq!(why, expected);
                watched.fail(now);
                continue;
            }
            let is_asking = self.engine.watches.is_asking(watched.id);
            if watched.state == State::Idle && is_asking {
                (watched.state, watched.due) = (State::Asking, [now + TIMEOUT; 2]);
                let lane = self.engine_flight(flight).and_then(|id| self.engine.flights.lane(id));
                if self.kept.contains(&flight) {
                    maybe_queued.push(flight);
                }
                if lane == Some(Lane::Refresh) && !self.queued.contains_key(&flight) {
                    assert!(self.wants_call(flight), "beside a call that is coming");
                    self.counted.refreshed += 1;
                    self.enqueue(flight, Lane::Refresh, now);
                }
                assert!(!self.wants_call(flight), "no call is coming for {flight:?}");
            }
        }
        // Further lookups that were counted are for flights that were not kept in the background after all.
        while self.engine.stats(now).refreshed > self.counted.refreshed {
            let flight = maybe_queued.pop().expect("a lookup that no watch has asked for");
            self.queued.remove(&flight);
            self.counted.refreshed += 1;
            self.enqueue(flight, Lane::Refresh, now);
        }
        self.kept.clear();
        assert!(failed.is_empty(), "failures of watches that were not due: {failed:?}");
    }

    /// Checks what holds of watches after every step.
    pub(super) fn check_watches(&self, comes_by: impl Fn(Instant) -> bool) {
        for (name, watched) in &self.watched {
            let due = self.engine.watches.due_of(watched.id).expect("it is always due some time");
            let from_now = |at: Instant| at.saturating_duration_since(self.now());
            let [early, late] = watched.due;
            assert!(
                (early..=late).contains(&due),
                "{name} is {:?}, and due in {:?}, not {:?} to {:?}",
                watched.state,
                from_now(due),
                from_now(early),
                from_now(late),
            );
            assert!(comes_by(due) || self.is_keeper_refused, "nobody comes for a watch: {:?}", self.keeper);
            let is_asking = watched.state == State::Asking;
            assert_eq!(self.engine.watches.is_asking(watched.id), is_asking, "{name}");
            assert!(!is_asking || self.is_sought(self.flight(*name)), "{name} waits for nothing");
        }
        assert_eq!(self.engine.watches.is_empty(), self.watched.is_empty());
    }
}
