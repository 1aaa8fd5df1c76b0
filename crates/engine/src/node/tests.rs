//! Whose look a standby has answered when it comes to the tip.

use super::{Application, Left, Node, NodeSettings, Role};
use crate::follow::Followed;
use crate::follow::tests::Chain;
use litekeep_formats::{Epoch, Txid};
use litekeep_store::ErrorKind;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Tells its roles.
struct Roles(mpsc::Sender<Role>);

impl Application for Roles {
    fn role(&self, role: Role) {
        let _ = self.0.send(role); // the test may be over
    }
    fn start_writing(&self, _: Option<Epoch>) -> Result<(), String> {
        Err("nobody asked for that".to_owned())
    }
    fn stop_writing(&self) {}
    fn left(&self, _: Left) {}
}

fn newest(slots: &[Result<Followed, ErrorKind>]) -> Option<Txid> {
    slots.last().map(|slot| match slot {
        Ok(Followed::Applied(txid)) => *txid,
        other => panic!("{other:?}"),
    })
}

/// The second wave finds one slot and then nothing: the tip, for those who had asked before it was sent. Who asks while
/// it is under way may want what came after it.
#[test]
fn a_look_is_answered_by_a_question_that_was_sent_after_it_was_asked_for() {
    let chain = Chain::new();
    let (roles, told) = mpsc::channel();
    let settings = NodeSettings { replication: chain.settings.clone(), ..NodeSettings::default() };
    chain.waves.expect(&[1], false);
    let node = Node::start(chain.env(), settings, &chain.copy, Arc::new(Roles(roles)));
    let node = node.expect("started");
    assert_eq!(told.recv_timeout(LONG), Ok(Role::Standby));
    newest(&chain.go_on(2));
    chain.waves.expect(&[1, 2], true);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| node.look(LONG));
        chain.waves.until_held();
        chain.waves.release(true);
        chain.waves.until_held();
        let second = scope.spawn(|| node.look(LONG));
        while node.shared.inner().looks_asked < 2 {
            std::thread::yield_now();
        }
        // It lies behind what the second wave was told.
        let newest = newest(&chain.go_on(1));
        chain.waves.expect_then(&[1, 2]);
        chain.waves.release(false);
        let (first, second) = (first.join().expect("joined"), second.join().expect("joined"));
        let (first, second) = (first.expect("looked"), second.expect("looked"));
        assert!(first >= newest.and_then(Txid::previous), "{first:?}");
        assert_eq!(second, newest, "it was not there when the first look ended");
    });
    assert!(chain.waves.left().is_empty());
}
