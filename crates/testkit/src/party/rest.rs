//! The end of a party: all trouble ends, everybody gets its turn, and an idle party asks for nothing but its looks; what the
//! bucket holds at last, at every point that it shows, is one line of history.

use super::judge::Line;
use super::member::Running;
use super::world::{REST, Turn, World, bring, empty_disk};
use crate::faulty::{Record, Verb, Weather};
use crate::workload::points::advertised;
use litekeep::node::Role;
use litekeep::restore::catalog;
use litekeep_core::env::Clock;
use litekeep_core::restore::Target;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long every chore takes that is due: levels of at most 90 s together, slots that live three minutes and one more, and
/// files that are dated by clocks that were ahead.
const SETTLED: Duration = Duration::from_secs(2 * 3600);
const WATCHED: Duration = Duration::from_secs(60);

/// Requests of one look.
const LOOK_REQUESTS: u128 = 2;

impl World {
    /// All trouble ends; everybody who wants to write gets an acknowledgement.
    pub(super) fn come_to_rest(&mut self) -> Turn {
        self.set_weather(Weather::CLEAR);
        self.scenario.weather = Weather::CLEAR;
        for member in &mut self.members {
            (member.asleep, member.cut_off, member.full_for) = (0, 0, 0);
            member.disk.heal();
            member.disk.set_capacity(None);
            member.running.iter_mut().for_each(Running::end_reading);
            member.store.forget_plans();
        }
        (0..self.members.len()).try_for_each(|at| self.rest_of(at))
    }

    /// Everybody leaves in order, after the last put arrived; what is restored then is everything, and every file is a part
    /// of it.
    pub(super) fn last_judgement(&mut self) -> Turn {
        self.members.iter().for_each(|member| member.store.heal());
        for at in 0..self.members.len() {
            for _ in 0..REST {
                let Some(running) = &mut self.members[at].running else { break };
                running.stop(Duration::from_secs(60));
                let goes_on = running.step(self.clock.boot(), true);
                self.hear(at);
                if !goes_on {
                    break;
                }
                self.job(at);
                self.pass_time();
            }
            let status = self.members[at].status();
            if status.as_ref().is_some_and(|status| status.role != Role::Ended || status.failure.is_some()) {
                return Err(format!("member {at} does not end in order: {status:?}"));
            }
        }
        self.spot_check()?;
        let scratch = empty_disk(&self.clock, 2);
        let all = bring(&scratch, &self.bucket, &self.clock, Target::Latest)
            .map_err(|error| error.to_string())?
            .unwrap_or_default();
        self.check_points(&all)?;
        for (at, member) in self.members.iter().enumerate() {
            let Some(running) = &member.running else { continue };
            let line = running.line().map_err(|what| format!("member {at}: {what}"))?;
            if !all.ids.starts_with(&line.ids) {
                return Err(format!("member {at} holds {:?}, the replica {:?}", line.ids, all.ids));
            }
        }
        self.check_asides(&all)?;
        let disks = self.members.iter().flat_map(|member| member.disk.violations());
        let broken: Vec<_> = disks.chain(self.bucket.violations()).chain(self.stale.take()).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
    }

    /// No file is a mix, and each is a part of the one history: what a member committed and that history lacks was overwritten
    /// there, and was kept aside before.
    fn check_asides(&mut self, all: &Line) -> Turn {
        for (at, member) in self.members.iter().enumerate() {
            let lost: BTreeSet<i64> = member.own.iter().filter(|id| !all.ids.contains(id)).copied().collect();
            if lost.is_empty() {
                continue;
            }
            let kept = member.kept_aside().map_err(|what| format!("member {at}: {what}"))?;
            let dropped: Vec<_> = lost.difference(&kept).collect();
            if !dropped.is_empty() {
                return Err(format!(
                    "member {at} committed {dropped:?}, the replica has {:?}: dropped in silence, aside lie {kept:?}",
                    all.ids
                ));
            }
            self.report.asides += lost.len() as u64;
        }
        Ok(())
    }

    /// Nobody writes for so long that every chore that is due was done; from then on an owner and a standby ask for what
    /// their looks need, once in the time between two looks, and for nothing else.
    pub(super) fn stay_idle(&mut self) -> Turn {
        self.let_pass(SETTLED)?;
        let before: Vec<usize> = self.members.iter().map(|member| member.store.count()).collect();
        self.let_pass(WATCHED)?;
        let looks = WATCHED.as_millis() / self.settings.look_every.as_millis().max(1) + 1;
        for (at, (member, before)) in self.members.iter().zip(before).enumerate() {
            let asked = member.store.records().split_off(before);
            let writes = |record: &&Record| !matches!(record.verb, Verb::List | Verb::Head | Verb::Read);
            if let Some(record) = asked.iter().find(writes) {
                return Err(format!("member {at} writes while nothing happens: {record:?}"));
            }
            if asked.len() as u128 > looks * LOOK_REQUESTS {
                let newest = asked.last();
                return Err(format!("member {at} asks {} times in {looks} looks: {newest:?}", asked.len()));
            }
            if asked.is_empty() {
                return Err(format!("member {at} does not look any more"));
            }
            let owns = member.status().is_some_and(|status| status.role == Role::Owner);
            let in_time = self.settings.times.hand_over >= 2 * self.settings.look_every;
            if owns && in_time && !member.running.as_ref().is_some_and(Running::holds) {
                return Err(format!("member {at} owns and looks, and does not know that it has everything"));
            }
        }
        self.report.idle += 1;
        Ok(())
    }

    /// Everybody is called when it asked to be, and not before.
    fn let_pass(&mut self, time: Duration) -> Turn {
        let end = self.clock.boot() + time;
        while self.clock.boot() < end {
            for at in 0..self.members.len() {
                let now = self.clock.boot();
                let goes_on =
                    self.members[at].running.as_mut().is_none_or(|running| running.step(now, false));
                self.hear(at);
                if !goes_on {
                    return Err(format!(
                        "member {at} ends while nothing happens: {:?}",
                        self.members[at].status()
                    ));
                }
                self.job(at);
            }
            self.pass_time();
            self.clock.advance(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Restores some of the points that the bucket shows, or all: each is a beginning of the one line of history. Where
    /// power was lost, a row that nobody was promised may have gone up before the machine forgot it; those that were
    /// promised make one line all the same.
    fn check_points(&mut self, all: &Line) -> Turn {
        if self.scenario.points == 0 {
            return Ok(());
        }
        let listed = catalog(&self.bucket).map_err(|error| error.to_string())?;
        let mut points = advertised(&self.bucket, &listed);
        while points.len() > self.scenario.points {
            points.remove(self.random.index(points.len()));
        }
        for point in points {
            let scratch = empty_disk(&self.clock, 2);
            let line = bring(&scratch, &self.bucket, &self.clock, Target::Txid(point))
                .map_err(|error| format!("point {point}: {error}"))?
                .unwrap_or_default();
            let promised = |line: &Line| -> Vec<i64> {
                let counts = |id: &&i64| self.report.power_losses == 0 || self.acknowledged.contains(id);
                line.ids.iter().filter(counts).copied().collect()
            };
            if !promised(all).starts_with(&promised(&line)) {
                return Err(format!(
                    "point {point} gives {:?}: a mix of histories with {:?}",
                    line.ids, all.ids
                ));
            }
            self.report.points += 1;
        }
        Ok(())
    }
}
