//! One GET to any address, over the same HTTP client as the buckets: for a heartbeat. It reads no body, follows no
//! redirect, and tells the address to nobody: such addresses often hold a token.

use crate::location::S3Settings;
use crate::s3::{NoAnswer, client};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// Asks an address.
#[derive(Debug)]
pub struct Pinger(reqwest::Client);

impl Pinger {
    /// With the certificates of `ca_bundle` in place of the system's, where one is named.
    ///
    /// # Errors
    /// The certificates cannot be read, as text.
    pub fn new(ca_bundle: Option<PathBuf>) -> Result<Self, String> {
        let settings = S3Settings { ca_bundle, ..S3Settings::new("", "") };
        client::plain(&settings).map(Self).map_err(text)
    }

    /// Sends a GET and returns the answer's status. Blocks for `limit` at most.
    ///
    /// # Errors
    /// There was no answer; why, as text without the address.
    pub fn get(&self, url: &str, limit: Duration) -> Result<u16, String> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let request = self.0.get(url).timeout(limit);
        client::spawn(async move {
            let status =
                request.send().await.map(|answer| answer.status().as_u16()).map_err(client::transport);
            // The asker may have gone; then nobody needs the answer.
            let _ = sender.send(status);
        })
        .map_err(text)?;
        match receiver.recv() {
            Ok(answer) => answer.map_err(text),
            Err(_) => Err("the request was dropped".to_owned()),
        }
    }
}

fn text(why: NoAnswer) -> String {
    why.setback().text
}
