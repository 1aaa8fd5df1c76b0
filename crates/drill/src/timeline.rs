//! The timeline of a scenario as SVG: containers, who owned the replica, writes and their answers.
//!
//! It draws facts and judges nothing.

use crate::clock::Ms;
use crate::facts::{Container, Facts};
use crate::ledger::{Answer, Deed, Entry};
use std::fmt::Write as _;

/// Width of the drawing and of the names at its left, in pixels.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;
/// Height of a container's rows.
const ROW: f64 = 34.0;
/// Height of the plot of writes.
const PLOT: f64 = 90.0;
/// Milliseconds that share a bar of the plot.
const STEP: Ms = 250;

struct Canvas {
    out: String,
    /// The end of the drawing; its beginning is the scenario's, 0.
    to: Ms,
}

/// The drawing; empty if nothing happened.
#[must_use]
pub fn svg(entries: &[Entry], facts: &Facts) -> String {
    let ends = facts.containers.iter().filter_map(|container| Some(container.end.as_ref()?.at));
    let answers = entries.iter().filter_map(|entry| Some(entry.answer.as_ref()?.0));
    let last = ends.chain(answers).max();
    let Some(to) = last.filter(|_| !facts.containers.is_empty()) else { return String::new() };
    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    let plot_top = 8.0 + facts.containers.len() as f64 * ROW;
    let height = plot_top + PLOT + 40.0;
    let mut canvas = Canvas { out: String::new(), to: to.max(1) };
    let _ = write!(canvas.out, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    if let Some((begin, end)) = facts.disturbed {
        canvas.bar("disturbed", begin, end, 0.0, plot_top + PLOT, "disturbed");
    }
    let mut top = 8.0;
    for container in &facts.containers {
        canvas.container(container, top);
        top += ROW;
    }
    canvas.writes(entries, plot_top);
    canvas.axis(plot_top + PLOT);
    for event in &facts.events {
        let x = canvas.x(event.at);
        let (at, what) = (event.at, escape(&event.what));
        let _ = write!(
            canvas.out,
            "<line class=\"event\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{:.1}\"><title>{at} ms: {what}</title></line>",
            plot_top + PLOT
        );
    }
    canvas.out.push_str("</svg>");
    canvas.out
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of a run, for a drawing")]
impl Canvas {
    fn x(&self, at: Ms) -> f64 {
        let share = at as f64 / self.to as f64;
        LEFT + share.min(1.0) * (WIDTH - LEFT)
    }

    fn bar(&mut self, class: &str, from: Ms, to: Ms, top: f64, height: f64, title: &str) {
        let (x, width) = (self.x(from), (self.x(to) - self.x(from)).max(0.5));
        let title = escape(title);
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{title}</title></rect>"
        );
    }

    /// Three bars on each other: it lives, it has traffic, what it says it is.
    fn container(&mut self, container: &Container, top: f64) {
        let end = container.end.as_ref().map_or(self.to, |end| end.at);
        let name = escape(&container.name);
        let _ = write!(self.out, "<text x=\"4\" y=\"{:.1}\">{name}</text>", top + 15.0);
        let words = format!(
            "{} {}: {}, {}",
            container.name,
            container.release,
            container.restore_words(),
            container.end_words()
        );
        self.bar("lives", container.started, end, top, 24.0, &words);
        if let Some(healthy) = container.healthy {
            self.bar("healthy", healthy, end, top + 2.0, 9.0, "healthy");
        }
        for (from, to) in &container.traffic {
            self.bar("traffic", *from, to.unwrap_or(end), top + 2.0, 9.0, "has traffic");
        }
        for (index, (from, role)) in container.roles.iter().enumerate() {
            let to = container.roles.get(index + 1).map_or(end, |(next, _)| *next);
            let class = match role.as_str() {
                "owner" => "owner",
                "standby" => "standby",
                _ => "other",
            };
            self.bar(class, *from, to, top + 13.0, 9.0, &format!("{} is {role}", container.name));
        }
        for (at, signal) in &container.signals {
            let (x, signal) = (self.x(*at), escape(signal));
            let _ = write!(
                self.out,
                "<line class=\"signal\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{:.1}\"><title>{signal}</title></line>",
                top + 24.0
            );
        }
    }

    /// Answers in steps of time: 2xx up from the line, everything else in red on top.
    fn writes(&mut self, entries: &[Entry], top: f64) {
        let steps = usize::try_from(self.to / STEP).unwrap_or(0) + 1;
        let (mut good, mut bad) = (vec![0_u32; steps], vec![0_u32; steps]);
        for entry in entries {
            let Some((at, answer)) = &entry.answer else { continue };
            if matches!(entry.deed, Deed::Read { .. }) {
                continue;
            }
            let step = usize::try_from(at / STEP).unwrap_or(0).min(steps - 1);
            match answer {
                Answer::Acknowledged => good[step] += 1,
                _ => bad[step] += 1,
            }
        }
        let most = good.iter().zip(&bad).map(|(good, bad)| good + bad).max().unwrap_or(0).max(1);
        let scale = (PLOT - 10.0) / f64::from(most);
        for (step, (good, bad)) in (0_u64..).zip(good.iter().zip(&bad)) {
            let (from, to) = (step * STEP, (step + 1) * STEP);
            let (up, more) = (f64::from(*good) * scale, f64::from(*bad) * scale);
            if *good > 0 {
                self.bar("good", from, to, top + PLOT - up, up, &format!("{good} acknowledged"));
            }
            if *bad > 0 {
                self.bar("bad", from, to, top + PLOT - up - more, more, &format!("{bad} refused or cut"));
            }
        }
        let _ = write!(self.out, "<text x=\"4\" y=\"{:.1}\">writes</text>", top + PLOT - 4.0);
    }

    fn axis(&mut self, y: f64) {
        let seconds = self.to / 1000;
        let every = (seconds / 20).max(1);
        for second in (0..=seconds).filter(|second| second % every == 0) {
            let x = self.x(second * 1000);
            let _ =
                write!(self.out, "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{second} s</text>", y + 14.0);
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
