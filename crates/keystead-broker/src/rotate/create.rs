//! Making the next key, so that it is known of even where the reply is lost.
//!
//! ```text
//! list ─► written down: what there was, and that one is asked for ─► create ─► sealed and written
//!           └ nobody knows what came of it: list, end what is ours and new, ask again
//! ```

use std::time::Duration;

use keystead_core::provider::rotation::{Act, Created, Key, Step};

use super::ask::{Hand, Said};
use super::discard::Leftover;
use super::page_of;
use super::work::Job;
use crate::broker::Broker;
use crate::error::Error;

/// So often it is tried to make one.
const ATTEMPTS: u64 = 20;
/// Writing down what was made is tried again after these; then it counts as lost.
const WRITES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

impl Broker {
    /// Makes the next key.
    pub(super) async fn create_next(&self, mut job: Job) -> Result<(), Error> {
        let loaded = job.loaded.clone();
        let fields = job.fields.clone();
        let asked = match self.hand(&loaded, &fields).await {
            Ok(hand) => self
                .before_create(&mut job, &hand)
                .await?
                .map(|lists| (hand, lists)),
            Err(said) => {
                let in_doubt = job.state.asked_at.is_some();
                self.not_made(&mut job, said, "", in_doubt).await?;
                None
            }
        };
        let Some((hand, lists)) = asked else {
            return Ok(());
        };
        let marker = job.state.marker.clone();
        let said = self
            .ask(&hand, |asking| {
                hand.calls.create_call(asking, &marker, &lists)
            })
            .await;
        let made = match said {
            Said::Done(body) => hand.calls.read_created(hand.mode, &body, &fields),
            Said::Gone => None,
            said => {
                let in_doubt = matches!(said, Said::Unknown(_));
                let needs = &hand.calls.needs;
                return self.not_made(&mut job, said, needs, in_doubt).await;
            }
        };
        let Some(made) = made else {
            let unread = Said::Unknown("the provider's answer cannot be read".to_owned());
            return self.not_made(&mut job, unread, "", true).await;
        };
        let settle = i64::from(hand.calls.settle);
        self.keep_made(job, made, settle).await
    }

    /// Looks at what there is, and writes down that the next key is asked for. `None` where it is
    /// not to be; otherwise what it takes over.
    async fn before_create(
        &self,
        job: &mut Job,
        hand: &Hand<'_>,
    ) -> Result<Option<Vec<(String, Vec<String>)>>, Error> {
        let needs = &hand.calls.needs;
        let in_doubt = job.state.asked_at.is_some();
        let mut keys = match self.provider_keys(hand).await {
            Ok(keys) => keys,
            Err(said) => {
                self.not_made(job, said, needs, in_doubt).await?;
                return Ok(None);
            }
        };
        if job.state.before.is_none() {
            let known = job.state.old.take();
            let own = hand
                .calls
                .own_key(hand.mode, hand.fields, &keys, known.as_deref());
            job.state.old = own.map(str::to_owned);
            job.state.before = Some(keys.iter().map(|key| key.id.clone()).collect());
        } else {
            let made: Vec<String> = hand.calls.made(&keys, &job.state);
            for key in &made {
                if let Err(why) = self.act(hand, Act::Delete, key).await {
                    let why = format!("a key whose reply was lost ({key}) is still there: {why}");
                    self.not_made(job, Said::Unknown(why), "", true).await?;
                    return Ok(None);
                }
            }
            keys.retain(|key| !made.contains(&key.id));
        }
        if hand.calls.limit.is_some_and(|limit| keys.len() >= limit) {
            let detail = in_the_way(job, hand, &keys);
            let key = job.state.old.clone();
            self.finish(job, key, Some(detail)).await?;
            return Ok(None);
        }
        let lists = match self.copied(job, hand).await {
            Ok(lists) => lists,
            Err(said) => {
                self.not_made(job, said, needs, false).await?;
                return Ok(None);
            }
        };
        job.state.asked_at = Some(self.clock().now());
        let written = self.put(job, "a new one is asked for", false, Vec::new());
        Ok(written.await?.then_some(lists))
    }

    async fn copied(&self, job: &Job, hand: &Hand<'_>) -> Result<Vec<(String, Vec<String>)>, Said> {
        if hand.calls.copy.is_none() {
            return Ok(Vec::new());
        }
        let unknown = "which key is in use cannot be told, and so not what it may do";
        let Some(old) = &job.state.old else {
            return Err(Said::Refused(unknown.to_owned()));
        };
        match self
            .ask(hand, |asking| hand.calls.copy_call(asking, old))
            .await
        {
            Said::Done(body) => hand
                .calls
                .read_copy(&body)
                .ok_or_else(|| Said::Unknown("what the key may do cannot be read".to_owned())),
            Said::Gone => Err(Said::Refused(unknown.to_owned())),
            said => Err(said),
        }
    }

    /// Nothing was made, or nobody knows.
    async fn not_made(
        &self,
        job: &mut Job,
        said: Said,
        needs: &str,
        in_doubt: bool,
    ) -> Result<(), Error> {
        let (why, over) = match said {
            Said::Refused(why) => (why, true),
            Said::Unknown(why) => (why, job.row.attempts >= ATTEMPTS),
            Said::Done(_) | Said::Gone => (String::new(), false),
        };
        if !over {
            let detail = format!("no new one was made yet: {why}");
            return self.step_again(job, &detail).await;
        }
        let mut detail = format!("no new one was made: {why}. {needs}");
        if in_doubt {
            let (name, page) = (&job.state.marker, page_of(&job.loaded.provider));
            detail.push_str(&format!(
                " One called {name} may be there all the same: end it by hand ({page})."
            ));
        }
        let key = job.state.old.clone();
        let detail = detail.trim_end().to_owned();
        self.finish(job, key, Some(detail)).await
    }

    /// Seals what was made, before anything else is done with it.
    async fn keep_made(&self, mut job: Job, made: Created, settle: i64) -> Result<(), Error> {
        job.state.new = Some(made.id);
        job.state.next = Some(made.fields);
        job.state.made_at = Some(self.clock().now());
        job.row.detail = None;
        let mut pauses = WRITES.into_iter();
        loop {
            let written = self.go_on(&mut job, Step::Test, settle, "a new one was made");
            match (written.await, pauses.next()) {
                (Ok(true), _) => return Ok(()),
                // The integration is gone, or somebody thought that this was lost: it is ours alone.
                (Ok(false), _) => {
                    self.discard_later(Leftover::of(job));
                    return Ok(());
                }
                (Err(fault), None) => return Err(fault),
                (Err(_), Some(pause)) => tokio::time::sleep(pause).await,
            }
        }
    }
}

fn in_the_way(job: &Job, hand: &Hand<'_>, keys: &[Key]) -> String {
    let provider = &job.loaded.provider;
    let told = |key: &Key| {
        let made = key.created.map(|at| format!(", made {}", at.rfc3339()));
        let own = job.state.old.as_ref() == Some(&key.id);
        let own = if own { ", in use here" } else { "" };
        format!("{}{own}{}", key.id, made.unwrap_or_default())
    };
    let all: Vec<String> = keys.iter().map(told).collect();
    let other = keys
        .iter()
        .find(|key| job.state.old.as_ref() != Some(&key.id));
    let other = other.map(|key| key.id.as_str()).unwrap_or_default();
    format!(
        "{} takes {} at once, and there are {}: {}. If nothing uses {other}, delete it ({}), then rotate again; nothing was changed",
        provider.name,
        hand.calls.limit.unwrap_or_default(),
        keys.len(),
        all.join("; "),
        page_of(provider)
    )
}
