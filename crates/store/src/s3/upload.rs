//! Large objects: multipart uploads with a bounded number of parts in memory.
//!
//! Parts begin at 8 MiB and grow, so that the 10,000 that S3 allows hold 5 TiB. What turns out to fit into one part
//! goes up as a single put. An upload that is dropped unfinished is aborted; one whose process died is left to the
//! bucket's lifecycle rule for incomplete uploads.

use super::answer::{Answer, parse_xml};
use super::client::{Ask, Pending};
use super::{NoAnswer, Setback, Shared, TIMESTAMP, head_from};
use crate::location::Provider;
use crate::{ErrorKind, Failure, StoreError, Upload, times};
use bytes::{Bytes, BytesMut};
use litekeep_formats::TimestampMs;
use reqwest::Method;
use serde::Deserialize;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

/// The smallest part S3 takes (but for the last), bytes.
const SMALLEST_PART: u64 = 5 << 20;
/// The largest part S3 takes, bytes.
const LARGEST_PART: u64 = 5 << 30;
/// The first part's size, bytes.
const FIRST_PART: u64 = 8 << 20;
/// R2 wants all parts but the last alike, bytes; 10,000 of them hold 312 GiB.
const R2_PART: u64 = 32 << 20;
/// Parts of one object at most.
const MOST_PARTS: u32 = 10_000;
/// After so many parts the size doubles: 8 MiB parts then hold 8 TiB in all.
const PARTS_OF_A_SIZE: u32 = 1_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    upload_id: String,
}

#[derive(Deserialize)]
struct Completed {}

pub(super) struct S3Upload {
    shared: Arc<Shared>,
    key: String,
    timestamp: TimestampMs,
    buffer: BytesMut,
    sent: u64,
    id: Option<String>,
    etags: Vec<String>,
    under_way: VecDeque<(Ask, Result<Pending, NoAnswer>)>,
}

impl S3Upload {
    pub(super) fn new(shared: Arc<Shared>, key: String, timestamp: TimestampMs) -> Self {
        let (buffer, etags, under_way) = (BytesMut::new(), Vec::new(), VecDeque::new());
        Self { shared, key, timestamp, buffer, sent: 0, id: None, etags, under_way }
    }

    fn retry<T>(&self, attempt: impl FnMut(u32) -> Result<T, Setback>) -> Result<T, StoreError> {
        self.shared.retry("upload", &self.shared.object(&self.key), attempt)
    }

    fn fault(&self, kind: ErrorKind, text: impl Into<String>) -> StoreError {
        StoreError::new(kind, "upload", self.shared.object(&self.key), Failure::Text(text.into()))
    }

    fn parts_begun(&self) -> u32 {
        u32::try_from(self.etags.len() + self.under_way.len()).unwrap_or(u32::MAX)
    }

    fn part_size(&self) -> u64 {
        part_size(self.shared.client.provider(), self.shared.client.settings().part_size, self.parts_begun())
    }

    fn begin(&mut self) -> Result<String, StoreError> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let ask = Ask::new(Method::POST, Some(self.key.clone())).query("uploads", "");
        let ask = self.shared.new_object(ask, self.timestamp);
        let id = self.retry(|_| {
            let answer = self.shared.succeed(ask.clone())?;
            let begun: Option<Begun> = parse_xml(&answer.body, "InitiateMultipartUploadResult");
            let unclear = || Setback::new(ErrorKind::Retry, "no upload id in the answer");
            begun.map(|begun| begun.upload_id).filter(|id| !id.is_empty()).ok_or_else(unclear)
        })?;
        self.id = Some(id.clone());
        Ok(id)
    }

    /// Sends one part on its way, once there is room.
    fn send(&mut self, part: Bytes) -> Result<(), StoreError> {
        let id = self.begin()?;
        while self.under_way.len() >= self.shared.concurrency() {
            self.settle_oldest()?;
        }
        let number = self.parts_begun() + 1;
        if number > MOST_PARTS {
            let text = format!("the object is too large for this store: more than {MOST_PARTS} parts");
            return Err(self.fault(ErrorKind::FixConfig, text));
        }
        self.sent += part.len() as u64;
        let ask = Ask::new(Method::PUT, Some(self.key.clone()))
            .query("partNumber", number.to_string())
            .query("uploadId", id)
            .body(part);
        let begun = self.shared.client.begin(ask.clone());
        self.under_way.push_back((ask, begun));
        Ok(())
    }

    /// Waits for the oldest part under way, and sends it again as often as it takes.
    fn settle_oldest(&mut self) -> Result<(), StoreError> {
        let Some((ask, begun)) = self.under_way.pop_front() else { return Ok(()) };
        let mut first = Some(begun.and_then(Pending::wait));
        let etag = self.retry(|_| {
            let answer = first.take().unwrap_or_else(|| self.shared.client.ask(ask.clone()));
            let answer = answer.map_err(NoAnswer::setback)?;
            if !answer.is_success() {
                return Err(gone_is_damage(answer.setback()));
            }
            let etag = answer.header("etag").map(String::from);
            etag.ok_or_else(|| Setback::new(ErrorKind::Retry, "a part without an ETag"))
        })?;
        self.etags.push(etag);
        Ok(())
    }

    fn complete(&mut self, id: &str) -> Result<(), StoreError> {
        while !self.under_way.is_empty() {
            self.settle_oldest()?;
        }
        let body = Bytes::from(complete_body(&self.etags));
        let ask = Ask::new(Method::POST, Some(self.key.clone()))
            .query("uploadId", id)
            .header("content-type", "application/xml")
            .body(body);
        let mut doubt = false;
        self.retry(|_| {
            let answer = match self.shared.client.ask(ask.clone()) {
                Ok(answer) => answer,
                Err(trouble) => {
                    let setback = trouble.setback();
                    doubt |= setback.ambiguous;
                    return Err(setback);
                }
            };
            let setback = match completed(&answer) {
                Ok(()) => return Ok(()),
                Err(setback) => setback,
            };
            if setback.kind == ErrorKind::NotFound && doubt {
                return self.stands();
            }
            doubt |= setback.ambiguous;
            Err(gone_is_damage(setback))
        })
    }

    /// After a completion without an answer the upload is gone: is the object there, as we sent it?
    fn stands(&self) -> Result<(), Setback> {
        let ask = Ask::new(Method::HEAD, Some(self.key.clone()));
        let answer = self.shared.succeed(ask)?;
        let head = head_from(&answer)?;
        let ours = answer.header(TIMESTAMP) == Some(&times::format_rfc3339(self.timestamp));
        if head.size == self.sent && ours {
            return Ok(());
        }
        Err(Setback::new(ErrorKind::DataDamaged, "the upload is gone and another object stands in its place"))
    }
}

impl Upload for S3Upload {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let size = usize::try_from(self.part_size()).unwrap_or(usize::MAX);
            let room = size.saturating_sub(self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            // A full part waits for one more byte: the last part may then be of any size but none.
            if self.buffer.len() >= size && !bytes.is_empty() {
                let part = std::mem::take(&mut self.buffer).freeze();
                self.send(part)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), StoreError> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.id.is_none() {
            let ask = Ask::new(Method::PUT, Some(self.key.clone())).body(rest);
            let ask = self.shared.new_object(ask, self.timestamp);
            return self.retry(|_| self.shared.succeed(ask.clone())).map(drop);
        }
        self.send(rest)?;
        let id = self.begin()?;
        self.complete(&id)?;
        self.id = None;
        Ok(())
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        for (_, begun) in self.under_way.drain(..) {
            // A part that arrives after the abort would stay behind.
            let _ = begun.map(Pending::wait);
        }
        let ask = Ask::new(Method::DELETE, Some(self.key.clone())).query("uploadId", id);
        if let Err(setback) = self.shared.succeed(ask) {
            let object = self.shared.object(&self.key);
            tracing::warn!(object, error = setback.text, "an unfinished upload could not be removed");
        }
    }
}

fn part_size(provider: Provider, setting: Option<u64>, begun: u32) -> u64 {
    let first = setting.unwrap_or(if provider == Provider::R2 { R2_PART } else { FIRST_PART });
    let first = first.clamp(SMALLEST_PART, LARGEST_PART);
    match provider {
        Provider::R2 => first,
        _ => first.saturating_mul(1 << (begun / PARTS_OF_A_SIZE).min(32)).min(LARGEST_PART),
    }
}

/// A missing upload id is no missing object.
fn gone_is_damage(setback: Setback) -> Setback {
    match setback.kind {
        ErrorKind::NotFound => {
            Setback::new(ErrorKind::Retry, format!("{}; somebody removed the upload", setback.text))
        }
        _ => setback,
    }
}

/// A completion may fail with status 200: then the body holds an error.
fn completed(answer: &Answer) -> Result<(), Setback> {
    if !answer.is_success() {
        return Err(answer.setback());
    }
    if parse_xml::<Completed>(&answer.body, "CompleteMultipartUploadResult").is_some() {
        return Ok(());
    }
    let text = match answer.error_body() {
        Some(error) => format!("{}: {}", error.code, error.message),
        None => "the answer to the completion is no completion".into(),
    };
    Err(Setback { ambiguous: true, ..Setback::new(ErrorKind::Retry, text) })
}

pub(super) fn complete_body(etags: &[String]) -> String {
    let mut body =
        String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (index, etag) in etags.iter().enumerate() {
        let etag = etag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        // Writing to a String can't fail.
        let _ = write!(body, "<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", index + 1);
    }
    body.push_str("</CompleteMultipartUpload>");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_five_tebibytes_wherever_parts_may_grow() {
        let total: u64 = (0..MOST_PARTS).map(|n| part_size(Provider::Other, None, n)).sum();
        assert!(total >= 5 << 40, "{total}");
        assert_eq!(part_size(Provider::Other, None, 0), 8 << 20);
        assert_eq!(part_size(Provider::Other, Some(1), 0), SMALLEST_PART);
        assert_eq!(part_size(Provider::Other, Some(u64::MAX), 9_999), LARGEST_PART);
    }

    #[test]
    fn r61_parts_are_all_alike_where_the_service_wants_that() {
        assert_eq!(part_size(Provider::R2, None, 0), part_size(Provider::R2, None, 9_999));
    }
}
