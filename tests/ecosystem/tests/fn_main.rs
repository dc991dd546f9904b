//! A program without any async code, as one whose library makes connections for it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use gaiter::{CacheConfig, Resolver, Source};

static RESOLVER: LazyLock<Resolver> = LazyLock::new(|| {
    // Fresh for as long as this takes.
    Resolver::builder().cache(CacheConfig::new().ttl(Duration::from_secs(3600))).build()
});

fn greet(host: &str, port: u16) -> std::io::Result<String> {
    let addrs = RESOLVER.resolve(host).wait_timeout(Duration::from_secs(60))?;
    let mut text = String::new();
    TcpStream::connect(addrs.with_port(port))?.read_to_string(&mut text)?;
    Ok(text)
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("localhost:0")?;
    let port = listener.local_addr()?.port();
    let server = thread::spawn(move || listener.incoming().take(4).try_for_each(|stream| stream?.write_all(b"hello")));
    thread::scope(|scope| {
        let greetings: Vec<_> = (0..4).map(|_| scope.spawn(|| greet("localhost", port))).collect();
        greetings.into_iter().try_for_each(|greeting| {
            assert_eq!(greeting.join().expect("no panic")?, "hello");
            Ok::<_, std::io::Error>(())
        })
    })?;
    server.join().expect("no panic")?;

    let again = RESOLVER.resolve("LOCALHOST").wait()?;
    assert_eq!(again.source(), Source::Cache);
    let error = RESOLVER.resolve("").wait().unwrap_err();
    assert_eq!(error.kind(), gaiter::ErrorKind::InvalidName);

    let report = RESOLVER.shutdown().wait();
    assert!(report.is_clean(), "{report}");
    assert!(RESOLVER.resolve("localhost").wait().unwrap_err().is_closed());
    Ok(())
}
