//! `-ready-url`: whether a command answers. A probe of this machine's own command, no HTTP client: `http://` only, one
//! request, one look at the status line.

use crate::trouble::Trouble;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long a connection and an answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `host:port`.
    host: String,
    path: String,
}

impl Address {
    /// Reads `http://host[:port][/path]`.
    pub(super) fn parse(url: &str) -> Result<Self, Trouble> {
        let wrong = || {
            Trouble::new(format!("-ready-url {url:?} is not an address that can be asked"))
                .hint("it looks like http://127.0.0.1:8080/health")
        };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let clean = |text: &str| !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@');
        if host.is_empty() || !clean(host) || !clean(path) {
            return Err(wrong());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:80") };
        Ok(Self { host, path: path.to_owned() })
    }

    /// Whether it answers with a 2xx now.
    pub(super) fn answers(&self) -> bool {
        self.ask().is_ok_and(|line| {
            let code = line.split(' ').nth(1).unwrap_or_default();
            line.starts_with("HTTP/1.") && code.len() == 3 && code.starts_with('2')
        })
    }

    fn ask(&self) -> std::io::Result<String> {
        let mut stream = connect(&self.host.to_socket_addrs()?.collect::<Vec<_>>())?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let Self { host, path } = self;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut head = [0; 64];
        let mut read = 0;
        while read < head.len() && !head[..read].contains(&b'\n') {
            match stream.read(&mut head[read..])? {
                0 => break,
                n => read += n,
            }
        }
        let line = head[..read].split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

/// Connects to the first address that takes it, within the limit for all of them: `localhost` is `::1` as well as
/// `127.0.0.1`, and a command listens perhaps at one only.
fn connect(addresses: &[SocketAddr]) -> std::io::Result<TcpStream> {
    let share = LIMIT / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut connected = Err(std::io::ErrorKind::NotFound.into());
    for address in addresses {
        connected = TcpStream::connect_timeout(address, share);
        if connected.is_ok() {
            break;
        }
    }
    connected
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_address_is_read_or_refused_with_an_example() {
        let read = |url: &str| Address::parse(url).map(|address| (address.host, address.path)).ok();
        let pair = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        for (url, wanted) in [
            ("http://127.0.0.1:8080/health", pair("127.0.0.1:8080", "/health")),
            ("http://localhost", pair("localhost:80", "/")),
            ("http://[::1]:9/x?y=1", pair("[::1]:9", "/x?y=1")),
            ("https://localhost/", None),
            ("localhost:8080", None),
            ("http:///x", None),
            ("http://a b/", None),
            ("http://host/x\r\nEvil: 1", None),
        ] {
            assert_eq!(read(url), wanted, "{url}");
        }
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let here = listener.local_addr().expect("an address");
        let other = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, here.port()));
        for (addresses, well) in [
            (&[here][..], true),
            (&[other, here], true),
            (&[here, other], true),
            (&[other], false),
            (&[], false),
        ] {
            assert_eq!(connect(addresses).is_ok(), well, "{addresses:?}");
        }
    }

    #[test]
    fn only_a_2xx_is_an_answer() {
        for (answer, well) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.0 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("SSH-2.0-200 \r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let url = format!("http://{}/", listener.local_addr().expect("an address"));
            let served = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut asked = [0; 256];
                let _ = stream.read(&mut asked);
                let _ = stream.write_all(answer.as_bytes());
            });
            assert_eq!(Address::parse(&url).expect("an address").answers(), well, "{answer:?}");
            served.join().expect("served");
        }
    }
}
