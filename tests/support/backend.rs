use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "async-backend")]
use gaiter::AsyncBackend;
use gaiter::{Answer, Backend, Builder, Error, ErrorKind};

use super::gate::Gate;
use super::panics::DELIBERATE;

pub const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The kinds of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Kind {
    #[default]
    Blocking,
    #[cfg(feature = "async-backend")]
    Async,
    /// An async backend on three drivers.
    #[cfg(feature = "async-backend")]
    Drivers,
}

impl Kind {
    pub const ALL: &[Self] = &[
        Self::Blocking,
        #[cfg(feature = "async-backend")]
        Self::Async,
        #[cfg(feature = "async-backend")]
        Self::Drivers,
    ];

    /// Returns whether a call ends when nobody waits for it.
    pub fn stops(self) -> bool {
        self != Self::Blocking
    }
}

/// A backend that does what the name says: `error…` fails, `panic…` panics, `hang…` stops at the gate and then answers, and
/// everything else answers. Each call emits an event, `backend event`.
#[derive(Clone)]
pub struct Scripted {
    pub kind: Kind,
    pub gate: Gate,
    pub calls: Arc<AtomicUsize>,
    pub emits_events: bool,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { kind: Kind::default(), gate: Gate::default(), calls: Arc::default(), emits_events: true }
    }
}

impl Scripted {
    pub fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Returns a builder with this backend, no cache, and at most `calls` lookups at once.
    pub fn builder(&self, calls: usize) -> Builder {
        match self.kind {
            Kind::Blocking => super::plain().backend(self.clone()).max_lookups(calls),
            #[cfg(feature = "async-backend")]
            Kind::Async => super::plain().async_backend(self.clone()).max_lookups(calls),
            #[cfg(feature = "async-backend")]
            Kind::Drivers => super::plain().async_backend(self.clone()).driver_threads(3).max_lookups(calls),
        }
    }

    fn begin(&self, name: &str) -> Result<Answer, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.emits_events {
            tracing::info!("backend event");
        }
        match name {
            _ if name.starts_with("error") => Err(ErrorKind::NotFound.into()),
            _ if name.starts_with("panic") => std::panic::panic_any(DELIBERATE),
            _ => Ok([ADDR].into()),
        }
    }
}

impl Backend for Scripted {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        let answer = self.begin(name);
        if name.starts_with("hang") {
            self.gate.pass();
        }
        answer
    }

    fn emits_events(&self) -> bool {
        self.emits_events
    }
}

#[cfg(feature = "async-backend")]
impl AsyncBackend for Scripted {
    type Session = ();

    fn new_session(&self) {}

    fn lookup(&self, (): &(), name: &str) -> impl Future<Output = Result<Answer, Error>> + 'static {
        let (this, name) = (self.clone(), name.to_owned());
        async move {
            let answer = this.begin(&name);
            // This span belongs to the caller's subscriber, and must be dropped under it.
            let _child = this.emits_events.then(|| tracing::info_span!("child"));
            if name.starts_with("hang") {
                this.gate.passed().await;
            } else {
                // Makes the first poll pending.
                tokio::task::yield_now().await;
            }
            answer
        }
    }
}

/// Runs each of these tests with every kind of backend.
#[macro_export]
macro_rules! over_every_kind {
    ($($test:ident)*) => {
        mod blocking {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::support::backend::Kind::Blocking);
                }
            )*
        }

        #[cfg(feature = "async-backend")]
        mod asynchronous {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::support::backend::Kind::Async);
                }
            )*
        }

        #[cfg(feature = "async-backend")]
        mod on_three_drivers {
            $(
                #[test]
                fn $test() {
                    super::$test($crate::support::backend::Kind::Drivers);
                }
            )*
        }
    };
}
