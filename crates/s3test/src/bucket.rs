//! The bucket: S3's verbs over a map behind one lock, so that a condition and its write are one step.

use crate::{BUCKET, Profile};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use hyper::header::HeaderValue;
use md5::{Digest as _, Md5};
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The smallest part but the last, bytes.
const SMALLEST_PART: usize = 5 << 20;

/// How far a request's time may be off, milliseconds.
const ALLOWED_SKEW_MS: u64 = 15 * 60 * 1000;

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    etag: String,
    modified: SystemTime,
    pub(crate) metadata: HashMap<String, String>,
}

struct Upload {
    key: String,
    metadata: HashMap<String, String>,
    parts: BTreeMap<i32, (Bytes, String)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    serial: u64,
    /// What listings show while they lag behind.
    pub(crate) stale: Option<BTreeMap<String, Object>>,
    /// How far this server's clock is ahead, milliseconds.
    pub(crate) skew_ms: i64,
    /// Refuses requests of another time.
    pub(crate) refuses_skew: bool,
    /// The only region to sign for, if that matters.
    pub(crate) region: Option<&'static str>,
    /// Answers puts as a bucket with versioning does.
    pub(crate) versioned: bool,
    pub(crate) page: usize,
}

/// Shared by the server's connections and the test.
#[derive(Clone)]
pub(crate) struct Bucket {
    profile: Profile,
    state: Arc<Mutex<State>>,
}

impl Bucket {
    pub(crate) fn new(profile: Profile) -> Self {
        let state = State { page: 1000, ..State::default() };
        Self { profile, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// This server's clock.
    pub(crate) fn now(&self) -> SystemTime {
        #[allow(
            clippy::disallowed_methods,
            reason = "the server stands for another machine, with its own clock"
        )]
        let now = SystemTime::now();
        let skew = self.state().skew_ms;
        let by = Duration::from_millis(skew.unsigned_abs());
        if skew >= 0 { now + by } else { now - by }
    }

    /// Whether every request is of another time: clients have this machine's clock, which the signature's check sees to.
    pub(crate) fn minds_time(&self) -> bool {
        let state = self.state();
        state.refuses_skew && state.skew_ms.unsigned_abs() > ALLOWED_SKEW_MS
    }

    /// The region that a request should have been signed for, by its `Authorization` header.
    pub(crate) fn other_region(&self, signed: Option<&HeaderValue>) -> Option<&'static str> {
        let region = self.state().region?;
        let scope = signed?.to_str().ok()?.split("Credential=").nth(1)?.split(',').next()?;
        (scope.split('/').nth(2) != Some(region)).then_some(region)
    }

    /// Whether a put may go on; `complete` for the completion of an upload.
    fn check(
        &self,
        state: &State,
        key: &str,
        none_match: Option<&ETagCondition>,
        matches: Option<&str>,
        complete: bool,
    ) -> S3Result {
        if none_match.is_none() && matches.is_none() {
            return Ok(());
        }
        match self.profile {
            Profile::IgnoresConditions => return Ok(()),
            Profile::RefusesConditions => {
                return Err(s3_error!(
                    NotImplemented,
                    "A header you provided implies functionality that is not implemented"
                ));
            }
            Profile::Ceph if complete => return Ok(()),
            _ => {}
        }
        let there = state.objects.get(key);
        if none_match.is_some() && there.is_some() {
            return Err(s3_error!(PreconditionFailed));
        }
        let Some(wanted) = matches else { return Ok(()) };
        // The header as it came: Ceph compares it with the bare ETag.
        let quoted = there.map(|object| match self.profile {
            Profile::Ceph => object.etag.clone(),
            _ => format!("\"{}\"", object.etag),
        });
        match quoted {
            Some(etag) if wanted == "*" || wanted == etag => Ok(()),
            None if self.profile == Profile::Aws => Err(s3_error!(NoSuchKey)),
            _ => Err(s3_error!(PreconditionFailed)),
        }
    }

    fn store(&self, state: &mut State, key: String, object: Object) {
        state.serial += 1;
        state.objects.insert(key, object);
    }
}

fn own(bucket: &str) -> S3Result {
    if bucket == BUCKET {
        Ok(())
    } else {
        Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }
}

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut stream) = body else { return Ok(Bytes::new()) };
    let mut bytes = BytesMut::new();
    while let Some(piece) =
        stream.try_next().await.map_err(|error| S3Error::with_source(S3ErrorCode::IncompleteBody, error))?
    {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn md5_hex(pieces: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for piece in pieces {
        hash.update(piece);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn header<'a, T>(req: &'a S3Request<T>, name: &str) -> Option<&'a str> {
    req.headers.get(name)?.to_str().ok()
}

fn length(object: &Object) -> i64 {
    i64::try_from(object.body.len()).unwrap_or(i64::MAX)
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        own(&req.input.bucket)?;
        let matches = header(&req, "if-match").map(String::from);
        let input = req.input;
        let body = collect(input.body).await?;
        if input.content_length.is_some_and(|told| told != i64::try_from(body.len()).unwrap_or(i64::MAX)) {
            return Err(s3_error!(IncompleteBody));
        }
        let etag = md5_hex(&[&body]);
        let object = Object {
            body,
            etag: etag.clone(),
            modified: self.now(),
            metadata: input.metadata.unwrap_or_default(),
        };
        let mut state = self.state();
        self.check(&state, &input.key, input.if_none_match.as_ref(), matches.as_deref(), false)?;
        self.store(&mut state, input.key, object);
        let version_id = state.versioned.then(|| format!("version-{}", state.serial));
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            version_id,
            ..Default::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        own(&req.input.bucket)?;
        let object = self.state().objects.get(&req.input.key).cloned();
        let object = object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        let total = object.body.len();
        let mut range = None;
        if let Some(asked) = req.input.range {
            let checked = asked.check(total as u64).map_err(|_| s3_error!(InvalidRange))?;
            let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(total);
            range = Some(at(checked.start)..at(checked.end));
        }
        let body = range.clone().map_or(object.body.clone(), |range| object.body.slice(range));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(i64::try_from(body.len()).unwrap_or(i64::MAX)),
            content_range: range.map(|r| format!("bytes {}-{}/{total}", r.start, r.end - 1)),
            body: Some(StreamingBlob::from(s3s::Body::from(body))),
            accept_ranges: Some("bytes".into()),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: Some(object.metadata),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        own(&req.input.bucket)?;
        let object = self.state().objects.get(&req.input.key).cloned().ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(length(&object)),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: Some(object.metadata),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        own(&req.input.bucket)?;
        let mut state = self.state();
        if let (Some(wanted), Profile::Aws) = (header(&req, "if-match"), self.profile) {
            let there = state.objects.get(&req.input.key).map(|object| format!("\"{}\"", object.etag));
            if there.as_deref() != Some(wanted) && wanted != "*" {
                return Err(s3_error!(PreconditionFailed));
            }
        }
        state.objects.remove(&req.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        own(&req.input.bucket)?;
        let input = req.input;
        let state = self.state();
        let objects = state.stale.as_ref().unwrap_or(&state.objects);
        let prefix = input.prefix.clone().unwrap_or_default();
        let page =
            input.max_keys.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX).min(state.page);
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let (mut contents, mut folders) = (Vec::new(), BTreeSet::new());
        let mut last = None;
        let mut more = false;
        for (key, object) in objects.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix)) {
            let folder = input.delimiter.as_deref().and_then(|delimiter| {
                let end = key[prefix.len()..].find(delimiter)? + prefix.len() + delimiter.len();
                Some(key[..end].to_string())
            });
            let name = folder.clone().unwrap_or_else(|| key.clone());
            if (!after.is_empty() && name <= after) || folders.contains(&name) {
                continue;
            }
            if contents.len() + folders.len() == page {
                more = true;
                break;
            }
            last = Some(name.clone());
            match folder {
                Some(folder) => drop(folders.insert(folder)),
                None => contents.push(s3s::dto::Object {
                    key: Some(key.clone()),
                    size: Some(length(object)),
                    e_tag: Some(ETag::Strong(object.etag.clone())),
                    last_modified: Some(Timestamp::from(object.modified)),
                    ..Default::default()
                }),
            }
        }
        let folders = folders.into_iter().map(|folder| CommonPrefix { prefix: Some(folder) }).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(more),
            next_continuation_token: if more { last } else { None },
            contents: Some(contents),
            common_prefixes: Some(folders),
            delimiter: input.delimiter,
            ..Default::default()
        }))
    }

    /// The older listing, which Litestream 0.3 asks for: the same answer in other words.
    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let marker = req.input.marker.clone();
        let newer = self.list_objects_v2(req.map_input(|input| ListObjectsV2Input {
            bucket: input.bucket,
            prefix: input.prefix,
            delimiter: input.delimiter,
            max_keys: input.max_keys,
            start_after: input.marker,
            ..Default::default()
        }));
        Ok(newer.await?.map_output(|newer| ListObjectsOutput {
            name: newer.name,
            prefix: newer.prefix,
            marker,
            is_truncated: newer.is_truncated,
            next_marker: newer.next_continuation_token,
            contents: newer.contents,
            common_prefixes: newer.common_prefixes,
            delimiter: newer.delimiter,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        own(&req.input.bucket)?;
        let mut state = self.state();
        state.serial += 1;
        let id = format!("upload-{}", state.serial);
        let (key, metadata) = (req.input.key, req.input.metadata.unwrap_or_default());
        state.uploads.insert(id.clone(), Upload { key: key.clone(), metadata, parts: BTreeMap::new() });
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(req.input.bucket),
            key: Some(key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        own(&req.input.bucket)?;
        let body = collect(req.input.body).await?;
        let etag = md5_hex(&[&body]);
        let mut state = self.state();
        let upload = state.uploads.get_mut(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(req.input.part_number, (body, etag.clone()));
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        own(&req.input.bucket)?;
        let matches = header(&req, "if-match").map(String::from);
        let input = req.input;
        let now = self.now();
        let mut state = self.state();
        self.check(&state, &input.key, input.if_none_match.as_ref(), matches.as_deref(), true)?;
        let upload = state.uploads.get(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let listed = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let mut pieces = Vec::new();
        for part in &listed {
            let stored = part.part_number.and_then(|number| upload.parts.get(&number));
            let told = part.e_tag.as_ref().map(|etag| etag.value().to_string());
            match stored {
                Some((bytes, etag)) if told.as_deref() == Some(etag) => pieces.push(bytes.clone()),
                _ => return Err(s3_error!(InvalidPart)),
            }
        }
        self.check_sizes(&pieces)?;
        let whole: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
        let etag = format!("{}-{}", md5_hex(&whole), pieces.len());
        let (key, metadata) = (upload.key.clone(), upload.metadata.clone());
        let object = Object { body: whole.concat().into(), etag: etag.clone(), modified: now, metadata };
        self.store(&mut state, key.clone(), object);
        state.uploads.remove(&input.upload_id);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        own(&req.input.bucket)?;
        let gone = self.state().uploads.remove(&req.input.upload_id);
        gone.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

impl Bucket {
    fn check_sizes(&self, pieces: &[Bytes]) -> S3Result {
        let Some((_, full)) = pieces.split_last() else { return Err(s3_error!(MalformedXML)) };
        if full.iter().any(|piece| piece.len() < SMALLEST_PART) {
            return Err(s3_error!(EntityTooSmall));
        }
        let alike = full.windows(2).all(|pair| pair[0].len() == pair[1].len());
        if self.profile == Profile::EqualParts && !alike {
            return Err(s3_error!(InvalidPart, "All non-trailing parts must have the same length"));
        }
        Ok(())
    }
}
