//! What goes wrong with a member besides deaths and sleep: its wall clock jumps, its disk is full or fails calls, its power
//! goes at a call, its application reads for long or writes the whole database anew.

use super::world::{Turn, World};
use crate::disk::Trap;
use crate::sim::fail_one;

impl World {
    /// A turn's trouble, if any.
    pub(super) fn trouble(&mut self, at: usize) -> Turn {
        let (jumps, odd, disk, power) = (
            self.scenario.clock_jumps,
            self.scenario.odd_work,
            self.scenario.disk_trouble,
            self.scenario.power_losses,
        );
        let drawn = self.random.below(1000);
        if drawn < jumps {
            let by = i64::try_from(self.random.below(1_200_000)).unwrap_or(0) - 600_000;
            self.members[at].clock.jump_wall(by);
            self.tell(format!("member {at}: the wall clock jumps by {by} ms"));
        } else if drawn < jumps + odd {
            return self.odd_work(at);
        } else if drawn < jumps + odd + disk {
            self.disk_trouble(at);
        } else if drawn < jumps + odd + disk + power {
            let call = self.random.below(60);
            self.members[at].disk.crash_at(Trap::PowerAt { call });
            self.tell(format!("member {at}: the power will go at call {call}"));
        }
        Ok(())
    }

    fn tell(&mut self, what: String) {
        self.report.troubles += 1;
        self.note(what);
    }

    fn disk_trouble(&mut self, at: usize) {
        let member = &mut self.members[at];
        if self.random.chance(1, 3) {
            member.disk.set_capacity(Some(member.disk.used() + self.random.below(20_000)));
            member.full_for = self.random.between(5, 60);
            let turns = member.full_for;
            return self.tell(format!("member {at}: the disk is nearly full for {turns} turns"));
        }
        let fault = fail_one(&member.disk, &self.random, self.random.below(10));
        self.tell(format!("member {at}: a call to the disk will fail: {fault:?}"));
    }

    fn odd_work(&mut self, at: usize) -> Turn {
        let turns = self.random.between(20, 150);
        let reads = self.random.chance(1, 2);
        let member = &mut self.members[at];
        let Some(running) = member.running.as_mut().filter(|_| member.asleep == 0) else { return Ok(()) };
        let failures = member.disk.failures();
        let done = if reads {
            running.begin_to_read(turns);
            Ok(())
        } else {
            running.vacuum(&member.desk)
        };
        let failed = member.disk.failures() > failures;
        self.tell(if reads {
            format!("member {at} reads")
        } else {
            format!("member {at} writes anew: {done:?}")
        });
        if self.mourn(at) || failed { Ok(()) } else { done }
    }

    /// A turn of a long reader.
    pub(super) fn read_on(&mut self, at: usize) -> Turn {
        let member = &mut self.members[at];
        let failures = member.disk.failures();
        let Some(running) = &mut member.running else { return Ok(()) };
        let seen = running.read_on();
        let failed = member.disk.failures() > failures;
        if failed || self.mourn(at) { Ok(()) } else { seen.map_err(|what| format!("member {at}: {what}")) }
    }
}
