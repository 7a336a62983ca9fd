//! A browser without script, as far as the server can tell: cookies, forms, where a request comes
//! from.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use super::{Answer, House};

/// One browser.
pub struct Browser<'h> {
    house: &'h House,
    pub cookies: BTreeMap<String, String>,
    /// What it says of where a form comes from: `Sec-Fetch-Site`, and `Origin`.
    pub site: Option<&'static str>,
    pub origin: Option<String>,
    pub language: &'static str,
    /// The token of the last page with a form, as the page holds it.
    pub csrf: String,
    pub once: String,
}

impl<'h> Browser<'h> {
    pub fn new(house: &'h House) -> Browser<'h> {
        Browser {
            house,
            cookies: BTreeMap::new(),
            site: Some("same-origin"),
            origin: Some("null".to_owned()),
            language: "en",
            csrf: String::new(),
            once: String::new(),
        }
    }

    /// Opens a link and presses its button.
    pub async fn open(house: &'h House, link: &str) -> Browser<'h> {
        let mut browser = Browser::new(house);
        let seen = browser.get(link).await;
        assert_eq!(seen.status, 200, "{}", seen.text());
        let claimed = browser.post(link, &[]).await;
        assert_eq!(claimed.status, 303, "{}", claimed.text());
        let home = browser.get(claimed.header("location")).await;
        assert!(
            [200, 303].contains(&home.status.as_u16()),
            "{}",
            home.text()
        );
        browser
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", Vec::new()).await
    }

    /// Sends a form, with the token of the page before.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        if !fields.iter().any(|(name, _)| *name == "csrf") {
            form.append_pair("csrf", &self.csrf);
        }
        for (name, value) in fields {
            form.append_pair(name, value);
        }
        let kind = "application/x-www-form-urlencoded";
        self.send("POST", path, kind, form.finish().into_bytes())
            .await
    }

    /// Sends a form with a file.
    pub async fn upload(&mut self, path: &str, fields: &[(&str, &str)], file: &[u8]) -> Answer {
        let mut body = Vec::new();
        let csrf = self.csrf.clone();
        for (name, value) in fields.iter().chain(&[("csrf", csrf.as_str())]) {
            let head = format!(
                "--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(head.as_bytes());
        }
        let head = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"key.json\"\r\nContent-Type: application/json\r\n\r\n";
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--edge--\r\n");
        let kind = "multipart/form-data; boundary=edge";
        self.send("POST", path, kind, body).await
    }

    pub async fn send(&mut self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "keystead.test")
            .header("accept-language", self.language);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if method == "POST" {
            if let Some(site) = self.site {
                request = request.header("sec-fetch-site", site);
            }
            if let Some(origin) = &self.origin {
                request = request.header("origin", origin);
            }
        }
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let request = request.body(Full::<Bytes>::from(body)).unwrap();
        let answer = self.house.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = answer.text();
        for (name, place) in [("csrf", &mut self.csrf), ("once", &mut self.once)] {
            let start = format!("name=\"{name}\" value=\"");
            if let Some((_, rest)) = text.split_once(&start) {
                rest.split('"').next().unwrap().clone_into(place);
            }
        }
        answer
    }
}

impl House {
    /// Makes a connect session; the path of its link.
    pub async fn link(&self, token: &str, body: Value) -> String {
        let made = self.ask(token, "POST", "/api/connect-sessions", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let url = made.json()["url"].as_str().unwrap().to_owned();
        url::Url::parse(&url).unwrap().path().to_owned()
    }
}
