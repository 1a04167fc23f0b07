//! How much memory there is for a hash that asks for much of it. Asking the
//! allocator does not tell: Linux promises more than it has, and ends the
//! process that takes it at its word.

use std::fs;
use std::path::Path;

/// Left to the rest of the service, KiB.
const SPARE: u64 = 32 * 1024;

/// Whether so much more memory can be used, KiB: by the machine
/// (`MemAvailable`, proc_meminfo(5)), and by the control groups of this process
/// (`memory.max`, version 2). Where neither can be read, there is.
pub(super) fn is_there(kib: u64) -> bool {
    is_there_in(Path::new("/"), kib)
}

fn is_there_in(root: &Path, kib: u64) -> bool {
    let of_machine = number(&root.join("proc/meminfo"), "MemAvailable:");
    let rooms = of_machine.into_iter().chain(of_groups(root));
    rooms
        .min()
        .is_none_or(|room| room >= kib.saturating_add(SPARE))
}

/// What is left to the process's group and to those above it, KiB. Only what
/// cannot be given back counts as used: not the files in memory.
fn of_groups(root: &Path) -> Vec<u64> {
    let Ok(groups) = fs::read_to_string(root.join("proc/self/cgroup")) else {
        return Vec::new();
    };
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let top = root.join("sys/fs/cgroup");
    let own = top.join(own);
    let groups = own.ancestors().take_while(|group| group.starts_with(&top));
    groups
        .filter_map(|group| {
            let most: u64 = fs::read_to_string(group.join("memory.max"))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            let used = number(&group.join("memory.stat"), "anon")?;
            Some(most.saturating_sub(used) / 1024)
        })
        .collect()
}

/// The first number behind `name` at the beginning of a line.
fn number(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_machine_and_every_group_above_the_process_have_a_say() {
        const MIB: u64 = 1024;
        let free = (
            "proc/meminfo",
            "MemTotal: 9 kB\nMemAvailable:    1048576 kB\n",
        );
        let group = ("proc/self/cgroup", "1:name=x:/\n0::/a/b\n");
        let unlimited = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        let limited = ("sys/fs/cgroup/a/memory.max", "536870912\n");
        let used = ("sys/fs/cgroup/a/memory.stat", "file 1\nanon 104857600\n");
        for (files, room) in [
            (&[][..], u64::MAX),
            (&[free], 1024 * MIB),
            (&[free, group, unlimited], 1024 * MIB),
            (&[free, group, unlimited, limited, used], 412 * MIB),
            (&[group, limited, used], 412 * MIB),
        ] {
            let root = machine(files);
            let most = room.saturating_sub(SPARE);
            assert!(is_there_in(root.path(), most), "{files:?}");
            if room < u64::MAX {
                assert!(!is_there_in(root.path(), most + 1), "{files:?}");
            }
        }
    }
}
