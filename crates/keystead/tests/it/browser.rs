//! A browser without script, as far as a server can tell: cookies, forms, where a form comes from.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use http::header::{LOCATION, SET_COOKIE};
use keystead_testkit::client::{Answer, Client};

use crate::accounts::HOME;

/// One browser, at one node.
pub(crate) struct Browser {
    url: String,
    pub(crate) cookies: BTreeMap<String, String>,
    /// What the last form held beside what a person enters.
    hidden: BTreeMap<&'static str, String>,
    /// All that it was answered.
    pub(crate) heard: Vec<u8>,
}

impl Browser {
    pub(crate) fn new(url: &str) -> Browser {
        Browser {
            url: url.to_owned(),
            cookies: BTreeMap::new(),
            hidden: BTreeMap::new(),
            heard: Vec::new(),
        }
    }

    /// Opens a connect link, and presses its button.
    pub(crate) async fn open(url: &str, link: &str) -> Browser {
        let mut browser = Browser::new(url);
        let link = browser.path_of(link);
        browser.get(&link).await.expect(200);
        let claimed = browser.post(&link, &[]).await;
        let home = browser.to(&claimed);
        browser.get(&home).await;
        browser
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends a form of the last page.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.hidden {
            form.append_pair(name, value);
        }
        form.extend_pairs(fields);
        self.send(Method::POST, path, Bytes::from(form.finish()))
            .await
    }

    async fn send(&mut self, method: Method, path: &str, form: Bytes) -> Answer {
        let mut client = Client::new(&self.url);
        if method == Method::POST {
            client = client
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin");
        }
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            client = client.header("cookie", &cookies.join("; "));
        }
        let answer = client.try_call(method, path, form).await.unwrap();
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let text = answer.text();
        for name in ["csrf", "once", "mode"] {
            let start = format!("name=\"{name}\" value=\"");
            if let Some((_, rest)) = text.split_once(&start) {
                let value = rest.split('"').next().unwrap().to_owned();
                self.hidden.insert(name, value);
            }
        }
        self.heard.extend(text.into_bytes());
        answer
    }

    /// Where an answer leads to by itself, if that is here; else the address in full.
    pub(crate) fn to(&self, answer: &Answer) -> String {
        const AT_ONCE: &str = "http-equiv=\"refresh\" content=\"0; url=";
        if let Some((_, rest)) = answer.text().split_once(AT_ONCE) {
            let address = rest.split('"').next().unwrap();
            return self.path_of(&address.replace("&#38;", "&"));
        }
        assert_eq!(answer.status, 303, "{}", answer.text());
        self.path_of(answer.headers[LOCATION].to_str().unwrap())
    }

    /// What it is here, if it is; else the address in full.
    pub(crate) fn path_of(&self, address: &str) -> String {
        let mut own = [HOME, &self.url].into_iter();
        let path = own.find_map(|home| address.strip_prefix(home));
        path.unwrap_or(address).to_owned()
    }
}
