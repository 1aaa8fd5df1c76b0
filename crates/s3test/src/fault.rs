//! What can go wrong, and when.

/// A kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and S3 error code; nothing is done.
    Answer {
        /// HTTP status.
        status: u16,
        /// S3's error code; empty for an answer without a body.
        code: &'static str,
        /// The `Retry-After` header.
        retry_after: Option<&'static str>,
    },
    /// A web server's page instead of S3's XML.
    Page(u16),
    /// The connection ends before anything is done.
    ResetBefore,
    /// The request is carried out, then the connection ends without an answer.
    ResetAfter,
    /// Nothing is done and no answer ever comes.
    Stall,
    /// The answer stops after so many bytes of its body, with the connection left open.
    StallInside(usize),
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The answer's body ends early and its `Content-Length` agrees with that.
    ShortAnswer(usize),
    /// The `Range` header is not understood: the whole object comes with status 200.
    IgnoreRange,
    /// The request is carried out and answered with status 500 all the same.
    DoneButFailed,
    /// A completion of an upload is carried out, and answered with status 200 and an error in the body.
    ErrorInside,
}

/// When a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The HTTP method; `None` for any.
    pub method: Option<&'static str>,
    /// A piece of the path with its query; empty for any.
    pub part: &'static str,
    /// Matching requests that are let through first.
    pub skip: u32,
    /// Matching requests that are struck then.
    pub times: u32,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// The next `times` requests with this method and this piece of their path fail.
    pub fn next(method: &'static str, part: &'static str, times: u32, fault: Fault) -> Self {
        Self { method: Some(method), part, skip: 0, times, fault }
    }

    /// Every such request fails, until [`crate::Server::clear_rules`].
    pub fn always(method: &'static str, part: &'static str, fault: Fault) -> Self {
        Self::next(method, part, u32::MAX, fault)
    }

    /// Counts a request; whether it is to be struck.
    pub(crate) fn strikes(&mut self, method: &str, target: &str) -> bool {
        if self.method.is_some_and(|wanted| wanted != method) || !target.contains(self.part) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let strikes = self.times > 0;
        self.times = self.times.saturating_sub(u32::from(self.times != u32::MAX));
        strikes
    }
}
