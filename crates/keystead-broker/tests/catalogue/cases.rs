//! One broker, and for each provider of the catalogue a server that plays it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use keystead_broker::{
    Back, Begin, Context, Error, NewIntegration, OAuthApp, OAuthSettings, Selector, Settings,
    Status, Way,
};
use keystead_core::action::Role;
use keystead_core::ids::IntegrationId;
use keystead_core::provider::{Catalogue, Mode, Provider};
use keystead_testkit::client::Client;
use keystead_testkit::played::{Answer, Door, Part, Played, REDIRECT_URI, own_providers};
use serde_json::{Map, Value, json};

use crate::house::{APPROVED, House, Plan};

/// A provider under test: its server, and somebody who uses it.
pub(crate) struct Case {
    pub(crate) house: Arc<House>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) played: Played,
    pub(crate) owner: Context,
}

/// One that does all as the standards say, and one that does nothing so.
const STRANGE: [(&str, &str); 2] = [
    ("plain.toml", include_str!("plain.toml")),
    ("odd.toml", include_str!("odd.toml")),
];

/// Those of the catalogue, those two, and those of the folder that the environment names.
pub(crate) fn catalogue() -> Catalogue {
    let own = own_providers();
    let own = own
        .iter()
        .map(|(file, text)| (file.as_str(), text.as_str()));
    Catalogue::embedded()
        .and_then(|all| all.with_own(STRANGE, false))
        .and_then(|all| all.with_own(own, true))
        .and_then(|all| all.with_settings("generic_bearer", None, &[APPROVED.to_owned()]))
        .unwrap_or_else(|fault| panic!("{fault}"))
}

/// A server for each provider, and one broker that takes all of them for the real ones. All that
/// can be given is given, or only what is needed.
pub(crate) async fn cases(catalogue: Catalogue, all: bool) -> Vec<Case> {
    let played: Vec<Arc<Provider>> = catalogue.list().cloned().collect();
    against(catalogue, &played, all, Plan::default()).await
}

/// The same in another house, with all settings.
pub(crate) async fn cases_in(catalogue: Catalogue, plan: Plan) -> Vec<Case> {
    let played: Vec<Arc<Provider>> = catalogue.list().cloned().collect();
    against(catalogue, &played, true, plan).await
}

/// The same with servers that play other files than the catalogue has.
pub(crate) async fn against(
    mut catalogue: Catalogue,
    played: &[Arc<Provider>],
    all: bool,
    plan: Plan,
) -> Vec<Case> {
    let mut oauth = OAuthSettings {
        redirect_uris: vec![REDIRECT_URI.to_owned()],
        ..OAuthSettings::default()
    };
    let mut stages = Vec::new();
    for provider in played {
        let id = &provider.id;
        let known = catalogue.get(id).unwrap().clone();
        let server = Played::start(Part::invented(provider.clone(), all)).await;
        catalogue = catalogue
            .with_settings(id, Some(server.url()), &[])
            .unwrap();
        let app = server.client();
        let app = OAuthApp {
            client_id: app.id,
            client_secret: app.secret.map(Into::into),
        };
        if server.part().oauth().is_some() {
            oauth.apps.insert(id.clone(), Arc::new(app));
        }
        stages.push((known, server));
    }
    let plan = Plan {
        catalogue: Some(catalogue),
        settings: Settings {
            oauth,
            ..Settings::default()
        },
        ..plan
    };
    let house = Arc::new(House::planned(plan).await);
    let mut cases = Vec::new();
    for (provider, played) in stages {
        let tenant = format!("of-{}", provider.id);
        let owner = house.user("alice", &tenant, Role::Owner).await;
        cases.push(Case {
            house: house.clone(),
            provider,
            played,
            owner,
        });
    }
    cases
}

/// Drives every provider at once; fails with all that any of them found.
pub(crate) async fn each<F, R>(cases: Vec<Case>, drive: F)
where
    F: Fn(Arc<Case>) -> R,
    R: Future<Output = Vec<String>> + Send + 'static,
{
    let house = cases[0].house.clone();
    let driven = cases
        .into_iter()
        .map(|case| tokio::spawn(drive(Arc::new(case))));
    let found: Vec<String> = join_all(driven)
        .await
        .into_iter()
        .flat_map(|found| found.unwrap())
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
    house.log_is_clean().await;
}

impl Case {
    /// An integration of that mode: its credential is typed, or its account is connected.
    pub(crate) async fn connect(&self, mode: &Mode) -> Result<IntegrationId, String> {
        let id = match mode.oauth {
            Some(_) => self.consent().await?,
            None => self.add(mode).await?,
        };
        let seen = self.house.settled(&self.owner, id).await;
        if seen.status == Status::Connected {
            return Ok(id);
        }
        let (told, refused) = (seen.error_message, self.refused());
        Err(format!("not connected: {told:?}; the provider: {refused}"))
    }

    pub(crate) fn config(&self) -> Map<String, Value> {
        let config = self.played.part().config.iter();
        config
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect()
    }

    async fn add(&self, mode: &Mode) -> Result<IntegrationId, String> {
        let new = NewIntegration {
            name: mode.id.clone(),
            type_: self.provider.id.clone(),
            credentials: json!(self.played.part().credentials[&mode.id]),
            config: self.config(),
        };
        let made = self.house.broker.create_integration(&self.owner, new, None);
        let made = made
            .await
            .map_err(|fault| format!("it is not taken: {fault:?}"))?;
        Ok(made.integration.id)
    }

    /// A person consents; what comes back is handed in by whoever began.
    pub(crate) async fn consent(&self) -> Result<IntegrationId, String> {
        let done = self.consent_for(None).await?;
        done.map_err(|fault| format!("{fault:?}; {}", self.refused()))
    }

    /// The same for an integration that is there, or a new one; how it ended.
    pub(crate) async fn consent_for(
        &self,
        integration: Option<IntegrationId>,
    ) -> Result<Result<IntegrationId, Error>, String> {
        let begin = Begin {
            type_: self.provider.id.clone(),
            integration,
            name: None,
            config: match integration {
                Some(_) => Map::new(),
                None => self.config(),
            },
            session: None,
        };
        let broker = &self.house.broker;
        let way = Way::Caller(REDIRECT_URI.to_owned());
        let started = broker.begin_authorization(&self.owner, begin, way).await;
        let started = started.map_err(|fault| format!("it does not begin: {fault:?}"))?;
        let home = self.played.url();
        let target = started.url.strip_prefix(home).ok_or("another host")?;
        let answer = Client::new(home).get(target).await;
        if answer.status != 302 {
            return Err(format!("no consent: {}", self.refused()));
        }
        let back = answer.headers["location"].to_str().unwrap();
        let back = url::Url::parse(back).unwrap();
        let given = |name: &str| {
            let found = back.query_pairs().find(|(other, _)| other == name);
            found.map(|(_, value)| value.into_owned())
        };
        let back = Back {
            state: given("state").unwrap_or_default(),
            code: given("code").map(Into::into),
            iss: given("iss"),
            error: None,
            browser: None,
            own: None,
            query: back.query().map(|query| query.to_owned().into()),
        };
        let done = broker.complete_authorization(&self.owner, back).await;
        Ok(done
            .map(|done| done.integration.id)
            .map_err(|incomplete| incomplete.error))
    }

    /// A fault with the provider and mode that it is about.
    pub(crate) fn at(&self, mode: &Mode, fault: &str) -> String {
        format!("{}/{}: {fault}", self.provider.id, mode.id)
    }

    /// What the server last had against a call.
    pub(crate) fn refused(&self) -> String {
        let served = self.played.served();
        let fault = served.iter().rev().find_map(|served| served.fault.clone());
        fault.unwrap_or_else(|| "refused nothing".to_owned())
    }

    /// Calls as somebody who sends a credential of theirs wherever one could be.
    pub(crate) async fn call(
        &self,
        id: IntegrationId,
        host: Option<&str>,
        path: &str,
    ) -> Result<(), String> {
        let mut request = Request::post("/");
        for (name, value) in self.played.luggage() {
            request = request.header(name, value);
        }
        let body = Full::new(Bytes::from_static(b"{\"kept\":true}"));
        let request = request
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let luggage = self.played.query_luggage().into_iter();
        let query: String = luggage
            .map(|name| format!("&{name}=canary-of-the-caller"))
            .collect();
        let target = format!("{path}?kept=1{query}");
        let to = Selector::Id(id);
        let answer = self
            .house
            .broker
            .forward(&self.owner, &to, host, &target, None, request);
        let answer = answer.await.map_err(|fault| format!("{fault:?}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let served = self.played.last(Door::Api).ok_or("nothing has arrived")?;
        let heard = &served.heard;
        if format!("{heard:?}").contains("canary-of-the-caller") {
            return Err("what the caller sent has arrived".to_owned());
        }
        if self.played.target_of(heard) != format!("{path}?kept=1")
            || &heard.body[..] != b"{\"kept\":true}"
        {
            return Err(format!("another call has arrived: {}", heard.target));
        }
        Ok(())
    }

    pub(crate) fn answers(&self, door: Door, answer: Answer) {
        self.played.answers(door, answer);
    }
}
