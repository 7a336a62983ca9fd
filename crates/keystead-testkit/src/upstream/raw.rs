//! An upstream that speaks bytes, for what no HTTP server would send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Answers each request head on a connection with the next of a list of texts, then closes it.
pub struct RawUpstream {
    address: SocketAddr,
    heads: Arc<AtomicUsize>,
    closed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl RawUpstream {
    /// Every connection is answered with the same `answers`; an empty one says nothing and closes.
    pub async fn start(answers: Vec<&'static [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let (heads, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counter, closer) = (heads.clone(), closed.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                for answer in &answers {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => break,
                        }
                    }
                    if head.is_empty() {
                        break;
                    }
                    counter.fetch_add(1, SeqCst);
                    if stream.write_all(answer).await.is_err() {
                        break;
                    }
                }
                let _ = stream.shutdown().await;
                drop(stream);
                closer.notify_one();
            }
        });
        Self {
            address,
            heads,
            closed,
            task,
        }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many request heads have arrived.
    pub fn heads(&self) -> usize {
        self.heads.load(SeqCst)
    }

    /// Waits until a connection has been closed from this side.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
