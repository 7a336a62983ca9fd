//! `keystead setup postgres`.

use keystead_broker::random;
use keystead_store::{Setup as Wanted, setup_postgres};
use serde_json::json;

use crate::cli::Setup;
use crate::logs::say;

pub(super) async fn run(command: Setup) -> anyhow::Result<()> {
    let Setup::Postgres {
        admin_url,
        new_passwords,
        json,
    } = command;
    let report = setup_postgres(Wanted {
        admin_url,
        app_password: random()?,
        system_password: random()?,
        context_key: random()?,
        new_passwords,
    })
    .await?;
    if json {
        say(json!({
            "url": report.url, "system_url": report.system_url,
            "passwords_set": report.passwords_set, "applied": report.applied,
        }));
        return Ok(());
    }
    for migration in &report.applied {
        say(format_args!("applied {migration}"));
    }
    say("The roles and the schema are there. For keystead.toml:\n");
    say(format_args!(
        "[store]\nurl = \"{}\"\nsystem_url = \"{}\"",
        report.url, report.system_url
    ));
    if report.passwords_set {
        say(
            "\nThe URLs hold passwords and are shown this once: keep them in files of mode 0600 and write { file = \"…\" }.",
        );
    } else {
        say(
            "\nThe roles were there and keep their passwords: put them into the URLs, or run this again with --new-passwords.",
        );
    }
    Ok(())
}
