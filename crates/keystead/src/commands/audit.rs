//! `keystead audit tail|verify|export`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_broker::{Broker, Context};
use keystead_core::log::{Checkpoint, ExportVerifier, Verified, VerifierKey};
use serde_json::json;

use super::{shell, usage};
use crate::cli::Audit;
use crate::logs::say;
use crate::wiring;

pub(super) async fn run(config: Option<PathBuf>, command: Audit) -> anyhow::Result<()> {
    match command {
        Audit::Verify {
            file: Some(file),
            checkpoint,
            key,
            json,
        } => {
            let key = key.ok_or_else(|| {
                usage("give --key, as /api/audit/key says it: an export does not vouch for itself")
            })?;
            let key = key
                .parse()
                .map_err(|fault| usage(format!("--key: {fault}")))?;
            report(&verify_file(&file, &checkpoint, &key)?, json);
            Ok(())
        }
        Audit::Verify {
            file: None,
            checkpoint,
            key,
            json,
        } => {
            let broker = shell::broker(&wiring::load(config)?, false).await?;
            let key: VerifierKey = key.unwrap_or_else(|| broker.verifier_key()).parse()?;
            report(&verify_store(&broker, &checkpoint, &key).await?, json);
            Ok(())
        }
        Audit::Tail { lines, follow } => {
            tail(
                &shell::broker(&wiring::load(config)?, false).await?,
                lines,
                follow,
            )
            .await
        }
        Audit::Export { out, json } => {
            export(
                &shell::broker(&wiring::load(config)?, false).await?,
                &out,
                json,
            )
            .await
        }
    }
}

fn checkpoints(files: &[PathBuf], key: &VerifierKey) -> anyhow::Result<Vec<(u64, [u8; 32])>> {
    files
        .iter()
        .map(|path| {
            let note = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            let checkpoint = Checkpoint::parse_signed(&note, key).with_context(|| {
                format!("{} is not a checkpoint signed by that key", path.display())
            })?;
            Ok((checkpoint.size, checkpoint.root))
        })
        .collect()
}

fn verify_file(file: &Path, files: &[PathBuf], key: &VerifierKey) -> anyhow::Result<Verified> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mut known = checkpoints(files, key)?;
    let beside = beside(file, "checkpoint");
    if beside.exists() {
        known.extend(checkpoints(&[beside], key)?);
    }
    if known.is_empty() {
        return Err(usage(
            "give --checkpoint: without a signed head nobody can tell whether the end is missing",
        ));
    }
    let mut verifier = ExportVerifier::new(known)?;
    for line in BufReader::new(opened).lines() {
        verifier.push(&line?)?;
    }
    Ok(verifier.finish()?)
}

/// The log itself, against its own head and what was kept elsewhere.
async fn verify_store(
    broker: &Broker,
    files: &[PathBuf],
    key: &VerifierKey,
) -> anyhow::Result<Verified> {
    let shell = Context::shell(broker.new_request_id());
    let mut known = checkpoints(files, key)?;
    let head = Checkpoint::parse_signed(&broker.checkpoint(&shell).await?, key)?;
    known.push((head.size, head.root));
    let mut verifier = ExportVerifier::new(known)?;
    let mut next = 0;
    while next < head.size {
        let leaves = broker.export(&shell, next).await?;
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves
            .iter()
            .take(usize::try_from(head.size - next).unwrap_or(usize::MAX))
        {
            verifier.push(leaf)?;
        }
        next += leaves.len() as u64;
    }
    let verified = verifier.finish()?;
    if let Some(row) = broker.find_set_back(&shell).await?.first() {
        let on_record = row.on_record.map_or("destroyed".to_owned(), |version| {
            format!("at version {version}")
        });
        bail!(
            "{}{} of {} is at version {} in the database and {on_record} in the log: somebody put an old row back",
            if row.tokens {
                "what was granted to "
            } else {
                ""
            },
            row.integration,
            row.tenant,
            row.stored
        );
    }
    Ok(verified)
}

fn report(verified: &Verified, as_json: bool) {
    if as_json {
        say(
            json!({"entries": verified.size, "covered": verified.covered, "root": STANDARD.encode(verified.root)}),
        );
        return;
    }
    say(format_args!(
        "{} entries, in order and unchanged; {} of them under a signed checkpoint",
        verified.size, verified.covered
    ));
}

async fn tail(broker: &Broker, lines: u64, follow: bool) -> anyhow::Result<()> {
    let shell = Context::shell(broker.new_request_id());
    let size = Checkpoint::parse_signed(
        &broker.checkpoint(&shell).await?,
        &broker.verifier_key().parse()?,
    )?
    .size;
    // Looking is on record too: what this command itself leaves is not its news.
    let own = format!("\"request\":\"{}\"", shell.request);
    let mut next = size.saturating_sub(lines.saturating_add(1));
    let mut newest = VecDeque::new();
    while next < size {
        let leaves = broker.export(&shell, next).await?;
        if leaves.is_empty() {
            break;
        }
        next += leaves.len() as u64;
        newest.extend(leaves.into_iter().filter(|leaf| !leaf.contains(&own)));
    }
    let more = newest.len() as u64;
    for leaf in newest
        .iter()
        .skip(usize::try_from(more.saturating_sub(lines)).unwrap_or(0))
    {
        say(leaf);
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let leaves = broker.export(&shell, next).await?;
        next += leaves.len() as u64;
        for leaf in leaves.iter().filter(|leaf| !leaf.contains(&own)) {
            say(leaf);
        }
    }
}

async fn export(broker: &Broker, out: &Path, as_json: bool) -> anyhow::Result<()> {
    let shell = Context::shell(broker.new_request_id());
    let key = broker.verifier_key();
    let note = broker.checkpoint(&shell).await?;
    let size = Checkpoint::parse_signed(&note, &key.parse()?)?.size;
    // An older export, and the checkpoint beside it, may be the only witness there is.
    let made = File::create_new(out);
    let mut file = BufWriter::new(made.map_err(|fault| match fault.kind() {
        ErrorKind::AlreadyExists => usage(format!("{} is there: name another file", out.display())),
        _ => anyhow::Error::from(fault).context(format!("{} cannot be written", out.display())),
    })?);
    let mut next = 0;
    while next < size {
        let leaves = broker.export(&shell, next).await?;
        if leaves.is_empty() {
            bail!("the log ended at {next}, before its signed size {size}");
        }
        for leaf in leaves
            .iter()
            .take(usize::try_from(size - next).unwrap_or(usize::MAX))
        {
            writeln!(file, "{leaf}")?;
        }
        next += leaves.len() as u64;
    }
    file.into_inner()
        .map_err(|fault| fault.into_error())?
        .sync_all()?;
    std::fs::write(beside(out, "checkpoint"), note)?;
    std::fs::write(beside(out, "key"), format!("{key}\n"))?;
    if as_json {
        say(
            json!({"entries": size, "checkpoint": beside(out, "checkpoint"), "key": beside(out, "key")}),
        );
    } else {
        say(format_args!("{size} entries"));
    }
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
