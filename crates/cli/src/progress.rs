//! How far a restore has come: a bar where a person looks on, nothing where a log does.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, or none.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar if a person looks at stderr.
    pub(crate) fn new(terminal: bool) -> Self {
        Self::named(terminal, "restoring")
    }

    /// The same, for something else than a restore.
    pub(crate) fn named(terminal: bool, what: &str) -> Self {
        Self(terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = format!("{what} {{bar:32}} {{bytes}}/{{total_bytes}} {{bytes_per_sec}} {{eta}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        }))
    }

    /// So many bytes of so many are done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Does something that writes lines, with the bar out of the way.
    pub(crate) fn aside(&self, talk: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(talk),
            None => talk(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
