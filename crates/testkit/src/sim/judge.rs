//! Restores, and what the ledger says of them: exactly one committed state, at or past everything acknowledged; and of
//! every restore point that the bucket shows, the same bytes each time, before and after compaction and retention.

use super::flaws::bucket;
use super::machine::{DATABASE, STATE, empty_disk};
use super::world::{Turn, World};
use crate::disk::Disk;
use crate::disk::vfs::Vfs;
use crate::faulty::{Fault, FaultyStore, Plan, Verb, Weather};
use crate::history::fold;
use crate::random::SeededRandom;
use crate::workload::points::advertised;
use crate::workload::{Place, judge};
use litekeep::local::{self, LocalError};
use litekeep::restore::{Options, Outcome, RestoreEnv, RestoreError, Restored, Skipped, catalog, restore};
use litekeep_core::restore::{Target, plan_latest};
use litekeep_formats::{Level, Txid};
use litekeep_store::{Key, Scope};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many restore points a spot check looks at, and the last judgement.
const A_FEW: usize = 2;
const MANY: usize = 8;

impl World {
    /// Restores in whatever weather there is, and at last in fair weather; judges what came of it.
    pub(super) fn restore_patiently(&mut self, disk: &Disk) -> Result<Place, String> {
        let weather = self.scenario.weather;
        for attempt in 0..8 {
            if attempt == 6 {
                self.store.set_weather(Weather::CLEAR);
                disk.heal();
            }
            match self.restore(&self.store.clone(), disk) {
                Ok(found) => {
                    self.store.set_weather(weather);
                    return Ok(found);
                }
                Err(RestoreError::Unreachable(_) | RestoreError::Unsettled { .. }) if attempt < 6 => {}
                // A call that was made to fail.
                Err(RestoreError::Local { .. }) if attempt < 6 && self.scenario.disk_trouble > 0 => {}
                // A read that stays short looks like a damaged file.
                Err(RestoreError::Damaged { .. } | RestoreError::Gap { .. })
                    if attempt < 6 && weather.truncated > 0 => {}
                // Nor can a listing that lags time and again be told from a gap.
                Err(RestoreError::Gap { .. }) if attempt < 6 && weather.stale > 0 => {}
                Err(error) => return Err(format!("restore: {error}")),
            }
            self.clock.advance(Duration::from_secs(5));
        }
        Err("restore does not come to an end in fair weather".to_owned())
    }

    /// One restore; the commit that it gave, none for a replica that was never written. What it leaves for the
    /// engine's next start is recorded, as the command does it.
    fn restore(&mut self, store: &FaultyStore, disk: &Disk) -> Result<Place, RestoreError> {
        let process = disk.process();
        let vfs = Vfs::new(&process);
        let flaw = self.scenario.flaws.bucket;
        let env = RestoreEnv {
            store: bucket(Arc::new(store.clone()), flaw, Arc::new(self.machine.clock.clone())),
            files: Arc::new(process.clone()),
            clock: Arc::new(self.machine.clock.clone()),
            vfs: Some(vfs.name().to_owned()),
        };
        let state_dir = Some(local::directory(Path::new(DATABASE), None));
        let is_whole = self.scenario.flaws.decisions.is_whole;
        let options = Options { state_dir, is_whole, ..options() };
        let outcome = restore(&env, &options, &mut |_| {})?;
        self.report.restores += 1;
        let finding = |what: String| RestoreError::Sqlite(what);
        if let Outcome::Restored(restored) = &outcome
            && let Err(error) = record(&env, restored)
        {
            if process.failures() == 0 {
                return Err(finding(error.to_string()));
            }
            self.unrecorded = true;
        }
        process.kill();
        disk.heal();
        let ours = |path: &str| path == DATABASE || path == "/data/here" || path.starts_with(STATE);
        let left: Vec<_> = disk.tree().into_iter().filter(|(path, _)| !ours(path)).collect();
        if !left.is_empty() {
            return Err(finding(format!("a restore left {left:?} behind")));
        }
        match outcome {
            Outcome::Restored(_) => {
                let found = judge(disk, DATABASE, &self.machine.ledger()).map_err(finding)?;
                if found.at < self.acknowledged {
                    let promised = self.acknowledged;
                    let ledger = self.machine.ledger();
                    return Err(finding(format!(
                        "{found:?} came back where {promised:?} was acknowledged: {ledger}"
                    )));
                }
                Ok(found)
            }
            Outcome::Skipped(Skipped::ReplicaEmpty(_)) if self.acknowledged.is_none() => {
                Ok(Place::on_the_way(None))
            }
            other => Err(finding(format!("{other:?} where {:?} was acknowledged", self.acknowledged))),
        }
    }

    /// Restores beside everything, from the replica as it is now.
    pub(super) fn spot_check(&mut self) -> Turn {
        if self.scenario.rot > 0 && self.random.chance(self.scenario.rot, 100) {
            self.restore_of_rot()?;
        }
        let scratch = empty_disk(&self.clock, 1);
        let found = self.restore(&self.fair(), &scratch);
        found.map_err(|error| format!("spot check: {error}"))?;
        self.check_points(A_FEW)
    }

    /// Restores while one file of the replica has a bit that it was not stored with: by way of other files, or not at all.
    fn restore_of_rot(&mut self) -> Turn {
        let fair = self.fair();
        let listed = catalog(&fair).map_err(|error| error.to_string())?;
        let Ok(plan) = plan_latest(&listed) else { return Ok(()) };
        let files: Vec<Key> = plan.files.iter().map(|file| Key::Ltx(file.level, file.range)).collect();
        let Some(file) = self.random.pick(&files) else { return Ok(()) };
        fair.plan(Plan {
            verb: Some(Verb::Read),
            object: file.to_string(),
            skip: 0,
            times: u64::MAX,
            fault: Fault::Flipped,
        });
        self.note(format!("{file} has a wrong bit"));
        let scratch = empty_disk(&self.clock, 1);
        match self.restore(&fair, &scratch) {
            Ok(_) => Ok(()),
            Err(RestoreError::Damaged { .. } | RestoreError::Gap { .. }) => {
                self.report.refusals += 1;
                Ok(())
            }
            Err(error) => Err(format!("restore of a file with a wrong bit: {error}")),
        }
    }

    /// The bucket without its faults.
    fn fair(&self) -> FaultyStore {
        FaultyStore::new(Arc::clone(self.store.inner()), self.clock.clone(), SeededRandom::new(1))
    }

    pub(super) fn check_many_points(&mut self) -> Turn {
        self.check_points(MANY)
    }

    /// Restores some of the points that the bucket shows: the oldest, the newest, and others.
    fn check_points(&mut self, most: usize) -> Turn {
        let fair = self.fair();
        let listed = catalog(&fair).map_err(|error| error.to_string())?;
        let mut points = advertised(&fair, &listed);
        while points.len() > most {
            points.remove(1 + self.random.index(points.len() - 2));
        }
        for point in points {
            let (digest, _) =
                self.restore_point(&fair, point).map_err(|what| format!("point {point}: {what}"))?;
            self.report.points += 1;
            if *self.proven.entry(point).or_insert(digest) != digest {
                return Err(format!("point {point} gives other bytes than it gave before"));
            }
        }
        Ok(())
    }

    /// The bytes of one point, as a digest, and which commit they are.
    fn restore_point(&self, store: &FaultyStore, point: Txid) -> Result<(u64, Place), String> {
        let scratch = empty_disk(&self.clock, 1);
        let process = scratch.process();
        let vfs = Vfs::new(&process);
        let env = RestoreEnv {
            store: Arc::new(store.clone()),
            files: Arc::new(process.clone()),
            clock: Arc::new(self.clock.clone()),
            vfs: Some(vfs.name().to_owned()),
        };
        let options = Options { target: Target::Txid(point), ..options() };
        restore(&env, &options, &mut |_| {}).map_err(|error| error.to_string())?;
        let bytes = scratch.peek(DATABASE).unwrap_or_default();
        let place = judge(&scratch, DATABASE, &self.machine.ledger())?;
        Ok((fold(0, &bytes), place))
    }

    /// Which commit each of the newest transactions of the replica holds.
    pub(super) fn autopsy(&self, transactions: u64) -> Vec<String> {
        let fair = self.fair();
        let look = |txid: Txid| {
            let found = self.restore_point(&fair, txid).map(|(_, place)| place);
            let shown = format!("{found:?}");
            let shown: String = shown.lines().next().unwrap_or_default().chars().take(160).collect();
            format!("transaction {txid}: {shown}")
        };
        let slots = self.store.inner().list(&Scope::Level(Level::SLOTS)).unwrap_or_default();
        let newest = slots.iter().filter_map(|entry| match entry.key {
            Key::Ltx(_, range) => Some(range.max().get()),
            _ => None,
        });
        let newest = newest.max().unwrap_or(0);
        (newest.saturating_sub(transactions)..=newest).filter_map(Txid::new).map(look).collect()
    }
}

fn options() -> Options {
    Options { parallelism: 1, if_replica_exists: true, ..Options::new(DATABASE) }
}

/// Leaves word for the engine, as the command does after a restore.
fn record(env: &RestoreEnv, restored: &Restored) -> Result<(), LocalError> {
    let Some(record) = restored.record(env.store.location()) else { return Ok(()) };
    local::record_restored(&env.files, &restored.output, None, &record)
}
