//! The real program, as a child process: started, listened to, ended and killed.
//!
//! What always holds: a process is ended by its own id and never by a name; none outlives the
//! value that started it; what it says on both outputs is kept, so that it can be searched.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use rustix::process::Resource;
use rustix::process::{Pid, Rlimit, Signal, getrlimit, kill_process, prlimit};

/// What a process has said so far.
#[derive(Default)]
struct Said {
    text: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, output: impl Read + Send + 'static) {
        let said = self.clone();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                said.lock().0.append(&mut line);
                said.more.notify_all();
            }
            said.lock().1 = true;
            said.more.notify_all();
        });
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().0).into_owned()
    }

    /// The first whole line that `wanted` takes; `None` when the output ends or time is up.
    fn line(&self, wanted: impl Fn(&str) -> bool, most: Duration) -> Option<String> {
        let until = Instant::now() + most;
        let mut text = self.lock();
        loop {
            let found = String::from_utf8_lossy(&text.0)
                .lines()
                .find(|line| wanted(line))
                .map(str::to_owned);
            let left = until.saturating_duration_since(Instant::now());
            if found.is_some() || text.1 || left.is_zero() {
                return found;
            }
            let waited = self.more.wait_timeout(text, left);
            text = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A running program. Killed when dropped.
pub struct Process {
    child: Child,
    out: Arc<Said>,
    err: Arc<Said>,
}

impl Process {
    /// Starts it, with both outputs kept. Its input is the caller's choice.
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
        let (out, err) = (Arc::<Said>::default(), Arc::<Said>::default());
        out.listen(child.stdout.take().expect("it is piped"));
        err.listen(child.stderr.take().expect("it is piped"));
        Process { child, out, err }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard output.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// What it has said on standard error.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// Waits for a line on standard output.
    pub fn line(&self, wanted: impl Fn(&str) -> bool, most: Duration) -> Option<String> {
        self.out.line(wanted, most)
    }

    /// Waits for a line on standard error, where the log goes.
    pub fn log_line(&self, wanted: impl Fn(&str) -> bool, most: Duration) -> Option<String> {
        self.err.line(wanted, most)
    }

    /// Closes its input, which is how some are told to end.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(id.expect("a child has an id"), signal);
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// What Ctrl-C sends.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Stands it still, wherever it is.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Sets how large a file it may write, or how many files it may have open; `None` is any.
    pub fn limit(&self, resource: Resource, most: Option<u64>) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit {
            current: most,
            // Left as it was made: as much as this process may have.
            maximum: getrlimit(resource).maximum,
        };
        prlimit(id, resource, limit).expect("a child's limits can be set");
    }

    /// Ends it at once, with nothing of its own run.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it did within this time.
    pub fn ended(&mut self, most: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + most;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // What it said last is read by then.
                    self.out.line(|_| false, Duration::from_secs(1));
                    self.err.line(|_| false, Duration::from_secs(1));
                    return Some(status);
                }
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                _ => return None,
            }
        }
    }

    /// Its memory that can be written, as far as it can be read: what a debugger would see.
    pub fn memory(&self, mut each: impl FnMut(&[u8])) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt;
        let id = self.child.id();
        let maps = std::fs::read_to_string(format!("/proc/{id}/maps"))?;
        let memory = std::fs::File::open(format!("/proc/{id}/mem"))?;
        for map in maps.lines() {
            let mut parts = map.split_whitespace();
            let (Some(range), Some(rights)) = (parts.next(), parts.next()) else {
                continue;
            };
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            let (from, to) = range
                .split_once('-')
                .map_or((0, 0), |(from, to)| (number(from), number(to)));
            if !rights.starts_with("rw") || to <= from || to - from > 1 << 30 {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
            // Some maps are the kernel's own, and cannot be read.
            if memory.read_exact_at(&mut bytes, from).is_ok() {
                each(&bytes);
            }
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
