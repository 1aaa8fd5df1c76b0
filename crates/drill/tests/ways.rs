//! The two ways of a platform: from clients to containers, and from containers to the bucket.
#![allow(clippy::unwrap_used, reason = "tests")]

use drill::proxy::{Backend, Proxy};
use drill::wire::{Way, Weather, Wire};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Answers each connection's first bytes with its own name in front.
async fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                let count = stream.read(&mut bytes).await.unwrap_or(0);
                let _ = stream.write_all(&[name.as_bytes(), &bytes[..count]].concat()).await;
            });
        }
    });
    address
}

/// Says `words` and reads to the end; empty when the connection was cut.
async fn ask(address: SocketAddr, words: &str) -> String {
    let mut heard = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(address).await {
        let _ = stream.write_all(words.as_bytes()).await;
        let _ = stream.read_to_end(&mut heard).await;
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn the_router_sends_clients_in_turns_to_those_who_have_traffic_and_cuts_them_when_nobody_has() {
    let (one, two) = (Backend::new(echo("one ").await), Backend::new(echo("two ").await));
    let proxy = Proxy::start().await.unwrap();
    assert_eq!(ask(proxy.address, "hello").await, "");
    proxy.route(vec![one.clone(), two.clone()]);
    let mut heard = [ask(proxy.address, "a").await, ask(proxy.address, "a").await];
    heard.sort();
    assert_eq!(heard, ["one a", "two a"]);
    proxy.route(vec![two]);
    for _ in 0..3 {
        assert_eq!(ask(proxy.address, "b").await, "two b");
    }
    proxy.route(vec![Backend::new("127.0.0.1:1".parse().unwrap())]);
    assert_eq!(ask(proxy.address, "c").await, "", "nobody listens there");
}

#[tokio::test]
async fn the_way_to_the_bucket_is_fair_slow_or_down() {
    let wire = Wire::start(Way::To(echo("").await.to_string())).await.unwrap();
    assert_eq!(ask(wire.address, "hello").await, "hello");
    let delay = Duration::from_millis(80);
    wire.set(Weather::Slow(delay));
    let begun = Instant::now();
    assert_eq!(ask(wire.address, "hello").await, "hello");
    assert!(begun.elapsed() >= delay * 2, "there and back: {:?}", begun.elapsed());
    wire.set(Weather::Down);
    assert_eq!(ask(wire.address, "hello").await, "");
    wire.set(Weather::Fair);
    let mut open = TcpStream::connect(wire.address).await.unwrap();
    open.write_all(b"h").await.unwrap();
    let mut byte = [0; 1];
    open.read_exact(&mut byte).await.unwrap();
    wire.set(Weather::Down);
    assert!(!matches!(open.read(&mut byte).await, Ok(1)), "an open connection is cut as well");
}

#[tokio::test]
async fn a_bucket_behind_tls_is_reached_by_connect() {
    let target = echo("there ").await;
    let wire = Wire::start(Way::Connect).await.unwrap();
    let mut stream = TcpStream::connect(wire.address).await.unwrap();
    stream
        .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = [0; 26];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 Connected\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "there hello");
    assert_eq!(ask(wire.address, "GET / HTTP/1.1\r\n\r\n").await, "", "only CONNECT goes through");
}
