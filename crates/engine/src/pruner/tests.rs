use super::*;
use crate::compactor::{Step, step};
use crate::files::RealFiles;
use crate::restore::forge::{Chain, Meddler, slot_key, txid};
use crate::restore::{Options, Outcome, RestoreEnv, restore};
use crate::snapshot::snapshot;
use litekeep_core::compact::Limits;
use litekeep_core::env::Clock as _;
use litekeep_core::restore::Target;
use litekeep_core::retain::Deletion;
use litekeep_formats::ltx::{Marks, PageEncoding};
use litekeep_formats::{Level, Txid};
use litekeep_store::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const POLICY: Policy = Policy { window: Duration::from_secs(1000), slots: Some(Duration::from_secs(200)) };

fn restored(chain: &Chain, target: Target) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path().join("db"));
    options.target = target;
    let env = RestoreEnv {
        store: Arc::new(chain.store.clone()),
        files: Arc::new(RealFiles),
        clock: chain.clock.clone(),
        vfs: None,
    };
    match restore(&env, &options, &mut |_| {}).expect("restored") {
        Outcome::Restored(_) => std::fs::read(&options.output).expect("readable"),
        other => panic!("{other:?}"),
    }
}

/// Two thousand seconds of slots, compacted, with a snapshot every 400.
fn long_lived() -> Chain {
    let mut chain = Chain::new();
    chain.image(3, &[(1, 1), (2, 1), (3, 1)]);
    for round in 0..10 {
        chain.run(200);
        for level in [0, 1] {
            let level = Level::new(level).expect("a level");
            loop {
                let listed = catalog(&chain.store).expect("listed");
                let limits = Limits { inputs: 30, bytes: 1 << 20 };
                if step(&chain.store, &listed, level, limits, PageEncoding::Block).expect("compacts")
                    == Step::Nothing
                {
                    break;
                }
            }
        }
        if round % 2 == 0 {
            let listed = catalog(&chain.store).expect("listed");
            snapshot(&chain.store, &listed, txid(chain.txid), None, PageEncoding::Block).expect("made");
        }
    }
    chain
}

#[test]
fn a_round_deletes_and_every_promised_point_still_restores_byte_for_byte() {
    let chain = long_lived();
    let before = catalog(&chain.store).expect("listed").len();
    let (plan, _) = look(&chain.store, &POLICY).expect("proven");
    assert!(plan.deletions.len() > 1500, "{} of {before}", plan.deletions.len());
    assert_eq!(carry_out(&chain.store, &plan).expect("deleted"), plan.deletions.len());
    assert_eq!(catalog(&chain.store).expect("listed").len(), before - plan.deletions.len());
    let some: Vec<Txid> =
        plan.promised.iter().copied().step_by(37).chain(plan.promised.last().copied()).collect();
    for point in some {
        assert!(restored(&chain, Target::Txid(point)) == chain.states[&point.get()], "{point}");
    }
    assert!(restored(&chain, Target::Latest) == chain.states[&chain.txid]);
    let (again, _) = look(&chain.store, &POLICY).expect("proven");
    assert!(again.deletions.is_empty(), "a second round finds nothing: {:?}", again.deletions);
}

#[test]
fn a_round_that_is_cut_off_leaves_a_replica_that_restores() {
    let chain = long_lived();
    let (plan, _) = look(&chain.store, &POLICY).expect("proven");
    for stop in [1, 100, 700, plan.deletions.len() - 1] {
        let part = Plan { deletions: plan.deletions[..stop].to_vec(), ..plan.clone() };
        carry_out(&chain.store, &part).expect("deleted");
        assert!(restored(&chain, Target::Latest) == chain.states[&chain.txid]);
        let point = plan.promised[plan.promised.len() / 2];
        assert!(restored(&chain, Target::Txid(point)) == chain.states[&point.get()]);
    }
}

#[test]
fn r63_a_delete_that_is_refused_is_an_error_and_not_silence() {
    let chain = long_lived();
    let store =
        Meddler::new(chain.store.clone()).on(|verb, _| (verb == "delete").then_some(ErrorKind::FixConfig));
    let (plan, _) = look(&store, &POLICY).expect("proven");
    let error = carry_out(&store, &plan).expect_err("no permission");
    assert!(matches!(error, PruneError::Store(error) if error.kind() == ErrorKind::FixConfig));
}

#[test]
fn r27_a_running_restore_survives_retention_between_plan_and_fetch() {
    let chain = long_lived();
    let inner = chain.store.clone();
    let done = AtomicBool::new(false);
    let store = Meddler::new(chain.store.clone()).on(move |verb, _| {
        if verb == "read" && !done.swap(true, Ordering::SeqCst) {
            let (plan, _) = look(&inner, &POLICY).expect("proven");
            carry_out(&inner, &plan).expect("deleted");
        }
        None
    });
    let dir = tempfile::tempdir().expect("a directory");
    // A point that is planned over slots which the round deletes.
    let end = chain.txid - 250;
    let listed = catalog(&chain.store).expect("listed");
    let boundary = listed
        .level(Level::new(1).expect("a level"))
        .iter()
        .map(|file| file.range.max())
        .find(|max| max.get() >= end)
        .expect("a boundary");
    let mut options = Options::new(dir.path().join("db"));
    options.target = Target::Txid(boundary);
    let env = RestoreEnv {
        store: Arc::new(store),
        files: Arc::new(RealFiles),
        clock: chain.clock.clone(),
        vfs: None,
    };
    restore(&env, &options, &mut |_| {}).expect("restored");
    assert!(std::fs::read(&options.output).expect("readable") == chain.states[&boundary.get()]);
}

#[test]
fn slots_younger_than_three_minutes_stay_whatever_is_asked() {
    let chain = long_lived();
    let policy = Policy { slots: Some(Duration::ZERO), window: Duration::ZERO };
    let (plan, _) = look(&chain.store, &policy).expect("proven");
    let newest = (1..=chain.txid)
        .rev()
        .find(|id| {
            plan.deletions.iter().any(|d: &Deletion| slot_key(*id) == Key::Ltx(d.file.level, d.file.range))
        })
        .expect("old ones go");
    // One slot a second, and those of one level 1 file (30) go together.
    assert!((chain.txid - 180 - 30..=chain.txid - 180).contains(&newest), "{newest} of {}", chain.txid);
}

#[test]
fn an_image_that_others_went_on_without_goes_before_the_slots_that_tell() {
    let mut chain = Chain::new();
    chain.run(2);
    let before = (chain.pages.clone(), chain.commit);
    chain.change(6, &[(1, 9), (2, 9), (3, 9), (4, 9), (5, 9), (6, 9)]);
    chain.put_slot(&[], Marks::CONTENT_IN_LEVEL_9);
    chain.snapshot();
    (chain.pages, chain.commit) = before;
    chain.epoch = Some(2);
    chain.image(6, &[(1, 7), (2, 7), (3, 7), (4, 7), (5, 7), (6, 7)]);
    chain.snapshot();
    chain.run(2);
    // By the snapshots that end with them, the slots may go.
    chain.clock.sleep(Duration::from_secs(300));
    let (plan, _) = look(&chain.store, &POLICY).expect("a proven plan");
    let (first, reason) = (plan.deletions[0].file.id(), plan.deletions[0].reason);
    let image = TxidRange::new(Txid::FIRST, txid(3)).expect("a range");
    assert_eq!((first, reason), ((Level::SNAPSHOTS, image), Reason::NeverCounted));
    carry_out(&chain.store, &plan).expect("deleted");
    let left = catalog(&chain.store).expect("listed");
    assert!(!left.contains(Level::SNAPSHOTS, image));
    assert!(restored(&chain, Target::Latest) == chain.states[&6]);
}
