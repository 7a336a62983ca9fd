//! Lost answers, lost servers, and two nodes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use keystead_core::ids::TenantId;
use keystead_store::{Error, Store, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::*;

const PASS: u8 = 0;
/// The next answer is swallowed, and its connection cut: the server did it, nobody knows.
const CUT_ANSWER: u8 = 1;
/// The next request is swallowed, and its connection cut: the server never heard of it.
const CUT_REQUEST: u8 = 2;
/// No connection gets through.
const DOWN: u8 = 3;

/// A wire that can be cut.
struct Wire {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Wire {
    async fn to(server: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(PASS));
        let shared = mode.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mode = shared.clone();
                tokio::spawn(async move {
                    if mode.load(Ordering::SeqCst) == DOWN {
                        return;
                    }
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let _ = carry(client, server, &mode).await;
                });
            }
        });
        Wire { port, mode }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mode: &AtomicU8,
) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let once = |cut| {
        mode.compare_exchange(cut, PASS, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    };
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                if read == 0 || once(CUT_REQUEST) || mode.load(Ordering::SeqCst) == DOWN {
                    return Ok(());
                }
                server.write_all(&up[..read]).await?;
            }
            read = server.read(&mut down) => {
                let read = read?;
                if read == 0 || once(CUT_ANSWER) || mode.load(Ordering::SeqCst) == DOWN {
                    return Ok(());
                }
                client.write_all(&down[..read]).await?;
            }
        }
    }
}

/// A store whose connections of the system role run over a wire.
async fn wired() -> (Store, Wire) {
    let database = database().await;
    let port = keystead_testkit::postgres::shared().unwrap().port();
    let wire = Wire::to(port).await;
    let over = |url: &str| url.replace(&format!(":{port}/"), &format!(":{}/", wire.port));
    let system_url = database.config.system_url.as_deref().map(over);
    let config = StoreConfig {
        system_url,
        ..database.config.clone()
    };
    let store = Store::open(config).await.unwrap();
    store.set_context_key(CONTEXT_KEY);
    (store, wire)
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_nothing_is_recorded_twice() {
    let (store, wire) = wired().await;
    let owner = tenant(&store).await;
    for (round, cut) in [CUT_ANSWER, CUT_REQUEST, CUT_ANSWER, CUT_REQUEST]
        .into_iter()
        .enumerate()
    {
        // Entries alone, twice so that the statement is prepared and the head known.
        append(&store, owner.0, vec![]).await.unwrap();
        let size = append(&store, owner.0, vec![]).await.unwrap().seq + 1;
        wire.set(cut);
        assert_eq!(append(&store, owner.0, vec![]).await.unwrap().seq, size);
        assert_eq!(
            wire.mode.load(Ordering::SeqCst),
            PASS,
            "the wire was not cut"
        );
        assert_eq!(store.prove_log().await.unwrap().size, size + 1);
        // With a change.
        let row = integration(owner.0, &format!("name {round}"));
        wire.set(cut);
        assert_eq!(
            append(&store, owner.0, vec![insert(&row, owner.1)])
                .await
                .unwrap()
                .seq,
            size + 1
        );
        assert_eq!(
            wire.mode.load(Ordering::SeqCst),
            PASS,
            "the wire was not cut"
        );
        assert_eq!(
            store.find_integration(owner.0, row.id).await.unwrap(),
            Some(row)
        );
        assert_eq!(store.prove_log().await.unwrap().size, size + 2);
    }
}

#[tokio::test]
async fn a_lost_commit_of_a_change_is_found_in_the_log() {
    let (store, wire) = wired().await;
    let owner = tenant(&store).await;
    // The answers to a write with changes come in three parts; each is lost once.
    for skip in 0..3 {
        let row = integration(owner.0, &format!("name {skip}"));
        let size = store.head().await.unwrap().size;
        let write = append(&store, owner.0, vec![insert(&row, owner.1)]);
        let cut = async {
            for _ in 0..skip * 200 {
                tokio::task::yield_now().await;
            }
            wire.set(CUT_ANSWER);
        };
        let (written, ()) = tokio::join!(write, cut);
        assert_eq!(written.unwrap().seq, size);
        wire.set(PASS);
        assert_eq!(
            store.find_integration(owner.0, row.id).await.unwrap(),
            Some(row)
        );
        assert_eq!(store.prove_log().await.unwrap().size, size + 1);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_at_once_and_comes_back() {
    let (store, wire) = wired().await;
    let owner = tenant(&store).await;
    wire.set(DOWN);
    let since = Instant::now();
    assert!(matches!(
        append(&store, owner.0, vec![]).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        store.ready().await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        store.find_tenant(owner.0).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    wire.set(PASS);
    store.ready().await.unwrap();
    append(&store, owner.0, vec![]).await.unwrap();
    store.prove_log().await.unwrap();
}

#[tokio::test]
async fn two_nodes_that_append_at_once_keep_one_order_that_verifies() {
    let database = database().await;
    let stores = [database.open().await, database.open().await];
    let owner = tenant(&stores[0]).await;
    let mut tasks = Vec::new();
    for (node, store) in stores.iter().enumerate() {
        for task in 0..6 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let mut seqs = Vec::new();
                for round in 0..30 {
                    let name = format!("{node} {task} {round}");
                    let effects = match round % 10 {
                        3 => vec![insert(&integration(owner.0, &name), owner.1)],
                        _ => vec![],
                    };
                    seqs.push(append(&store, owner.0, effects).await.unwrap().seq);
                }
                seqs
            }));
        }
    }
    let mut seqs = Vec::new();
    for task in tasks {
        let own = task.await.unwrap();
        assert!(own.is_sorted());
        seqs.extend(own);
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=360).collect::<Vec<_>>());
    assert_eq!(stores[1].prove_log().await.unwrap().size, 361);
}

#[tokio::test]
async fn a_read_that_is_given_up_leaves_nothing_on_the_connection() {
    let database = database().await;
    let config = StoreConfig {
        connections: 1,
        ..database.config.clone()
    };
    let store = Store::open(config).await.unwrap();
    store.set_context_key(CONTEXT_KEY);
    let (one, other) = (tenant(&store).await, tenant(&store).await);
    let row = connected(&store, one, "main").await;
    // With the statements prepared, a read is sent when it is polled first.
    store
        .find_integration(one.0, row.id)
        .await
        .unwrap()
        .unwrap();
    for _ in 0..50 {
        {
            let mut read = std::pin::pin!(store.find_integration(one.0, row.id));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(read.as_mut().poll(context).is_pending())
            });
            assert!(polled.await);
        }
        assert_eq!(store.find_integration(other.0, row.id).await.unwrap(), None);
        assert_eq!(
            store
                .find_integration_by_name(other.0, "main")
                .await
                .unwrap(),
            None
        );
    }
    let nobody = TenantId::from_uuid(uuid());
    assert_eq!(store.find_integration(nobody, row.id).await.unwrap(), None);
}
