#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use litekeep_formats::{Level, Txid, TxidRange};
use litekeep_store::memory::MemoryStore;

const NOW: TimestampMs = TimestampMs(0);

fn slot(number: u64) -> Key {
    Key::Ltx(Level::SLOTS, TxidRange::single(Txid::new(number).unwrap()))
}

fn store(seed: u64) -> FaultyStore {
    let clock = SimClock::new();
    FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock, SeededRandom::new(seed))
}

fn next(fault: Fault) -> Plan {
    Plan { verb: None, object: String::new(), skip: 0, times: 1, fault }
}

fn create(store: &FaultyStore, number: u64, body: &'static str) -> Result<Created, ErrorKind> {
    store.create(&slot(number), Bytes::from_static(body.as_bytes()), NOW).map_err(|error| error.kind)
}

#[test]
fn a_create_meets_each_fault_as_it_says() {
    use ErrorKind::{FixConfig, Retry, Wait};
    for (fault, answer, there) in [
        (Fault::Refused(Retry), Err(Retry), false),
        (Fault::Refused(Wait), Err(Wait), false),
        (Fault::Refused(FixConfig), Err(FixConfig), false),
        (Fault::LostAnswer, Err(Retry), true),
        (Fault::HeldBack(Duration::from_secs(9)), Err(Retry), false),
        (Fault::Slow(Duration::from_secs(9)), Ok(Created::Yes), true),
        (Fault::Vanishes, Ok(Created::Yes), false),
        (Fault::Twice(Duration::from_secs(9)), Ok(Created::Yes), true),
        (Fault::Repeated, Ok(Created::Exists), true),
    ] {
        let store = store(1);
        store.plan(next(fault));
        assert_eq!(create(&store, 1, "a"), answer, "{fault:?}");
        assert_eq!(store.inner().head(&slot(1)).is_ok(), there, "{fault:?}");
    }
}

#[test]
fn a_write_that_was_held_back_arrives_when_its_time_has_come_unless_its_name_was_taken() {
    for taken in [false, true] {
        let store = store(1);
        store.plan(next(Fault::HeldBack(Duration::from_secs(9))));
        create(&store, 1, "late").unwrap_err();
        if taken {
            create(&store, 1, "other").unwrap();
        }
        store.clock.advance(Duration::from_secs(10));
        let body = store.read(&slot(1), None).unwrap().bytes;
        assert_eq!(body, if taken { "other" } else { "late" });
    }
}

#[test]
fn a_stale_listing_shows_what_was_there_before() {
    let store = store(1);
    let count = || store.list(&Scope::Level(Level::SLOTS)).unwrap().len();
    assert_eq!(count(), 0);
    create(&store, 1, "a").unwrap();
    assert_eq!(count(), 1);
    create(&store, 2, "b").unwrap();
    assert_eq!(count(), 2);
    store.plan(next(Fault::Stale));
    assert_eq!((count(), count()), (1, 2));
}

#[test]
fn a_read_is_short_or_wrong_when_planned() {
    let store = store(1);
    create(&store, 1, "some bytes").unwrap();
    store.plan(next(Fault::Truncated));
    assert!(store.read(&slot(1), None).unwrap().bytes.len() < 10);
    store.plan(next(Fault::Flipped));
    assert_ne!(store.read(&slot(1), None).unwrap().bytes, "some bytes");
    assert_eq!(store.read(&slot(1), None).unwrap().bytes, "some bytes");
}

#[test]
fn a_plan_hits_the_operations_it_names_and_no_others() {
    let store = store(1);
    let fault = Fault::Refused(ErrorKind::Retry);
    let object = slot(2).to_string();
    store.plan(Plan { verb: Some(Verb::Create), object, skip: 1, times: 2, fault });
    let created = [1, 2, 2, 2, 2].map(|number| create(&store, number, "a").is_ok());
    assert_eq!(created, [true, true, false, false, true]);
}

#[test]
fn equal_seeds_have_equal_weather_and_a_storm_has_some_of_everything() {
    let run = |seed| {
        let store = store(seed);
        store.set_weather(Weather { truncated: 20, ..Weather::STORM });
        for number in 1..=300 {
            let _ = create(&store, number, "abc");
            let _ = store.list(&Scope::Level(Level::SLOTS));
            let _ = store.read(&slot(number), None);
        }
        store
    };
    assert_eq!(run(1).history(), run(1).history());
    assert_ne!(run(1).history(), run(2).history());
    let faults: Vec<_> = run(1).records().into_iter().filter_map(|record| record.fault).collect();
    let some = |like: fn(&Fault) -> bool| assert!(faults.iter().any(like));
    some(|fault| matches!(fault, Fault::Refused(ErrorKind::Retry)));
    some(|fault| matches!(fault, Fault::Refused(ErrorKind::Wait)));
    some(|fault| matches!(fault, Fault::LostAnswer));
    some(|fault| matches!(fault, Fault::HeldBack(_)));
    some(|fault| matches!(fault, Fault::Slow(_)));
    some(|fault| matches!(fault, Fault::Stale));
    some(|fault| matches!(fault, Fault::Truncated));
    some(|fault| matches!(fault, Fault::Twice(_)));
    some(|fault| matches!(fault, Fault::Repeated));
}

#[test]
fn an_overwritten_or_early_deleted_slot_is_noticed() {
    let store = store(1);
    create(&store, 1, "a").unwrap();
    store.put(&slot(1), "a".into(), NOW).unwrap();
    assert_eq!(store.violations(), Vec::<String>::new());
    store.put(&slot(1), "b".into(), NOW).unwrap();
    assert_eq!(store.violations().len(), 1);
    store.clock.advance(Duration::from_secs(179));
    store.delete(&[slot(1)]).unwrap();
    assert_eq!(store.violations().len(), 2);
    create(&store, 2, "a").unwrap();
    store.clock.advance(Duration::from_secs(180));
    store.delete(&[slot(2)]).unwrap();
    assert_eq!(store.violations().len(), 2);
}
