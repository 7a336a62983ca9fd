//! A closed-loop load: so many keep-alive connections, each of which sends one prepared request,
//! reads the answer and sends it again, for a bounded time.
//!
//! What always holds here: an answer that is not 2xx ends the run as failed; the warm-up is not
//! counted; one thread, so that a server with two cores can be measured beside it.
//!
//! Deliberately not here: open-loop rates, so that a latency is one under saturation where many
//! connections are used, and the true one with a single connection.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// Reads the request from standard input and prints what was measured as one line of JSON.
pub(crate) fn command(load: Load) -> Result<()> {
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    let request: &'static [u8] = request.leak();

    let limit = load.warm_up + load.measured + Duration::from_secs(10);
    let mut times = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async { tokio::time::timeout(limit, run(&load, request)).await })
        .context("the server stopped answering")??;
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
            "rps": times.len() as f64 / load.measured.as_secs_f64(),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
        })
    );
    Ok(())
}

/// The nanoseconds of each answer that came within the measured time.
async fn run(load: &Load, request: &'static [u8]) -> Result<Vec<u32>> {
    let from = Instant::now() + load.warm_up;
    let until = from + load.measured;
    let mut connections = JoinSet::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        connections.spawn(drive(stream, request, from, until));
    }
    let mut times = Vec::new();
    while let Some(one) = connections.join_next().await {
        times.extend(one??);
    }
    Ok(times)
}

async fn drive(
    mut stream: TcpStream,
    request: &[u8],
    from: Instant,
    until: Instant,
) -> Result<Vec<u32>> {
    let mut times = Vec::with_capacity(1 << 16);
    let mut answer = Vec::with_capacity(1 << 14);
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(times);
        }
        stream.write_all(request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("the server hung up: {}", String::from_utf8_lossy(&answer));
            }
        }
        let came = Instant::now();
        if sent >= from && came <= until {
            times.push(u32::try_from((came - sent).as_nanos()).unwrap_or(u32::MAX));
        }
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
