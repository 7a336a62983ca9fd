//! Several nodes on one PostgreSQL: one lease, one duty, and the one clock that both are judged by.

use keystead_store::{Effect, Store, TakeRenewal};
use tokio_postgres::NoTls;

use crate::fixture::*;

/// Lets the database's clock be so many seconds ahead of every machine's.
async fn put_the_clock_forward(admin_url: &str, seconds: u32) {
    let (client, connection) = tokio_postgres::connect(admin_url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let replace = format!(
        "CREATE OR REPLACE FUNCTION keystead.unixepoch(at text, unit text) RETURNS double precision LANGUAGE sql \
         VOLATILE SET search_path = pg_catalog, pg_temp AS \
         'SELECT extract(epoch FROM clock_timestamp())::double precision + {seconds}'"
    );
    client.batch_execute(&replace).await.unwrap();
}

#[tokio::test]
async fn of_three_nodes_that_take_one_lease_one_wins_however_often() {
    let database = database().await;
    let nodes = [
        database.open().await,
        database.open().await,
        database.open().await,
    ];
    let owner = tenant(&nodes[0]).await;
    let row = granted(&nodes[0], owner, "main", 1).await.integration;
    for fence in 1..20 {
        let over = nodes[0].clock().await.unwrap();
        let take = async |node: &Store, holder: &str| {
            let lease = TakeRenewal {
                tenant: row.tenant,
                integration: row.id,
                token_version: 1,
                seen_fence: fence,
                holder: holder.to_owned(),
                until: over,
            };
            outcome(append(node, row.tenant, vec![Effect::TakeRenewal(lease)]).await)
        };
        let told = tokio::join!(
            take(&nodes[0], "one"),
            take(&nodes[1], "two"),
            take(&nodes[2], "three")
        );
        let mut told = [told.0, told.1, told.2];
        told.sort();
        let conflict = "conflict: token set";
        assert_eq!(told, [conflict, conflict, "done"]);
        let found = nodes[1].find_token_set(row.tenant, row.id).await.unwrap();
        assert_eq!(found.unwrap().fence, fence + 1);
    }
    nodes[0].prove_log().await.unwrap();
}

#[tokio::test]
async fn leases_and_duties_end_by_the_databases_clock_and_no_machines() {
    let database = database().await;
    let (one, two) = (database.open().await, database.open().await);
    let owner = tenant(&one).await;
    let row = granted(&one, owner, "main", 1).await.integration;
    let take = async |node: &Store, seen_fence| {
        let lease = TakeRenewal {
            tenant: row.tenant,
            integration: row.id,
            token_version: 1,
            seen_fence,
            holder: "node".to_owned(),
            until: later(node.clock().await.unwrap(), 3600),
        };
        outcome(append(node, row.tenant, vec![Effect::TakeRenewal(lease)]).await)
    };
    let before = one.clock().await.unwrap();
    assert_eq!(take(&one, 1).await, "done");
    assert_eq!(one.take_duty("upkeep", "one", 3600).await.unwrap(), Some(1));
    put_the_clock_forward(&database.admin_url, 3500).await;
    assert!(one.clock().await.unwrap() >= later(before, 3500));
    assert_eq!(take(&two, 2).await, "conflict: token set");
    assert_eq!(two.take_duty("upkeep", "two", 3600).await.unwrap(), None);
    put_the_clock_forward(&database.admin_url, 3700).await;
    assert_eq!(take(&two, 2).await, "done");
    assert_eq!(two.take_duty("upkeep", "two", 3600).await.unwrap(), Some(2));
    assert_eq!(one.take_duty("upkeep", "one", 3600).await.unwrap(), None);
}

#[tokio::test]
async fn of_many_nodes_that_want_one_duty_one_has_it() {
    let database = database().await;
    let nodes = [database.open().await, database.open().await];
    for round in 0..10 {
        let name = format!("duty {round}");
        let want = (0..8).map(|index| {
            let (node, name) = (&nodes[index % 2], name.as_str());
            async move {
                let holder = format!("node {index}");
                node.take_duty(name, &holder, 3600).await.unwrap()
            }
        });
        let mut taken = futures_util::future::join_all(want).await;
        taken.sort();
        assert_eq!(taken.pop(), Some(Some(1)));
        assert!(taken.iter().all(Option::is_none), "{taken:?}");
    }
}
