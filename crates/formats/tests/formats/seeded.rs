//! The fuzz targets on inputs that are the same in every run: the fixtures, and damage done to them by seed.
//!
//! A failure prints the target and the seed; `input(seed, ...)` makes the same bytes again.

use crate::support::{Seeded, all_ltx, archive, page, plain, size, txids};
use crate::targets;
use litekeep_formats::Salts;
use litekeep_formats::lz4frame::FrameReader;
use litekeep_formats::source::read_all;
use litekeep_formats::wal::{FrameChain, WalHeader};
use std::panic::{AssertUnwindSafe, catch_unwind};

const ROUNDS: u64 = 2_500;

/// Good inputs of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = all_ltx().into_iter().map(|(_, bytes)| bytes).collect();
    corpus.retain(|bytes| bytes.len() < 6_000);
    for (name, bytes) in archive("v3-basic") {
        if name.contains("/wal/") {
            corpus.push(read_all(FrameReader::new(bytes.as_slice()), 1 << 20).expect("good").expect("small"));
        }
        corpus.push(bytes);
    }
    for big_endian in [false, true] {
        corpus.push(small_wal(big_endian));
    }
    let mut write = plain(size(512), 9, txids(3, 5)).write().to_vec();
    write.extend((0..60u8).map(|n| n.wrapping_mul(37)));
    corpus.push(write);
    corpus
        .extend(["00000001_000012c3.wal.lz4", "0000000a.snapshot.lz4", "0123456789abcdef"].map(|t| t.into()));
    corpus
}

fn small_wal(big_endian: bool) -> Vec<u8> {
    let header = WalHeader::new(big_endian, size(512), 1, Salts(7, 8));
    let mut chain = FrameChain::begin(&header);
    let mut bytes = header.write().to_vec();
    for (number, commit, fill) in [(1, 0, 1u8), (2, 2, 2), (3, 0, 3), (1, 3, 4)] {
        let data = [fill; 512];
        bytes.extend(chain.append(page(number), commit, &data).write());
        bytes.extend(data);
    }
    bytes
}

/// One corpus entry with up to eight changes.
fn input(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Seeded(seed);
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(9) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + 1 + random.below(16)).min(bytes.len()))),
            4 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..(from + 64).min(other.len())].iter().copied());
            }
            _ => {
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill([0, 0xff, 0x7f, 0x80][random.below(4)]);
            }
        }
    }
    bytes
}

#[test]
fn no_target_fails_on_good_inputs_or_on_damaged_ones() {
    let corpus = corpus();
    for (name, target) in targets::ALL {
        for bytes in &corpus {
            target(bytes);
        }
        for seed in 0..ROUNDS {
            let bytes = input(seed, &corpus);
            let run = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            assert!(run.is_ok(), "target {name} fails with seed {seed}");
        }
    }
}

#[test]
fn no_target_fails_on_noise() {
    for (name, target) in targets::ALL {
        for seed in 0..1_000 {
            let mut random = Seeded(seed ^ 0x5eed);
            let length = random.below(600);
            let bytes = random.bytes(length);
            let run = catch_unwind(AssertUnwindSafe(|| target(&bytes)));
            assert!(run.is_ok(), "target {name} fails with seed {seed}");
        }
    }
}
