//! `keystead serve`.

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use keystead_broker::Broker;
use keystead_http::{Face, Limits, Settings, serve};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::logs::{self, say};
use crate::wiring;

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(mut config: Config) -> anyhow::Result<()> {
    logs::start(&config.log)?;
    let listener = listen(&mut config).await?;
    let broker = wiring::broker(&config, Vec::new()).await?;
    if let Some(key) = broker.first_operator_key().await? {
        say(format_args!(
            "The operator key of this installation; it is shown this once:\n{}",
            key.expose()
        ));
    }
    if config.server.is_public() {
        tracing::warn!(listen = %config.server.listen, "other machines can reach this address: put a TLS terminator in front");
    }
    tracing::info!(listen = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
    serve_until(&config, broker, listener, ended()?).await;
    Ok(())
}

/// Takes the address, and writes down which one it is: what browsers are sent back to has to be
/// known before the first is sent.
pub(super) async fn listen(config: &mut Config) -> anyhow::Result<TcpListener> {
    let listen = config.server.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is another server there? set [server] listen")
    })?;
    config.server.listen = listener.local_addr()?;
    Ok(listener)
}

/// As long as a call to a token endpoint may take, and a little for what is stored of it.
const RENEWALS_END_WITHIN: Duration = Duration::from_secs(12);

/// Serves until `end`, then lets what has begun finish.
pub(super) async fn serve_until(
    config: &Config,
    broker: Broker,
    listener: TcpListener,
    end: impl Future<Output = ()>,
) {
    let settings = Settings {
        trusted_proxies: config.server.trusted_proxies.clone(),
        log_requests: config.log.requests,
    };
    let limits = Limits {
        connections: config.server.max_connections,
        grace: Duration::from_secs(config.server.grace_seconds),
        ..Limits::default()
    };
    serve(listener, Face::new(broker.clone(), settings), limits, end).await;
    // A token endpoint's reply may be in memory alone.
    broker.finish_renewals(RENEWALS_END_WITHIN).await;
    broker.note_uses().await;
    tracing::info!("ended");
}

/// Ends at SIGTERM or SIGINT.
pub(super) fn ended() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
