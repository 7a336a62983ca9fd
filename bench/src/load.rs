//! A closed-loop load: so many keep-alive connections, each of which sends one prepared request,
//! reads the answer and sends the next, for a bounded time or until each request was sent once.
//!
//! What always holds: an answer that is not 2xx ends the run as failed; the warm-up is not
//! counted; the order is random, the same for the same seed; one thread, so that a server with two
//! cores can be measured beside it.
//!
//! Deliberately not here: open-loop rates, so that a latency is one under saturation where many
//! connections are used, and the true one with a single connection.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) until: Until,
}

/// When it ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After the time that is measured; which request is next is drawn at random.
    Time {
        warm_up: Duration,
        measured: Duration,
        seed: u64,
    },
    /// After each request was sent once, in the order in which they came.
    Once,
}

/// Reads the requests from standard input, a JSON array of texts, and prints what was measured as
/// one line of JSON.
pub(crate) fn command(load: Load) -> Result<()> {
    let requests: Vec<String> = serde_json::from_reader(std::io::stdin().lock())?;
    if requests.is_empty() {
        bail!("no request was given");
    }
    let requests: &'static [String] = requests.leak();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut times, answers, took) = LocalSet::new().block_on(&runtime, run(&load, requests))?;
    if times.is_empty() {
        bail!("not one answer in time");
    }
    times.sort_unstable();
    let micros = |share: f64| {
        let at = ((times.len() as f64 * share) as usize).min(times.len() - 1);
        f64::from(times[at]) / 1000.0
    };
    println!(
        "{}",
        serde_json::json!({
            "rps": times.len() as f64 / took.as_secs_f64(),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
            "answers": answers,
        })
    );
    Ok(())
}

/// A server that does not answer for so long ends the run as failed.
const PATIENCE: Duration = Duration::from_secs(15);

/// The nanoseconds of each answer that counts, how many came in all, and in which time those that
/// count came.
async fn run(load: &Load, requests: &'static [String]) -> Result<(Vec<u32>, u64, Duration)> {
    let start = Instant::now();
    let mut connections = JoinSet::new();
    let next: &'static Next = Box::leak(Box::new(Next::new(load.until, start, requests)));
    for _ in 0..load.connections {
        let connection = Connection::open(load.address).await?;
        connections.spawn_local(drive(connection, next));
    }
    let mut times = Vec::new();
    while let Some(one) = connections.join_next().await {
        times.extend(one??);
    }
    let answers = next.answers.get();
    let took = match load.until {
        Until::Time { measured, .. } => measured,
        Until::Once => start.elapsed(),
    };
    Ok((times, answers, took))
}

/// Which request is next, for all connections.
struct Next {
    requests: &'static [String],
    /// What counts was sent after the one and came before the other.
    from: Instant,
    until: Option<Instant>,
    /// The state of the random order, or the place in the list.
    state: Cell<u64>,
    /// All that came, the warm-up's too.
    answers: Cell<u64>,
}

impl Next {
    fn new(until: Until, start: Instant, requests: &'static [String]) -> Next {
        let (from, until, state) = match until {
            Until::Time {
                warm_up,
                measured,
                seed,
            } => (start + warm_up, Some(start + warm_up + measured), seed),
            Until::Once => (start, None, 0),
        };
        Next {
            requests,
            from,
            until,
            state: Cell::new(state),
            answers: Cell::new(0),
        }
    }

    fn take(&self, now: Instant) -> Option<&'static [u8]> {
        let Some(until) = self.until else {
            let at = usize::try_from(self.state.replace(self.state.get() + 1)).ok()?;
            return self.requests.get(at).map(|request| request.as_bytes());
        };
        if now >= until {
            return None;
        }
        // SplitMix64.
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut drawn = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        let at = drawn % self.requests.len() as u64;
        Some(self.requests[at as usize].as_bytes())
    }
}

async fn drive(mut connection: Connection, next: &'static Next) -> Result<Vec<u32>> {
    let mut times = Vec::with_capacity(1 << 16);
    loop {
        let sent = Instant::now();
        let Some(request) = next.take(sent) else {
            return Ok(times);
        };
        connection.ask(request).await?;
        let came = Instant::now();
        next.answers.set(next.answers.get() + 1);
        if sent >= next.from && next.until.is_none_or(|until| came <= until) {
            times.push(u32::try_from((came - sent).as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            answer: Vec::with_capacity(1 << 14),
        })
    }

    /// Sends a request and reads its answer, which must be a success: head and body as they came.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        tokio::time::timeout(PATIENCE, self.exchange(request))
            .await
            .context("the server stopped answering")??;
        Ok(&self.answer)
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        while !is_whole(&self.answer)? {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!(
                    "the server hung up: {}",
                    String::from_utf8_lossy(&self.answer)
                );
            }
        }
        Ok(())
    }
}

/// Whether these bytes are one whole answer, by its length or its last chunk.
fn is_whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    let whole = match length {
        Some(length) => body.len() >= length,
        None if chunked => ends_with_last_chunk(body)?,
        None => status.starts_with("HTTP/1.1 204"),
    };
    if whole && !status.starts_with("HTTP/1.1 2") {
        bail!("{status}: {}", String::from_utf8_lossy(body));
    }
    Ok(whole)
}

fn ends_with_last_chunk(mut body: &[u8]) -> Result<bool> {
    loop {
        let Some(line) = body.windows(2).position(|two| two == b"\r\n") else {
            return Ok(false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line])?.trim(), 16)?;
        // The size's line, the chunk and the line end behind it.
        let next = line + 2 + size + 2;
        if body.len() < next {
            return Ok(false);
        }
        if size == 0 {
            return Ok(true);
        }
        body = &body[next..];
    }
}

#[cfg(test)]
mod tests {
    use super::is_whole;

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        for whole in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n",
        ] {
            assert!(is_whole(whole.as_bytes()).unwrap(), "{whole}");
            for cut in 0..whole.len() {
                assert!(
                    !is_whole(&whole.as_bytes()[..cut]).unwrap(),
                    "{whole} {cut}"
                );
            }
        }
    }

    #[test]
    fn an_answer_that_is_no_success_ends_the_run() {
        let denied = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        assert!(is_whole(denied).unwrap_err().to_string().contains("403"));
    }
}
