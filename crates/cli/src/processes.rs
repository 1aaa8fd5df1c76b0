//! Who runs on this machine, as far as `/proc` tells. Where there is none, nobody is seen.

use rustix::process::{Pid, WaitId, WaitIdOptions};

/// What one line of `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// It has ended, and its parent has not asked yet how.
    ended: bool,
    parent: i32,
    group: i32,
}

/// How many of a process group have not ended.
pub(crate) fn alive(group: Pid) -> usize {
    all().filter(|it| it.group == group.as_raw_pid() && !it.ended).count()
}

/// Takes the ends of this process's children, all but one; whether there was any. Each is asked for by its number: whoever
/// asks for just anybody's end may get that one's too, which is for somebody else to take.
pub(crate) fn reap_all_but(one: Pid) -> bool {
    let own = rustix::process::getpid().as_raw_pid();
    let ended = all().filter(|it| it.ended && it.parent == own && it.pid != one.as_raw_pid());
    let reaped = |pid| {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_)))
    };
    ended.filter_map(|it| Pid::from_raw(it.pid)).filter(|pid| reaped(*pid)).count() > 0
}

fn all() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    // Whoever is gone meanwhile has no line. A name may be no UTF-8.
    numbered
        .filter_map(|entry| parse(&String::from_utf8_lossy(&std::fs::read(entry.path().join("stat")).ok()?)))
}

/// `PID (NAME) STATE PARENT GROUP ...`; the name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(" (")?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let ended = matches!(words.next()?, "Z" | "X");
    let mut number = || words.next()?.parse().ok();
    Some(Process { pid: pid.parse().ok()?, ended, parent: number()?, group: number()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_it_is_whatever_the_name_holds() {
        for (stat, wanted) in [
            ("7 (sh) S 1 5 5 0 -1", Some((7, false, 1, 5))),
            ("7 (a) Z 9 (b) Z 1 5 5", Some((7, true, 1, 5))),
            ("7 (a (b)) X 1 0 0", Some((7, true, 1, 0))),
            ("7 (sh) S 1", None),
            ("", None),
        ] {
            let wanted = wanted.map(|(pid, ended, parent, group)| Process { pid, ended, parent, group });
            assert_eq!(parse(stat), wanted, "{stat}");
        }
    }
}
