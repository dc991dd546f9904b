use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gaiter::{Answer, Backend, Error, ErrorKind};

use super::gate::Gate;
use super::panics::DELIBERATE;

pub const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A backend that does what the name says: `error…` fails, `panic…` panics, `hang…` stops at the gate and then answers, and
/// everything else answers. Each call emits an event, `backend event`.
#[derive(Clone)]
pub struct Scripted {
    pub gate: Gate,
    pub calls: Arc<AtomicUsize>,
    pub emits_events: bool,
}

impl Default for Scripted {
    fn default() -> Self {
        Self { gate: Gate::default(), calls: Arc::default(), emits_events: true }
    }
}

impl Scripted {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Backend for Scripted {
    fn lookup(&self, name: &str) -> Result<Answer, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.emits_events {
            tracing::info!("backend event");
        }
        match name {
            _ if name.starts_with("error") => Err(ErrorKind::NotFound.into()),
            _ if name.starts_with("panic") => std::panic::panic_any(DELIBERATE),
            _ if name.starts_with("hang") => {
                self.gate.pass();
                Ok([ADDR].into())
            }
            _ => Ok([ADDR].into()),
        }
    }

    fn emits_events(&self) -> bool {
        self.emits_events
    }
}
