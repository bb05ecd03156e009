//! What a process costs: its processor time and its memory, those of its children included.

use std::fs;
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// The most processes that are counted as one filter: a filter that forks for each connection has as many.
const MAX_PROCESSES: usize = 4_096;

/// A process and its descendants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

/// In bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// Resident at its highest; of several processes, the sum of each one's highest.
    pub peak: u64,
}

impl Process {
    /// `None` if there is no such process.
    pub fn new(pid: u32) -> Option<Self> {
        fs::exists(format!("/proc/{pid}/stat")).ok()?.then_some(Self(pid))
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.0
    }

    /// Whether it is there, and no zombie.
    pub fn is_alive(self) -> bool {
        stat(self.0).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z" && state != "X"))
    }

    /// Its processor time so far, system calls and ended threads included; `None` when it is gone.
    ///
    /// From the process's own clock, which counts nanoseconds. Of children that have ended, only what the kernel
    /// keeps: user and system time in hundredths of a second.
    pub fn cpu(self) -> Option<Duration> {
        let mut all = clock(self.0)?;
        for pid in self.family() {
            if pid != self.0 {
                // One that ended in this moment is in its parent's count soon.
                all += clock(pid).unwrap_or_default();
            }
            all += ended_children(pid).unwrap_or_default();
        }
        Some(all)
    }

    /// Its memory; `None` when it is gone.
    pub fn memory(self) -> Option<Memory> {
        let mut all = memory(self.0)?;
        for pid in self.family().into_iter().filter(|pid| *pid != self.0) {
            let more = memory(pid).unwrap_or_default();
            all.resident += more.resident;
            all.peak += more.peak;
        }
        Some(all)
    }

    /// It and its descendants.
    fn family(self) -> Vec<u32> {
        let mut family = vec![self.0];
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            next += 1;
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok());
                family.extend(children.take(MAX_PROCESSES.saturating_sub(family.len())));
            }
        }
        family
    }
}

/// The processor time of this process so far.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    duration(time.tv_sec, time.tv_nsec)
}

fn clock(pid: u32) -> Option<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    let time = ClockId::pid_cpu_clock_id(pid).and_then(ClockId::now).ok()?;
    Some(duration(time.tv_sec(), time.tv_nsec()))
}

fn duration(seconds: i64, nanos: i64) -> Duration {
    Duration::new(seconds.try_into().unwrap_or_default(), nanos.try_into().unwrap_or_default())
}

/// proc_pid_stat(5): the fields from the third on, the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks.
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect())
}

/// `cutime` and `cstime`, the 16th and 17th field; the kernel counts hundredths, whatever its own tick is.
fn ended_children(pid: u32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks: u64 = fields.iter().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { resident: bytes("VmRSS:").unwrap_or_default(), peak: bytes("VmHWM:").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_and_threads_that_have_ended_are_counted() {
        let own = Process::new(std::process::id()).unwrap();
        let before = own.cpu().unwrap();
        // A shell that has a child that counts, and waits for it.
        let count = "(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done); echo done; read -r _";
        let mut shell = Command::new("sh")
            .args(["-c", count])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut said).unwrap();
        let process = Process::new(shell.id()).unwrap();
        assert!(
            process.cpu().unwrap() >= Duration::from_millis(10),
            "the child has ended: {:?}",
            process.cpu()
        );
        assert!(process.is_alive());
        let memory = process.memory().unwrap();
        assert!(memory.resident > 100_000 && memory.peak >= memory.resident, "{memory:?}");
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert_eq!((process.cpu(), process.memory(), process.is_alive()), (None, None, false));

        let spin = || (0..3_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        std::thread::spawn(spin).join().unwrap();
        assert!(own.cpu().unwrap() > before);
        assert!(own_cpu() > Duration::ZERO);
    }

    #[test]
    fn there_is_no_process_of_that_number() {
        assert_eq!(Process::new(u32::MAX), None);
    }
}
