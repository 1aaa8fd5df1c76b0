//! Everything that can happen: instances, the network, the bucket, time. An instance acts only on answers.

use super::bucket::{Bucket, Created, Piece, ROOM, Record};
use super::instance::{Asked, Instance, Opened, Pace, Phase, Put, REQUESTS, Role, Stamp, TICK_MS};
use super::rules::{Bounds, Wrong};
use core::fmt;
use core::time::Duration;
use litekeep_core::ownership::{Claimed, Counted, Do, Epochs, Heard, Look, Times};
use litekeep_formats::{Epoch, TimestampMs, Txid};

/// How many creates of crashed or impatient senders the network may hold.
const STRAYS: usize = 2;

/// One step. The number is the instance's, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A tick passes for all.
    Tick,
    /// A newcomer does what its state machine says next.
    Next(u8),
    /// An owner sends a create with a new content.
    Write(u8),
    /// An owner sends a look.
    Ask(u8),
    /// The bucket answers the next request of a look.
    Request(u8),
    /// The look's answer arrives.
    Looked(u8),
    /// The create takes effect, or is refused, and read back.
    Effect(u8),
    /// Its answer arrives.
    Answer(u8),
    /// What would happen next to a message of this instance does not in this tick.
    Hold(u8),
    /// Its answer does not, or it did not get there: it is sent again.
    Lose(u8),
    /// An owner asks for the next epoch's record by name, and it is there.
    See(u8),
    /// An owner records that its epoch has opened.
    Open(u8),
    /// An owner that has nothing under way closes its epoch.
    Close(u8),
    /// All is forgotten; the next life starts on a fresh disk. What was sent stays in the network.
    Crash(u8),
    /// A create that the network held takes effect.
    Land(u8),
    /// The slots up to here are merged.
    Compact(u8),
    /// A slot that is merged, and old enough, is deleted.
    Delete(u8),
}

/// A state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// The store's clock.
    pub(crate) time: u8,
    bucket: Bucket,
    instances: Vec<Instance>,
    strays: [Option<(u8, Piece)>; STRAYS],
    /// The content that was acknowledged in each place.
    acknowledged: [u8; ROOM],
    crashes: u8,
    losses: u8,
}

/// What a world has to reach, or its search says nothing of the rules that are for it.
pub(crate) const SITUATIONS: [&str; 6] = [
    "a fence that is created and too late to count",
    "an epoch opened by a fence",
    "an epoch opened after a closing record",
    "an uncounted slot",
    "a create in a name that was used and freed",
    "an owner that met another's slot",
];

/// What is searched.
pub(crate) struct Model {
    pub(crate) bounds: Bounds,
    pub(crate) wrong: Option<Wrong>,
}

type Checked = Result<(), String>;

fn ticks(n: u8) -> Duration {
    Duration::from_millis(u64::from(n) * u64::from(TICK_MS))
}

fn txid(n: u8) -> Txid {
    Txid::new(n.into()).expect("a slot's number")
}

fn epoch(n: u8) -> Option<Epoch> {
    Epoch::new(n.into())
}

fn small(n: u64) -> u8 {
    u8::try_from(n).expect("within the bounds")
}

impl Model {
    fn times(&self) -> Times {
        let horizon = if self.is(Wrong::NoHorizon) { Duration::MAX } else { ticks(self.bounds.horizon) };
        // A claim that has not opened has both, mostly one tick. More, and the small worlds end before anything happens.
        Times { tenure: ticks(0), hand_over: ticks(self.bounds.hand_over), horizon }
    }

    fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    pub(crate) fn start(&self) -> World {
        let bounds = &self.bounds;
        let instance = |_| Instance::new(self.times(), 0, bounds.writes);
        World {
            time: 0,
            bucket: Bucket::default(),
            instances: (0..bounds.instances).map(instance).collect(),
            strays: [None; STRAYS],
            acknowledged: [0; ROOM],
            crashes: bounds.crashes,
            losses: bounds.losses,
        }
    }

    /// All that may happen next.
    pub(crate) fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let bounds = &self.bounds;
        for (i, it) in (0..).zip(&world.instances) {
            if self.urgent(world, i, it, actions) {
                return;
            }
        }
        // Before the first claim no time passes that would matter.
        if world.time < bounds.time && world.bucket.epochs[0].is_some() {
            actions.push(Action::Tick);
        }
        for (i, instance) in (0..).zip(&world.instances) {
            self.actions_of(world, i, instance, actions);
        }
        for (j, _) in (0..).zip(&world.strays).filter(|(_, stray)| stray.is_some()) {
            actions.push(Action::Land(j));
        }
        actions.extend((world.bucket.covered + 1..=world.bucket.tip()).map(Action::Compact));
        let age = if self.is(Wrong::DeletedAtOnce) { 0 } else { 3 * bounds.horizon };
        let old = |n: &u8| world.bucket.slot(*n).is_some_and(|slot| world.time - slot.at >= age);
        actions.extend((1..=world.bucket.covered).filter(old).map(Action::Delete));
    }

    /// What must be decided before anything else happens.
    fn urgent(&self, world: &World, i: u8, it: &Instance, actions: &mut Vec<Action>) -> bool {
        if it.put.is_some_and(|put| put.pace == Pace::Fresh) {
            self.put_on(world, i, it, actions);
        } else if it.look.is_some_and(|look| look.pace == Pace::Fresh) {
            Self::look_on(i, it, actions);
        } else {
            return false;
        }
        actions.push(Action::Hold(i));
        true
    }

    fn put_on(&self, world: &World, i: u8, it: &Instance, actions: &mut Vec<Action>) {
        match it.put.filter(|put| put.pace != Pace::Held).map(|put| put.phase) {
            Some(Phase::Sent) => actions.push(Action::Effect(i)),
            Some(Phase::Answered(..)) => actions.push(Action::Answer(i)),
            Some(Phase::Uncounted) | None => return,
        }
        if world.losses > 0 && world.strays.iter().any(Option::is_none) {
            actions.push(Action::Lose(i));
        }
    }

    fn look_on(i: u8, it: &Instance, actions: &mut Vec<Action>) {
        match it.look.filter(|look| look.pace != Pace::Held) {
            Some(look) if look.requests < REQUESTS => actions.push(Action::Request(i)),
            Some(_) => actions.push(Action::Looked(i)),
            None => {}
        }
    }

    fn actions_of(&self, world: &World, i: u8, it: &Instance, actions: &mut Vec<Action>) {
        self.put_on(world, i, it, actions);
        Self::look_on(i, it, actions);
        let now = it.now().moment();
        match &it.role {
            Role::Standby(acquire) if it.put.is_none() && it.look.is_none() => {
                let waits = match acquire.next(&now) {
                    Do::Wait(_) => true,
                    // All are alike: the first to claim is called 0.
                    Do::Claim(Epoch::FIRST) => i > 0,
                    Do::Claim(claim) => claim.get() > self.bounds.epochs.into(),
                    Do::Fence(_, n) => n.get() > self.bounds.slots.into(),
                    _ => false,
                };
                if !waits {
                    actions.push(Action::Next(i));
                }
            }
            Role::Owner { tenancy, opened, lost } => {
                let free = it.put.is_none() && !lost;
                if free && it.writes > 0 && it.tip < self.bounds.slots {
                    actions.push(Action::Write(i));
                }
                let uncounted = it.put.is_some_and(|put| put.phase == Phase::Uncounted);
                let aged = it.writes > 0 || it.put.is_some();
                if it.look.is_none() && !lost && (uncounted || aged && tenancy.wants_proof(&now)) {
                    actions.push(Action::Ask(i));
                }
                let sees = tenancy.successor().is_none() && !self.is(Wrong::KeepLowerClaim);
                let mine = small(tenancy.epoch().get());
                if sees && world.bucket.epochs[usize::from(mine)].is_some() {
                    actions.push(Action::See(i));
                }
                if *opened == Opened::Counted {
                    actions.push(Action::Open(i));
                }
                let leaves = tenancy.successor().is_some() || *lost || it.writes == 0;
                if it.put.is_none() && leaves {
                    actions.push(Action::Close(i));
                }
            }
            Role::Standby(_) | Role::Retired => {}
        }
        let room =
            it.put.is_none_or(|put| put.phase != Phase::Sent) || world.strays.iter().any(Option::is_none);
        if world.crashes > 0 && room {
            actions.push(Action::Crash(i));
        }
    }

    /// Takes the step. An error is a property that it broke.
    pub(crate) fn apply(&self, world: &mut World, action: Action) -> Checked {
        match action {
            Action::Tick => {
                let asleep = self.bounds.sleeps_from.is_some_and(|from| world.time >= from);
                world.time += 1;
                for (i, instance) in (0_u8..).zip(&mut world.instances) {
                    instance.tick(i > 0 || !asleep);
                    if instance.put.is_none() || !self.is(Wrong::JudgedWhenSent) {
                        instance.forget_ages(self.times(), self.bounds.horizon);
                    }
                }
                world.bucket.forget_ages(world.time.saturating_sub(3 * self.bounds.horizon));
            }
            Action::Next(i) => return self.next(world, i),
            Action::Write(i) => return self.write(world, i),
            Action::Ask(i) => {
                let n = world.at(i).tip + 1;
                Self::ask(world, i, n);
            }
            Action::Request(i) => self.request(world, i),
            Action::Looked(i) => return self.looked(world, i),
            Action::Effect(i) => {
                let time = world.time;
                let it = &mut world.instances[usize::from(i)];
                let pace = it.answer_pace();
                let put = it.put.as_mut().expect("sent");
                put.phase = Phase::Answered(world.bucket.create(put.n, put.piece, time), time);
                put.pace = pace;
            }
            Action::Hold(i) => world.at(i).hold(),
            Action::Answer(i) => return self.answer(world, i),
            Action::Lose(i) => {
                world.losses -= 1;
                world.abandon(i);
                let it = world.at(i);
                let sent = it.now();
                let put = it.put.as_mut().expect("under way");
                (put.sent, put.phase, put.pace) = (sent, Phase::Sent, Pace::Fresh);
            }
            Action::See(i) => Self::see(world, i),
            Action::Open(i) => world.open(i),
            Action::Close(i) => {
                let Role::Owner { tenancy, .. } = &world.at(i).role else { unreachable!("owners close") };
                let epoch = tenancy.epoch();
                self.close(world, i, epoch);
            }
            Action::Crash(i) => {
                world.crashes -= 1;
                world.abandon(i);
                let time = world.time;
                let it = world.at(i);
                let made = it.made;
                *it = Instance { made, ..Instance::new(self.times(), time, it.writes) };
                it.stand_by(self.times());
            }
            Action::Land(j) => {
                let (n, piece) = world.strays[usize::from(j)].take().expect("held");
                world.strays.sort_unstable_by_key(|stray| stray.map(|(n, piece)| (n, piece.content)));
                world.bucket.create(n, piece, world.time);
            }
            Action::Compact(to) => world.bucket.compact(to),
            Action::Delete(n) => world.bucket.slots[usize::from(n - 1)] = None,
        }
        Ok(())
    }

    /// What must hold in every state.
    pub(crate) fn check(&self, world: &World) -> Checked {
        let mut before = Piece::default();
        let mut reached = 0;
        for (n, piece) in world.bucket.chain() {
            if piece.epoch < before.epoch {
                return Err(format!("epochs go back at slot {n}"));
            }
            if piece.base != before.content {
                return Err(format!("slot {n} does not stand on the one before it"));
            }
            let promised = world.acknowledged[usize::from(n - 1)];
            if promised != 0 && promised != piece.content {
                return Err(format!("slot {n} was acknowledged with another content"));
            }
            (before, reached) = (piece, n);
        }
        match world.acknowledged[usize::from(reached)..].iter().any(|content| *content != 0) {
            true => Err(format!("what was acknowledged past slot {reached} is not in the chain")),
            false => Ok(()),
        }
    }

    fn next(&self, world: &mut World, i: u8) -> Checked {
        let it = world.at(i);
        let Role::Standby(acquire) = &it.role else { unreachable!("newcomers only") };
        let now = it.now();
        let ours = acquire.epoch();
        match acquire.next(&now.moment()) {
            Do::CatchUp => {
                let tip = world.bucket.tip();
                let last = (tip > 0).then(|| world.bucket.piece(tip)).flatten().unwrap_or_default();
                let it = world.at(i);
                (it.tip, it.content) = (tip, last.content);
                let seen = self.blind(epoch(last.epoch), ours);
                self.hear(world, i, Heard::CaughtUp { tip: Txid::new(tip.into()), epoch: seen }, now)?;
                // Before a claim it does not matter how the two fall.
                if ours.is_none() { self.next(world, i) } else { Ok(()) }
            }
            Do::ListEpochs => {
                let epochs = self.list(world, ours);
                self.hear(world, i, Heard::Epochs(epochs), now)
            }
            Do::Claim(claim) => {
                let time = world.time;
                let free = &mut world.bucket.epochs[usize::from(small(claim.get())) - 1];
                let created = free.is_none();
                free.get_or_insert(Record { at: time, opened: false, closed: None });
                self.hear(world, i, Heard::Claimed(created), now)
            }
            Do::Prove(_) if self.is(Wrong::NoLook) => {
                self.hear(world, i, Heard::Looked(Look::default()), now)
            }
            Do::Prove(n) => {
                Self::ask(world, i, small(n.get()));
                Ok(())
            }
            Do::Fence(epoch, n) => {
                let (n, epoch) = (small(n.get()), small(epoch.get()));
                let piece = Piece { epoch, content: 128 + epoch, base: it.content };
                it.put = Some(Put { n, piece, sent: now, phase: Phase::Sent, pace: Pace::Fresh });
                Ok(())
            }
            Do::GiveUp { ours: Some(ours), .. } => {
                self.close(world, i, ours);
                Ok(())
            }
            Do::GiveUp { ours: None, .. } => {
                it.stand_by(self.times());
                Ok(())
            }
            Do::Wait(_) | Do::Own(..) | Do::Damaged(_) | Do::Lost { .. } => unreachable!("not a step"),
        }
    }

    fn see(world: &mut World, i: u8) {
        let (above, time) = (epoch(world.bucket.newest_epoch()), world.time);
        let it = world.at(i);
        it.told(time);
        let Role::Owner { tenancy, .. } = &mut it.role else { unreachable!("owners see") };
        tenancy.saw_claim(above.expect("it is there"));
    }

    fn ask(world: &mut World, i: u8, n: u8) {
        let it = world.at(i);
        let (sent, found) = (it.now(), Look::default());
        it.look = Some(Asked { n, sent, requests: 0, found, date: 0, pace: Pace::Fresh });
    }

    fn request(&self, world: &mut World, i: u8) {
        let (time, newest) = (world.time, world.bucket.newest_epoch());
        let it = &mut world.instances[usize::from(i)];
        let ours = match &it.role {
            Role::Standby(acquire) => acquire.epoch(),
            Role::Owner { tenancy, .. } => Some(tenancy.epoch()),
            Role::Retired => None,
        };
        let answer = it.answer_pace();
        let look = it.look.as_mut().expect("asked");
        let order = if self.is(Wrong::LevelsFirst) { [2, 1, 0] } else { [0, 1, 2] };
        let last = if self.bounds.atomic_look { REQUESTS } else { look.requests + 1 };
        for request in look.requests..last {
            match order[usize::from(request)] {
                0 => look.found.higher = self.blind(epoch(newest), ours).filter(|it| Some(*it) > ours),
                1 => look.found.taken = world.bucket.slot(look.n).is_some(),
                _ => look.found.covered = Txid::new(world.bucket.covered.into()),
            }
        }
        (look.requests, look.date) = (last, time);
        look.pace = if last == REQUESTS { answer } else { Pace::Loose };
    }

    fn looked(&self, world: &mut World, i: u8) -> Checked {
        let it = world.at(i);
        let look = it.look.take().expect("answered");
        let now = it.told(look.date);
        let sent = if self.is(Wrong::DatedByAnswer) { now } else { look.sent };
        if matches!(it.role, Role::Standby(_)) {
            return self.hear(world, i, Heard::Looked(look.found), sent);
        }
        let uncounted = it.put.filter(|put| put.phase == Phase::Uncounted && put.n == look.n);
        let mine = uncounted.is_some() || look.n <= it.tip;
        let Role::Owner { tenancy, lost, .. } = &mut it.role else { return Ok(()) };
        let until = if self.is(Wrong::OldLook) { sent } else { now };
        let taken = look.found.taken && !(mine && self.is(Wrong::EarlyLook));
        let proves = tenancy.proved(
            &Look { taken, ..look.found },
            txid(look.n),
            mine,
            self.clocks(sent).moment(),
            &self.clocks(until).moment(),
        );
        match uncounted {
            Some(put) if proves => self.count(world, i, put),
            Some(_) if tenancy.is_lost(&look.found, txid(look.n)) => {
                (*lost, it.put) = (true, None);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write(&self, world: &mut World, i: u8) -> Checked {
        let it = world.at(i);
        let Role::Owner { tenancy, .. } = &it.role else { unreachable!("owners write") };
        it.writes -= 1;
        it.made += 1;
        let content = 16 * (i + 1) + it.made;
        let piece = Piece { epoch: small(tenancy.epoch().get()), content, base: it.content };
        let put = Put { n: it.tip + 1, piece, sent: it.now(), phase: Phase::Sent, pace: Pace::Fresh };
        it.put = Some(put);
        if self.is(Wrong::AckBeforeCreate) { world.acknowledge(put) } else { Ok(()) }
    }

    fn answer(&self, world: &mut World, i: u8) -> Checked {
        let it = world.at(i);
        let put = it.put.expect("sent");
        let Phase::Answered(created, date) = put.phase else { unreachable!("answered") };
        let now = it.told(date);
        let ours = created != Created::ByOthers || self.is(Wrong::RefusedIsMine);
        let sent = if self.is(Wrong::DatedByAnswer) { now } else { put.sent };
        let Role::Owner { tenancy, lost, .. } = &mut it.role else {
            it.put = None;
            it.fence = ours;
            return self.hear(world, i, Heard::Fenced(ours), sent);
        };
        if !ours {
            (*lost, it.put) = (true, None);
            return Ok(());
        }
        let until = if self.is(Wrong::JudgedWhenSent) { sent } else { now };
        match tenancy.created(self.clocks(sent).moment(), &self.clocks(until).moment()) {
            Counted::Yes => self.count(world, i, put),
            Counted::Unproven => {
                it.put = Some(Put { phase: Phase::Uncounted, pace: Pace::Loose, ..put });
                Ok(())
            }
        }
    }

    fn count(&self, world: &mut World, i: u8, put: Put) -> Checked {
        let it = world.at(i);
        (it.tip, it.content, it.put) = (put.n, put.piece.content, None);
        if let Role::Owner { opened, .. } = &mut it.role {
            *opened = (*opened).max(Opened::Counted);
        }
        world.acknowledge(put)
    }

    /// Tells the newcomer, and does what needs nobody else.
    fn hear(&self, world: &mut World, i: u8, heard: Heard, sent: Stamp) -> Checked {
        let date = if matches!(heard, Heard::Looked(_) | Heard::Fenced(_)) { 0 } else { world.time };
        let times = self.times();
        let it = world.at(i);
        let now = it.told(date);
        let (sent, now) = match heard {
            Heard::Fenced(_) if self.is(Wrong::JudgedWhenSent) => (sent, sent),
            Heard::Fenced(_) | Heard::Looked(_) => (self.clocks(sent), self.clocks(now)),
            _ => (sent, now),
        };
        let Role::Standby(acquire) = &mut it.role else { unreachable!("newcomers only") };
        acquire.hear(heard, sent.moment(), &now.moment());
        match acquire.next(&now.moment()) {
            Do::Own(epoch, proof) => {
                let tenancy = litekeep_core::ownership::Tenancy::new(times, epoch, proof);
                let opened = if it.fence { Opened::Counted } else { Opened::Not };
                if it.fence {
                    (it.tip, it.content) = (it.tip + 1, 128 + small(epoch.get()));
                }
                it.fence = false;
                it.role = Role::Owner { tenancy, opened, lost: false };
                Ok(())
            }
            Do::Damaged(epoch) => Err(format!("{i} takes record {} for damaged", epoch.get())),
            Do::Lost { epoch, closed, tip } => {
                Err(format!("{i} says that epoch {} closed at {closed}, past {tip}", epoch.get()))
            }
            _ => Ok(()),
        }
    }

    fn clocks(&self, stamp: Stamp) -> Stamp {
        if self.is(Wrong::OneClock) { Stamp { store: None, ..stamp } } else { stamp }
    }

    /// What an instance that keeps its claim believes of a higher epoch.
    fn blind(&self, seen: Option<Epoch>, ours: Option<Epoch>) -> Option<Epoch> {
        if self.is(Wrong::KeepLowerClaim) && ours.is_some() { seen.min(ours) } else { seen }
    }

    fn list(&self, world: &World, ours: Option<Epoch>) -> Epochs {
        let records = (1..).zip(&world.bucket.epochs).filter_map(|(e, record)| {
            let record = record.as_ref()?;
            let at = i64::from(record.at) * i64::from(TICK_MS);
            Some(Claimed {
                epoch: epoch(e)?,
                at: Some(TimestampMs(at)),
                opened: record.opened,
                closed: record.closed.map(u64::from),
                gone: false,
            })
        });
        let seen = |record: &Claimed| self.blind(Some(record.epoch), ours) == Some(record.epoch);
        let sealed = world.bucket.chain().map(|(_, piece)| piece.epoch).max().and_then(epoch);
        Epochs { records: records.filter(seen).collect(), sealed: self.blind(sealed, ours) }
    }

    fn close(&self, world: &mut World, i: u8, epoch: Epoch) {
        let tip = world.at(i).tip;
        world.record(epoch).closed = Some(tip);
        world.at(i).stand_by(self.times());
    }

    /// When faults stop and everybody has his turn, a write is acknowledged: after how many ticks?
    pub(crate) fn progress(&self, world: &World) -> Result<usize, String> {
        const TICKS: usize = 12;
        let roomy = Model {
            bounds: Bounds {
                slots: small(ROOM as u64),
                epochs: small(ROOM as u64),
                sleeps_from: None,
                ..self.bounds
            },
            wrong: self.wrong,
        };
        let mut world = world.clone();
        for i in 0..self.bounds.instances {
            world.at(i).tick(false);
        }
        world.strays = [None; STRAYS];
        (world.crashes, world.losses) = (0, 0);
        let promised = |world: &World| world.acknowledged.iter().filter(|content| **content != 0).count();
        let before = promised(&world);
        let (mut actions, mut done) = (Vec::new(), Vec::new());
        for tick in 0..TICKS {
            for i in 0..self.bounds.instances {
                let it = world.at(i);
                it.writes = 1;
                if it.role == Role::Retired {
                    it.stand_by(self.times());
                }
                for _ in 0..12 {
                    actions.clear();
                    roomy.actions_of(&world, i, &world.instances[usize::from(i)], &mut actions);
                    let Some(action) = sensible(&world, i, &actions) else { break };
                    done.push(action);
                    let stepped = roomy.apply(&mut world, action).and_then(|()| roomy.check(&world));
                    stepped.map_err(|what| format!("{what}, when faults had stopped: {done:?}"))?;
                    if promised(&world) > before {
                        return Ok(tick);
                    }
                }
            }
            done.push(Action::Tick);
            roomy.apply(&mut world, Action::Tick)?;
        }
        Err(format!("nothing is acknowledged when faults have stopped: {done:?}"))
    }
}

/// What an instance does that has no reason to wait: answers first, and it leaves when it has to.
fn sensible(world: &World, i: u8, actions: &[Action]) -> Option<Action> {
    let leaves = match &world.instances[usize::from(i)].role {
        Role::Owner { tenancy, lost, .. } => *lost || tenancy.successor().is_some(),
        _ => false,
    };
    let order = [
        Action::Request(i),
        Action::Looked(i),
        Action::Effect(i),
        Action::Answer(i),
        Action::See(i),
        Action::Next(i),
        Action::Open(i),
        Action::Close(i),
        Action::Ask(i),
        Action::Write(i),
    ];
    let allowed = |it: &Action| match it {
        Action::Close(_) => leaves,
        Action::Write(_) => !leaves,
        _ => true,
    };
    order.into_iter().filter(allowed).find(|action| actions.contains(action))
}

impl World {
    /// Which of [`SITUATIONS`] this is.
    pub(crate) fn situations(&self) -> [bool; SITUATIONS.len()] {
        let any = |is: &dyn Fn(&Instance) -> bool| self.instances.iter().any(is);
        let owner = |it: &Instance| matches!(it.role, Role::Owner { .. });
        let strange = |n: u8| {
            let slot = self.bucket.slot(n);
            slot.is_some_and(|slot| Some(slot.piece) != self.bucket.piece(n))
        };
        [
            any(&|it| it.fence && !owner(it)),
            any(&|it| owner(it) && it.content >= 128),
            any(&|it| match &it.role {
                Role::Owner { tenancy, .. } => {
                    let before = usize::from(small(tenancy.epoch().get())).checked_sub(2);
                    before.and_then(|before| self.bucket.epochs[before]).is_some_and(|it| it.closed.is_some())
                }
                _ => false,
            }),
            any(&|it| it.put.is_some_and(|put| put.phase == Phase::Uncounted)),
            (1..=self.bucket.covered).any(strange),
            any(&|it| matches!(it.role, Role::Owner { lost: true, .. })),
        ]
    }

    fn at(&mut self, i: u8) -> &mut Instance {
        &mut self.instances[usize::from(i)]
    }

    fn record(&mut self, epoch: Epoch) -> &mut Record {
        self.bucket.epochs[usize::from(small(epoch.get())) - 1].as_mut().expect("it was claimed")
    }

    fn open(&mut self, i: u8) {
        let Role::Owner { tenancy, opened, .. } = &mut self.at(i).role else { unreachable!("owners open") };
        *opened = Opened::Recorded;
        let epoch = tenancy.epoch();
        self.record(epoch).opened = true;
    }

    /// Whoever sent it does not wait for it any more.
    fn abandon(&mut self, i: u8) {
        let Some(put) = self.at(i).put.filter(|put| put.phase == Phase::Sent) else { return };
        let free = self.strays.iter_mut().find(|stray| stray.is_none()).expect("checked before");
        *free = Some((put.n, put.piece));
        self.strays.sort_unstable_by_key(|stray| stray.map(|(n, piece)| (n, piece.content)));
    }

    fn acknowledge(&mut self, put: Put) -> Checked {
        let there = &mut self.acknowledged[usize::from(put.n - 1)];
        if *there != 0 && *there != put.piece.content {
            return Err(format!("slot {} is acknowledged twice", put.n));
        }
        *there = put.piece.content;
        Ok(())
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "covered {}, slots", self.bucket.covered)?;
        for (n, slot) in (1..).zip(&self.bucket.slots).filter_map(|(n, slot)| Some((n, (*slot)?))) {
            write!(f, " {n}:e{}c{}", slot.piece.epoch, slot.piece.content)?;
        }
        write!(f, ", epochs")?;
        for (e, it) in (1..).zip(&self.bucket.epochs).filter_map(|(e, it)| Some((e, (*it)?))) {
            write!(f, " {e}{}", if it.opened { "o" } else { "" })?;
            it.closed.map_or(Ok(()), |txid| write!(f, "c{txid}"))?;
        }
        write!(f, ", ack")?;
        for (n, content) in (1..).zip(&self.acknowledged).filter(|(_, content)| **content != 0) {
            write!(f, " {n}:c{content}")?;
        }
        Ok(())
    }
}
