//! The calls of rotations as the embedded files say them, and how their answers are read.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_core::provider::rotation::{
    Act, Asking, Created, Rotation, RotationFault, State, error_code,
};
use keystead_core::provider::{Catalogue, Config, Fields, Mode, Provider, ProviderCall};
use keystead_core::time::Time;
use serde_json::{Value, json};

const NOW: Time = Time(1_795_000_000_000_000);
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::embedded().unwrap());

/// A credential of a provider, with its settings.
struct Held {
    provider: &'static Provider,
    mode: &'static Mode,
    config: Config,
    fields: Fields,
}

impl Held {
    fn new(id: &str, config: Value, credential: Value) -> Held {
        let provider: &Provider = CATALOGUE.get(id).unwrap();
        let config = Config::parse(provider, &config).unwrap().0;
        let Ok((fields, _)) = Fields::parse(provider, credential) else {
            panic!("{id}: the credential is refused");
        };
        let mode = fields.mode(provider).unwrap();
        Held {
            provider,
            mode,
            config,
            fields,
        }
    }

    fn rotation(&self) -> &'static Rotation {
        self.mode.rotation.as_ref().unwrap()
    }

    fn asking(&self) -> Asking<'_> {
        Asking {
            provider: self.provider,
            mode: self.mode,
            config: &self.config,
            fields: &self.fields,
            token: None,
            now: NOW,
        }
    }

    fn missing(&self) -> Vec<String> {
        self.rotation()
            .missing(self.provider, self.mode, &self.config, &self.fields)
    }

    fn created(&self, body: &Value) -> Option<Created> {
        let body = body.to_string();
        self.rotation()
            .read_created(self.mode, body.as_bytes(), &self.fields)
    }
}

fn aws() -> Held {
    let credential = json!({"access_key_id": "AKIAOLD", "secret_access_key": "canary-old"});
    Held::new("aws_access_key", json!({}), credential)
}

fn sendgrid() -> Held {
    Held::new(
        "sendgrid",
        json!({"site": "api.eu"}),
        json!("SG.canaryid.canary-secret"),
    )
}

fn openai(config: Value) -> Held {
    let credential = json!({"api_key": "sk-svcacct-canary-0123456789-tail", "admin_key": "sk-admin-canary-0123456789"});
    Held::new("openai", config, credential)
}

fn said(call: &ProviderCall) -> (String, String) {
    let request = &call.request;
    let to = format!(
        "{} {}{}",
        request.method, request.destination.logical_host, request.path
    );
    (to, String::from_utf8(request.body.to_vec()).unwrap())
}

#[test]
fn eight_providers_can_be_rotated() {
    let able: Vec<&str> = CATALOGUE
        .list()
        .filter(|provider| provider.can_rotate())
        .map(|provider| provider.id.as_str())
        .collect();
    assert_eq!(
        able,
        [
            "aws_access_key",
            "azure_service_principal",
            "gcp_service_account",
            "openai",
            "resend",
            "sendgrid",
            "supabase_project_key",
            "twilio"
        ]
    );
}

#[test]
fn aws_is_asked_by_signed_forms_and_answers_in_xml() {
    let held = aws();
    let (rotation, asking) = (held.rotation(), held.asking());
    let create = rotation.create_call(&asking, "keystead_1", &[]).unwrap();
    let form = "Action=CreateAccessKey&Version=2010-05-08".to_owned();
    assert_eq!(said(&create), ("POST iam.amazonaws.com/".to_owned(), form));
    let signed = create.request.headers["authorization"].to_str().unwrap();
    assert!(
        signed.contains("AKIAOLD/") && signed.contains("/us-east-1/iam/aws4_request"),
        "{signed}"
    );
    let disable = rotation.act_call(&asking, Act::Disable, "AKIA&x").unwrap();
    assert_eq!(
        said(&disable).1,
        "AccessKeyId=AKIA%26x&Action=UpdateAccessKey&Status=Inactive&Version=2010-05-08"
    );
    let answer = "<CreateAccessKeyResponse xmlns=\"x\"><CreateAccessKeyResult><AccessKey><UserName>u</UserName><AccessKeyId>AKIANEW</AccessKeyId><SecretAccessKey>canary/new+</SecretAccessKey></AccessKey></CreateAccessKeyResult></CreateAccessKeyResponse>";
    let made = rotation
        .read_created(held.mode, answer.as_bytes(), &held.fields)
        .unwrap();
    assert_eq!(made.id, "AKIANEW");
    assert_eq!(made.fields.get("access_key_id"), Some("AKIANEW"));
    assert_eq!(made.fields.get("secret_access_key"), Some("canary/new+"));
    let member = |id: &str, at: &str| {
        format!("<member><AccessKeyId>{id}</AccessKeyId><CreateDate>{at}</CreateDate></member>")
    };
    let list = format!(
        "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata>{}{}</AccessKeyMetadata></ListAccessKeysResult></ListAccessKeysResponse>",
        member("AKIAOLD", "2026-01-01T00:00:00Z"),
        member("AKIANEW", &NOW.rfc3339())
    );
    let keys = rotation.read_list(list.as_bytes()).unwrap().keys;
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys, None),
        Some("AKIAOLD")
    );
    let empty = "<ListAccessKeysResponse><ListAccessKeysResult><AccessKeyMetadata/></ListAccessKeysResult></ListAccessKeysResponse>";
    assert_eq!(rotation.read_list(empty.as_bytes()).unwrap().keys.len(), 0);
    let refused = b"<ErrorResponse><Error><Code>LimitExceeded</Code><Message>canary</Message></Error></ErrorResponse>";
    assert_eq!(error_code(refused).as_deref(), Some("LimitExceeded"));
    // Without names, what is new since, and from the time of the call, is ours.
    let state = |asked| State {
        before: Some(vec!["AKIAOLD".to_owned()]),
        asked_at: Some(asked),
        ..State::default()
    };
    assert_eq!(
        rotation.made(&keys, &state(NOW.plus_seconds(-60))),
        ["AKIANEW"]
    );
    assert!(
        rotation
            .made(&keys, &state(NOW.plus_seconds(3600)))
            .is_empty()
    );
    assert!(
        rotation
            .made(&keys, &state(NOW.plus_seconds(-3600)))
            .is_empty()
    );
}

#[test]
fn temporary_keys_are_told_apart() {
    let credential = json!({"access_key_id": "ASIAOLD", "secret_access_key": "canary", "session_token": "canary"});
    let held = Held::new("aws_access_key", json!({}), credential);
    assert_eq!(held.rotation().unless, ["session_token"]);
}

#[test]
fn google_hands_out_a_whole_file_in_base64() {
    let credential = json!({"type": "service_account", "private_key_id": "0123", "private_key": "canary-old", "client_email": "a@p.iam.gserviceaccount.com"});
    let held = Held::new("gcp_service_account", json!({}), credential);
    let rotation = held.rotation();
    // Its calls need a token.
    let none = rotation.create_call(&held.asking(), "m", &[]);
    assert_eq!(none.err(), Some(RotationFault::Missing));
    assert!(rotation.token_scope().unwrap().ends_with("/cloud-platform"));
    assert!(held.missing().is_empty());
    let file = json!({"type": "service_account", "private_key_id": "4567", "private_key": "canary-new\n", "token_uri": "https://evil.example"});
    let answer = json!({"name": "projects/p/serviceAccounts/a/keys/4567", "privateKeyData": STANDARD.encode(file.to_string())});
    let made = held.created(&answer).unwrap();
    assert_eq!(made.id, "4567");
    assert_eq!(made.fields.get("private_key"), Some("canary-new\n"));
    assert_eq!(
        made.fields.get("client_email"),
        Some("a@p.iam.gserviceaccount.com")
    );
    assert_eq!(made.fields.get("token_uri"), None);
    assert!(
        held.created(&json!({"privateKeyData": "no base64!"}))
            .is_none()
    );
    let list = json!({"keys": [{"name": "projects/p/serviceAccounts/a/keys/0123", "validAfterTime": "2026-01-01T00:00:00Z"}]});
    let keys = rotation
        .read_list(list.to_string().as_bytes())
        .unwrap()
        .keys;
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys, None),
        Some("0123")
    );
}

#[test]
fn the_next_key_takes_over_what_the_one_before_may_do() {
    let held = sendgrid();
    let (rotation, asking) = (held.rotation(), held.asking());
    assert_eq!(rotation.own_id(&held.fields), Some("canaryid"));
    let copy = rotation.copy_call(&asking, "canaryid").unwrap();
    assert_eq!(
        said(&copy).0,
        "GET api.eu.sendgrid.com/v3/api_keys/canaryid"
    );
    let lists = rotation
        .read_copy(br#"{"scopes":["mail.send","\"x"]}"#)
        .unwrap();
    let create = rotation.create_call(&asking, "keystead_1", &lists).unwrap();
    let body: Value = serde_json::from_str(&said(&create).1).unwrap();
    assert_eq!(
        body,
        json!({"name": "keystead_1", "scopes": ["mail.send", "\"x"]})
    );
    for odd in ["{}", r#"{"scopes":"all"}"#, r#"{"scopes":[1]}"#, "<html>"] {
        assert!(rotation.read_copy(odd.as_bytes()).is_none(), "{odd}");
    }
    // Without it nothing is made that could do more.
    let none = rotation.create_call(&asking, "keystead_1", &[]);
    assert_eq!(none.err(), Some(RotationFault::Missing));
}

#[test]
fn what_is_needed_and_not_there_is_named() {
    assert_eq!(
        openai(json!({})).missing(),
        ["config.project", "config.service_account"]
    );
    let bare = Held::new(
        "openai",
        json!({"project": "proj_1"}),
        json!("sk-canary-0123456789-0123"),
    );
    assert_eq!(
        bare.missing(),
        ["credentials.admin_key", "config.service_account"]
    );
    assert!(aws().missing().is_empty() && sendgrid().missing().is_empty());
    let twilio = json!({"account_sid": "AC1", "api_key_sid": "SK1", "api_key_secret": "canary"});
    let twilio = Held::new("twilio", json!({}), twilio);
    assert_eq!(twilio.missing(), ["credentials.auth_token"]);
}

#[test]
fn the_key_in_use_is_found_by_what_shows_of_it() {
    let held = openai(json!({"project": "proj_1", "service_account": "user-1"}));
    let rotation = held.rotation();
    let own = |masks: &[&str]| {
        let items: Vec<Value> = masks
            .iter()
            .enumerate()
            .map(|(at, mask)| json!({"id": format!("key_{at}"), "redacted_value": mask}))
            .collect();
        let list = json!({"data": items, "has_more": false}).to_string();
        let keys = rotation.read_list(list.as_bytes()).unwrap().keys;
        let own = rotation.own_key(held.mode, &held.fields, &keys, None);
        own.map(str::to_owned)
    };
    assert_eq!(
        own(&["sk-svc**********zzzz", "sk-svcacct-c...-tail"]).as_deref(),
        Some("key_1")
    );
    assert_eq!(
        own(&["sk-svc***tail", "sk-svcacct-c...-tail"]),
        None,
        "two could be meant"
    );
    assert_eq!(own(&["sk-svc***zzzz"]), None);
    assert_eq!(own(&["***"]), None, "nothing is shown");
    // One that a rotation made is known.
    let list = br#"{"data":[{"id":"key_a"},{"id":"key_b"}],"has_more":true}"#;
    let listing = rotation.read_list(list).unwrap();
    assert!(listing.more);
    let keys = listing.keys;
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys, Some("key_b")),
        Some("key_b")
    );
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys, Some("key_c")),
        None
    );
    let page = rotation.list_call(&held.asking(), Some("key_b")).unwrap();
    assert_eq!(
        said(&page).0,
        "GET api.openai.com/v1/organization/projects/proj_1/api_keys?limit=100&after=key_b"
    );
    assert_eq!(
        page.request.headers["authorization"],
        "Bearer sk-admin-canary-0123456789"
    );
}

#[test]
fn where_nothing_is_shown_the_only_key_is_the_one_in_use() {
    let held = Held::new("resend", json!({}), json!("re_canary0123456789abcdef"));
    let rotation = held.rotation();
    let keys = |ids: &[&str]| {
        let items: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "name": "n"}))
            .collect();
        rotation
            .read_list(json!({"data": items}).to_string().as_bytes())
            .unwrap()
            .keys
    };
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys(&["a"]), None),
        Some("a")
    );
    assert_eq!(
        rotation.own_key(held.mode, &held.fields, &keys(&["a", "b"]), None),
        None
    );
}

#[test]
fn a_key_of_another_name_is_never_taken_for_ours() {
    let held = sendgrid();
    let list = json!({"result": [
        {"api_key_id": "old", "name": "keystead_1"},
        {"api_key_id": "ours", "name": "keystead_1"},
        {"api_key_id": "theirs", "name": "keystead_2"},
        {"api_key_id": "nameless"},
    ]});
    let keys = held
        .rotation()
        .read_list(list.to_string().as_bytes())
        .unwrap()
        .keys;
    let state = State {
        marker: "keystead_1".to_owned(),
        before: Some(vec!["old".to_owned()]),
        asked_at: Some(NOW),
        ..State::default()
    };
    assert_eq!(held.rotation().made(&keys, &state), ["ours"]);
}

#[test]
fn a_reply_that_lacks_a_part_made_nothing_that_is_used() {
    let held = sendgrid();
    for (reply, why) in [
        (json!({"api_key_id": "new"}), "no key"),
        (json!({"api_key": "SG.new.canary"}), "no id"),
        (json!({"api_key": 5, "api_key_id": "new"}), "no text"),
        (json!({"api_key": "", "api_key_id": "new"}), "empty"),
        (
            json!({"api_key": "SG.new.ca\nnary", "api_key_id": "new"}),
            "a line break",
        ),
        (
            json!({"api_key": "x".repeat(20_000), "api_key_id": "new"}),
            "too long",
        ),
        (
            json!({"api_key": "SG.new.canary", "api_key_id": "a b"}),
            "an odd id",
        ),
        (json!([]), "a list"),
    ] {
        assert!(held.created(&reply).is_none(), "{why}");
    }
    assert!(
        held.created(&json!({"api_key": "SG.new.canary", "api_key_id": "new"}))
            .is_some()
    );
}

#[test]
fn what_only_keystead_uses_is_not_handed_out() {
    let held = openai(json!({}));
    let out = held.fields.for_others(held.provider);
    assert_eq!(out.get("admin_key"), None);
    assert_eq!(
        out.get("api_key"),
        Some("sk-svcacct-canary-0123456789-tail")
    );
}

/// A small provider whose rotation is the given text.
fn fault(field: &str, rotation: &str) -> String {
    let text = format!(
        "id = 'acme'\nname = 'Acme'\ndocs = 'https://acme.example'\nhosts = ['api.acme.example']\nbase_url = 'https://api.acme.example'\npath_prefixes = ['/']\nsdk_token_headers = ['authorization']\ntest = {{ path = '/me' }}\n[[mode]]\nid = 'key'\nlabel = 'Key'\nplacement = {{ kind = 'bearer', field = '{field}' }}\n[[mode.field]]\nname = '{field}'\nlabel = 'key'\nsecret = true\nprimary = true\n[mode.rotation]\n{rotation}"
    );
    match Provider::parse("acme.toml", &text) {
        Ok(_) => "taken".to_owned(),
        Err(fault) => fault.message,
    }
}

#[test]
fn a_file_with_a_rotation_that_cannot_be_is_refused() {
    let call = |method: &str, path: &str| {
        format!(
            "{{ method = '{method}', url = 'https://api.acme.example{path}', auth = 'placed' }}"
        )
    };
    let whole = |top: &str, list: &str, create: &str, delete: &str| {
        format!(
            "needs = 'A permission.'\n{top}\nlist = {{ items = '/keys', id = '/id', {list}, call = {} }}\ncreate = {{ id = '/id', {create}, call = {} }}\ndelete = {delete}\n",
            call("GET", "/keys"),
            call("POST", "/keys?name={marker}"),
        )
    };
    let (named, new, delete) = (
        "name = '/name'",
        "fields = { api_key = '/key' }",
        call("DELETE", "/keys/{key}"),
    );
    assert_eq!(fault("api_key", &whole("", named, new, &delete)), "taken");
    assert!(fault("key", &whole("", named, new, &delete)).contains("means the call's own"));
    for (text, says) in [
        (whole("limit = 1", named, new, &delete), "two keys at least"),
        (
            whole("patience = 5\nsettle = 9", named, new, &delete),
            "longer than `settle`",
        ),
        (
            whole("unless = ['other']", named, new, &delete),
            "no field `other`",
        ),
        (whole("", "mask = '/m'", new, &delete), "found again"),
        (
            whole("", "name = 'name'", new, &delete),
            "begin with a slash",
        ),
        (whole("", named, "fields = {}", &delete), "no secret is new"),
        (
            whole("", named, new, &call("DELETE", "/keys/{id}")),
            "is no setting and no field",
        ),
        (
            whole("", named, new, &call("DELETE", "/keys/{marker}")),
            "is no setting and no field",
        ),
        (
            whole(
                "",
                named,
                new,
                "{ method = 'DELETE', url = 'https://api.acme.example/k', auth = 'token' }",
            ),
            "no token is made",
        ),
        (
            whole(
                "",
                named,
                new,
                "{ method = 'DELETE', url = 'https://api.acme.example/k', auth = { bearer = 'other' } }",
            ),
            "no field `other`",
        ),
        (
            whole("copy_all = true", named, new, &delete),
            "unknown field",
        ),
    ] {
        let said = fault("api_key", &text);
        assert!(said.contains(says), "{says}: {said}");
    }
}
