//! A collector of spans, which speaks OTLP over HTTP.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::oneshot;

/// A collector on a port of loopback, on a thread of its own until it is dropped. It also answers `GET /`.
pub struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<Span>>>,
    end: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = listen();
        let port = port_of(&listener);
        let spans = Arc::default();
        let router = router(Arc::clone(&spans));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("no wait");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.expect("a server"),
                    _ = stopped => {}
                }
            });
        });
        Self { port, spans, end: Some((stop, thread)) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the spans that have arrived, in order.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("no panic").clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.end.take() {
            drop(stop);
            _ = thread.join();
        }
    }
}

fn router(spans: Arc<Mutex<Vec<Span>>>) -> Router {
    let collect = async move |body: Bytes| {
        let Ok(request) = ExportTraceServiceRequest::decode(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        spans.lock().expect("no panic").extend(scopes.flat_map(|scope| scope.spans));
        StatusCode::OK
    };
    Router::new().route("/v1/traces", post(collect)).route("/", get(async || "hello"))
}

/// Returns a listener on a free port of loopback. Nothing answers there, but connections are made.
pub fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

pub fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

/// Returns how long a span lasted.
pub fn duration(span: &Span) -> Duration {
    Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano)
}
